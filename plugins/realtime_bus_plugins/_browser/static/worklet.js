// The two ends of the sound: what runs in the audio thread, 128 samples at a time.

const RATE = 24000;
const CHUNK = 480; // 20 ms

/**
 * Records: posts {pcm: ArrayBuffer, level} every 20 ms, PCM16 at 24 kHz, whatever the context's
 * rate is. Where nothing is connected it posts silence, so that the other end's clock goes on.
 */
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resample = sampleRate === RATE ? (input) => input : resampler(sampleRate / RATE);
    this.chunk = new Int16Array(CHUNK);
    this.filled = 0;
    this.power = 0;
  }

  process([input]) {
    for (const sample of this.resample(input[0] ?? new Float32Array(128))) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.power += clipped * clipped;
      this.chunk[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === CHUNK) this.post();
    }
    return true;
  }

  post() {
    const pcm = this.chunk.buffer;
    this.port.postMessage({ pcm, level: Math.sqrt(this.power / CHUNK) }, [pcm]);
    this.chunk = new Int16Array(CHUNK);
    this.filled = this.power = 0;
  }
}

/**
 * Plays a stream of samples, each of which has its position in it, and knows what was heard.
 *
 * In:  {start, pcm: ArrayBuffer}   PCM16 at 24 kHz; what is here already is left out
 *      {flush: before}             fall silent: within this quantum it fades, the next is silence
 *      {latency: frames}           how much later than it is made sound leaves the loudspeaker
 * Out: {heard, made, level, dry}   every 20 ms while something changes; positions, and whether it
 *                                  has run out
 *      {flushed: before, position} where it fell silent, exactly: all before it will be heard, for
 *                                  what is under way to the loudspeaker cannot be called back; what
 *                                  fades behind it (at most 128 samples) is not counted
 */
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = []; // {start, samples}, in order and without overlap
    this.position = 0; // of the next sample to be made
    this.end = 0; // of the queue
    this.under_way = []; // {frame, position, length}: made, and perhaps not heard yet
    this.heard = 0;
    this.told = [-1, 0]; // what was heard, and how loud it is
    this.latency = 0;
    this.fade = null;
    this.power = 0;
    this.quanta = 0;
    this.port.onmessage = ({ data }) => {
      if ("pcm" in data) this.enqueue(data.start, new Int16Array(data.pcm));
      else if ("flush" in data) this.flush(data.flush);
      else this.latency = data.latency;
    };
  }

  enqueue(start, samples) {
    const known = this.end - start;
    if (known >= samples.length) return;
    if (known > 0) [start, samples] = [this.end, samples.subarray(known)];
    this.queue.push({ start, samples });
    this.end = start + samples.length;
  }

  flush(before) {
    if (before <= this.position) {
      // it came again, or all of it had been played: there is nothing to cut
      this.port.postMessage({ flushed: before, position: before });
      return;
    }
    const position = this.position;
    this.fade = this.take(128);
    this.queue = [];
    this.under_way = [];
    this.position = this.end = this.heard = before;
    this.port.postMessage({ flushed: before, position });
  }

  /** Take up to so many samples off the queue, as floats. */
  take(wanted) {
    const taken = new Float32Array(wanted);
    let filled = 0;
    while (filled < wanted && this.queue.length) {
      const head = this.queue[0];
      const length = Math.min(wanted - filled, head.samples.length);
      for (let i = 0; i < length; i++) taken[filled + i] = head.samples[i] / 32768;
      this.under_way.push({ frame: currentFrame + filled, position: head.start, length });
      filled += length;
      head.start += length;
      head.samples = head.samples.subarray(length);
      this.position = head.start;
      if (!head.samples.length) this.queue.shift();
    }
    return taken;
  }

  process(_, [[out]]) {
    if (this.fade) {
      for (let i = 0; i < out.length; i++) out[i] = this.fade[i] * (1 - (i + 1) / out.length);
      this.fade = null;
    } else {
      out.set(this.take(out.length));
    }
    for (const sample of out) this.power += sample * sample;
    if (++this.quanta % 4 === 0) this.report();
    return true;
  }

  report() {
    const now = currentFrame - this.latency;
    while (this.under_way.length) {
      const { frame, position, length } = this.under_way[0];
      if (frame >= now) break;
      this.heard = Math.max(this.heard, position + Math.min(length, now - frame));
      if (frame + length > now) break;
      this.under_way.shift();
    }
    const level = Math.sqrt(this.power / 512);
    this.power = 0;
    if (this.heard === this.told[0] && level === 0 && this.told[1] === 0) return;
    this.told = [this.heard, level];
    const dry = !this.queue.length;
    this.port.postMessage({ heard: this.heard, made: this.position, level, dry });
  }
}

/** Return what turns blocks of samples into blocks at 1/ratio of the rate: a windowed sinc. */
function resampler(ratio) {
  const cutoff = Math.min(1, 1 / ratio) * 0.94;
  const reach = Math.ceil(24 / cutoff);
  let held = new Float32Array(2 * reach);
  let at = reach; // of the next sample to be made, in what is held
  return (input) => {
    const all = new Float32Array(held.length + input.length);
    all.set(held);
    all.set(input, held.length);
    const made = [];
    for (; at + reach < all.length; at += ratio) {
      let sum = 0;
      for (let i = Math.ceil(at - reach); i <= at + reach; i++) {
        const x = (i - at) * cutoff;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
        sum += all[i] * sinc * (0.5 + 0.5 * Math.cos((Math.PI * (i - at)) / (reach + 1)));
      }
      made.push(sum * cutoff);
    }
    const gone = Math.max(0, Math.floor(at) - reach);
    held = all.slice(gone);
    at -= gone;
    return made;
  };
}

registerProcessor("realtime-bus-recorder", Recorder);
registerProcessor("realtime-bus-player", Player);
