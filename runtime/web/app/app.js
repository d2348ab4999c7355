// The page: load a bundle, take files, show what the model says of each. Nothing leaves the device.

import { entry, openBundle, parity, readFile, readLabelBank, visionTower } from './bundle.js';
import { paint, PlainPicture } from './decode.js';
import { checkBelongs, readCalibration } from './decisions.js';
import { DicomPicture, isDicom } from './dicom/dicom.js';
import { MedgeError } from './errors.js';
import { chosen, dropped } from './files.js';
import { checkBrowser, judge, Model } from './model.js';
import { normalisePixels, resize } from './pixels.js';
import { Result } from './result.js';

const $ = (id) => document.getElementById(id);

async function load() {
  checkBrowser();
  const manifest = await openBundle();
  const warnings = parity(manifest).warnings ?? [];
  const facts = [manifest.name, manifest.source.name, `recipe ${visionTower(manifest).recipe}`, `profile ${manifest.preprocessing.profile}`].join(', ');
  $('name').textContent = manifest.name;
  $('facts').textContent = `${facts}. ${manifest.licence}`;
  $('warning').hidden = !warnings.length;
  $('warning').textContent = `This bundle was measured and passed, with a warning: ${warnings.join('; ')}. See parity.html.`;
  const bank = readLabelBank(await readFile(entry(manifest, 'labels')));
  const calibration = await readScores(manifest);
  const bytes = await readFile(entry(manifest, 'vision'), (share) => { $('progress').value = share; });
  say('Starting the model …');
  const model = new Model();
  await model.ask({ model: bytes }, [bytes.buffer]);
  const measured = warnings.length ? `passed, with a warning: ${warnings.join('; ')}` : parity(manifest).status;
  return { manifest, bank, calibration, model, facts: `${facts}. Parity with the original model: ${measured}.` };
}

/** How the bundle's scores are calibrated; null where they are not. */
async function readScores(manifest) {
  const file = entry(manifest, 'scores');
  if (!file) return null;
  const calibration = readCalibration(await readFile(file), manifest.model.embedding_size);
  checkBelongs(calibration, manifest);
  return calibration;
}

let opened = { file: null, picture: null }; // one picture at a time is kept decoded, since phones have little memory

async function open(file) {
  if (opened.file === file) return opened.picture;
  opened = { file: null, picture: null };
  const bytes = new Uint8Array(await file.arrayBuffer().catch(() => {
    throw new MedgeError('The browser can’t read this file any more. Choose it again.');
  }));
  if (!bytes.length) throw new MedgeError('This file is empty.');
  opened = { file, picture: isDicom(bytes) ? new DicomPicture(bytes) : new PlainPicture(bytes) };
  return opened.picture;
}

/** The original as a picture file: what the browser reads itself, or the DICOM frame as it is shown, without loss. */
async function addressOf(file, picture, image) {
  if (picture instanceof PlainPicture) return URL.createObjectURL(file);
  const canvas = document.createElement('canvas');
  paint(canvas, image);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve); });
  if (!blob) throw new MedgeError(`This browser has no room for a picture of ${image.width} × ${image.height} pixels.`);
  return URL.createObjectURL(blob);
}

/** Read a file, show it, and score what is shown. */
async function classify({ manifest, bank, calibration, model, facts }, { file, result, view }, onChange) {
  result.wait();
  const picture = await open(file);
  const shown = await picture.show(view);
  const side = manifest.model.image_size;
  const square = resize(shown.image, manifest.preprocessing.profile, side);
  result.takeForm(picture, onChange);
  result.showPictures(shown, await addressOf(file, picture, shown.image), square);
  const pixels = normalisePixels(square, manifest.preprocessing);
  const { embedding, milliseconds } = await model.ask({ pixels, side, tower: visionTower(manifest) }, [pixels.buffer]);
  const when = new Date().toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'short' }); // year, month, day
  result.showScores(judge(embedding, bank, calibration, manifest.model), milliseconds, `${facts} ${when}.`);
  return milliseconds;
}

function say(text, isError = false) {
  $('status').textContent = text;
  $('status').classList.toggle('error', isError);
}

function sentence(error) {
  console.error(error);
  return error instanceof MedgeError ? error.message : `Something went wrong: ${error.message ?? error}.`;
}

/** Takes files, one after another: a file that can't be read costs its own result and no other. */
class Desk {
  #loaded;
  #items = [];
  #last = Promise.resolve();

  constructor(loaded) { this.#loaded = loaded; }

  /** Show new files, [{ file, name }], in place of those before. */
  take(files) {
    if (!files.length) return;
    this.#items.forEach((item) => { item.result.close(); item.isClosed = true; });
    this.#items = files.map(({ file, name }) => ({ file, name, result: new Result($('result'), name), view: {} }));
    $('results').replaceChildren(...this.#items.map(({ result }) => result.element));
    $('print').hidden = this.#items.length < 2;
    this.#items.forEach((item) => this.#queue(item));
  }

  #queue(item) {
    if (item.isQueued) return;
    item.isQueued = true;
    this.#last = this.#last.then(async () => {
      item.isQueued = false;
      if (!item.isClosed) await this.#work(item);
    });
  }

  async #work(item) {
    const items = this.#items;
    const place = items.length > 1 ? `${items.indexOf(item) + 1} of ${items.length}: ` : '';
    say(`${place}Looking at ${item.name} …`);
    try {
      item.milliseconds = await classify(this.#loaded, item, (view) => { item.view = view; this.#queue(item); });
      item.problem = null;
    } catch (error) {
      item.problem = sentence(error);
      item.result.refuse(item.problem);
    }
    if (!item.isClosed && !items.some(({ isQueued }) => isQueued)) this.#conclude(items, item);
  }

  #conclude(items, { problem, milliseconds }) {
    const bad = items.filter((item) => item.problem).length;
    if (items.length > 1) say(`Done: ${items.length - bad} of ${items.length} files${bad ? `; ${bad} could not be read` : ''}.`, bad > 0);
    else if (problem) say(problem, true);
    else say(`Done in ${(milliseconds / 1000).toFixed(2)} s. Another image?`);
  }
}

function listen(desk) {
  $('file').addEventListener('change', ({ target }) => { desk.take(chosen(target.files)); target.value = ''; });
  for (const [type, over] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
    document.addEventListener(type, (event) => { // wherever: a drop that nobody takes makes the browser leave the page
      event.preventDefault();
      $('drop').classList.toggle('over', over);
      if (type === 'drop') dropped(event.dataTransfer).then((files) => desk.take(files)).catch((error) => say(sentence(error), true));
    });
  }
  $('print').addEventListener('click', () => window.print());
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
  listen(new Desk(loaded));
  say('Ready. Choose images.');
  keepOffline(loaded.manifest).catch((error) => console.warn('not kept for offline use:', error));
} catch (error) {
  $('progress').hidden = true;
  say(sentence(error), true);
}
