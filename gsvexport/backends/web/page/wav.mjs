// 16-bit samples as gsvexport/runtime/audio.py writes them: clipped, halves to the even number.

const FULL = 32767;

export function pcm(samples) {
  return Int16Array.from(samples, one => {
    const value = Math.fround(Math.max(-1, Math.min(1, one)) * FULL), low = Math.floor(value), rest = value - low;
    return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
  });
}

// The bytes of a mono WAV file.
export function wav(samples, rate) {
  const data = pcm(samples), file = new DataView(new ArrayBuffer(44 + 2 * data.length));
  const write = (at, text) => [...text].forEach((sign, i) => file.setUint8(at + i, sign.charCodeAt(0)));
  write(0, 'RIFF'), file.setUint32(4, 36 + 2 * data.length, true), write(8, 'WAVEfmt ');
  file.setUint32(16, 16, true), file.setUint16(20, 1, true), file.setUint16(22, 1, true);
  file.setUint32(24, rate, true), file.setUint32(28, 2 * rate, true), file.setUint16(32, 2, true);
  file.setUint16(34, 16, true), write(36, 'data'), file.setUint32(40, 2 * data.length, true);
  data.forEach((one, i) => file.setInt16(44 + 2 * i, one, true));
  return new Uint8Array(file.buffer);
}
