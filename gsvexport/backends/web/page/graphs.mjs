// Graphs in onnxruntime-web: plain arrays in, plain arrays out. Arrays are {shape, floats} or {shape, ints}.

// The two of a tensor's names that graphs of voices take.
const WHOLE = {int64: BigInt64Array, int32: Int32Array};

// `ort` is the module; `files` its files by name, mjs as a URL, wasm as bytes: nothing is fetched behind our back.
export async function startRuntime(ort, {mjs, wasm, threads = 1}) {
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = {mjs};
  ort.env.wasm.wasmBinary = wasm;
}

export class Graph {
  constructor(ort, stage, session, provider) {
    this.ort = ort, this.stage = stage, this.session = session, this.provider = provider;
    this.types = Object.fromEntries((session.inputMetadata ?? []).map(one => [one.name, one.type]));
  }

  // `read(name)` gives the bytes of a file beside the graph. Weights lie in files that the graph names.
  static async open(ort, stage, file, read, weights, provider) {
    const bytes = await read(file), text = new TextDecoder('latin1').decode(bytes);
    const externalData = [];
    for (const path of weights) if (text.includes(path)) externalData.push({path, data: await read(path)});
    try {
      const options = {externalData, executionProviders: [provider]};
      return new Graph(ort, stage, await ort.InferenceSession.create(bytes, options), provider);
    } catch (error) {
      throw new Error(`stage '${stage}': onnxruntime-web cannot load ${file} on ${provider}: ${error.message ?? error}`);
    }
  }

  get inputs() { return this.session.inputNames; }

  async run(feeds) {
    const given = {};
    for (const name of this.inputs) given[name] = this.tensor(name, feeds[name]);
    let found;
    try {
      found = await this.session.run(given);
    } catch (error) {
      const shapes = Object.entries(given).map(([name, one]) => `${name} [${one.dims}]`).join(', ');
      throw new Error(`stage '${this.stage}' failed with ${shapes}: ${error.message ?? error}`);
    }
    return Object.fromEntries(Object.entries(found).map(([name, one]) => [name, {shape: [...one.dims], floats: one.data}]));
  }

  tensor(name, {shape, floats, ints}) {
    if (floats) return new this.ort.Tensor('float32', floats, shape);
    const type = this.types[name] === 'int32' ? 'int32' : 'int64';
    return new this.ort.Tensor(type, WHOLE[type].from(ints, type === 'int64' ? BigInt : Number), shape);
  }

  close() { return this.session.release(); }
}
