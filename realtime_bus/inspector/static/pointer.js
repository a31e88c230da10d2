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
  if (hit.problem) {
    const { kind, text } = hit.problem;
    return [kind.replaceAll("_", " "), text === kind ? "" : text.slice(0, 300)];
  }
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
      [what.arguments?.slice(0, 200), what.output == null ? "no output" : `→ ${what.output.slice(0, 200)}`, length]
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

/** Where each finger is on the stage, and which time it holds: one moves the view, two stretch it. */
const held = new Map();

function pointerDown(down) {
  if (down.button) return;
  const [x0, y0] = pointed(down);
  if (!held.size && y0 < laneOf.ruler.height) {
    player.seek(view.t(x0));
    dragged(stage, down, (event) => player.seek(view.t(pointed(event)[0])));
    return;
  }
  let moved = held.size > 0;
  const grasp = () => held.forEach((finger) => (finger.t_us = view.t(finger.x)));
  held.set(down.pointerId, { x: x0 });
  grasp();
  const move = (event) => {
    const [x] = pointed(event);
    moved ||= Math.abs(x - x0) > 3 || held.size > 1;
    if (!moved) return;
    stage.classList.add("dragging");
    $("tip").hidden = true;
    held.get(down.pointerId).x = x;
    const [one, two] = held.values();
    const length = two ? ((two.t_us - one.t_us) / (two.x - one.x || 1)) * view.width : view.length_us;
    if (length > 0) view.set(one.t_us - (one.x / view.width) * length, one.t_us + (1 - one.x / view.width) * length);
  };
  dragged(stage, down, move, (event) => {
    held.delete(down.pointerId);
    grasp();
    if (!held.size) stage.classList.remove("dragging");
    if (moved || held.size || event.type === "pointercancel") return;
    const [x, y] = pointed(event);
    const hit = lanes.hit(x, y);
    if (hit?.turn !== undefined) return turns.choose(hit.turn);
    player.seek(hit?.away !== undefined ? events.t_us[hit.event] : view.t(x));
    if (hit?.event != null) choose(hit.event, { follow: false });
  });
}
