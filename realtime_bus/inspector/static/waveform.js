// Clips of audio: what is drawn of them, and their samples. The format is told in `_clips.py`.

const BIN_US = 10_000;
const RATE_HZ = 16_000;
const STEPS = Array.from({ length: 89 }, (_, n) => n); // index to step size, filled in below
{
  // the table of IMA ADPCM
  const table =
    "7 8 9 10 11 12 13 14 16 17 19 21 23 25 28 31 34 37 41 45 50 55 60 66 73 80 88 97 107 118 130 143 157 173 190 209 230 " +
    "253 279 307 337 371 408 449 494 544 598 658 724 796 876 963 1060 1166 1282 1411 1552 1707 1878 2066 2272 2499 2749 " +
    "3024 3327 3660 4026 4428 4871 5358 5894 6484 7132 7845 8630 9493 10442 11487 12635 13899 15289 16818 18500 20350 " +
    "22385 24623 27086 29794 32767";
  table.split(" ").forEach((step, n) => (STEPS[n] = Number(step)));
}
const STEP_MOVES = [-1, -1, -1, -1, 2, 4, 6, 8];

/** One clip. */
class Clip {
  constructor(number, { bins, chunks }) {
    this.number = number;
    this.chunks = chunks;
    this.levels = [bytesOf(bins)];
    this.samples = (this.levels[0].length / 2) * (RATE_HZ / 100);
    while (this.levels.at(-1).length > 512) this.levels.push(coarser(this.levels.at(-1)));
    this.decoded = new Map();
  }

  /** Return the peak and the level, 0 to 255, between two times of the clip. */
  between(from_us, to_us, into) {
    const bins = (to_us - from_us) / BIN_US;
    let depth = 0;
    while (depth + 1 < this.levels.length && bins > 8 ** (depth + 1)) depth++;
    const level = this.levels[depth];
    const unit = BIN_US * 8 ** depth;
    const last = level.length / 2 - 1;
    if (bins < 1.5) {
      // nearer than what there is: a curve through it
      const at = Math.min(Math.max((from_us + to_us) / 2 / unit - 0.5, 0), last);
      const low = Math.floor(at);
      const high = Math.min(low + 1, last);
      const part = at - low;
      into.peak = level[2 * low] * (1 - part) + level[2 * high] * part;
      into.level = level[2 * low + 1] * (1 - part) + level[2 * high + 1] * part;
      return;
    }
    const begin = Math.max(0, Math.floor(from_us / unit));
    const end = Math.min(last, Math.ceil(to_us / unit) - 1);
    let peak = 0;
    let squares = 0;
    for (let n = begin; n <= end; n++) {
      if (level[2 * n] > peak) peak = level[2 * n];
      squares += level[2 * n + 1] ** 2;
    }
    into.peak = peak;
    into.level = Math.sqrt(squares / Math.max(1, end - begin + 1));
  }

  get bytes() {
    if (this.adpcm === undefined) {
      const script = $(`audio-${this.number}`);
      this.adpcm = bytesOf(script?.textContent ?? "");
      script?.remove();
    }
    return this.adpcm;
  }

  /** Return the samples of one second, from -1 to 1; null if it is silent or was left out. */
  chunk(second) {
    const offset = this.chunks[second] ?? -1;
    if (offset < 0) return null;
    let samples = this.decoded.get(second);
    if (!samples) {
      samples = decode(this.bytes, offset, this.samplesIn(second));
      if (this.decoded.size > 120) this.decoded.delete(this.decoded.keys().next().value);
      this.decoded.set(second, samples);
    }
    return samples;
  }

  samplesIn(second) {
    return Math.min(RATE_HZ, Math.max(0, this.samples - second * RATE_HZ));
  }
}

function coarser(fine) {
  const made = new Uint8Array(2 * Math.ceil(fine.length / 16));
  for (let n = 0; n < made.length / 2; n++) {
    let peak = 0;
    let squares = 0;
    const end = Math.min(fine.length / 2, 8 * n + 8);
    for (let m = 8 * n; m < end; m++) {
      peak = Math.max(peak, fine[2 * m]);
      squares += fine[2 * m + 1] ** 2;
    }
    made[2 * n] = peak;
    made[2 * n + 1] = Math.round(Math.sqrt(squares / (end - 8 * n)));
  }
  return made;
}

