// How the next code is chosen from the logits, in the order of docs/seeds.md: what is float32 there is rounded here.

const COLDEST = 1e-5; // upstream's floor for the temperature
const round = Math.fround;

export class Chooser {
  constructor(count, sampling, draws) {
    this.sampling = sampling, this.draws = draws;
    this.seen = new Uint8Array(count);
  }

  // A code that makes itself less likely: of the prompt, or one that was chosen.
  saw(code) { this.seen[code] = 1; }

  // The code drawn from logits [V], and the most likely one after the penalty. `forbidden` is cut off beforehand.
  choose(logits, forbidden) {
    const scores = Float32Array.from(logits), penalty = round(this.sampling.repetition_penalty);
    if (forbidden !== undefined) scores[forbidden] = -Infinity;
    let best = 0;
    for (let i = 0; i < scores.length; i++) {
      if (this.seen[i]) scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
      if (scores[i] > scores[best]) best = i;
    }
    if (this.sampling.greedy) return [best, best];
    this.filter(scores);
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const kept = [], sums = [];
    let sum = 0;
    for (let i = 0; i < scores.length; i++)
      if (scores[i] > -Infinity) kept.push(i), sums.push(sum += Math.exp(scores[i] - largest));
    const limit = this.draws.uniform() * sum, place = sums.findIndex(one => one > limit);
    return [kept[place < 0 ? kept.length - 1 : place], best];
  }

  // Top-p, temperature and top-k: what they drop becomes -inf.
  filter(scores) {
    const {top_p, temperature, top_k} = this.sampling;
    if (top_p < 1) {
      const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
      let sum = 0;
      const sums = order.map(code => (sum += Math.exp(scores[code] - scores[order[0]])));
      const limit = top_p * sum; // the code that crosses it goes too; the first one never
      order.forEach((code, place) => { if (place && sums[place] > limit) scores[code] = -Infinity; });
    }
    const divisor = round(Math.max(temperature, COLDEST));
    for (let i = 0; i < scores.length; i++) scores[i] /= divisor;
    if (top_k < scores.length) {
      const limit = Float32Array.from(scores).sort()[scores.length - top_k];
      for (let i = 0; i < scores.length; i++) if (scores[i] < limit) scores[i] = -Infinity;
    }
  }
}
