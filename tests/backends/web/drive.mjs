// Does in node what a test asks for, by the page's own modules: node drive.mjs PAGE RUNTIME, JSON in, JSON out.

import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [page, runtime] = process.argv.slice(2), asked = JSON.parse(fs.readFileSync(0, 'utf8'));
const take = name => import(pathToFileURL(path.join(page, name)).href);
const floats = name => new Float32Array(new Uint8Array(fs.readFileSync(name)).buffer);
const keep = (name, array) => fs.writeFileSync(name, Buffer.from(array.buffer, array.byteOffset, array.byteLength));

async function files({folder}) {
  const {openFolder} = await take('folder.mjs');
  return openFolder(async (name, proof) => proof(new Uint8Array(fs.readFileSync(path.join(folder, name)))));
}

async function opened({folder}) {
  const {startRuntime} = await take('graphs.mjs'), {Voice} = await take('voice.mjs');
  const at = name => path.join(runtime, name), ort = await import(pathToFileURL(at('ort.wasm.min.mjs')).href);
  const mjs = pathToFileURL(at('ort-wasm-simd-threaded.mjs')).href;
  await startRuntime(ort, {mjs, wasm: fs.readFileSync(at('ort-wasm-simd-threaded.wasm'))});
  return Voice.open(ort, await files({folder}));
}

// A runtime that computes something else: by `factor` of each number.
function changed(graph, factor) {
  return {
    async run(feeds) {
      const found = await graph.run(feeds);
      for (const one of Object.values(found)) one.floats = one.floats.map((value, i) => value * (1 + factor * Math.sin(i)));
      return found;
    },
  };
}

const JOBS = {
  async numbers({blocks, seeds, channels, frames, draws, wavs}) {
    const {philox, Draws} = await take('draws.mjs'), {Chooser} = await take('sampling.mjs'), {wav} = await take('wav.mjs');
    const {Noise} = await take('pieces.mjs');
    const found = {blocks: blocks.map(([counter, key]) => philox(counter, key)), uniform: [], noise: [], chosen: []};
    for (const [seed, sentence, attempt] of seeds) {
      const one = new Draws(seed, sentence, attempt);
      found.uniform.push([one.uniform(), one.uniform(), one.uniform()]);
      found.noise.push([...new Noise(channels, one).frames(0, frames).values]);
    }
    for (const {file, count, rows, sampling, seed, seen, forbidden} of draws) {
      const logits = floats(file), chooser = new Chooser(count, sampling, new Draws(seed));
      seen.forEach(code => chooser.saw(code));
      const all = [];
      for (let row = 0; row < rows; row++) {
        const [code, best] = chooser.choose(logits.subarray(row * count, (row + 1) * count), forbidden ?? undefined);
        chooser.saw(code), all.push([code, best]);
      }
      found.chosen.push(all);
    }
    for (const {file, out, rate} of wavs) keep(out, wav(floats(file), rate));
    return found;
  },

  async phrases({symbols, phrase, choices}) {
    const {Phones, filled} = await take('phrases.mjs'), phones = new Phones(symbols);
    return choices.map(values => phones.ids(filled(phrase, values)));
  },

  // The phones of sentences of each text, or the words of an error; and which tables were asked for.
  async english({folder, texts}) {
    const {English} = await take('english.mjs'), asked = [], found = [];
    const english = await English.open(async name => {
      asked.push(name);
      return new Uint8Array(fs.readFileSync(path.join(folder, name)));
    });
    for (const text of texts) found.push(await english.sentences(text).catch(error => error.message));
    return {found, asked};
  },

  async speak({folder, phones, codes, sounds}) {
    const voice = await opened({folder}), found = {codes: [], sounds: []};
    for (const how of codes) found.codes.push(await voice.tokens(phones, how));
    for (const {out, how} of sounds) {
      const pieces = [], all = voice.say(phones, how);
      for (;;) {
        const {value, done} = await all.next();
        if (done) { found.sounds.push({pieces: pieces.length, ...value}); break; }
        pieces.push(value);
      }
      const whole = new Float32Array(pieces.reduce((sum, one) => sum + one.length, 0));
      pieces.reduce((at, one) => (whole.set(one, at), at + one.length), 0);
      keep(out, whole);
    }
    return found;
  },

  async check({folder, changes}) {
    const {checkVoice} = await take('check.mjs'), voice = await opened({folder}), found = [];
    for (const [stage, factor] of changes) {
      const graph = voice.graphs[stage];
      voice.replace(stage, changed(graph, factor));
      found.push(await checkVoice(voice, ['prefill', 'step', 'acoustic', 'vocoder']));
      voice.replace(stage, graph);
    }
    return found;
  },

  async refuse({folder, hows}) {
    const voice = await opened({folder}), words = [];
    for (const {phones, stop, ...how} of hows) {
      const signal = stop ? AbortSignal.abort() : undefined;
      words.push(await voice.tokens(phones, {...how, signal}).then(() => '', error => `${error.name}: ${error.message}`));
    }
    return words;
  },

  async read({folder, name}) { return (await (await files({folder})).read(name)).length; },
};

try {
  process.stdout.write(JSON.stringify(await JOBS[asked.job](asked)));
} catch (error) {
  process.stdout.write(JSON.stringify({error: String(error.message ?? error)}));
}