function decode(bytes, offset, count) {
  let value = ((bytes[offset] | (bytes[offset + 1] << 8)) << 16) >> 16;
  let index = Math.min(bytes[offset + 2], 88);
  const samples = new Float32Array(count);
  for (let n = 0; n < count; n++) {
    const byte = bytes[offset + 4 + (n >> 1)] ?? 0;
    const code = n & 1 ? byte & 15 : byte >> 4;
    const step = STEPS[index];
    let change = step >> 3;
    if (code & 4) change += step;
    if (code & 2) change += step >> 1;
    if (code & 1) change += step >> 2;
    value = Math.min(32_767, Math.max(-32_768, code & 8 ? value - change : value + change));
    index = Math.min(88, Math.max(0, index + STEP_MOVES[code & 7]));
    samples[n] = value / 32_768;
  }
  return samples;
}

const clips = data.clips.map((clip, number) => new Clip(number, clip));

/** How much each track is raised, so that the quieter voice can be read, too. */
const gains = Object.fromEntries(
  ["person", "generated", "heard"].map((name) => {
    const used = data.tracks[name].map(({ clip }) => clips[clip]);
    const loudest = used.reduce(
      (most, clip) =>
        clip.levels.at(-1).reduce((peak, value, n) => (n % 2 ? peak : Math.max(peak, value)), most),
      48,
    );
    return [name, 255 / loudest];
  }),
);

/** Draw a piece of a track: peaks light, levels dark, mirrored about the middle. */
function drawPiece(context, scale, piece, { middle, height, gain, colour, faint = 0.34 }) {
  const { x, t, width } = scale;
  const clip = clips[piece.clip];
  const left = Math.max(0, Math.floor(x(piece.start_us)));
  const right = Math.min(width, x(piece.end_us));
  if (right <= 0 || left >= width || right <= left) return;
  const perPixel = t(1) - t(0);
  const near = perPixel < 4000 && clip.chunks.length;
  if (near) drawSamples(context, scale, piece, { middle, height, gain, colour, left, right, perPixel });
  if (near && perPixel < 700) return;
  const into = { peak: 0, level: 0 };
  const peaks = [];
  const levels = [];
  const places = [];
  for (let at = left; ; at = Math.min(at + 1, right)) {
    const from = t(at) - piece.start_us + piece.from_us;
    clip.between(Math.max(0, from), Math.max(0, from) + perPixel, into);
    places.push(Math.max(at, x(piece.start_us)));
    peaks.push((Math.min(1, (into.peak / 255) * gain) ** 0.8 * height) / 2);
    levels.push((Math.min(1, (into.level / 255) * gain) ** 0.8 * height) / 2);
    if (at >= right) break;
  }
  context.fillStyle = colour;
  for (const [heights, alpha] of [
    [peaks, near ? 0 : faint],
    [levels, near ? Math.min(1, (perPixel - 600) / 2400) : 1],
  ]) {
    if (!alpha) continue;
    context.globalAlpha = alpha;
    context.beginPath();
    places.forEach((place, n) => context.lineTo(place, middle - Math.max(0.5, heights[n])));
    for (let n = places.length - 1; n >= 0; n--)
      context.lineTo(places[n], middle + Math.max(0.5, heights[n]));
    context.fill();
  }
  context.globalAlpha = 1;
}

/** Draw the samples themselves: as columns, and as a line where there are fewer of them than pixels. */
function drawSamples(context, { x, t }, piece, { middle, height, gain, colour, left, right, perPixel }) {
  const clip = clips[piece.clip];
  const toSample = (at) => ((t(at) - piece.start_us + piece.from_us) / 1e6) * RATE_HZ;
  const value = (sample) => clip.chunk(Math.floor(sample / RATE_HZ))?.[sample % RATE_HZ] ?? 0;
  const y = (sample) =>
    middle - (Math.sign(sample) * Math.min(1, Math.abs(sample) * gain) ** 0.8 * height) / 2;
  const first = Math.max(0, Math.floor(toSample(Math.max(left, x(piece.start_us)))));
  const last = Math.ceil(toSample(right));
  context.fillStyle = context.strokeStyle = colour;
  if (perPixel < 150) {
    context.lineWidth = 1.25;
    context.beginPath();
    for (let sample = first; sample <= last; sample++) {
      context.lineTo(x((sample / RATE_HZ) * 1e6 - piece.from_us + piece.start_us), y(value(sample)));
    }
    context.stroke();
    return;
  }
  context.globalAlpha = perPixel < 700 ? 0.9 : 0.7;
  context.beginPath();
  for (let at = left; at < right; at++) {
    let [low, high] = [0, 0];
    const end = Math.min(last, Math.ceil(toSample(at + 1)));
    for (let sample = Math.max(first, Math.floor(toSample(at))); sample <= end; sample++) {
      const now = value(sample);
      if (now < low) low = now;
      else if (now > high) high = now;
    }
    const top = y(high);
    context.rect(at, top - 0.5, 1, y(low) - top + 1);
  }
  context.fill();
  context.globalAlpha = 1;
}
