// Files into the station: dropped, chosen, a folder, a zip, or a photo of the phone's camera.

import { ask } from './api.js';
import { button, field, h, toast } from './dom.js';
import { why } from './parts.js';
import { number, size, t } from './words.js';

const MOST_FILES = 40; // of one request
const MOST_BYTES = 32e6; // of one request, unless a file alone is larger

/** The files of what was dropped, those in folders too. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) return found.push(await new Promise((resolve, reject) => { entry.file(resolve, reject); }));
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
      if (!some.length) return null;
      for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

/** Portions that one request takes. */
function portions(files) {
  const made = [];
  let bytes = Infinity;
  for (const file of files) {
    if (bytes + file.size > MOST_BYTES || made.at(-1).length === MOST_FILES) {
      made.push([]);
      bytes = 0;
    }
    made.at(-1).push(file);
    bytes += file.size;
  }
  return made;
}

/** Send files; what became of each is shown in the dialog. */
async function sendAll(files, fields, progress) {
  const told = [];
  let left = 0;
  let done = 0;
  for (const some of portions(files)) {
    const form = new FormData();
    for (const [key, value] of Object.entries(fields)) if (value) form.append(key, value);
    for (const file of some) form.append('files', file, file.name);
    const found = await ask('POST', '/v1/studies', { form });
    told.push(...found.received);
    left += found.left_out ?? 0;
    done += some.length;
    progress(done / files.length);
  }
  return { told, left };
}

function openDialog(files, { study, sent }) {
  const name = h('input', { name: 'patient_name', autocomplete: 'off' });
  const id = h('input', { name: 'patient_id', autocomplete: 'off' });
  const bar = h('progress', { max: 1, value: 0, hidden: true, 'aria-label': t('upload.sending') });
  const said = h('div', { role: 'status' });
  const go = h('button', { class: 'first', value: 'send' }, t('upload.send'));
  const close = button(t('close'), () => box.close());
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const whose = study ? null : h('fieldset', {}, h('legend', {}, t('upload.whose')), field(t('upload.name'), name), field(t('upload.id'), id));
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    bar.hidden = false;
    try {
      const fields = { study, patient_name: name.value.trim(), patient_id: id.value.trim() };
      const { told, left } = await sendAll(files, fields, (share) => { bar.value = share; });
      const refused = told.filter((one) => one.error || one.differs);
      const taken = told.length - refused.length;
      sent(told);
      if (!refused.length && !left) {
        box.close();
        return toast(t('upload.taken', { n: number(taken) }));
      }
      said.replaceChildren(h('p', {}, t('upload.taken', { n: number(taken) })), left ? h('p', {}, t('upload.left', { n: number(left) })) : '',
        h('ul', { class: 'refused' }, ...refused.map((one) => h('li', {}, h('b', {}, one.name), ` ${one.error?.message ?? t('upload.differs')}`))));
      go.hidden = true;
      close.focus();
    } catch (error) {
      said.replaceChildren(h('p', { class: 'error', role: 'alert' }, why(error)));
      go.disabled = false;
    }
    bar.hidden = true;
  };
  const box = h('dialog', { class: 'upload', 'aria-labelledby': 'upload-title', on: { close: () => box.remove() } },
    h('form', { on: { submit } }, h('h2', { id: 'upload-title' }, t('upload')),
      h('p', {}, t('upload.files', { n: number(files.length), size: size(total) })), whose, bar, said, h('p', { class: 'buttons' }, close, go)));
  document.body.append(box);
  box.showModal();
  go.focus();
}

/** A place to drop files on, with buttons. `study`: where pictures go; `sent`: told when files have arrived. */
export function uploader({ study = null, sent, small = false }) {
  const take = (files) => files.length && openDialog(files, { study, sent });
  const chooser = (text, given) => {
    const input = h('input', {
      type: 'file', multiple: true, class: 'away', tabindex: '-1', 'aria-hidden': 'true', ...given,
      on: { change: () => { take([...input.files]); input.value = ''; } },
    });
    return [input, button(text, () => input.click())];
  };
  const folder = { webkitdirectory: true };
  const photo = { accept: 'image/*', capture: 'environment', multiple: false };
  const over = (on) => (event) => { event.preventDefault(); place.classList.toggle('over', on); };
  const place = h('section', {
    class: small ? 'drop small' : 'drop', 'aria-label': t('upload'),
    on: {
      dragover: over(true), dragleave: over(false),
      drop: async (event) => { over(false)(event); take(await filesOf(event.dataTransfer)); },
    },
  }, small ? null : h('p', {}, t('upload.drop')), h('div', { class: 'buttons' },
    ...chooser(t('upload.choose'), {}), ...(small ? [] : chooser(t('upload.folder'), folder)), ...chooser(t('upload.photo'), photo)));
  return place;
}
