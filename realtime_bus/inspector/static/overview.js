// The whole session, small: the person above, what was heard below, and the part that is seen.

class Overview {
  constructor() {
    this.box = $("overview");
    this.canvas = this.box.querySelector("canvas");
    [this.before, this.window, this.after] = ["left", "window", "right"].map((name) =>
      this.box.querySelector(name === "window" ? ".window" : `.shade.${name}`),
    );
    this.box.addEventListener("pointerdown", (event) => this.grab(event));
    this.box.addEventListener("wheel", (event) => wheel(event, this.t(event)), { passive: false });
  }

  get scale() {
    const [first, last] = view.whole();
    const width = this.box.clientWidth;
    const length = last - first;
    return { width, x: (t_us) => ((t_us - first) / length) * width, t: (x) => first + (x / width) * length };
  }

  /** Draw the session; needed only when its size or its colours change. */
  render() {
    const context = fitted(this.canvas);
    const scale = this.scale;
    const height = this.box.clientHeight;
    const middle = height / 2;
    for (const { start_us, end_us } of data.speech) {
      context.fillStyle = colours["person-soft"];
      context.fillRect(scale.x(start_us), 0, scale.x(end_us) - scale.x(start_us), middle);
    }
    const half = (top, pieces, gain, colour) => {
      context.save();
      context.beginPath();
      context.rect(0, top ? 0 : middle, scale.width, middle);
      context.clip();
      for (const piece of pieces)
        drawPiece(context, scale, piece, { middle, height: height - 6, gain, colour, faint: 0.5 });
      context.restore();
    };
    half(true, data.tracks.person, gains.person, colours.person);
    half(false, lanes.lost, gains.generated, colours.lost);
    half(false, data.tracks.heard, gains.heard, colours.voice);
    context.fillStyle = colours.accent;
    for (const { silent_us } of data.cuts) context.fillRect(scale.x(silent_us) - 0.75, 0, 1.5, height);
    for (const problem of lanes.troubles) {
      context.fillStyle = problem.mild ? colours["ink-3"] : colours.bad;
      context.fillRect(scale.x(problem.at_us) - 1, height - 4, 2, 4);
    }
    this.place();
  }

  /** Place the window. */
  place() {
    const { x, width } = this.scale;
    const [left, right] = [Math.max(0, x(view.start_us)), Math.min(width, x(view.stop_us))];
    this.before.style.transform = `scaleX(${left / width})`;
    this.after.style.transform = `translateX(${right}px) scaleX(${(width - right) / width})`;
    this.window.style.transform = `translateX(${left}px)`;
    this.window.style.width = `${Math.max(3, right - left)}px`;
  }

  t(event) {
    return this.scale.t(event.clientX - this.box.getBoundingClientRect().left);
  }

  grab(down) {
    if (down.button) return;
    down.preventDefault();
    const grip = down.target.closest?.(".grip");
    const inside = down.target.closest?.(".window");
    if (!grip && !inside) {
      const half = view.length_us / 2;
      view.set(this.t(down) - half, this.t(down) + half);
    }
    const held = { start: view.start_us, stop: view.stop_us, t: this.t(down) };
    const move = (event) => {
      const by = this.t(event) - held.t;
      if (grip?.classList.contains("start")) view.set(Math.min(held.start + by, held.stop - 1000), held.stop);
      else if (grip) view.set(held.start, Math.max(held.stop + by, held.start + 1000));
      else view.set(held.start + by, held.stop + by);
    };
    dragged(this.box, down, move);
  }
}

/** Follow a pointer until it is let go. */
function dragged(box, down, move, done = () => {}) {
  box.setPointerCapture(down.pointerId);
  const stop = new AbortController();
  const { signal } = stop;
  const end = (event) => {
    stop.abort();
    done(event);
  };
  const own = (each) => (event) => event.pointerId === down.pointerId && each(event);
  box.addEventListener("pointermove", own(move), { signal });
  box.addEventListener("pointerup", own(end), { signal });
  box.addEventListener("pointercancel", own(end), { signal });
}

/** Zoom around a time; move sideways with Shift, or with a wheel that turns sideways. */
function wheel(event, t_us) {
  event.preventDefault();
  const unit = [1, 18, 300][event.deltaMode] ?? 1;
  const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
  const sideways = event.shiftKey ? dx || dy : Math.abs(dx) > Math.abs(dy) ? dx : 0;
  if (sideways) view.pan((sideways / view.width) * view.length_us);
  else view.zoom(Math.exp(Math.min(Math.max(dy, -240), 240) * (event.ctrlKey ? 0.01 : 0.0022)), t_us);
}

const overview = new Overview();
