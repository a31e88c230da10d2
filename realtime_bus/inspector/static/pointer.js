// The pointer: what lies under it is told, chosen, dragged.

function pointed(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function tipText(hit, t_us) {
  if (!hit) return null;
  if (hit.turn !== undefined) {
    const { number, quiet_us, asked_us, first_us, heard_us } = data.turns[hit.turn];
    const part = (name, from_us, to_us) =>
      from_us == null || to_us == null ? null : `${spanText(to_us - from_us)} ${name}`;
    const parts = [
      part("until the server noticed the end", quiet_us, asked_us),
      part("until the first answer", asked_us, first_us),
      part("until it was heard", first_us, heard_us),
    ];
    return [`Turn ${number}`, parts.filter(Boolean).join("\n")];
  }
  if (hit.cut) return ["Barge-in", `silent ${spanText(hit.cut.latency_us)} after speech was noticed`];
  if (hit.problem) return [hit.problem.kind.replaceAll("_", " "), hit.problem.text.slice(0, 300)];
  if (hit.away !== undefined) {
    const more = hit.many > 1 ? `\nand ${numberText(hit.many - 1)} more here; zoom in to part them` : "";
    return [
      events.type(hit.event),
      `${clock(events.t_us[hit.event])} · ${events.origin(hit.event).name}${more}`,
    ];
  }
  const { what } = hit;
  const length = spanText(what.end_us - what.start_us);
  if (hit.lane === "person")
    return ["Speech, says the detector", `${clock(what.start_us)} – ${clock(what.end_us)} · ${length}`];
  if (hit.lane === "generated")
    return what.kind === "discarded"
      ? ["Generated, never heard", spanText(what.length_us)]
      : ["Generated, and heard", length];
  if (hit.lane === "heard") return ["Heard", `${clock(what.start_us)} – ${clock(what.end_us)} · ${length}`];
  if (hit.lane === "responses")
    return [
      `Response ${what.status ?? ""}`,
      [what.reason, `made in ${length}`, what.tokens == null ? null : `${numberText(what.tokens)} tokens`]
        .filter(Boolean)
        .join("\n"),
    ];
  if (hit.lane === "tools")
    return [
      what.name,
      [what.arguments?.slice(0, 200), what.output == null ? null : `→ ${what.output.slice(0, 200)}`, length]
        .filter(Boolean)
        .join("\n"),
    ];
  return [clock(t_us), ""];
}

function showTip(x, y, hit) {
  const tip = $("tip");
  const text = tipText(hit, view.t(x));
  stage.classList.toggle("on-mark", hit?.event != null || hit?.turn !== undefined);
  tip.hidden = !text;
  if (!text) return;
  tip.replaceChildren(
    element("b", { dir: "auto" }, text[0]),
    text[1] ? "\n" : "",
    element("i", { dir: "auto" }, text[1]),
  );
  const left = x + 14 + tip.offsetWidth > stage.clientWidth ? x - tip.offsetWidth - 12 : x + 14;
  const top = Math.min(Math.max(y + 16, 4), stage.clientHeight - tip.offsetHeight - 4);
  tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
}

let pointer = null;

function pointerMoved(event) {
  pointer = pointed(event);
  showPointed();
  lanes.drawAbove();
}

/** Show what lies under the pointer, which may not have moved. */
function showPointed() {
  lanes.hover_us = pointer && view.t(pointer[0]);
  if (pointer && !stage.classList.contains("dragging")) showTip(...pointer, lanes.hit(...pointer));
  else $("tip").hidden = true;
}

function pointerDown(down) {
  if (down.button) return;
  const [x0, y0] = pointed(down);
  const [start, stop] = [view.start_us, view.stop_us];
  const scrubs = y0 < laneOf.ruler.height;
  let moved = false;
  const move = (event) => {
    const [x] = pointed(event);
    moved ||= Math.abs(x - x0) > 3;
    if (scrubs) player.seek(view.t(x));
    else if (moved) {
      stage.classList.add("dragging");
      $("tip").hidden = true;
      const by = ((x0 - x) / view.width) * (stop - start);
      view.set(start + by, stop + by);
    }
  };
  const done = (event) => {
    stage.classList.remove("dragging");
    if (moved && !scrubs) return;
    const [x, y] = pointed(event);
    const hit = scrubs ? null : lanes.hit(x, y);
    if (hit?.turn !== undefined) turns.choose(hit.turn);
    else {
      player.seek(hit?.away !== undefined ? events.t_us[hit.event] : view.t(x));
      if (hit?.event != null) choose(hit.event, { follow: false });
    }
  };
  if (scrubs) player.seek(view.t(x0));
  dragged(stage, down, move, done);
}
