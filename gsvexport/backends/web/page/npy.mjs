// Arrays of NumPy's format 1 and 2 (numpy.lib.format), as artifacts hold them: little-endian numbers, row by row.

const KINDS = {'<f4': Float32Array, '<f2': Uint16Array, '<i8': BigInt64Array, '<i4': Int32Array, '<i2': Int16Array};

function half(bits) {
  const sign = bits >> 15 ? -1 : 1, power = (bits >> 10) & 31, rest = bits & 1023;
  if (power === 31) return rest ? NaN : sign * Infinity;
  return sign * (power ? 2 ** (power - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
}

// {shape, floats} or {shape, ints}, the latter as plain numbers.
export function readArray(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, Math.min(bytes.length, 4096)));
  const wide = bytes[6] > 1, start = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const [, kind] = /'descr': '([^']+)'/.exec(text) ?? [], [, sizes] = /'shape': \(([^)]*)\)/.exec(text) ?? [];
  if (bytes[0] !== 0x93 || text.slice(1, 6) !== 'NUMPY' || !KINDS[kind] || sizes === undefined || text.includes("'fortran_order': True"))
    throw new Error(`${name} is no array that this page reads`);
  const shape = sizes.split(',').filter(one => one.trim()).map(Number), count = shape.reduce((a, b) => a * b, 1);
  const values = new KINDS[kind](bytes.slice(start).buffer);
  if (values.length !== count) throw new Error(`${name} does not hold what its header says`);
  if (kind[1] === 'i') return {shape, ints: Array.from(values, Number)};
  return {shape, floats: kind === '<f2' ? Float32Array.from(values, half) : values};
}
