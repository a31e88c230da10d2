// What lies between two moments, or at one: latencies, cuts, responses, calls, problems, gaps.

/** Say how much nobody heard, where there is room. */
function drawLost(context, piece) {
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
function drawCuts(context) {
  const top = laneOf.person.top + laneOf.person.height;
  const bottom = laneOf.heard.top + laneOf.heard.height;
  const seen = data.cuts
    .map(({ silent_us }) => Math.round(view.x(silent_us)) + 0.5)
    .filter((x) => x > -10 && x < view.width + 10);
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
function drawLatencies(context) {
  const lane = laneOf.latency;
  lanes.waits.forEach(({ times, value, words, turn }, n) => {
    drawDimension(context, lane.top + 16, times, {
      value,
      words,
      colour: colours["ink-2"],
      until_us: lanes.waits[n + 1]?.times[0],
      about: { turn },
    });
  });
  const cuts = data.cuts.filter(({ latency_us }) => latency_us != null);
  cuts.forEach((cut, n) => {
    drawDimension(context, lane.top + 35, [cut.from_us ?? cut.silent_us, cut.silent_us], {
      value: spanText(cut.latency_us),
      words: " to silence",
      colour: colours["accent-text"],
      until_us: cuts[n + 1]?.silent_us,
      about: { cut, event: cut.event },
    });
  });
}

/** Draw a length; in it, or behind it, as much of its words as there is room for. */
function drawDimension(context, y, times, { value, words, colour, until_us = Infinity, about }) {
  const places = times.map((t) => view.x(t));
  const [left, right] = [places[0], places.at(-1)];
  if (right < -200 || left > view.width + 20) return;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.25;
  context.beginPath();
  line(context, left, y, right, y);
  for (const x of places) line(context, x, y - 4, x, y + 4);
  context.stroke();
  const [top, bottom] = [y - 9, y + 9];
  lanes.marks.push({ left: left - 3, right: Math.max(right, left + 3) + 3, top, bottom, ...about });
  const { walls } = lanes;
  const wall_us = walls[firstNot(walls.length, (n) => walls[n] <= times.at(-1))] ?? Infinity;
  const behind = view.x(Math.min(until_us, wall_us, view.stop_us)) - right - 14;
  const [from, to] = [Math.max(left, 0), Math.min(right, view.width)];
  if (Math.max(to - from, behind) < 24) return;
  const [bold, plain] = [`600 12px ${colours.sans}`, `12px ${colours.sans}`];
  context.font = bold;
  const valueWidth = context.measureText(value).width;
  context.font = plain;
  const wordsWidth = context.measureText(words).width;
  for (const [text, whole] of [
    [words, valueWidth + wordsWidth],
    ["", valueWidth],
  ]) {
    let at = right + 7;
    if (to - from > whole + 36) {
      at = (from + to - whole) / 2; // in the middle of what is seen of it
      context.fillStyle = colours.sheet;
      context.fillRect(at - 6, y - 8, whole + 12, 16);
    } else if (whole > behind) continue;
    context.fillStyle = colour;
    context.font = bold;
    context.fillText(value, at, y + 4);
    context.font = plain;
    context.fillText(text, at + valueWidth, y + 4);
    lanes.marks.push({ left: at, right: at + whole, top, bottom, ...about });
    return;
  }
}

function drawBars(context, lane, bars, styleOf) {
  const [top, height] = [lane.top + 5, lane.height - 9];
  context.font = `11px ${colours.sans}`;
  bars.forEach((bar, n) => {
    const [left, right] = lanes.mark(lane, bar, {});
    if (right < 0 || left > view.width) return;
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
    const next = bars[n + 1];
    const behind = Math.min(next ? view.x(next.start_us) : Infinity, view.width) - to - 14;
    if (Math.max(room, behind) < 24) return;
    if (behind > room && context.measureText(name).width > room) [start, room] = [to + 6, behind];
    context.fillStyle = text;
    context.fillText(shortened(context, name, room), start, top + height - 4);
  });
  if (!bars.length) drawNone(context, lane);
}

function drawNone(context, lane) {
  context.font = `11px ${colours.sans}`;
  context.fillStyle = colours["ink-3"];
  context.fillText("none", Math.max(8, view.x(0) + 8), lane.top + lane.height / 2 + 4);
}

/** Draw where there was no connection, or another one took over. */
function drawGaps(context) {
  for (const { start_us, end_us, cause } of data.gaps) {
    const [left, right] = [view.x(start_us), Math.max(view.x(end_us), view.x(start_us) + 2)];
    if (right < 0 || left > view.width) continue;
    const top = laneOf.person.top;
    context.fillStyle = colours.sunk;
    context.fillRect(left, top, right - left, lanesHeight);
    context.fillStyle = cause === "lost" ? colours.bad : colours["ink-3"];
    context.fillRect(left, top, 1, lanesHeight);
    context.fillRect(right - 1, top, 1, lanesHeight);
  }
}

/** Draw what went wrong: a triangle, a ring for what is mild, a bar for what lasted. */
function drawTroubles(context) {
  const lane = laneOf.problems;
  const y = lane.top + lane.height / 2;
  context.font = `11px ${colours.sans}`;
  context.lineWidth = 1.5;
  if (!lanes.troubles.length) drawNone(context, lane);
  lanes.troubles.forEach((problem, n) => {
    const x = view.x(problem.at_us);
    const right = Math.max(x + 5, view.x(problem.end_us ?? problem.at_us));
    if (right < -10 || x > view.width + 10) return;
    context.fillStyle = context.strokeStyle = problem.mild ? colours["ink-2"] : colours.bad;
    context.beginPath();
    if (problem.end_us > problem.at_us) context.rect(x, y - 4, right - x, 8);
    else if (problem.mild) context.arc(x, y, 3.5, 0, 7);
    else {
      context.moveTo(x, y - 5);
      context.lineTo(x + 5, y + 4);
      context.lineTo(x - 5, y + 4);
    }
    if (problem.mild) context.stroke();
    else context.fill();
    const [top, bottom] = [lane.top, lane.top + lane.height];
    lanes.marks.push({ left: x - 7, right: right + 2, top, bottom, event: problem.event, problem });
    const next = lanes.troubles[n + 1];
    const room = Math.min(360, (next ? view.x(next.at_us) : view.width) - right - 16);
    if (room > 40) context.fillText(shortened(context, problem.text, room), right + 5, y + 4);
  });
}

function responseStyle({ status, reason, aside }) {
  const name = [status, reason, aside ? "out of band" : null].filter(Boolean).join(" · ");
  if (status === "failed") return { fill: colours.sheet, stroke: colours.bad, text: colours.bad, name };
  if (status === "cancelled" || status === "incomplete")
    return { fill: colours["accent-soft"], stroke: colours.accent, text: colours["accent-text"], name };
  return { fill: colours.sunk, stroke: colours["ink-4"], text: colours["ink-2"], name };
}

function toolStyle({ name, failed }) {
  const colour = failed ? colours.bad : colours.person;
  const fill = colours[failed ? "sheet" : "person-soft"];
  return { fill, stroke: colour, text: colour, name: failed ? `${name} failed` : name };
}
