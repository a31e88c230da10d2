// What the page was given: `data` is drawn at once; the events' JSON is unpacked later.
//
// data = {
//   about: { title, id, started_at, url, library, labels, heard_from, ended },
//   end_us, types: [name], kinds: [index into types], origins: one letter for each event,
//   times: [microseconds since the event before], clips: [{ bins, chunks }],
//   tracks: { person, generated, heard: [{ start_us, end_us, clip, from_us, kind }], arrived },
//   speech, responses, tools, problems, gaps, cuts, turns, transcript, figures
// }
// Times are in microseconds since the recording began; `event` is an index into the events.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

/** Return an element with attributes and children; text becomes text, whatever is in it. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each != null));
  return made;
}

/** Let Tab reach one of some nodes; from there arrow keys go on. */
function rove(box, nodes) {
  let now = 0;
  nodes.forEach((node, n) => (node.tabIndex = n ? -1 : 0));
  box.addEventListener("focusin", ({ target }) => {
    const place = nodes.indexOf(target);
    if (place < 0) return;
    nodes[now].tabIndex = -1;
    nodes[(now = place)].tabIndex = 0;
  });
  box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || !nodes.includes(event.target)) return;
    nodes[now + by]?.focus();
    event.preventDefault();
  });
}

const ORIGINS = {
  i: { row: "received", name: "received", arrow: "↓" },
  o: { row: "sent", name: "sent", arrow: "↑" },
  b: { row: "told", name: "told by the bus", arrow: "·" },
  a: { row: "told", name: "told by the application", arrow: "·" },
  s: { row: "told", name: "noted of the sink", arrow: "·" },
  r: { row: "told", name: "noted by the recorder", arrow: "·" },
};

/** The families by which events are filtered; the first that fits. */
const FAMILIES = [
  ["audio", /^(input_audio_buffer\.append|response\.(output_)?audio\.delta|sink\.played)$/],
  ["errors", /error|failed|invalid|drift|unknown/],
  ["speech", /^(input_audio_buffer|output_audio_buffer)\.|playback|^sink\./],
  ["tools", /function_call|mcp|^tool|\.tool/],
  ["words", /transcript|output_text/],
  ["items", /^conversation\.|content_part|output_item/],
  ["responses", /^response\./],
  ["session", /^(session|rate_limits|transcription_session|recording)\b/],
  ["bus", /./],
];

/** Every event, as columns. */
class Events {
  constructor({ times, kinds, types, origins }) {
    this.count = kinds.length;
    this.types = types;
    this.kinds = Uint32Array.from(kinds);
    this.origins = origins;
    this.t_us = new Float64Array(this.count);
    let t = 0;
    for (let n = 0; n < this.count; n++) this.t_us[n] = t += times[n];
    const families = types.map((type) => FAMILIES.findIndex(([, fits]) => fits.test(type)));
    this.families = Uint8Array.from(this.kinds, (kind) => families[kind]);
    this.texts = this.unpack();
  }

  /** Unpack the events' JSON: one line each. */
  async unpack() {
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
    const packed = bytesOf($("frames").textContent);
    $("frames").remove();
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return (await new Response(stream).text()).split("\n");
  }

  type(n) {
    return this.types[this.kinds[n]];
  }

  origin(n) {
    return ORIGINS[this.origins[n]] ?? ORIGINS.r;
  }

  /** Return the index of the first event that is not before a time. */
  at(t_us) {
    return firstNot(this.count, (n) => this.t_us[n] < t_us);
  }
}

/** Return the first number for which something does not hold that holds for all before it. */
function firstNot(count, holds) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes;
}

/** Write a position: `1:02.345`, with hours where there are any. */
function clock(t_us, digits = 3) {
  const ms = Math.max(0, Math.round(t_us / 1000));
  const s = Math.floor(ms / 1000);
  const [hours, minutes] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  const head = hours ? `${hours}:${two(minutes)}` : `${minutes}`;
  const tail = digits
    ? `.${String(ms % 1000)
        .padStart(3, "0")
        .slice(0, digits)}`
    : "";
  return `${head}:${two(s % 60)}${tail}`;
}

/** Write a duration as a number and its unit. */
function span(us) {
  const ms = us / 1000;
  if (Math.abs(ms) < 9.95) return [ms.toFixed(1), "ms"];
  if (Math.abs(ms) < 999.5) return [ms.toFixed(0), "ms"];
  if (Math.abs(ms) < 59_950) return [(ms / 1000).toFixed(2), "s"];
  return [clock(us, 0), "min"];
}

const spanText = (us) => span(us).join("\u202f");
const numberText = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");

const events = new Events(data);
