// The page: what it shows, and what it asks of the worker that holds the voice.

import {English, TABLES} from './english.mjs';
import {check} from './folder.mjs';
import {fetched} from './opened.mjs';
import {filled, Phones, shown} from './phrases.mjs';
import {Player} from './player.mjs';
import {wav} from './wav.mjs';

const MOST_THREADS = 4; // more than that gains nothing for networks of this size; one core is left to everything else
// WebAssembly that has one SIMD instruction (i32x4.splat).
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 17, 11);
const at = id => document.getElementById(id);
const shared = globalThis.crossOriginIsolated, cores = navigator.hardwareConcurrency || 1;
const threads = shared ? Math.max(1, Math.min(MOST_THREADS, cores - 1)) : 1;
const state = {site: null, phones: null, worker: null, opened: null, player: null, pieces: [], done: 0, waiting: null, manner: {}};
globalThis.page = state; // for whoever embeds it: `manner` are settings of Voice.say that the page does not show

// Why this browser cannot do it at all; empty where it can.
function lacking() {
  if (!isSecureContext) return 'This page needs https, or localhost: browsers give SHA-256 and offline use to no other.';
  if (typeof WebAssembly === 'undefined' || !WebAssembly.validate(SIMD))
    return 'This browser has no WebAssembly SIMD, which the voice needs. Chrome 91, Firefox 89, Safari 16.4 and newer have it.';
  if (typeof Worker === 'undefined') return 'This browser has no workers.';
  return '';
}

function problem(text) {
  at('problem').hidden = !text, at('problem').textContent = text;
  if (text) status('');
}

function status(text) { at('status').textContent = text; }

const megabytes = bytes => `${(bytes / 1e6).toFixed(1)} MB`;

// The worker of this page keeps headers and files; a page that it does not serve yet is loaded once more, for threads.
async function serveOffline(cache) {
  if (!navigator.serviceWorker) return;
  const registration = await navigator.serviceWorker.register(`sw.js?cache=${encodeURIComponent(cache)}`);
  await navigator.serviceWorker.ready;
  if (!registration.active || shared || sessionStorage.getItem('again')) return;
  sessionStorage.setItem('again', '1');
  if (!navigator.serviceWorker.controller)
    await new Promise(done => navigator.serviceWorker.addEventListener('controllerchange', done, {once: true}));
  location.reload();
  await new Promise(() => {});
}

function choosePhrase() {
  const phrase = state.site.phrases[at('phrase').value];
  at('slots').replaceChildren(...(phrase?.slots ?? []).map(({name, values}) => {
    const label = document.createElement('label'), select = document.createElement('select');
    select.dataset.slot = name;
    select.append(...values.map(value => new Option(value, value)));
    label.append(name, ' ', select);
    return label;
  }));
}

function slotValues() {
  return Object.fromEntries([...at('slots').querySelectorAll('select')].map(one => [one.dataset.slot, one.value]));
}

// A table of English, from the cache or the network; as the voice's files it is kept, and compared with what is listed.
async function englishFile(name) {
  const cache = await caches.open(state.site.cache), listed = state.site.english[name], path = `english/${name}`;
  return fetched(new URL(path, location.href).href, cache, bytes => check(path, bytes, listed));
}

// What reads English. Its rules are fetched when somebody types, the rest when a word asks for it.
async function english() {
  state.english ??= English.open(englishFile);
  try {
    return await state.english;
  } catch (error) {
    state.english = null;
    throw error;
  }
}

async function written(text) {
  status('reading …');
  const sentences = await (await english()).sentences(text);
  state.kept ??= Promise.all(TABLES.map(englishFile)).catch(() => (state.kept = null)); // for when there is no network
  return sentences;
}

// Phone ids of each sentence that is asked for.
async function asked() {
  const lines = at('phones').value.split('\n').map(line => line.trim().split(/\s+/).filter(Boolean)).filter(line => line.length);
  if (lines.length) return lines.map(line => state.phones.ids(line));
  const text = at('text').value.trim();
  if (text) return (await written(text)).map(names => state.phones.ids(names));
  const phrase = state.site.phrases[at('phrase').value];
  if (!phrase) throw new Error('There is no phrase. Write phones, by their names.');
  status(shown(phrase, slotValues()));
  return [state.phones.ids(filled(phrase, slotValues()))];
}

