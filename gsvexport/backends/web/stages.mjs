// Runs graphs in onnxruntime-web under node, for gsvexport's Python: node stages.mjs FOLDER-OF-THE-RUNTIME.
// Asked on standard input, answers on standard output: 4 bytes of length, so much JSON, then the arrays one by one.

import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';
import {Graph, startRuntime} from './page/graphs.mjs';

const [runtime] = process.argv.slice(2), at = name => path.join(runtime, name);
const TYPES = {float32: Float32Array, int64: BigInt64Array, int32: Int32Array};
const graphs = new Map();
const ort = await import(pathToFileURL(at('ort.wasm.min.mjs')).href);
const mjs = pathToFileURL(at('ort-wasm-simd-threaded.mjs')).href;
await startRuntime(ort, {mjs, wasm: fs.readFileSync(at('ort-wasm-simd-threaded.wasm'))});

function take(count) {
  const found = Buffer.alloc(count);
  for (let done = 0; done < count; ) {
    const some = fs.readSync(0, found, done, count - done, null);
    if (!some) process.exit(0); // whoever asked has gone
    done += some;
  }
  return found;
}

function give(bytes) {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
}

function answer(head, arrays = []) {
  const text = Buffer.from(JSON.stringify(head)), size = Buffer.alloc(4);
  size.writeUInt32LE(text.length);
  give(Buffer.concat([size, text]));
  for (const one of arrays) give(Buffer.from(one.buffer, one.byteOffset, one.byteLength));
}

async function open({folder, file, weights}) {
  const read = async name => new Uint8Array(fs.readFileSync(path.join(folder, name)));
  graphs.set(file, await Graph.open(ort, path.parse(file).name, file, read, weights, 'wasm'));
  answer({inputs: graphs.get(file).inputs});
}

async function run({file, feeds}) {
  const {session} = graphs.get(file), given = {};
  for (const {name, type, shape} of feeds) {
    const bytes = take(shape.reduce((a, b) => a * b, 1) * TYPES[type].BYTES_PER_ELEMENT);
    given[name] = new ort.Tensor(type, new TYPES[type](bytes.buffer, bytes.byteOffset, bytes.length / TYPES[type].BYTES_PER_ELEMENT), shape);
  }
  const found = await session.run(given), names = Object.keys(found);
  answer({outputs: names.map(name => ({name, type: found[name].type, shape: found[name].dims}))}, names.map(name => found[name].data));
}

for (;;) {
  const asked = JSON.parse(take(take(4).readUInt32LE()).toString());
  try {
    await {open, run}[asked.do](asked);
  } catch (error) {
    answer({error: String(error.message ?? error)});
  }
}
