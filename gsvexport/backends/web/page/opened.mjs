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

// `base` is the URL of the page's folder, `site` what its site.json says. Each stage runs where it computes what was
// verified: `provider` "webgpu" is tried stage by stage against the golden vectors, and wasm is what is left.
export async function openVoice(base, site, {provider = 'wasm', threads = 1, say = () => {}} = {}) {
  const cache = globalThis.caches ? await caches.open(site.cache) : null, url = name => new URL(name, base).href;
  const progress = count => say({bytes: count});
  const [module, mjs, wasm] = BUILDS[provider];
  const bytes = await fetched(url(`ort/${wasm}`), cache, found => check(wasm, found, site.ort[wasm]), progress);
  for (const name of [module, mjs]) await fetched(url(`ort/${name}`), cache, found => check(name, found, site.ort[name]), progress);
  const ort = await import(url(`ort/${module}`));
  await startRuntime(ort, {mjs: url(`ort/${mjs}`), wasm: bytes, threads});
  const folder = await openFolder((name, proof) => fetched(url(`voice/${name}`), cache, proof, progress), site.manifest);
  const providers = {}, rows = [];
  if (provider === 'webgpu') {
    say({doing: 'comparing this graphics card with the golden vectors'});
    for (const stage of STAGES) providers[stage] = 'webgpu';
    let voice = await Voice.open(ort, folder, {providers}).catch(error => {
      rows.push({stage: 'all', metric: 'opens', passed: false, problem: String(error.message ?? error)});
      return null;
    });
    if (voice) rows.push(...(await checkVoice(voice, STAGES, doing => say({doing: `comparing ${doing}`}))));
    const failed = voice ? [...new Set(rows.filter(one => !one.passed).map(one => one.stage))] : STAGES;
    if (!failed.length) return {voice, providers, rows};
    await voice?.close();
    for (const stage of failed) providers[stage] = 'wasm';
  }
  say({doing: 'opening the graphs'});
  const voice = await Voice.open(ort, folder, {providers, say: stage => say({doing: `opening ${stage}`})});
  return {voice, providers: Object.fromEntries(STAGES.map(stage => [stage, providers[stage] ?? 'wasm'])), rows};
}
