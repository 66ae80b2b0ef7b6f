// Cutting a sentence into windows, while it is written or afterwards: as gsvexport/runtime/windows.py and ahead.py do.
// A track is {channels, frames, values}: a Float32Array row by row, [channels, frames].

export const FRAMES_PER_CODE = 2;
const BEHIND = 50; // codes before a window's own that it looks at, too
const BLEND = 4; // frames over which two windows are blended
const FIRST = 5; // codes of the first piece; each has twice as many as the one before

export function track(channels, frames, values = new Float32Array(channels * frames)) {
  return {channels, frames, values};
}

// Frames [first, last).
export function cut(one, first, last) {
  const found = track(one.channels, last - first);
  for (let c = 0; c < one.channels; c++)
    found.values.set(one.values.subarray(c * one.frames + first, c * one.frames + last), c * found.frames);
  return found;
}

export function joined(a, b) {
  if (!a) return b;
  const found = track(a.channels, a.frames + b.frames);
  for (let c = 0; c < a.channels; c++) {
    found.values.set(a.values.subarray(c * a.frames, (c + 1) * a.frames), c * found.frames);
    found.values.set(b.values.subarray(c * b.frames, (c + 1) * b.frames), c * found.frames + a.frames);
  }
  return found;
}

// The noise of a sentence by frame: a frame has the same in every window that holds it.
export class Noise {
  constructor(channels, draws) {
    this.channels = channels, this.draws = draws;
    this.held = [], this.first = 0; // rows of [channels] from frame `first` on
  }

  frames(start, stop) {
    while (this.first + this.held.length < stop) this.held.push(this.draws.normal(this.channels));
    this.held.splice(0, start - this.first), this.first = start;
    const found = track(this.channels, stop - start);
    for (let f = 0; f < found.frames; f++)
      for (let c = 0; c < this.channels; c++) found.values[c * found.frames + f] = this.held[f][c];
    return found;
  }
}

// Windows over `frames`: [start, stop) goes in, [first, last) of it is kept.
export function windows(frames, keep, left, right) {
  const found = [];
  for (let first = 0; first < frames; first += keep) {
    const last = Math.min(first + keep, frames);
    found.push({start: Math.max(0, first - left), stop: Math.min(frames, last + right), first, last});
  }
  return found;
}

// Windows over frames that come in parts; `sound(window, first, last)` is told of each, and what it gives is handed on.
export class Sliding {
  constructor(left, right, sound) {
    this.left = left, this.right = right, this.sound = sound;
    this.held = null, this.first = 0;
  }

  async push(part, ends) {
    this.held = joined(this.held, part);
    const ready = this.held.frames - this.right;
    if (ends) return this.sound(this.held, this.first, this.held.frames);
    if (ready <= this.first) return null;
    const found = await this.sound(this.held, this.first, ready), gone = Math.max(0, ready - this.left);
    this.held = cut(this.held, gone, this.held.frames), this.first = ready - gone;
    return found;
  }
}

// Latent of a sentence piece by piece while its codes come: `latent(codes, start)` of codes that begin at `start`.
export class Early {
  constructor(keep, ahead, latent) {
    this.most = keep, this.ahead = ahead, this.keep = Math.min(FIRST, keep), this.latent = latent;
    this.written = [], this.done = 0, this.tail = null;
  }

  // The piece that is complete with this code; null where none is.
  async push(code) {
    this.written.push(code);
    if (this.written.length < this.done + this.keep + this.ahead) return null;
    const found = await this.piece(this.done + this.keep);
    this.keep = Math.min(2 * this.keep, this.most);
    return found;
  }

  end() { return this.piece(this.written.length); }

  async piece(last) {
    const start = Math.max(0, this.done - BEHIND), found = await this.latent(this.written.slice(start), start);
    const low = FRAMES_PER_CODE * (this.done - start), high = FRAMES_PER_CODE * (last - start);
    const kept = cut(found, low, high), count = this.tail ? Math.min(this.tail.frames, kept.frames) : 0;
    for (let f = 0; f < count; f++) {
      const share = Math.fround((f + 1) / (count + 1)), rest = Math.fround(1 - share);
      for (let c = 0; c < kept.channels; c++) {
        const at = c * kept.frames + f;
        const before = Math.fround(this.tail.values[c * this.tail.frames + f] * rest);
        kept.values[at] = before + Math.fround(kept.values[at] * share);
      }
    }
    this.tail = cut(found, high, Math.min(found.frames, high + BLEND));
    this.done = last;
    return kept;
  }
}
