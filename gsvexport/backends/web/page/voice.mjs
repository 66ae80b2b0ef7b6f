// A voice in onnxruntime-web: phones in, sound out. What gsvexport/runtime does in Python, for v1 to v2ProPlus.

import {Decoder} from './decoder.mjs';
import {Draws} from './draws.mjs';
import {Graph} from './graphs.mjs';
import {readArray} from './npy.mjs';
import {cut, Early, FRAMES_PER_CODE, Noise, Sliding, track, windows} from './pieces.mjs';
import {Chooser} from './sampling.mjs';

export const STAGES = ['prefill', 'step', 'acoustic', 'vocoder'];
const VERSIONS = ['v1', 'v2', 'v2Pro', 'v2ProPlus'];
const WEIGHTS = ['t2s.safetensors', 'weights.safetensors'];
const SUPPRESSED = 11; // steps in which upstream cuts the end of the sentence off
const MOST_CODES = 1500, NOISE_SCALE = 0.5, BERT = 1024;
const RANGES = {
  speed: [0.25, 4], noise_scale: [0, 4], top_k: [1, 1e9], top_p: [0, 1], temperature: [0, 100],
  repetition_penalty: [0.01, 100], max_tokens: [1, 1e9], window: [0, 60], ahead: [0, 1000],
};

export class Cancelled extends Error {
  constructor() { super('cancelled'), (this.name = 'Cancelled'); }
}

export class Voice {
  constructor(folder, model) { this.folder = folder, this.model = model, this.graphs = {}, this.baked = {}; }

  // `providers` names where each stage runs, "wasm" or "webgpu".
  static async open(ort, folder, {providers = {}, say = () => {}} = {}) {
    const model = await folder.json('model.json');
    if (!VERSIONS.includes(model.version))
      throw new Error(`this page speaks ${VERSIONS.join(', ')}; ${model.name} is a ${model.version} voice`);
    const voice = new Voice(folder, model), kept = new Map();
    const read = name => { // weights are used by several graphs, and read once
      if (!kept.has(name)) kept.set(name, folder.read(name));
      return kept.get(name);
    };
    for (const [name, file] of Object.entries(model.baked)) voice.baked[name] = readArray(await folder.read(file), file);
    voice.readable();
    const weights = WEIGHTS.filter(name => Object.hasOwn(folder.members, name));
    for (const stage of STAGES) {
      const file = model.files[stage];
      if (!file) throw new Error(`${model.name} holds no stage '${stage}'`);
      say(stage);
      voice.graphs[stage] = await Graph.open(ort, stage, file, read, weights, providers[stage] ?? 'wasm');
    }
    voice.replace('step', voice.graphs.step);
    return voice;
  }

  replace(stage, graph) {
    this.graphs[stage] = graph;
    this.decoder = new Decoder(this.graphs.prefill, this.graphs.step);
  }

  get rate() { return this.model.rate; }

  async close() { for (const one of Object.values(this.graphs)) await one.close(); }

  // Constants that no graph could use.
  readable() {
    const {prompt, prompt_phones, ge} = this.baked, {positions, codes, phones} = this.model.dims;
    const inside = (array, count) => !array || (array.ints && array.ints.every(one => one >= 0 && one < count));
    if (!inside(prompt, codes) || !inside(prompt_phones, phones) || (prompt?.ints.length ?? 0) >= positions)
      throw new Error(`${this.model.name}: its stored constants cannot be used`);
    if (!ge?.floats.every(Number.isFinite))
      throw new Error(`${this.model.name} has no baked reference, and cannot speak without one`);
  }

  // All that can be known before the first code, in one error.
  checked(phones, given) {
    const {dims, sampling, vocoder_context} = this.model;
    const manner = {
      seed: 0, sentence: 0, greedy: false, speed: 1, noise_scale: NOISE_SCALE, max_tokens: MOST_CODES, window: 0, ahead: 8,
      ...sampling, ...given,
    };
    const problems = [];
    for (const [name, [low, high]] of Object.entries(RANGES))
      if (!(manner[name] >= low && manner[name] <= high)) problems.push(`${name} is ${manner[name]}; it must be from ${low} to ${high}`);
    const count = Math.min(dims.phones, dims.text_phones), wrong = phones.find(one => !(Number.isInteger(one) && one >= 0 && one < count));
    if (!phones.length) problems.push('there are no phones');
    if (wrong !== undefined) problems.push(`phone ${wrong} is out of range; ids run from 0 to ${count - 1}`);
    const together = phones.length + (this.baked.prompt_phones?.ints.length ?? 0);
    if (together > dims.positions) problems.push(`${together} phones with the prompt; at most ${dims.positions}`);
    if (manner.window && !vocoder_context) problems.push('the voice does not say how far its vocoder looks, so it cannot stream');
    if (problems.length) throw new Error(`this cannot be spoken: ${problems.join('; ')}`);
    return manner;
  }

