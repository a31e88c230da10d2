// The page's parts brought together: the head, the pointer, the keys.

const stage = $("stage");

function say(text) {
  $("said").textContent = text;
}

/** Choose an event: everywhere at once. */
function choose(event, { follow = true } = {}) {
  if (!(event >= 0)) return;
  view.selected = event;
  if (follow) view.reveal(events.t_us[event]);
  details.show(event);
  list.reveal(event);
  lanes.drawAbove();
  say(`${events.type(event)}, ${clock(events.t_us[event])}`);
}

function showHead() {
  const { about } = data;
  const when = about.started_at ? new Date(about.started_at) : null;
  const date = when && !Number.isNaN(when.valueOf()) ? when.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" }) + " UTC" : "";
  $("title").append(about.title || "Session", element("span", { class: "when" }, date ? `  ${date}` : ""));
  $("length").textContent = `/ ${clock(data.end_us)}`;
  $("title").title = [about.url, about.id, about.library].filter(Boolean).join("\n");
  for (const { value, us, of_us, name, kind } of data.figures) {
    const [shown, unit] = us == null ? [numberText(value), null] : span(us);
    const number = element("dd", {}, shown);
    if (unit) number.append(element("small", {}, of_us == null ? unit : `of ${spanText(of_us)}`));
    $("figures").append(element("div", { class: kind ?? "" }, element("dt", {}, name), number));
  }
}

/* Light and dark */

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  readColours();
  overview.render();
  lanes.draw();
}

function toggleTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("realtime-bus.theme", theme);
  } catch {
    // a page from disk may not remember
  }
  setTheme(theme);
}

function rememberedTheme() {
  try {
    const theme = localStorage.getItem("realtime-bus.theme");
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

/* The pointer */

function pointed(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function tipText(hit, t_us) {
  if (!hit) return null;
  if (hit.turn !== undefined) {
    const { number, quiet_us, asked_us, first_us, heard_us } = data.turns[hit.turn];
    const part = (name, from_us, to_us) => (from_us == null || to_us == null ? null : `${spanText(to_us - from_us)} ${name}`);
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
    return [events.type(hit.event), `${clock(events.t_us[hit.event])} · ${events.origin(hit.event).name}${more}`];
  }
  const { what } = hit;
  const length = spanText(what.end_us - what.start_us);
  if (hit.lane === "person") return ["Speech, says the detector", `${clock(what.start_us)} – ${clock(what.end_us)} · ${length}`];
  if (hit.lane === "generated") return what.kind === "discarded" ? ["Generated, never heard", spanText(what.length_us)] : ["Generated, and heard", length];
  if (hit.lane === "heard") return ["Heard", `${clock(what.start_us)} – ${clock(what.end_us)} · ${length}`];
  if (hit.lane === "responses") return [`Response ${what.status ?? ""}`, [what.reason, `made in ${length}`, what.tokens == null ? null : `${numberText(what.tokens)} tokens`].filter(Boolean).join("\n")];
  if (hit.lane === "tools") return [what.name, [what.arguments?.slice(0, 200), what.output == null ? null : `→ ${what.output.slice(0, 200)}`, length].filter(Boolean).join("\n")];
  return [clock(t_us), ""];
}

function showTip(x, y, hit) {
  const tip = $("tip");
  const text = tipText(hit, view.t(x));
  stage.classList.toggle("on-mark", hit?.event != null || hit?.turn !== undefined);
  tip.hidden = !text;
  if (!text) return;
  tip.replaceChildren(element("b", { dir: "auto" }, text[0]), text[1] ? "\n" : "", element("i", { dir: "auto" }, text[1]));
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

/* The keys */

const KEYS = [
  { keys: [" "], shown: ["space"], does: "play, pause", run: () => player.toggle() },
  { keys: ["0", "f"], shown: ["0"], does: "the whole session", run: () => view.glide(...view.whole()) },
  { keys: ["+", "="], shown: ["+"], does: "zoom in", run: () => view.glideZoom(0.5) },
  { keys: ["-", "_"], shown: ["−"], does: "zoom out", run: () => view.glideZoom(2) },
  { keys: ["ArrowLeft"], shown: ["←"], does: "move back", run: () => view.pan(view.length_us * -0.12) },
  { keys: ["ArrowRight"], shown: ["→"], does: "move on", run: () => view.pan(view.length_us * 0.12) },
  { keys: ["Home"], shown: ["Home"], does: "the beginning", run: () => goto(0) },
  { keys: ["End"], shown: ["End"], does: "the end", run: () => goto(view.end_us) },
  { keys: ["n"], shown: ["n"], does: "next event", run: () => choose(list.step(from(), 1)) },
  { keys: ["p"], shown: ["p"], does: "previous event", run: () => choose(list.step(from(), -1)) },
  { keys: ["t"], shown: ["t"], does: "next turn", run: () => turns.step(1) },
  { keys: ["T"], shown: ["Shift", "t"], does: "previous turn", run: () => turns.step(-1) },
  { keys: ["c"], shown: ["c"], does: "copy the event", run: () => view.selected >= 0 && details.copy() },
  { keys: ["/"], shown: ["/"], does: "search; Enter for the next", run: () => $("search").focus() },
  { keys: ["e"], shown: ["e"], does: "turns or events", run: () => showTab($("turns").hidden ? "turns" : "events") },
  { keys: ["d"], shown: ["d"], does: "light or dark", run: toggleTheme },
  { keys: ["1", "2", "3", "4"], shown: ["1", "…", "4"], does: "both, person, generated, heard", run: (key) => player.play(Object.keys(SOURCES)[key - 1]) },
  { keys: ["?"], shown: ["?"], does: "these keys", run: () => $("help").showModal() },
];
const keyTable = new Map(KEYS.flatMap((each) => each.keys.map((key) => [key, each])));

function from() {
  return view.selected >= 0 ? view.selected : events.at(view.playhead_us) - 1;
}

function goto(t_us) {
  player.seek(t_us);
  const length = view.length_us;
  if (t_us <= 0) view.glide(view.whole()[0], view.whole()[0] + length);
  else view.glide(view.whole()[1] - length, view.whole()[1]);
}

function keyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const { target } = event;
  if (target.matches("input, textarea")) return;
  if (event.key === " " && target.matches("button, [role=tab]")) return;
  if (/^(Arrow|Home|End)/.test(event.key) && target.closest(".tabs, .json")) return;
  if (event.key === "Escape") return clearSearch();
  const found = keyTable.get(event.key);
  if (!found) return;
  event.preventDefault();
  found.run(event.key);
}

/* Searching */

function search(query) {
  $("search").parentElement.classList.toggle("used", Boolean(query));
  const [many, said] = [list.search(query), transcript.search(query)];
  $("found").textContent = query ? `${numberText(many)}${said ? ` + ${numberText(said)} said` : ""}` : "";
  $("found").title = query ? `${many} events, ${said} entries of the transcript` : "";
  if (query && many) showTab("events");
}

function clearSearch() {
  $("search").value = "";
  search("");
}

let searching = 0;
$("search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(() => search($("search").value.trim()), 120);
});
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    clearSearch();
    stage.focus();
  } else if (event.key === "Enter") {
    clearTimeout(searching);
    if (list.query !== $("search").value.trim()) search($("search").value.trim());
    const next = list.step(from(), event.shiftKey ? -1 : 1);
    choose(next === view.selected ? (event.shiftKey ? list.kept.at(-1) : list.kept[0]) : next);
  } else return;
  event.preventDefault();
});

