// T2S with the cache of one sentence: one prefill, then one step for each code.

const BERT = 1024;
const ROOM = 256; // rows beyond the prefill before the cache grows for the first time: 10 s of speech

// Cache rows [L, 1, S, D] without gaps, in a buffer that doubles when it is full.
class Rows {
  constructor({shape: [layers, , count, width], floats}) {
    this.layers = layers, this.count = count, this.width = width;
    this.buffer = new Float32Array(layers * (count + ROOM) * width);
    this.buffer.set(floats);
  }

  get array() {
    const {layers, count, width} = this;
    return {shape: [layers, 1, count, width], floats: this.buffer.subarray(0, layers * count * width)};
  }

  // One row [L, 1, 1, D] more.
  append({floats}) {
    const {layers, width} = this, old = this.count * width, now = old + width;
    if (layers * now > this.buffer.length) {
      const wider = new Float32Array(2 * this.buffer.length);
      wider.set(this.buffer), this.buffer = wider;
    }
    for (let layer = layers - 1; layer >= 0; layer--) { // the last one first: each moves into what is free
      this.buffer.copyWithin(layer * now, layer * old, (layer + 1) * old);
      this.buffer.set(floats.subarray(layer * width, (layer + 1) * width), layer * now + old);
    }
    this.count++;
  }
}

export class Decoder {
  constructor(prefill, step) { this.prefill = prefill, this.step = step; }

  // Logits [V] of the first code. `bert` are the text features [1024, X], or none.
  async start(phones, bert, prompt) {
    const found = await this.prefill.run({
      phones: {shape: [1, phones.length], ints: phones},
      bert: {shape: [1, BERT, phones.length], floats: bert ?? new Float32Array(BERT * phones.length)},
      prompt: {shape: [1, prompt.length], ints: prompt},
    });
    this.keys = new Rows(found.keys), this.values = new Rows(found.values);
    return found.logits.floats;
  }

  // Logits [V] after `token` at `position` of the audio stream.
  async next(token, position) {
    const found = await this.step.run({
      token: {shape: [1, 1], ints: [token]},
      position: {shape: [1], ints: [position]},
      keys: this.keys.array,
      values: this.values.array,
    });
    this.keys.append(found.new_keys), this.values.append(found.new_values);
    return found.logits.floats;
  }
}
