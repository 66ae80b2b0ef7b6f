// Every random number of speech, as docs/seeds.md has them: Philox4x32-10. The seed is the key, what is drawn the counter.

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57], STEPS = [0x9e3779b9, 0xbb67ae85];
const CODE = 0, NOISE = 1;

// The upper 32 bits of a product of two words of 32.
function high(a, b) {
  const low = (a & 0xffff) * (b & 0xffff);
  const left = (a >>> 16) * (b & 0xffff) + (low >>> 16);
  const right = (a & 0xffff) * (b >>> 16) + (left & 0xffff);
  return ((a >>> 16) * (b >>> 16) + Math.floor(left / 65536) + Math.floor(right / 65536)) >>> 0;
}

// One block: four words of 32 bits.
export function philox([a, b, c, d], [first, second]) {
  for (let round = 0; round < 10; round++) {
    const even = high(MULTIPLIERS[0], a), odd = high(MULTIPLIERS[1], c);
    const low = Math.imul(MULTIPLIERS[0], a) >>> 0;
    [a, b, c, d] = [(odd ^ b ^ first) >>> 0, Math.imul(MULTIPLIERS[1], c) >>> 0, (even ^ d ^ second) >>> 0, low];
    first = (first + STEPS[0]) >>> 0, second = (second + STEPS[1]) >>> 0;
  }
  return [a, b, c, d];
}

// The random numbers of one sentence, as they are asked for. `seed` is a number, a BigInt or its digits.
export class Draws {
  constructor(seed, sentence = 0, attempt = 0) {
    const all = BigInt(seed);
    if (all < 0n || all >= 1n << 64n) throw new RangeError(`seed is ${seed}; it must be from 0 to 2^64 - 1`);
    this.key = [Number(all & 0xffffffffn), Number(all >> 32n)];
    this.sentence = sentence, this.attempt = attempt;
    this.codes = this.normals = 0;
  }

  // For the next code: at least 0, less than 1, in steps of 2^-53.
  uniform() {
    const [w0, w1] = philox([this.codes++ >>> 0, CODE, this.sentence, this.attempt], this.key);
    return (w0 * 2 ** 21 + (w1 >>> 11)) * 2 ** -53;
  }

  // The next standard normal numbers, by Box and Muller: `count` of them, frame by frame.
  normal(count) {
    const found = new Float32Array(count);
    for (let i = 0, block = -1, four; i < count; i++) {
      const n = this.normals + i, at = Math.floor(n / 4);
      if (at !== block) {
        const [w0, w1, w2, w3] = philox([at >>> 0, NOISE, this.sentence, this.attempt], this.key);
        const pair = (x, y) => {
          const radius = Math.sqrt(-2 * Math.log((x + 1) * 2 ** -32)), angle = y * (2 * Math.PI * 2 ** -32);
          return [radius * Math.cos(angle), radius * Math.sin(angle)];
        };
        four = [...pair(w0, w1), ...pair(w2, w3)], block = at;
      }
      found[i] = four[n % 4];
    }
    this.normals += count;
    return found;
  }
}