  // Codes, each as soon as it is known; returns whether the sentence ended by itself.
  async *codes(phones, manner, draws) {
    const {eos, dims} = this.model, prompt = this.baked.prompt?.ints ?? [], before = this.baked.prompt_phones?.ints ?? [];
    const all = [...before, ...phones], chooser = new Chooser(dims.V, manner, draws);
    prompt.forEach(code => chooser.saw(code));
    const most = Math.min(manner.max_tokens, dims.positions - prompt.length);
    let logits = await this.decoder.start(all, this.features(before.length, all.length, manner.bert), prompt);
    for (let count = 0; ; ) {
      if (!logits.every(Number.isFinite)) throw new Error(`T2S gave NaN or infinite logits at step ${count}`);
      const [code, best] = chooser.choose(logits, count < SUPPRESSED ? eos : undefined);
      if (code === eos || best === eos) return true;
      chooser.saw(code);
      count++;
      yield code;
      await breathe(count);
      if (manner.signal?.aborted) throw new Cancelled();
      if (count === most) return false;
      logits = await this.decoder.next(code, prompt.length + count - 1);
    }
  }

  // Text features [1024, X] with the prompt's in front; null where all are zeros.
  features(before, places, own) {
    const prompted = this.baked.prompt_bert?.floats;
    if (!own && !(before && prompted)) return null;
    const found = new Float32Array(BERT * places), after = places - before;
    for (let row = 0; row < BERT; row++) {
      if (before && prompted) found.set(prompted.subarray(row * before, (row + 1) * before), row * places);
      if (own) found.set(own.subarray(row * after, (row + 1) * after), row * places + before);
    }
    return found;
  }

  async tokens(phones, given = {}) {
    const manner = this.checked(phones, given), found = [];
    for await (const code of this.codes(phones, manner, new Draws(manner.seed, manner.sentence))) found.push(code);
    return found;
  }

  // Sound, [N] at a time: whole, or in windows of `window` seconds, begun `ahead` codes after what they need was written.
  // Returns {codes, ended}.
  async *say(phones, given = {}) {
    const manner = this.checked(phones, given), draws = new Draws(manner.seed, manner.sentence);
    const {hop, rate, dims, vocoder_context: context} = this.model, written = this.codes(phones, manner, draws), codes = [];
    const stop = () => { if (manner.signal?.aborted) throw new Cancelled(); };
    const keep = Math.max(1, Math.round((manner.window * rate) / hop)), [left, right] = context ?? [0, 0];
    const piece = async (window, first, last) => {
      const sound = await this.sound(window);
      stop();
      return sound.subarray(first * hop, last === window.frames ? undefined : last * hop);
    };
    let ended;
    if (manner.window && manner.ahead && manner.speed === 1) {
      const noise = new Noise(dims.I, draws), sliding = new Sliding(left, right, piece);
      const early = new Early(Math.max(1, Math.floor(keep / FRAMES_PER_CODE)), manner.ahead, (some, start) =>
        this.latent(some, phones, noise.frames(FRAMES_PER_CODE * start, FRAMES_PER_CODE * (start + some.length)), manner));
      for (;;) {
        const {value, done} = await written.next();
        if (done) { ended = value; break; }
        codes.push(value);
        const latent = await early.push(value), sound = latent && (await sliding.push(latent, false));
        if (sound?.length) yield sound;
      }
      this.some(codes);
      const rest = await sliding.push(await early.end(), true);
      if (rest.length) yield rest;
      return {codes, ended};
    }
    for (;;) {
      const {value, done} = await written.next();
      if (done) { ended = value; break; }
      codes.push(value);
    }
    this.some(codes);
    const full = FRAMES_PER_CODE * codes.length, frames = manner.speed === 1 ? full : Math.floor(full / manner.speed) + 1;
    const latent = await this.latent(codes, phones, new Noise(dims.I, draws).frames(0, frames), manner);
    stop();
    if (!manner.window) yield this.sound(latent);
    else
      for (const one of windows(latent.frames, keep, left, right))
        yield piece(cut(latent, one.start, one.stop), one.first - one.start, one.last - one.start);
    return {codes, ended};
  }

  some(codes) {
    if (!codes.length) throw new Error('the voice ended the sentence before its first code; try another seed');
  }

  // The latent of codes, as a track.
  async latent(codes, phones, noise, {noise_scale}) {
    const wrong = codes.find(one => one >= this.model.dims.codes);
    if (wrong !== undefined) throw new Error(`T2S wrote code ${wrong}, which the codebook does not have`);
    const {latent} = await this.graphs.acoustic.run({
      ...this.baked,
      codes: {shape: [1, codes.length], ints: codes},
      phones: {shape: [1, phones.length], ints: phones},
      noise: {shape: [1, noise.channels, noise.frames], floats: noise.values},
      noise_scale: {shape: [], floats: Float32Array.of(noise_scale)},
    });
    return track(latent.shape[1], latent.shape[2], latent.floats);
  }

  async sound(latent) {
    const given = {...this.baked, latent: {shape: [1, latent.channels, latent.frames], floats: latent.values}};
    const samples = (await this.graphs.vocoder.run(given)).audio.floats, broken = samples.find(one => !Number.isFinite(one));
    if (broken !== undefined) throw new Error(`the vocoder gave ${broken}`);
    return samples;
  }
}

// A message that says "stop" is heard between two codes: promises alone never let one in.
function breathe(count) {
  return count % 8 ? null : new Promise(done => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => (port1.close(), done());
    port2.postMessage(null);
  });
}
