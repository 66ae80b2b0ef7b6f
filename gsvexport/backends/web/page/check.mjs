// Does this browser compute what was verified? The golden vectors again, beside what the artifact's report says of them.

import {readArray} from './npy.mjs';

const GOLDEN = 'golden vectors', WORSE = 1.5, DECIBELS = 1; // how far another machine's figures may be from the report's
const NOTHING = {max_error: 1e-4, kl: 1e-6}; // below this, figures are those of a last bit

function scaledError(wanted, found) {
  let error = 0, peak = 1;
  for (let i = 0; i < wanted.length; i++) {
    if (!Number.isFinite(found[i])) return NaN;
    error = Math.max(error, Math.abs(wanted[i] - found[i])), peak = Math.max(peak, Math.abs(wanted[i]));
  }
  return error / peak;
}

function snr(wanted, found) {
  let signal = 0, noise = 0;
  for (let i = 0; i < wanted.length; i++) signal += wanted[i] ** 2, noise += (wanted[i] - found[i]) ** 2;
  return noise === 0 ? 200 : Math.max(-200, Math.min(199, 10 * Math.log10(signal / noise)));
}

// KL(softmax(wanted) || softmax(found)).
function divergence(wanted, found) {
  const total = row => {
    const peak = row.reduce((a, b) => Math.max(a, b));
    return peak + Math.log(row.reduce((sum, one) => sum + Math.exp(one - peak), 0));
  };
  const r = total(wanted), x = total(found);
  return wanted.reduce((sum, one, i) => sum + Math.exp(one - r) * (one - r - (found[i] - x)), 0);
}

// Rows {stage, metric, value, told, limit, passed} of the voice's stages; a stage that fails altogether has a `problem`.
// `times` is given the milliseconds of each stage's last run, the second one of its size.
export async function checkVoice(voice, stages, say = () => {}, times = {}) {
  const {folder} = voice, index = await folder.json('golden/golden.json'), report = await folder.json('report.json');
  const rows = [], worst = {}, means = {};
  const note = (stage, metric, value, least = false) => {
    const key = `${stage} ${metric}`, old = worst[key];
    worst[key] = old === undefined || Number.isNaN(value) || (least ? value < old : value > old) ? value : old;
  };
  const mean = (stage, metric, value) => (means[`${stage} ${metric}`] ??= []).push(value);
  const arrays = async files => {
    const found = {};
    for (const [port, file] of Object.entries(files)) found[port] = readArray(await folder.read(`golden/${file}`), file);
    return found;
  };
  const last = index.cases.at(-1)?.name;
  for (const one of index.cases) {
    const covers = one.stage === 'teacher' ? ['prefill', 'step'] : [one.stage];
    if (!covers.some(stage => stages.includes(stage))) continue;
    say(`${covers.join(' and ')}, case ${one.name}`);
    const given = await arrays(one.inputs);
    try {
      if (one.stage === 'teacher') {
        const {logits} = await arrays({logits: one.outputs.logits});
        if (one.name === last) await voice.decoder.start(given.phones.ints, given.bert.floats, given.prompt.ints);
        await teacher(voice, given, logits, {note, mean}, times);
      } else {
        const port = one.stage === 'vocoder' ? 'audio' : 'latent', wanted = (await arrays({[port]: one.outputs[port]}))[port].floats;
        if (one.name === last) await voice.graphs[one.stage].run(given);
        const began = performance.now(), found = (await voice.graphs[one.stage].run(given))[port].floats;
        times[one.stage] = performance.now() - began;
        if (found.length !== wanted.length) throw new Error(`stage '${one.stage}' returned another size`);
        note(one.stage, 'max_error', scaledError(wanted, found)), note(one.stage, 'snr_db', snr(wanted, found), true);
      }
    } catch (error) {
      for (const stage of covers) rows.push({stage, metric: 'runs', passed: false, problem: String(error.message ?? error)});
    }
  }
  for (const [key, values] of Object.entries(means)) worst[key] = values.reduce((a, b) => a + b) / values.length;
  for (const [key, value] of Object.entries(worst)) {
    const [stage, metric] = key.split(' ');
    if (stages.includes(stage)) rows.push(judged(report, stage, metric, value));
  }
  return rows;
}

// It is the same artifact, so it may be hardly worse than the report says, whatever the limit was.
function judged(report, stage, metric, value) {
  const told = report.checks.find(one => one.stage === stage && one.metric === metric && one.against.startsWith(GOLDEN))?.value;
  if (typeof told !== 'number') return {stage, metric, value, passed: false, problem: 'the report does not tell'};
  if (metric === 'snr_db') return {stage, metric, value, told, limit: told - DECIBELS, passed: value >= told - DECIBELS};
  const limit = WORSE * told + NOTHING[metric];
  return {stage, metric, value, told, limit, passed: value <= limit};
}

async function teacher({decoder}, given, {shape: [count, width], floats: wanted}, {note, mean}, times) {
  const prompt = given.prompt.ints, found = [], began = performance.now();
  let logits = await decoder.start(given.phones.ints, given.bert.floats, prompt);
  const prefilled = performance.now();
  for (let step = 0; ; step++) {
    found.push(logits);
    mean(step ? 'step' : 'prefill', 'kl', divergence(wanted.subarray(step * width, (step + 1) * width), logits));
    if (step + 1 === count) break;
    logits = await decoder.next(given.tokens.ints[step], prompt.length + step);
  }
  times.prefill = prefilled - began, times.step = (performance.now() - prefilled) / Math.max(1, count - 1);
  const rest = new Float32Array(width * (count - 1));
  found.slice(1).forEach((row, step) => rest.set(row, step * width));
  note('prefill', 'max_error', scaledError(wanted.subarray(0, width), found[0]));
  if (count > 1) note('step', 'max_error', scaledError(wanted.subarray(width), rest));
}
