// The tables of english/, which gsvexport/backends/web/english.py writes: sorted lines, and the network's weights.

export async function gunzip(bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
}

// Without what every object inherits: a word may be "constructor".
export const bare = text =>
  JSON.parse(text, (key, value) => (value && typeof value === 'object' && !Array.isArray(value) ? Object.setPrototypeOf(value, null) : value));

const LINE = 10, TAB = 9;

// Lines "key TAB value", sorted by their bytes, searched by bisection: a Map of so many would take ten times the memory.
export class SortedLines {
  constructor(data) { this.data = data; }

  // A block of columns at `from`, and where the next one begins.
  static unpacked(bytes, from) {
    const count = new DataView(bytes.buffer, bytes.byteOffset).getUint32(from, true), shared = from + 4, first = shared + count;
    let rest = first, value = first;
    for (let lines = 0; lines < count; value++) if (bytes[value] === LINE) lines++;
    const data = new Uint8Array(bytes.length - from + sum(bytes, shared, first) + count);
    let at = 0, before = 0; // the line before begins there
    for (let line = 0; line < count; line++) {
      const start = at;
      data.copyWithin(at, before, before + bytes[shared + line]), at += bytes[shared + line];
      for (; bytes[rest] !== LINE; rest++) data[at++] = bytes[rest];
      data[at++] = TAB, rest++;
      for (; bytes[value] !== LINE; value++) data[at++] = bytes[value];
      data[at++] = LINE, value++, before = start;
    }
    return [new SortedLines(data.slice(0, at)), value];
  }

  // The bytes of a key's value, or null.
  get(key) {
    const {data} = this;
    let low = 0, high = data.length; // both at the beginning of a line
    while (low < high) {
      let start = (low + high) >> 1;
      while (start > low && data[start - 1] !== LINE) start--;
      let at = start, order = 0;
      for (let i = 0; !order; i++, at++) {
        const have = data[at] === TAB ? -1 : data[at], want = i < key.length ? key.charCodeAt(i) : -1;
        order = have - want;
        if (!order && have === -1) {
          const stop = data.indexOf(LINE, at);
          return data.subarray(at + 1, stop);
        }
      }
      if (order < 0) low = data.indexOf(LINE, at - 1) + 1;
      else high = start;
    }
    return null;
  }
}

function sum(bytes, from, to) {
  let found = 0;
  for (let at = from; at < to; at++) found += bytes[at];
  return found;
}

// Weights by name: half precision, all low bytes before all high ones.
export function weights(bytes, shapes) {
  const count = bytes.length / 2, all = new Float32Array(count), found = {};
  for (let i = 0; i < count; i++) all[i] = half(bytes[i] | (bytes[count + i] << 8));
  let place = 0;
  for (const [name, shape] of shapes) {
    const size = shape.reduce((product, one) => product * one, 1);
    found[name] = all.subarray(place, (place += size));
  }
  return found;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, part = bits & 1023;
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : 2 ** -14 * (part / 1024));
}
