// The model runs here, so that the page stays alive meanwhile.

import * as ort from './vendor/ort.wasm.min.mjs';

ort.env.wasm.wasmPaths = new URL('./vendor/', import.meta.url).href;
// Threads need shared memory, which browsers give to isolated pages only (see sw.js).
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

let session = null;

self.onmessage = async ({ data: { id, model, pixels, side, tower } }) => {
  try {
    if (model) {
      session = await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
      self.postMessage({ id });
      return;
    }
    const started = performance.now();
    const input = new ort.Tensor('float32', pixels, [1, 3, side, side]);
    const { [tower.output]: pooled } = await session.run({ [tower.inputs[0]]: input }, [tower.output]);
    self.postMessage({ id, embedding: Float32Array.from(pooled.data), milliseconds: performance.now() - started });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
