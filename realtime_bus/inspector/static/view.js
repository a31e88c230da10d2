// Which part of the session is seen, and where in it we are.

/** A window onto time, between two microseconds; whoever draws is called when it has changed. */
class View {
  constructor(end_us) {
    this.end_us = Math.max(end_us, 1000);
    this.margin_us = this.end_us * 0.012;
    this.width = 1;
    this.playhead_us = 0;
    this.selected = -1;
    this.changed = new Set();
    this.moved = new Set();
    this.pending = 0;
    [this.start_us, this.stop_us] = this.whole();
  }

  whole() {
    return [-this.margin_us, this.end_us + this.margin_us];
  }

  get length_us() {
    return this.stop_us - this.start_us;
  }

  get isWhole() {
    const [start, stop] = this.whole();
    return this.start_us <= start && this.stop_us >= stop;
  }

  x(t_us) {
    return ((t_us - this.start_us) / this.length_us) * this.width;
  }

  t(x) {
    return this.start_us + (x / this.width) * this.length_us;
  }

  /** Show a part, within what there is; never less than a millisecond. */
  set(start_us, stop_us) {
    const [first, last] = this.whole();
    const length = Math.min(Math.max(stop_us - start_us, 1000), last - first);
    this.start_us = Math.min(Math.max(start_us, first), last - length);
    this.stop_us = this.start_us + length;
    this.draw();
  }

  zoom(factor, around_us = this.centre()) {
    const share = (around_us - this.start_us) / this.length_us;
    const [first, last] = this.whole();
    const length = Math.min(Math.max(this.length_us * factor, 1000), last - first);
    this.set(around_us - share * length, around_us + (1 - share) * length);
  }

  pan(by_us) {
    this.set(this.start_us + by_us, this.stop_us + by_us);
  }

  /** Return around what keys zoom: the playhead if it is seen, or the middle. */
  centre() {
    const seen = this.playhead_us > this.start_us && this.playhead_us < this.stop_us;
    return seen ? this.playhead_us : (this.start_us + this.stop_us) / 2;
  }

  /** Glide to a part. */
  glide(start_us, stop_us) {
    cancelAnimationFrame(this.gliding);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.set(start_us, stop_us);
    const from = [this.start_us, this.stop_us];
    const began = performance.now();
    const step = (now) => {
      const done = Math.min(1, Math.max(0, now - began) / 160);
      const eased = 1 - (1 - done) ** 3;
      this.set(from[0] + (start_us - from[0]) * eased, from[1] + (stop_us - from[1]) * eased);
      if (done < 1) this.gliding = requestAnimationFrame(step);
    };
    this.gliding = requestAnimationFrame(step);
  }

  glideZoom(factor, around_us = this.centre()) {
    const share = (around_us - this.start_us) / this.length_us;
    const length = Math.max(this.length_us * factor, 1000);
    this.glide(around_us - share * length, around_us + (1 - share) * length);
  }

  /** Bring a time into view, and leave alone what is seen already. */
  reveal(t_us, end_us = t_us) {
    const edge = this.length_us * 0.06;
    if (t_us >= this.start_us + edge && end_us <= this.stop_us - edge) return;
    const length = Math.max(this.length_us, (end_us - t_us) * 1.3);
    const start = end_us > t_us ? (t_us + end_us - length) / 2 : t_us - length * 0.35;
    this.glide(start, start + length);
  }

  seek(t_us) {
    this.playhead_us = Math.min(Math.max(t_us, 0), this.end_us);
    for (const each of this.moved) each();
  }

  /** Draw everything, once before the next picture. */
  draw() {
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      for (const each of this.changed) each();
    });
  }
}

const view = new View(data.end_us);
