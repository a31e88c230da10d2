// Where the lanes lie, in which colours they are drawn, and what all drawing needs.

const stage = $("stage");
const HEARD_FROM = { sink: "as played", truncations: "as truncated", arrival: "as it came" };

const LANES = [
  { id: "ruler", height: 26 },
  { id: "person", height: 78, label: "Person", note: "as sent", play: "person", tall: true },
  { id: "latency", height: 46, label: "Latency", note: "of each turn", tall: true },
  { id: "generated", height: 74, label: "Generated", note: "the assistant", play: "generated", tall: true },
  {
    id: "heard",
    height: 74,
    label: "Heard",
    note: HEARD_FROM[data.about.heard_from] ?? "the assistant",
    play: "heard",
    tall: true,
  },
  { id: "responses", height: 25, label: "Responses", tall: true },
  { id: "tools", height: 25, label: "Tool calls" },
  { id: "problems", height: 25, label: "Errors, drift" },
  { id: "received", height: 18, label: "Received", tall: true },
  { id: "sent", height: 18, label: "Sent" },
  { id: "told", height: 18, label: "Bus, sink" },
];
let lanesHeight = 0;
const laneOf = Object.fromEntries(LANES.map((lane) => [lane.id, lane]));
const VOICES = ["person", "generated", "heard"];
for (const lane of LANES) lane.least = lane.height;

/** Give each lane its place; the voices are as high as the window has room for. */
function placeLanes() {
  const room = innerWidth > 900 ? Math.min(Math.max(-60, (innerHeight - 800) / 2), 240) : 0;
  let top = 0;
  for (const lane of LANES) {
    lane.height = lane.least + (VOICES.includes(lane.id) ? Math.round(room / VOICES.length) : 0);
    lane.top = top;
    top += lane.height;
    if (!lane.box) continue;
    lane.box.style.top = `${lane.top}px`;
    lane.box.style.height = `${lane.height}px`;
  }
  lanesHeight = top + 4;
  $("stage").style.height = $("labels").style.height = `${lanesHeight}px`;
}

const EVENT_ROWS = ["received", "sent", "told"];

/** The colours of the style sheet, as a canvas takes them. */
const colours = {};
function readColours() {
  const probe = element("i");
  document.body.append(probe);
  for (const name of [
    "paper",
    "sheet",
    "sunk",
    "line",
    "line-soft",
    "ink",
    "ink-2",
    "ink-3",
    "ink-4",
    "accent",
    "accent-text",
    "accent-soft",
    "person",
    "person-soft",
    "voice",
    "voice-soft",
    "made",
    "lost",
    "bad",
  ]) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  colours.sans = getComputedStyle(document.body).fontFamily;
  probe.remove();
}

/** Fit a canvas to its box, in the screen's own pixels. */
function fitted(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function labelOf({ label, note, play, tall }) {
  const made = element("div", { class: `label${tall ? " tall" : ""}${note ? "" : " small"}` });
  const text = element("div", {});
  text.append(note ? element("b", {}, label) : element("span", {}, label));
  if (note) text.append(element("span", {}, note));
  made.append(text);
  if (play) {
    const icon = $("play").firstElementChild.cloneNode(true);
    made.append(
      element(
        "button",
        {
          class: "lane-play",
          type: "button",
          "data-source": play,
          "aria-pressed": "false",
          "aria-label": `Play: ${label}`,
          title: `Play: ${label.toLowerCase()}`,
        },
        icon,
      ),
    );
  }
  return made;
}

const STEPS_US = [1, 2, 5]
  .flatMap((n) => [1e2, 1e3, 1e4, 1e5, 1e6].map((unit) => n * unit))
  .sort((a, b) => a - b);
STEPS_US.push(1e7, 1.5e7, 3e7, 6e7, 1.2e8, 3e8, 6e8, 9e8, 1.8e9, 3.6e9);

function niceStep(at_least_us) {
  return STEPS_US.find((step) => step >= at_least_us) ?? 10 ** Math.ceil(Math.log10(at_least_us));
}

function rulerText(t_us, step) {
  if (step >= 1e6) return clock(t_us, 0);
  if (step >= 1e3) return clock(t_us, step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3);
  const us = Math.round(t_us);
  return `${clock(us - (us % 1000), 3)}${Math.floor((us % 1000) / 100)}`;
}

function line(context, x1, y1, x2, y2) {
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
}

function hatch(context, left, top, width, height, colour) {
  context.save();
  context.beginPath();
  const from = Math.max(left, 0);
  context.rect(from, top, Math.min(left + width, view.width) - from, height);
  context.clip();
  context.strokeStyle = colour;
  context.globalAlpha = 0.5;
  context.lineWidth = 1;
  context.beginPath();
  const end = Math.min(left + width, view.width) + height;
  const begin = from - ((from - left) % 7);
  for (let x = begin; x < end; x += 7) line(context, x, top, x - height, top + height);
  context.stroke();
  context.restore();
}

function shortened(context, text, room) {
  const flat = text.slice(0, 200).replace(/\s+/g, " ");
  if (context.measureText(flat).width <= room) return flat;
  let [low, high] = [0, flat.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${flat.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low > 7 ? `${flat.slice(0, low)}…` : ""; // less says nothing
}
