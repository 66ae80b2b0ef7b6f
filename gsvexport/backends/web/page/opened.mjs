// From the files beside a page to a voice that speaks: fetched, checked, kept for when there is no network.

import {checkVoice} from './check.mjs';
import {check, openFolder} from './folder.mjs';
import {startRuntime} from './graphs.mjs';
import {STAGES, Voice} from './voice.mjs';

export const BUILDS = {
  wasm: ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'],
  webgpu: ['ort.webgpu.min.mjs', 'ort-wasm-simd-threaded.asyncify.mjs', 'ort-wasm-simd-threaded.asyncify.wasm'],
};

// The bytes at `url`, from the cache or the network; `proof(bytes)` throws where they are wrong, and such are not kept.
export async function fetched(url, cache, proof, say = () => {}) {
  const kept = await cache?.match(url);
  const answer = kept ?? (await fetch(url, {cache: 'no-cache'}).catch(error => {
    throw new Error(`${url} cannot be fetched: ${error.message ?? error}`);
  }));
  if (!answer.ok) throw new Error(`${url} cannot be fetched: the server says ${answer.status}`);
  const bytes = await body(url, answer, say);
  try {
    await proof(bytes);
  } catch (error) {
    await cache?.delete(url);
    throw error;
  }
  if (!kept) await cache?.put(url, new Response(bytes, {headers: {'Content-Type': answer.headers.get('Content-Type') ?? ''}}));
  return bytes;
}

async function body(url, answer, say) {
  const parts = [], reader = answer.body.getReader();
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) break;
      parts.push(value), say(value.length);
    }
  } catch (error) {
    throw new Error(`${url}: the download was cut: ${error.message ?? error}`);
  }
  const found = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  parts.reduce((at, one) => (found.set(one, at), at + one.length), 0);
  return found;
}

// `base` is the URL of the page's folder, `site` what its site.json says. With `provider` "webgpu" each stage is tried on
// the graphics card, and the `rows` say what came of it.
export async function openVoice(base, site, {provider = 'wasm', threads = 1, say = () => {}} = {}) {
  const cache = globalThis.caches ? await caches.open(site.cache) : null, url = name => new URL(name, base).href;
  const progress = count => say({bytes: count});
  const [module, mjs, wasm] = BUILDS[provider];
  const bytes = await fetched(url(`ort/${wasm}`), cache, found => check(wasm, found, site.ort[wasm]), progress);
  for (const name of [module, mjs]) await fetched(url(`ort/${name}`), cache, found => check(name, found, site.ort[name]), progress);
  const ort = await import(url(`ort/${module}`));
  await startRuntime(ort, {mjs: url(`ort/${mjs}`), wasm: bytes, threads});
  const folder = await openFolder((name, proof) => fetched(url(`voice/${name}`), cache, proof, progress), site.manifest);
  say({doing: 'opening the graphs'});
  const voice = await Voice.open(ort, folder, {say: stage => say({doing: `opening ${stage}`})});
  const chosen = provider === 'webgpu' ? await withGraphicsCard(ort, voice, say) : {rows: []};
  return {voice, providers: Object.fromEntries(STAGES.map(stage => [stage, voice.graphs[stage].provider])), ...chosen};
}

// Gives the voice those stages on WebGPU that compute there what was verified, and sooner than here. All others stay.
async function withGraphicsCard(ort, voice, say) {
  const failed = error => ({rows: [{stage: 'all', metric: 'opens', passed: false, problem: String(error.message ?? error)}]});
  const doing = where => text => say({doing: `${where}: ${text}`}), providers = Object.fromEntries(STAGES.map(stage => [stage, 'webgpu']));
  let card;
  try {
    card = await Voice.open(ort, voice.folder, {providers, say: doing('opening for the graphics card')});
  } catch (error) {
    return failed(error);
  }
  const there = {}, here = {}, rows = await checkVoice(card, STAGES, doing('graphics card'), there);
  await checkVoice(voice, STAGES, doing('processor'), here);
  for (const stage of STAGES) {
    const right = rows.every(one => one.stage !== stage || one.passed), sooner = there[stage] < here[stage];
    if (right && !sooner) rows.push({stage, metric: 'ms', value: there[stage], told: here[stage], passed: false, problem: 'slower than the processor'});
    const gone = right && sooner ? voice.graphs[stage] : card.graphs[stage];
    if (right && sooner) voice.replace(stage, card.graphs[stage]);
    await gone.close();
  }
  return {rows};
}
