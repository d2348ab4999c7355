// The page: load a bundle, take an image, show scores. Nothing leaves the device.

import { entry, openBundle, parity, readFile, readLabelBank, visionTower } from './bundle.js';
import { decodeImage } from './decode.js';
import { isDicom, readDicom } from './dicom.js';
import { MedgeError } from './errors.js';
import { normalisePixels, resize } from './pixels.js';

// A module with one SIMD instruction: i32x4.splat (WebAssembly core specification, SIMD).
const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 17, 11]);
const $ = (id) => document.getElementById(id);

class Model {
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

async function load() {
  if (!globalThis.WebAssembly || !WebAssembly.validate(SIMD)) {
    throw new MedgeError('This browser can’t run the model: it lacks WebAssembly SIMD. Chrome 91, Firefox 89, Safari 16.4 and newer have it.');
  }
  const manifest = await openBundle();
  $('name').textContent = manifest.name;
  $('facts').textContent = `${manifest.source.name}, recipe ${visionTower(manifest).recipe}, profile ${manifest.preprocessing.profile}. ${manifest.licence}`;
  const warnings = parity(manifest).warnings ?? [];
  $('warning').hidden = !warnings.length;
  $('warning').textContent = `This bundle was measured and passed, with a warning: ${warnings.join('; ')}. See parity.html.`;
  const bank = readLabelBank(await readFile(entry(manifest, 'labels')));
  const bytes = await readFile(entry(manifest, 'vision'), (share) => { $('progress').value = share; });
  say('Starting the model …');
  const model = new Model();
  await model.ask({ model: bytes }, [bytes.buffer]);
  return { manifest, bank, model };
}

async function classify({ manifest, bank, model }, file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const image = isDicom(bytes) ? await readDicom(bytes, decodeImage) : await decodeImage(bytes);
  const side = manifest.model.image_size;
  const resized = resize(image, manifest.preprocessing.profile, side);
  const pixels = normalisePixels(resized, manifest.preprocessing);
  const { embedding, milliseconds } = await model.ask({ pixels, side, tower: visionTower(manifest) }, [pixels.buffer]);
  const length = Math.hypot(...embedding);
  const cosines = bank.embeddings.map((label) => label.reduce((sum, value, index) => sum + value * embedding[index], 0) / length);
  const logits = cosines.map((cosine) => manifest.model.logit_scale * cosine + manifest.model.logit_bias);
  const greatest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - greatest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const chooses = bank.names.length > 1; // of a single label the share is certain, whatever the image shows
  const judges = manifest.model.sigmoid !== false; // CLIP's training gives its sigmoid no meaning
  const scores = bank.names.map((label, i) => ({
    label, cosine: cosines[i], softmax: chooses ? powers[i] / total : null, sigmoid: judges ? 1 / (1 + Math.exp(-logits[i])) : null,
  }));
  return { name: file.name, resized, milliseconds, scores: scores.sort((a, b) => b.cosine - a.cosine) };
}

function show({ name, resized, milliseconds, scores }) {
  const { width, height, data } = resized;
  Object.assign($('picture'), { width, height });
  const shown = new ImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    shown.data.set([...data.subarray(index * 3, index * 3 + 3), 255], index * 4);
  }
  $('picture').getContext('2d').putImageData(shown, 0, 0);
  $('shown').textContent = `${name}: ${scores[0].label}`;
  $('scores').replaceChildren(...scores.map(({ label, cosine, softmax, sigmoid }) => {
    const row = document.createElement('tr');
    Object.assign(row.dataset, { label, cosine, softmax, sigmoid });
    for (const text of [label, percent(softmax), percent(sigmoid), cosine.toFixed(3)]) {
      row.append(Object.assign(document.createElement('td'), { textContent: text }));
    }
    return row;
  }));
  $('result').hidden = false;
  $('result').dataset.milliseconds = milliseconds;
  say(`Done in ${(milliseconds / 1000).toFixed(2)} s. Another image?`);
}

const percent = (share) => (share === null ? '–' : `${(100 * share).toFixed(1)} %`);

function say(text, isError = false) {
  $('status').textContent = text;
  $('status').classList.toggle('error', isError);
}

const complain = (error) => {
  console.error(error);
  say(error instanceof MedgeError ? error.message : `Something went wrong: ${error.message ?? error}.`, true);
};

function listen(loaded) {
  let last = Promise.resolve();
  const take = (file) => {
    if (!file) return;
    last = last.then(async () => {
      say(`Looking at ${file.name} …`);
      $('result').hidden = true; // an old answer must not stand beside a new image's name
      show(await classify(loaded, file));
    }).catch(complain);
  };
  $('file').addEventListener('change', ({ target }) => { take(target.files[0]); target.value = ''; });
  for (const [type, over] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
    document.body.addEventListener(type, (event) => {
      event.preventDefault();
      $('drop').classList.toggle('over', over);
      if (type === 'drop') take(event.dataTransfer.files[0]);
    });
  }
}

/** Keep everything for use without a network; where there is no service worker (plain http), the page works online only. */
async function keepOffline(manifest) {
  if (!('serviceWorker' in navigator)) return;
  await navigator.serviceWorker.register(`sw.js?v=${manifest.digest}`);
  await navigator.serviceWorker.ready;
  document.documentElement.dataset.offline = 'ready';
}

try {
  const loaded = await load();
  $('progress').hidden = true;
  $('drop').hidden = false;
  listen(loaded);
  say('Ready. Choose an image.');
  keepOffline(loaded.manifest).catch((error) => console.warn('not kept for offline use:', error));
} catch (error) {
  $('progress').hidden = true;
  complain(error);
}