function ask(message) {
  return new Promise((resolve, reject) => {
    state.waiting = {resolve, reject};
    state.worker.postMessage(message);
  });
}

function answered({data}) {
  if (data.progress) return progress(data.progress);
  if (data.sound) return heard(data.sound);
  const {resolve, reject} = state.waiting ?? {};
  state.waiting = null;
  if (data.failed !== undefined) reject?.(Object.assign(new Error(data.failed), {cancelled: data.cancelled}));
  else resolve?.(data.opened ?? data.said ?? data.checked);
}

function progress({bytes, doing}) {
  if (bytes) {
    state.done += bytes;
    const all = state.site.bytes.voice + state.site.bytes[provider()];
    at('progress').hidden = false, at('progress').value = Math.min(1, state.done / all);
    status(`${megabytes(state.done)} of ${megabytes(all)}`);
  } else status(`${doing} …`);
}

const provider = () => (at('gpu').checked ? 'webgpu' : 'wasm');

async function open() {
  if (state.opened?.asked === provider()) return;
  state.worker?.terminate();
  state.worker = new Worker('worker.mjs', {type: 'module'});
  state.worker.onmessage = answered;
  state.worker.onerror = event => state.waiting?.reject(new Error(event.message ?? 'the worker did not start'));
  state.opened = null, state.done = 0;
  const opened = await ask({do: 'open', base: new URL('.', location.href).href, site: state.site, provider: provider(), threads});
  state.opened = {...opened, asked: provider()};
  at('progress').hidden = true;
  state.player ??= new Player(opened.rate);
  facts();
  table(opened.rows);
}

function facts() {
  const {providers, rate} = state.opened;
  const rows = {
    Voice: `${state.site.name}, ${rate} Hz`,
    Runtime: `onnxruntime-web ${state.site.version}`,
    Threads: `${threads} on ${cores} cores`,
    Stages: Object.entries(providers).map(([stage, where]) => `${stage} ${where}`).join(', '),
  };
  at('facts').replaceChildren(...Object.entries(rows).flatMap(([name, value]) => {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name, dd.textContent = value;
    return [dt, dd];
  }));
  at('about').hidden = false;
}

function table(rows) {
  at('checks').hidden = !rows.length;
  const digits = one => (typeof one === 'number' ? one.toPrecision(3) : '–');
  const line = (cells, kind = 'td') => {
    const tr = document.createElement('tr');
    tr.append(...cells.map(text => Object.assign(document.createElement(kind), {textContent: text})));
    return tr;
  };
  at('checks').replaceChildren(line(['stage', 'metric', 'here', 'report', 'limit', 'verdict'], 'th'), ...rows.map(one => {
    const tr = line([one.stage, one.metric, digits(one.value), digits(one.told), digits(one.limit),
      one.passed ? 'pass' : `fails${one.problem ? `: ${one.problem}` : ''}`]);
    tr.lastChild.className = one.passed ? 'pass' : 'fail';
    return tr;
  }));
}

function heard(samples) {
  state.pieces.push(samples);
  state.player.push(samples);
  draw();
}

function joined() {
  const found = new Float32Array(state.pieces.reduce((sum, one) => sum + one.length, 0));
  state.pieces.reduce((place, one) => (found.set(one, place), place + one.length), 0);
  return found;
}

function draw() {
  at('heard').hidden = false;
  const canvas = at('wave'), samples = joined(), width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = 120 * devicePixelRatio), pen = canvas.getContext('2d'), each = samples.length / width;
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue('--own');
  for (let x = 0; x < width; x++) {
    let peak = 0;
    for (let i = Math.floor(x * each); i < (x + 1) * each; i++) peak = Math.max(peak, Math.abs(samples[i]));
    pen.fillRect(x, (height * (1 - peak)) / 2, 1, Math.max(1, height * peak));
  }
}