/* Tabs */

function showTab(name) {
  for (const each of ["turns", "events"]) {
    const chosen = each === name;
    $(each).hidden = !chosen;
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1;
  }
  $("filters").hidden = name !== "events";
  if (name === "events") {
    list.draw();
    if (view.selected >= 0) list.reveal(view.selected);
  }
}

for (const name of ["turns", "events"]) {
  $(`tab-${name}`).addEventListener("click", () => showTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (!/^Arrow(Left|Right)$/.test(event.key)) return;
    const other = name === "turns" ? "events" : "turns";
    showTab(other);
    $(`tab-${other}`).focus();
  });
}

/* Begin */

function showPlayer() {
  const on = player.playing;
  $("play").setAttribute("aria-pressed", String(on && player.source === "both"));
  for (const button of document.querySelectorAll(".lane-play")) {
    button.setAttribute("aria-pressed", String(on && button.dataset.source === player.source));
  }
  $("source").textContent = on || player.source !== "both" ? SOURCES[player.source].name : "";
}

for (const { shown, does } of KEYS) {
  $("keys").append(element("dt", {}, ...shown.map((key) => (key === "…" ? key : element("kbd", {}, key)))), element("dd", {}, does));
}
for (const button of document.querySelectorAll(".lane-play")) {
  button.addEventListener("click", () => player.toggle(button.dataset.source));
}
if (!player.has) {
  for (const button of document.querySelectorAll(".play, .lane-play")) {
    button.disabled = true;
    button.title = "The page was written without audio";
  }
}
$("play").addEventListener("click", () => player.toggle("both"));
$("previous").addEventListener("click", () => choose(list.step(from(), -1)));
$("next").addEventListener("click", () => choose(list.step(from(), 1)));
$("zoom-in").addEventListener("click", () => view.glideZoom(0.5));
$("zoom-out").addEventListener("click", () => view.glideZoom(2));
$("zoom-fit").addEventListener("click", () => view.glide(...view.whole()));
$("theme").addEventListener("click", toggleTheme);
$("help-open").addEventListener("click", () => $("help").showModal());
stage.addEventListener("pointerdown", pointerDown);
stage.addEventListener("pointermove", pointerMoved);
stage.addEventListener("pointerleave", () => {
  pointer = null;
  showPointed();
  lanes.drawAbove();
});
stage.addEventListener("dblclick", (event) => view.glideZoom(0.4, view.t(pointed(event)[0])));
stage.addEventListener("wheel", (event) => wheel(event, view.t(pointed(event)[0])), { passive: false });
document.addEventListener("keydown", keyDown);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());

view.changed.add(() => {
  lanes.draw();
  overview.place();
  showPointed();
});
view.moved.add(() => {
  $("clock").textContent = clock(view.playhead_us);
  transcript.follow();
  lanes.drawAbove();
});
player.changed.add(showPlayer);
addEventListener("resize", placeLanes);
new ResizeObserver(() => {
  overview.render();
  lanes.draw();
}).observe(stage);

showHead();
setTheme(rememberedTheme());
stage.setAttribute("aria-label", `Time line of ${clock(data.end_us, 0)}, ${data.turns.length} turns, ${events.count} events`);
performance.mark("drawn");
lanes.laneOf = laneOf;
window.inspector = { view, player, events, list, lanes, clips };
document.documentElement.dataset.ready = "";
