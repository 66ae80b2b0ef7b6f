// The voice, apart from the page, which stays alive while it computes.

import {checkVoice} from './check.mjs';
import {openVoice} from './opened.mjs';
import {Cancelled, STAGES} from './voice.mjs';

const PAUSE = 0.3; // seconds between two sentences
let voice = null, speaking = null;
const tell = (message, moved = []) => postMessage(message, moved);

async function open({base, site, provider, threads}) {
  await voice?.close();
  const found = await openVoice(base, site, {provider, threads, say: told => tell({progress: told})});
  voice = found.voice;
  tell({opened: {name: voice.model.name, rate: voice.rate, streams: Boolean(voice.model.vocoder_context), ...found, voice: null}});
}

async function say({sentences, manner}) {
  speaking = new AbortController();
  const began = performance.now(), all = [];
  let first = null, samples = 0;
  const give = sound => {
    first ??= performance.now() - began, samples += sound.length;
    const copy = Float32Array.from(sound);
    tell({sound: copy}, [copy.buffer]);
  };
  for (const [sentence, phones] of sentences.entries()) {
    if (sentence) give(new Float32Array(Math.round(PAUSE * voice.rate)));
    const pieces = voice.say(phones, {...manner, sentence, signal: speaking.signal});
    for (;;) {
      const {value, done} = await pieces.next();
      if (done) { all.push(value); break; }
      give(value);
    }
  }
  tell({said: {first, milliseconds: performance.now() - began, samples, sentences: all}});
}

async function compare() {
  tell({checked: await checkVoice(voice, STAGES, doing => tell({progress: {doing: `comparing ${doing}`}}))});
}

onmessage = async ({data}) => {
  if (data.do === 'stop') return speaking?.abort();
  try {
    await {open, say, compare}[data.do](data);
  } catch (error) {
    tell({failed: String(error.message ?? error), cancelled: error instanceof Cancelled});
  }
};
