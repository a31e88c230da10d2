// Playing what the page carries, a second at a time, decoded shortly before it is due.

const SOURCES = {
  both: {
    name: "Both voices, as heard",
    tracks: [
      ["person", -0.35],
      ["heard", 0.35],
    ],
  },
  person: { name: "The person", tracks: [["person", 0]] },
  generated: { name: "The assistant, as generated", tracks: [["generated", 0]] },
  heard: { name: "The assistant, as heard", tracks: [["heard", 0]] },
};
const AHEAD_S = 1.2;

class Player {
  constructor() {
    this.source = "both";
    this.playing = false;
    this.changed = new Set();
    this.nodes = new Set();
    this.has = data.clips.some(({ chunks }) => chunks.length);
  }

  toggle(source = this.source) {
    if (this.playing && source === this.source) this.pause();
    else this.play(source);
  }

  async play(source = this.source) {
    if (!this.has) return;
    this.silence();
    this.source = source;
    this.context ??= new AudioContext({ sampleRate: RATE_HZ });
    if (view.playhead_us >= view.end_us - 20_000) view.seek(0);
    this.playing = true;
    this.tell();
    await this.context.resume();
    if (this.playing && this.source === source) this.start();
  }

  start() {
    this.silence();
    this.began = { context_s: this.context.currentTime + 0.03, t_us: view.playhead_us };
    this.queue = SOURCES[this.source].tracks.flatMap(([track, pan]) =>
      data.tracks[track].flatMap((piece) => chunksOf(piece, pan)),
    );
    this.queue = this.queue
      .filter(({ end_us }) => end_us > view.playhead_us)
      .sort((a, b) => a.start_us - b.start_us);
    this.fill();
    this.timer = setInterval(() => this.fill(), 200);
    this.follow();
  }

  /** Give the browser what is due soon. */
  fill() {
    const { context, began } = this;
    const until_us = began.t_us + (context.currentTime - began.context_s + AHEAD_S) * 1e6;
    while (this.queue.length && this.queue[0].start_us < until_us) {
      const { start_us, end_us, clip, second, skip_us, pan } = this.queue.shift();
      const samples = clips[clip].chunk(second);
      if (!samples?.length) continue;
      const buffer = context.createBuffer(1, samples.length, RATE_HZ);
      buffer.copyToChannel(samples, 0);
      const node = context.createBufferSource();
      node.buffer = buffer;
      const late_us = Math.max(0, this.now_us() - start_us, began.t_us - start_us);
      if (end_us - start_us <= late_us) continue;
      const panner = context.createStereoPanner();
      panner.pan.value = pan;
      node.connect(panner).connect(context.destination);
      const at_s = began.context_s + (start_us + late_us - began.t_us) / 1e6;
      node.start(Math.max(at_s, 0), (skip_us + late_us) / 1e6, (end_us - start_us - late_us) / 1e6);
      node.onended = () => {
        panner.disconnect();
        this.nodes.delete(node);
      };
      this.nodes.add(node);
    }
  }

  now_us() {
    return this.began.t_us + Math.max(0, this.context.currentTime - this.began.context_s) * 1e6;
  }

  /** Move the playhead along with what is heard. */
  follow() {
    cancelAnimationFrame(this.frame);
    const step = () => {
      if (!this.playing) return;
      const lag_s = this.context.outputLatency || 0;
      const now_us = Math.max(this.began.t_us, this.now_us() - lag_s * 1e6);
      if (now_us >= view.end_us) {
        view.seek(view.end_us);
        this.pause();
        return;
      }
      view.seek(now_us);
      if (now_us > view.stop_us - view.length_us * 0.04 && !view.isWhole) {
        view.glide(now_us - view.length_us * 0.08, now_us + view.length_us * 0.92);
      }
      this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  /** Go on from elsewhere. */
  seek(t_us) {
    view.seek(t_us);
    if (this.playing && this.began) this.start();
  }

  pause() {
    this.playing = false;
    this.silence();
    this.tell();
  }

  silence() {
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    for (const node of this.nodes) node.stop();
    this.nodes.clear();
  }

  tell() {
    for (const each of this.changed) each();
  }
}

/** Cut a piece of a track into the seconds of its clip that are not silent. */
function chunksOf({ start_us, end_us, clip, from_us }, pan) {
  const found = [];
  const until_us = from_us + end_us - start_us;
  clips[clip].chunks.forEach((offset, second) => {
    const [begin, end] = [Math.max(from_us, second * 1e6), Math.min(until_us, (second + 1) * 1e6)];
    if (offset < 0 || end <= begin) return;
    found.push({
      start_us: start_us + begin - from_us,
      end_us: start_us + end - from_us,
      clip,
      second,
      skip_us: begin - second * 1e6,
      pan,
    });
  });
  return found;
}

const player = new Player();
