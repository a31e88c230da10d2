// The keys, and what they do.

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
  {
    keys: ["e"],
    shown: ["e"],
    does: "turns or events",
    run: () => showTab($("turns").hidden ? "turns" : "events"),
  },
  { keys: ["d"], shown: ["d"], does: "light or dark", run: toggleTheme },
  {
    keys: ["1", "2", "3", "4"],
    shown: ["1", "…", "4"],
    does: "both, person, generated, heard",
    run: (key) => player.play(Object.keys(SOURCES)[key - 1]),
  },
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
