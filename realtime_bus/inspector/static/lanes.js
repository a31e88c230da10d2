// The lanes: what is drawn where, and what lies under the pointer.

const HEARD_FROM = { sink: "as played", truncations: "as truncated", arrival: "as it came" };

const LANES = [
  { id: "ruler", height: 26 },
  { id: "person", height: 78, label: "Person", note: "as sent", play: "person", tall: true },
  { id: "latency", height: 46, label: "Latency", note: "of each turn", tall: true },
  { id: "generated", height: 74, label: "Generated", note: "the assistant", play: "generated", tall: true },
  { id: "heard", height: 74, label: "Heard", note: HEARD_FROM[data.about.heard_from] ?? "the assistant", play: "heard", tall: true },
  { id: "responses", height: 25, label: "Responses", tall: true },
  { id: "tools", height: 25, label: "Tool calls" },
  { id: "problems", height: 25, label: "Errors, drift" },
  { id: "received", height: 18, label: "Received", tall: true },
  { id: "sent", height: 18, label: "Sent" },
  { id: "told", height: 18, label: "Bus, sink" },
];
let LANES_HEIGHT = 0;
const laneOf = Object.fromEntries(LANES.map((lane) => [lane.id, lane]));
const VOICES = ["person", "generated", "heard"];
for (const lane of LANES) lane.least = lane.height;

/** Give each lane its place; in a high window the voices are higher. */
function placeLanes() {
  const room = innerWidth > 900 ? Math.min(Math.max(0, (innerHeight - 800) / 2), 240) : 0;
  let top = 0;
  for (const lane of LANES) {
    lane.height = lane.least + (VOICES.includes(lane.id) ? Math.round(room / VOICES.length) : 0);
    lane.top = top;
    top += lane.height;
    if (!lane.box) continue;
    lane.box.style.top = `${lane.top}px`;
    lane.box.style.height = `${lane.height}px`;
  }
  LANES_HEIGHT = top + 4;
  $("stage").style.height = $("labels").style.height = `${LANES_HEIGHT}px`;
}

const EVENT_ROWS = ["received", "sent", "told"];