async function speak() {
  state.player?.stop();
  const sentences = await asked();
  await state.player?.context.resume();
  await open();
  await state.player.context.resume();
  state.pieces = [], at('save').hidden = true;
  status('speaking …');
  const manner = {seed: at('seed').value || '0', speed: Number(at('speed').value), window: Number(at('window').value), ...state.manner};
  if (!state.opened.streams) manner.window = 0;
  const said = await ask({do: 'say', sentences, manner});
  const seconds = said.samples / state.opened.rate, codes = said.sentences.flatMap(one => one.codes);
  state.said = {...said, codes};
  at('first').textContent = said.first < 1000 ? `${said.first.toFixed(0)} ms` : `${(said.first / 1000).toFixed(2)} s`;
  at('length').textContent = `${seconds.toFixed(2)} s`, at('rtf').textContent = (said.milliseconds / 1000 / seconds).toFixed(2);
  at('codes').textContent = codes.length, at('gaps').textContent = state.player.gaps;
  URL.revokeObjectURL(at('save').href);
  at('save').href = URL.createObjectURL(new Blob([wav(joined(), state.opened.rate)], {type: 'audio/wav'})), at('save').hidden = false;
  status(said.sentences.every(one => one.ended) ? 'done' : 'done; a sentence was cut off at its longest');
}

async function busy(work) {
  problem('');
  for (const id of ['speak', 'compare', 'gpu']) at(id).disabled = true;
  at('stop').disabled = false;
  try {
    await work();
  } catch (error) {
    at('progress').hidden = true;
    if (error.cancelled) status('stopped');
    else problem(error.message);
  }
  for (const id of ['speak', 'compare']) at(id).disabled = false;
  at('gpu').disabled = !navigator.gpu;
  at('stop').disabled = true;
}

async function start() {
  const why = lacking();
  if (why) return problem(why);
  const answer = await fetch('site.json', {cache: 'no-cache'});
  if (!answer.ok) return problem(`site.json cannot be fetched: the server says ${answer.status}`);
  state.site = await answer.json();
  await serveOffline(state.site.cache).catch(error => status(`Without a network this page will not work: ${error.message}`));
  const {site} = state;
  state.phones = new Phones(site.symbols);
  document.title = site.name;
  document.querySelector('h1').textContent = site.name;
  at('phrase').append(...Object.entries(site.phrases).map(([name, phrase]) => new Option(phrase.text, name)));
  at('phrase').disabled = !at('phrase').options.length;
  choosePhrase();
  at('lead').textContent += ` The first use fetches ${megabytes(site.bytes.voice + site.bytes.wasm)}; after that it needs no network.`;
  if (site.english) {
    const bytes = TABLES.map(name => site.english[name].size), all = bytes.reduce((sum, one) => sum + one, 0);
    at('writing').hidden = false, document.querySelector('label[for=phrase]').textContent = 'Or a phrase';
    at('tables').textContent = `Text is read by tables of ${megabytes(all)}, which are fetched when you type.`;
    at('text').oninput = () => english().catch(() => {}); // whoever speaks is told
  }
  if (!shared)
    at('threads').textContent = navigator.gpu
      ? 'One thread: the server sends no COOP and COEP headers, and no service worker could.'
      : 'This browser has neither threads (no COOP and COEP headers, see README.txt) nor WebGPU. The voice runs on one thread.';
  if (threads < 2 && !navigator.gpu) at('about').hidden = false;
  at('ask').onsubmit = event => (event.preventDefault(), busy(speak));
  at('phrase').onchange = () => (at('text').value = '', choosePhrase());
  at('compare').onclick = () => busy(async () => {
    await open();
    const rows = await ask({do: 'compare'});
    state.checked = rows;
    table(rows);
    status(rows.every(one => one.passed) ? 'this browser computes what was verified' : 'this browser computes something else');
  });
  at('stop').onclick = () => (state.worker?.postMessage({do: 'stop'}), state.player?.stop());
  at('speak').disabled = at('compare').disabled = false;
  at('gpu').disabled = !navigator.gpu;
  state.ready = true;
}

start().catch(error => problem(String(error.message ?? error)));
