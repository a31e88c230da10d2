// The lanes: what is drawn in them, and what lies under the pointer.

class Lanes {
  constructor() {
    this.drawn = $("drawn");
    this.above = $("above");
    this.bins = new Uint16Array(0);
    this.rowOf = Uint8Array.from(data.origins, (letter) =>
      EVENT_ROWS.indexOf((ORIGINS[letter] ?? ORIGINS.r).row),
    );
    this.shown = new Uint8Array(events.count).fill(1);
    this.found = null;
    this.hover_us = null;
    this.marks = [];
    this.kept = data.tracks.generated.filter(({ kind }) => kind === "heard");
    this.lost = lostPieces(this.kept);
    this.troubles = troubles();
    this.walls = [...data.cuts.map(({ silent_us }) => silent_us), ...data.gaps.flatMap((gap) => [gap.start_us, gap.end_us])];
    this.walls.sort((a, b) => a - b);
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
    drawGaps(context);
    this.drawVoices(context, scale);
    drawLatencies(context);
    drawBars(context, laneOf.responses, data.responses, responseStyle);
    drawBars(context, laneOf.tools, data.tools, toolStyle);
    drawTroubles(context);
    this.drawEvents(context);
    drawCuts(context);
    this.drawAbove();
  }

  drawGrid(context) {
    const { width } = view;
    context.lineWidth = 1;
    context.strokeStyle = colours.line;
    context.beginPath();
    for (const lane of LANES.filter((each) => each.tall))
      line(context, 0, lane.top + 0.5, width, lane.top + 0.5);
    context.stroke();
    const step = niceStep((view.length_us / width) * 92);
    context.font = `11px ${colours.sans}`;
    context.textAlign = "left";
    context.fillStyle = colours["ink-3"];
    context.strokeStyle = colours["line-soft"];
    context.beginPath();
    for (
      let t = Math.ceil(Math.max(0, view.start_us) / step) * step;
      t <= Math.min(view.stop_us, view.end_us);
      t += step
    ) {
      const x = Math.round(view.x(t)) + 0.5;
      line(context, x, 18, x, lanesHeight);
      context.fillText(rulerText(t, step), x + 4, 17);
    }
    context.stroke();
    // before the session and after it there is nothing
    context.fillStyle = colours.sunk;
    const [begin, end] = [view.x(0), view.x(view.end_us)];
    if (begin > 0) context.fillRect(0, 26, begin, lanesHeight);
    if (end < width) context.fillRect(end, 26, width - end, lanesHeight);
  }

  drawVoices(context, scale) {
    const { person, generated, heard } = laneOf;
    const baseline = (lane) => Math.round(lane.top + lane.height / 2) + 0.5;
    context.strokeStyle = colours["line"];
    context.beginPath();
    for (const lane of [person, generated, heard])
      line(context, view.x(0), baseline(lane), view.x(view.end_us), baseline(lane));
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
      drawPiece(context, scale, piece, {
        middle: baseline(lane),
        height: lane.height - 20,
        gain: gains[lane.id],
        colour,
        faint,
      });
    for (const piece of data.tracks.person) draw(person, piece, colours.person);
    for (const piece of this.lost) {
      const [left, right] = this.mark(generated, piece, {});
      if (right < 0 || left > view.width) continue;
      hatch(context, left, generated.top + 1, right - left, generated.height - 1, colours.lost);
      draw(generated, piece, colours.lost, 0.45);
      drawLost(context, piece);
    }
    for (const piece of this.kept) {
      const [left, right] = this.mark(generated, piece, {});
      if (right >= 0 && left <= view.width) draw(generated, piece, colours.made, 0.45);
    }
    context.fillStyle = colours.made;
    for (const { start_us, end_us } of data.tracks.arrived) {
      const [left, right] = [view.x(start_us), view.x(end_us)];
      if (right >= 0 && left <= view.width)
        context.fillRect(left, generated.top + generated.height - 3, Math.max(1, right - left), 3);
    }
    for (const piece of data.tracks.heard) {
      const [left, right] = this.mark(heard, piece, {});
      if (right < 0 || left > view.width) continue;
      context.fillStyle = colours["voice-soft"];
      context.fillRect(left, heard.top + 1, right - left, heard.height - 1);
      draw(heard, piece, colours.voice);
    }
  }

  /** Draw the events as ticks, as many as there are pixels; denser ones are darker. */
  drawEvents(context) {
    const width = Math.ceil(view.width) + 1;
    const [first, last] = [events.at(view.start_us), events.at(view.stop_us)];
    const factor = view.width / view.length_us;
    const found = this.found && new Uint8Array(EVENT_ROWS.length * width);
    if (this.bins.length !== EVENT_ROWS.length * width)
      this.bins = new Uint16Array(EVENT_ROWS.length * width);
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
      for (let x = 0; x < width; x++)
        if (found[index * width + x]) context.fillRect(x - 0.5, top - 2, 2, height + 4);
    });
  }

  /** Draw what moves: the chosen event, the pointer's line, the playhead. */
  drawAbove() {
    const context = fitted(this.above);
    if (this.hover_us !== null) {
      const x = Math.round(view.x(this.hover_us)) + 0.5;
      context.strokeStyle = colours["ink-4"];
      context.beginPath();
      line(context, x, 20, x, lanesHeight);
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
    line(context, x, 24, x, lanesHeight);
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
      this.marks.push({
        left: left - 1,
        right: Math.max(right, left + 3) + 1,
        top: lane.top,
        bottom: lane.top + lane.height,
        event: what.event,
        what,
        lane: lane.id,
        ...about,
      });
    }
    return [left, right];
  }

  /** Return what lies at a place: an event of a row, or what was drawn last there. */
  hit(x, y) {
    const row = EVENT_ROWS.find((id) => y >= laneOf[id].top && y < laneOf[id].top + laneOf[id].height);
    if (row) return this.hitEvent(EVENT_ROWS.indexOf(row), x);
    return (
      this.marks.findLast(
        ({ left, right, top, bottom }) => x >= left && x <= right && y >= top && y < bottom,
      ) ?? null
    );
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

/** Return what went wrong, in order: what did at a moment, and where there was no connection. */
function troubles() {
  const gaps = data.gaps.map(({ start_us, end_us, cause, event }) => {
    const kind = cause === "lost" ? "connection lost" : "another connection";
    const text = cause === "lost" ? `lost for ${spanText(end_us - start_us)}` : "another connection";
    return { at_us: start_us, end_us, kind, text, mild: cause !== "lost", event };
  });
  return [...data.problems, ...gaps].sort((a, b) => a.at_us - b.at_us);
}

const lanes = new Lanes();