/** The colours of the style sheet, as a canvas takes them. */
const colours = {};
function readColours() {
  const probe = element("i");
  document.body.append(probe);
  for (const name of ["paper", "sheet", "sunk", "line", "line-soft", "ink", "ink-2", "ink-3", "ink-4", "accent", "accent-text", "accent-soft", "person", "person-soft", "voice", "voice-soft", "made", "lost", "bad"]) {
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

class Lanes {
  constructor() {
    this.drawn = $("drawn");
    this.above = $("above");
    this.bins = new Uint16Array(0);
    this.rowOf = Uint8Array.from(data.origins, (letter) => EVENT_ROWS.indexOf((ORIGINS[letter] ?? ORIGINS.r).row));
    this.shown = new Uint8Array(events.count).fill(1);
    this.found = null;
    this.hover_us = null;
    this.marks = [];
    this.kept = data.tracks.generated.filter(({ kind }) => kind === "heard");
    this.lost = lostPieces(this.kept);
    this.waits = data.turns.flatMap(({ quiet_us, asked_us, first_us, heard_us }, turn) => {
      const times = [quiet_us, asked_us, first_us, heard_us].filter((t) => t != null);
      if ((heard_us ?? first_us) == null) return [];
      const value = spanText(times.at(-1) - times[0]);
      return [{ times, value, words: heard_us == null ? " to the first answer" : " until heard", turn }];
    });
    for (const lane of LANES.filter((each) => each.label)) {
      lane.box = labelOf(lane);
      $("labels").append(lane.box);
    }
    placeLanes();
  }

  /** Draw all that does not move while it is played. */
  draw() {
    const context = fitted(this.drawn);
    view.width = this.drawn.getBoundingClientRect().width;
    const scale = { x: (t_us) => view.x(t_us), t: (x) => view.t(x), width: view.width };
    this.marks = [];
    this.drawGrid(context);
    this.drawGaps(context);
    this.drawVoices(context, scale);
    this.drawLatencies(context);
    this.drawBars(context, laneOf.responses, data.responses, responseStyle);
    this.drawBars(context, laneOf.tools, data.tools, toolStyle);
    this.drawProblems(context);
    this.drawEvents(context);
    this.drawCuts(context);
    this.drawAbove();
  }

  drawGrid(context) {
    const { width } = view;
    context.lineWidth = 1;
    context.strokeStyle = colours.line;
    context.beginPath();
    for (const lane of LANES.filter((each) => each.tall)) line(context, 0, lane.top + 0.5, width, lane.top + 0.5);
    context.stroke();
    const step = niceStep((view.length_us / width) * 92);
    context.font = `11px ${colours.sans}`;
    context.textAlign = "left";
    context.fillStyle = colours["ink-3"];
    context.strokeStyle = colours["line-soft"];
    context.beginPath();
    for (let t = Math.ceil(Math.max(0, view.start_us) / step) * step; t <= Math.min(view.stop_us, view.end_us); t += step) {
      const x = Math.round(view.x(t)) + 0.5;
      line(context, x, 18, x, LANES_HEIGHT);
      context.fillText(rulerText(t, step), x + 4, 17);
    }
    context.stroke();
    // before the session and after it there is nothing
    context.fillStyle = colours.sunk;
    const [begin, end] = [view.x(0), view.x(view.end_us)];
    if (begin > 0) context.fillRect(0, 26, begin, LANES_HEIGHT);
    if (end < width) context.fillRect(end, 26, width - end, LANES_HEIGHT);
  }

  drawVoices(context, scale) {
    const { person, generated, heard } = laneOf;
    const baseline = (lane) => Math.round(lane.top + lane.height / 2) + 0.5;
    context.strokeStyle = colours["line"];
    context.beginPath();
    for (const lane of [person, generated, heard]) line(context, view.x(0), baseline(lane), view.x(view.end_us), baseline(lane));
    context.stroke();

    for (const span of data.speech) {
      const [left, right] = this.mark(person, span, {});
      if (right < 0 || left > view.width) continue;
      context.fillStyle = colours["person-soft"];
      context.fillRect(left, person.top + 1, Math.max(1, right - left), person.height - 1);
      context.fillStyle = colours.person;
      context.fillRect(left, person.top + person.height - 3, Math.max(1, right - left), 3);
    }
    const draw = (lane, piece, colour, faint) =>
      drawPiece(context, scale, piece, { middle: baseline(lane), height: lane.height - 20, gain: gains[lane.id], colour, faint });
    for (const piece of data.tracks.person) draw(person, piece, colours.person);
    for (const piece of this.lost) {
      const [left, right] = this.mark(generated, piece, {});
      if (right < 0 || left > view.width) continue;
      hatch(context, left, generated.top + 1, right - left, generated.height - 1, colours.lost);
      draw(generated, piece, colours.lost, 0.45);
      this.drawLost(context, piece);
    }
    for (const piece of this.kept) {
      const [left, right] = this.mark(generated, piece, {});
      if (right >= 0 && left <= view.width) draw(generated, piece, colours.made, 0.45);
    }
    context.fillStyle = colours.made;
    for (const { start_us, end_us } of data.tracks.arrived) {
      const [left, right] = [view.x(start_us), view.x(end_us)];
      if (right >= 0 && left <= view.width) context.fillRect(left, generated.top + generated.height - 3, Math.max(1, right - left), 3);
    }
    for (const piece of data.tracks.heard) {
      const [left, right] = this.mark(heard, piece, {});
      if (right < 0 || left > view.width) continue;
      context.fillStyle = colours["voice-soft"];
      context.fillRect(left, heard.top + 1, right - left, heard.height - 1);
      draw(heard, piece, colours.voice);
    }
  }

  /** Say how much nobody heard, where there is room. */
  drawLost(context, piece) {
    const left = Math.max(6, view.x(piece.start_us) + 8);
    const right = Math.min(view.width, view.x(piece.end_us)) - 6;
    const text = `${spanText(piece.length_us)} never heard`;
    context.font = `11px ${colours.sans}`;
    const width = context.measureText(text).width;
    if (right - left < width + 12) return;
    const y = laneOf.generated.top + laneOf.generated.height - 9;
    context.fillStyle = colours.sheet;
    context.fillRect(left - 4, y - 10, width + 8, 14);
    context.fillStyle = colours["ink-3"];
    context.fillText(text, left, y);
  }

  /** Draw where the person cut in: through all that it cut. */
  drawCuts(context) {
    const top = laneOf.person.top + laneOf.person.height;
    const bottom = laneOf.heard.top + laneOf.heard.height;
    const seen = data.cuts.map(({ silent_us }) => Math.round(view.x(silent_us)) + 0.5).filter((x) => x > -10 && x < view.width + 10);
    const dense = seen.length > view.width / 40;
    for (const x of seen) {
      context.strokeStyle = context.fillStyle = colours.accent;
      context.globalAlpha = dense ? 0.5 : 1;
      context.lineWidth = dense ? 1 : 1.5;
      context.beginPath();
      line(context, x, top, x, bottom);
      context.stroke();
      if (dense) continue;
      context.beginPath();
      context.moveTo(x - 5, top);
      context.lineTo(x + 5, top);
      context.lineTo(x, top + 6);
      context.fill();
      context.beginPath();
      context.arc(x, bottom - laneOf.heard.height / 2, 3.5, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** Draw the latencies as dimensions are drawn: a line between two ends, with its length. */
  drawLatencies(context) {
    const lane = laneOf.latency;
    const rows = [lane.top + 16, lane.top + 35];
    context.lineWidth = 1.25;
    const waits = this.waits;
    waits.forEach(({ times, value, words, turn }, n) => {
      const end = n + 1 < waits.length ? view.x(waits[n + 1].times[0]) : view.width + 8;
      this.drawDimension(context, rows[0], times, { value, words, colour: colours["ink-2"], end, about: { turn } });
    });
    const cuts = data.cuts.filter(({ latency_us }) => latency_us != null);
    cuts.forEach((cut, n) => {
      const end = n + 1 < cuts.length ? view.x(cuts[n + 1].silent_us) : view.width + 8;
      const times = [cut.from_us ?? cut.silent_us, cut.silent_us];
      const about = { cut, event: cut.event };
      this.drawDimension(context, rows[1], times, { value: spanText(cut.latency_us), words: " to silence", colour: colours["accent-text"], end, about });
    });
  }

  /** Draw a length; its words only where there is room before the next one begins. */
  drawDimension(context, y, times, { value, words, colour, end, about }) {
    const places = times.map((t) => view.x(t));
    const [left, right] = [places[0], places.at(-1)];
    if (right < -200 || left > view.width + 20) return;
    context.strokeStyle = context.fillStyle = colour;
    context.beginPath();
    line(context, left, y, right, y);
    for (const x of places) line(context, x, y - 4, x, y + 4);
    context.stroke();
    this.marks.push({ left: left - 3, right: Math.max(right, left + 3) + 3, top: y - 9, bottom: y + 9, ...about });
    context.font = `600 12px ${colours.sans}`;
    const valueWidth = context.measureText(value).width;
    context.font = `12px ${colours.sans}`;
    let whole = valueWidth + context.measureText(words).width;
    const inside = right - left > whole + 24;
    const room = inside ? right - left : Math.min(end, view.width + 8) - right - 14;
    if (whole > room) [whole, words] = [valueWidth, ""];
    if (whole > room) return;
    let at = right + 7;
    if (inside) {
      // in the middle of what is seen of it
      const [from, to] = [Math.max(left, 0), Math.min(right, view.width)];
      at = Math.min(Math.max((from + to - whole) / 2, left + 12), right - whole - 12);
      context.fillStyle = colours.sheet;
      context.fillRect(at - 6, y - 8, whole + 12, 16);
    }
    context.fillStyle = colour;
    context.font = `600 12px ${colours.sans}`;
    context.fillText(value, at, y + 4);
    context.font = `12px ${colours.sans}`;
    context.globalAlpha = 0.8;
    context.fillText(words, at + valueWidth, y + 4);
    context.globalAlpha = 1;
    this.marks.push({ left: at, right: at + whole, top: y - 9, bottom: y + 9, ...about });
  }

  drawBars(context, lane, bars, styleOf) {
    const [top, height] = [lane.top + 5, lane.height - 9];
    context.font = `11px ${colours.sans}`;
    for (const bar of bars) {
      const [left, right] = this.mark(lane, bar, {});
      if (right < 0 || left > view.width) continue;
      const { fill, stroke, text, name } = styleOf(bar);
      const [from, to] = [Math.max(left, -10), Math.min(Math.max(right, left + 3), view.width + 10)];
      context.beginPath();
      context.roundRect(from + 0.5, top + 0.5, Math.max(2, to - from - 1), height, 3);
      context.fillStyle = fill;
      context.fill();
      context.strokeStyle = stroke;
      context.lineWidth = 1;
      context.stroke();
      let start = Math.max(from, 0) + 6;
      let room = to - start - 4;
      if (context.measureText(name).width > room) {
        // there may be more room behind it
        const next = bars.find(({ start_us }) => start_us > bar.start_us);
        const behind = Math.min(next ? view.x(next.start_us) : Infinity, view.width) - to - 14;
        if (behind > room) [start, room] = [to + 6, behind];
      }
      context.fillStyle = text;
      if (room > 24) context.fillText(shortened(context, name, room), start, top + height - 4);
    }
    if (!bars.length) this.drawNone(context, lane);
  }

  drawNone(context, lane) {
    context.font = `11px ${colours.sans}`;
    context.fillStyle = colours["ink-3"];
    context.fillText("none", Math.max(8, view.x(0) + 8), lane.top + lane.height / 2 + 4);
  }

  /** Draw where there was no connection, or another one took over. */
  drawGaps(context) {
    for (const { start_us, end_us, cause } of data.gaps) {
      const [left, right] = [view.x(start_us), Math.max(view.x(end_us), view.x(start_us) + 2)];
      if (right < 0 || left > view.width) continue;
      const top = laneOf.person.top;
      context.fillStyle = colours.sunk;
      context.fillRect(left, top, right - left, LANES_HEIGHT);
      context.fillStyle = cause === "lost" ? colours.bad : colours["ink-3"];
      context.fillRect(left, top, 1.5, LANES_HEIGHT);
      context.fillRect(right - 1, top, 1, LANES_HEIGHT);
      context.font = `11px ${colours.sans}`;
      const lane = laneOf.latency;
      context.fillText(cause === "lost" ? `lost for ${spanText(end_us - start_us)}` : "another connection", right + 5, lane.top + 12);
    }
  }

  drawProblems(context) {
    const lane = laneOf.problems;
    const y = lane.top + lane.height / 2;
    context.font = `11px ${colours.sans}`;
    if (!data.problems.length) this.drawNone(context, lane);
    let free = -1e9;
    for (const problem of data.problems) {
      const x = view.x(problem.at_us);
      if (x < -10 || x > view.width + 10) continue;
      const bad = !problem.mild;
      context.fillStyle = context.strokeStyle = bad ? colours.bad : colours["ink-2"];
      context.lineWidth = 1.5;
      context.beginPath();
      if (bad) {
        context.moveTo(x, y - 5);
        context.lineTo(x + 5, y + 4);
        context.lineTo(x - 5, y + 4);
        context.fill();
      } else {
        context.arc(x, y, 3.5, 0, 7);
        context.stroke();
      }
      this.marks.push({ left: x - 7, right: x + 7, top: lane.top, bottom: lane.top + lane.height, event: problem.event, problem });
      if (x + 9 > free) {
        const next = data.problems.find((each) => view.x(each.at_us) > x + 1);
        const room = Math.min(360, (next ? view.x(next.at_us) : view.width) - x - 20);
        if (room > 40) {
          const text = shortened(context, problem.text, room);
          context.fillText(text, x + 9, y + 4);
          free = x + 9 + context.measureText(text).width;
        }
      }
    }
  }

  /** Draw the events as ticks, as many as there are pixels; denser ones are darker. */
  drawEvents(context) {
    const width = Math.ceil(view.width) + 1;
    const [first, last] = [events.at(view.start_us), events.at(view.stop_us)];
    const factor = view.width / view.length_us;
    const found = this.found && new Uint8Array(EVENT_ROWS.length * width);
    if (this.bins.length !== EVENT_ROWS.length * width) this.bins = new Uint16Array(EVENT_ROWS.length * width);
    this.bins.fill(0);
    for (let n = first; n < last; n++) {
      if (!this.shown[n]) continue;
      const x = ((events.t_us[n] - view.start_us) * factor) | 0;
      this.bins[this.rowOf[n] * width + x]++;
      if (found && this.found[n]) found[this.rowOf[n] * width + x] = 1;
    }
    EVENT_ROWS.forEach((row, index) => {
      const bins = this.bins.subarray(index * width, (index + 1) * width);
      const lane = laneOf[row];
      const [top, height] = [lane.top + 4, lane.height - 8];
      context.fillStyle = colours[row === "sent" ? "person" : row === "received" ? "voice" : "ink-2"];
      for (let x = 0; x < width; x++) {
        if (!bins[x]) continue;
        context.globalAlpha = Math.min(1, 0.4 + 0.2 * bins[x]);
        context.fillRect(x, top, 1, height);
      }
      context.globalAlpha = 1;
      if (!found) return;
      context.fillStyle = colours.accent;
      for (let x = 0; x < width; x++) if (found[index * width + x]) context.fillRect(x - 0.5, top - 2, 2, height + 4);
    });
  }

  /** Draw what moves: the chosen event, the pointer's line, the playhead. */
  drawAbove() {
    const context = fitted(this.above);
    if (this.hover_us !== null) {
      const x = Math.round(view.x(this.hover_us)) + 0.5;
      context.strokeStyle = colours["ink-4"];
      context.beginPath();
      line(context, x, 20, x, LANES_HEIGHT);
      context.stroke();
    }
    if (view.selected >= 0) {
      const lane = laneOf[events.origin(view.selected).row];
      const x = Math.round(view.x(events.t_us[view.selected]));
      context.fillStyle = colours.accent;
      context.fillRect(x - 1, lane.top + 1, 3, lane.height - 2);
      context.strokeStyle = colours.accent;
      context.setLineDash([2, 3]);
      context.beginPath();
      line(context, x + 0.5, 26, x + 0.5, lane.top);
      context.stroke();
      context.setLineDash([]);
    }
    const x = Math.round(view.x(view.playhead_us)) + 0.5;
    if (x < -8 || x > view.width + 8) return;
    context.strokeStyle = context.fillStyle = colours.ink;
    context.lineWidth = 1;
    context.beginPath();
    line(context, x, 24, x, LANES_HEIGHT);
    context.stroke();
    context.beginPath();
    context.moveTo(x - 5, 19);
    context.lineTo(x + 5, 19);
    context.lineTo(x, 26);
    context.fill();
  }

  /** Remember where something was drawn; return where it begins and ends. */
  mark(lane, what, about) {
    const [left, right] = [view.x(what.start_us), view.x(what.end_us)];
    if (right >= -4 && left <= view.width + 4) {
      this.marks.push({ left: left - 1, right: Math.max(right, left + 3) + 1, top: lane.top, bottom: lane.top + lane.height, event: what.event, what, lane: lane.id, ...about });
    }
    return [left, right];
  }

  /** Return what lies at a place: an event of a row, or what was drawn last there. */
  hit(x, y) {
    const row = EVENT_ROWS.find((id) => y >= laneOf[id].top && y < laneOf[id].top + laneOf[id].height);
    if (row) return this.hitEvent(EVENT_ROWS.indexOf(row), x);
    return this.marks.findLast(({ left, right, top, bottom }) => x >= left && x <= right && y >= top && y < bottom) ?? null;
  }

  hitEvent(row, x) {
    const [first, last] = [events.at(view.t(x - 5)), events.at(view.t(x + 6))];
    let best = null;
    let many = 0;
    for (let n = first; n < last; n++) {
      if (this.rowOf[n] !== row || !this.shown[n]) continue;
      const away = Math.abs(view.x(events.t_us[n]) - x);
      if (away < 1) many++;
      if (!best || away < best.away) best = { event: n, away };
    }
    return best && { ...best, many: Math.max(1, many) };
  }
}

/** Return what was never heard, as far as there is room for it: until the next answer, or the end. */
function lostPieces(kept) {
  return data.tracks.generated
    .filter(({ kind }) => kind === "discarded")
    .map((piece) => {
      const next = kept.find(({ start_us }) => start_us > piece.start_us);
      const end_us = Math.min(piece.end_us, next?.start_us ?? Infinity, data.end_us);
      return { ...piece, end_us: Math.max(end_us, piece.start_us), length_us: piece.end_us - piece.start_us };
    });
}

function labelOf({ label, note, play, tall }) {
  const made = element("div", { class: `label${tall ? " tall" : ""}${note ? "" : " small"}` });
  const text = element("div", {});
  text.append(note ? element("b", {}, label) : element("span", {}, label));
  if (note) text.append(element("span", {}, note));
  made.append(text);
  if (play) {
    const icon = $("play").firstElementChild.cloneNode(true);
    made.append(element("button", { class: "lane-play", type: "button", "data-source": play, "aria-pressed": "false", "aria-label": `Play: ${label}`, title: `Play: ${label.toLowerCase()}` }, icon));
  }
  return made;
}

const RESPONSE_WORDS = { completed: "completed", cancelled: "cancelled", incomplete: "incomplete", failed: "failed" };

function responseStyle({ status, reason }) {
  const name = [RESPONSE_WORDS[status] ?? status ?? "", reason].filter(Boolean).join(" · ");
  if (status === "failed") return { fill: colours.sheet, stroke: colours.bad, text: colours.bad, name };
  if (status === "cancelled" || status === "incomplete") return { fill: colours["accent-soft"], stroke: colours.accent, text: colours["accent-text"], name };
  return { fill: colours.sunk, stroke: colours["ink-4"], text: colours["ink-2"], name };
}

function toolStyle({ name, failed, end_us }) {
  const stroke = failed ? colours.bad : colours.person;
  return { fill: colours["person-soft"], stroke, text: failed ? colours.bad : colours.person, name: failed ? `${name} failed` : name, end_us };
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
  return low > 1 ? `${flat.slice(0, low)}…` : "";
}

const STEPS_US = [1, 2, 5].flatMap((n) => [1e2, 1e3, 1e4, 1e5, 1e6].map((unit) => n * unit)).sort((a, b) => a - b);
STEPS_US.push(1e7, 1.5e7, 3e7, 6e7, 1.2e8, 3e8, 6e8, 9e8, 1.8e9, 3.6e9);

function niceStep(at_least_us) {
  return STEPS_US.find((step) => step >= at_least_us) ?? 10 ** Math.ceil(Math.log10(at_least_us));
}

function rulerText(t_us, step) {
  if (step >= 1e6) return clock(t_us, 0);
  if (step >= 1e3) return clock(t_us, step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3);
  return `${clock(t_us, 3)}${String(Math.round(t_us) % 1000).padStart(3, "0").slice(0, 1)}`;
}

const lanes = new Lanes();
