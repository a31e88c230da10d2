// The page's parts brought together: the head, light and dark, the search, the tabs.

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
  const date =
    when && !Number.isNaN(when.valueOf())
      ? when.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" }) + " UTC"
      : "";
  $("title").textContent = about.title || "Session";
  $("when").textContent = date;
  $("length").textContent = `/ ${clock(data.end_us)}`;
  $("title").title = [
    about.title,
    about.url,
    about.id,
    about.library,
    ...Object.entries(about.labels).map((label) => label.join(": ")),
  ]
    .filter(Boolean).join("\n");
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

/* Searching */

function search(query) {
  $("search").parentElement.classList.toggle("used", Boolean(query));
  const [many, said] = [list.search(query), transcript.search(query)];
  $("found").textContent = query
    ? `${numberText(many)} ${many === 1 ? "event" : "events"}, ${numberText(said)} said`
    : "";
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
  $("keys").append(
    element("dt", {}, ...shown.map((key) => (key === "…" ? key : element("kbd", {}, key)))),
    element("dd", {}, does),
  );
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
stage.setAttribute(
  "aria-label",
  `Time line of ${clock(data.end_us, 0)}, ${data.turns.length} turns, ${events.count} events`,
);
performance.mark("drawn");
window.inspector = { view, player, events, list, lanes, clips, laneOf };
document.documentElement.dataset.ready = "";
