// The model in its worker, and what its embedding says about each label.

import { decide } from './decisions.js';
import { MedgeError } from './errors.js';

// A module with one SIMD instruction: i32x4.splat (WebAssembly core specification, SIMD).
const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 17, 11]);

export function checkBrowser() {
  if (!globalThis.WebAssembly || !WebAssembly.validate(SIMD)) {
    throw new MedgeError('This browser can’t run the model: it lacks WebAssembly SIMD. Chrome 91, Firefox 89, Safari 16.4 and newer have it.');
  }
}

export class Model {
  #worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  #waiting = new Map();
  #count = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.error) reject(new MedgeError(`The model could not be run: ${data.error}.`));
      else resolve(data);
    };
    this.#worker.onerror = (event) => {
      const reason = new MedgeError(`The model could not be started: ${event.message ?? 'its script did not load'}.`);
      this.#waiting.forEach(({ reject }) => reject(reason));
      this.#waiting.clear();
    };
  }

  ask(message, transfer) {
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transfer);
    });
  }
}

/**
 * What an embedding says of the labels: { scores, decision }.
 *
 * `scores` are each label's { label, cosine, softmax, sigmoid }, the likeliest first; null is what this model, or a single label, can't
 * say. `decision` is that of decisions.js, null where the scores are not calibrated.
 */
export function judge(embedding, bank, calibration, { logit_scale: scale, logit_bias: bias, sigmoid }) {
  const length = Math.hypot(...embedding);
  const unit = Float64Array.from(embedding, (value) => value / length);
  const cosines = bank.embeddings.map((label) => label.reduce((sum, value, index) => sum + value * unit[index], 0));
  const logits = cosines.map((cosine) => scale * cosine + bias);
  const greatest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - greatest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const chooses = bank.names.length > 1; // of a single label the share is certain, whatever the image shows
  const judges = sigmoid !== false; // CLIP's training gives its sigmoid no meaning
  const scores = bank.names.map((label, i) => ({
    label, cosine: cosines[i], softmax: chooses ? powers[i] / total : null, sigmoid: judges ? 1 / (1 + Math.exp(-logits[i])) : null,
  }));
  return { scores: scores.sort((a, b) => b.cosine - a.cosine), decision: calibration && decide(calibration, unit, logits) };
}
