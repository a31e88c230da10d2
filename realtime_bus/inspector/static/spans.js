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
  const rows = [lane.top + 16, lane.top + 35];
  context.lineWidth = 1.25;
  const waits = lanes.waits;
  waits.forEach(({ times, value, words, turn }, n) => {
    const end = n + 1 < waits.length ? view.x(waits[n + 1].times[0]) : view.width + 8;
    drawDimension(context, rows[0], times, {
      value,
      words,
      colour: colours["ink-2"],
      end,
      about: { turn },
    });
  });
  const cuts = data.cuts.filter(({ latency_us }) => latency_us != null);
  cuts.forEach((cut, n) => {
    const end = n + 1 < cuts.length ? view.x(cuts[n + 1].silent_us) : view.width + 8;
    const times = [cut.from_us ?? cut.silent_us, cut.silent_us];
    const about = { cut, event: cut.event };
    drawDimension(context, rows[1], times, {
      value: spanText(cut.latency_us),
      words: " to silence",
      colour: colours["accent-text"],
      end,
      about,
    });
  });
}

/** Draw a length; its words only where there is room before the next one begins. */
function drawDimension(context, y, times, { value, words, colour, end, about }) {
  const places = times.map((t) => view.x(t));
  const [left, right] = [places[0], places.at(-1)];
  if (right < -200 || left > view.width + 20) return;
  context.strokeStyle = context.fillStyle = colour;
  context.beginPath();
  line(context, left, y, right, y);
  for (const x of places) line(context, x, y - 4, x, y + 4);
  context.stroke();
  lanes.marks.push({
    left: left - 3,
    right: Math.max(right, left + 3) + 3,
    top: y - 9,
    bottom: y + 9,
    ...about,
  });
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
  lanes.marks.push({ left: at, right: at + whole, top: y - 9, bottom: y + 9, ...about });
}

function drawBars(context, lane, bars, styleOf) {
  const [top, height] = [lane.top + 5, lane.height - 9];
  context.font = `11px ${colours.sans}`;
  for (const bar of bars) {
    const [left, right] = lanes.mark(lane, bar, {});
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
    context.fillRect(left, top, 1.5, lanesHeight);
    context.fillRect(right - 1, top, 1, lanesHeight);
    context.font = `11px ${colours.sans}`;
    const lane = laneOf.latency;
    context.fillText(
      cause === "lost" ? `lost for ${spanText(end_us - start_us)}` : "another connection",
      right + 5,
      lane.top + 12,
    );
  }
}

function drawProblems(context) {
  const lane = laneOf.problems;
  const y = lane.top + lane.height / 2;
  context.font = `11px ${colours.sans}`;
  if (!data.problems.length) drawNone(context, lane);
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
    lanes.marks.push({
      left: x - 7,
      right: x + 7,
      top: lane.top,
      bottom: lane.top + lane.height,
      event: problem.event,
      problem,
    });
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

const RESPONSE_WORDS = {
  completed: "completed",
  cancelled: "cancelled",
  incomplete: "incomplete",
  failed: "failed",
};

function responseStyle({ status, reason }) {
  const name = [RESPONSE_WORDS[status] ?? status ?? "", reason].filter(Boolean).join(" · ");
  if (status === "failed") return { fill: colours.sheet, stroke: colours.bad, text: colours.bad, name };
  if (status === "cancelled" || status === "incomplete")
    return { fill: colours["accent-soft"], stroke: colours.accent, text: colours["accent-text"], name };
  return { fill: colours.sunk, stroke: colours["ink-4"], text: colours["ink-2"], name };
}

function toolStyle({ name, failed, end_us }) {
  const stroke = failed ? colours.bad : colours.person;
  return {
    fill: colours["person-soft"],
    stroke,
    text: failed ? colours.bad : colours.person,
    name: failed ? `${name} failed` : name,
    end_us,
  };
}
