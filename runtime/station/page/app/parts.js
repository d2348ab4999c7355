// Pieces that several views share.

import { button, h, toast } from './dom.js';
import { named, percent, t } from './words.js';

/** A chip for a state: of a study, a job, a report, or of what is said of a label. */
export const chip = (group, value) => h('span', { class: `chip ${group}-${value.replaceAll(' ', '-')}` }, named(group, value));

/** Which bundle made a result, by which recipe, and what its parity measurement said. */
export function provenance({ model, recipes, parity }) {
  const how = Object.entries(recipes ?? {}).map(([part, recipe]) => `${part} ${recipe}`).join(', ');
  return h('p', { class: 'provenance' },
    h('span', {}, `${t('made.bundle')} `, h('b', {}, model)), how && h('span', {}, `${t('made.recipe')} `, h('b', {}, how)),
    h('span', {}, `${t('made.parity')} `, h('b', { class: `parity-${(parity ?? '').replaceAll(' ', '-')}` }, named('parity', parity ?? 'none'))));
}

/** What went wrong, in a person's words first. */
export function why(error) {
  if (error.code === 'unreachable') return t('error.unreachable');
  if (error.status === 403) return `${t('error.not_allowed')} ${error.message}`;
  return error.message;
}

/** A paragraph that says what went wrong. */
export const trouble = (error) => h('p', { class: 'error', role: 'alert' }, why(error));

/** Do work; what goes wrong is said, and null is what comes of it. */
export async function trying(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== 'AbortError') toast(why(error), true);
    return null;
  }
}

/** A button that cannot be pressed again before its work is done. */
export function doing(text, work, given = {}) {
  const made = button(text, async () => {
    made.disabled = true;
    await trying(work);
    made.disabled = false;
  }, given);
  return made;
}

/** A probability as a bar and a number. */
export function bar(value) {
  const inner = h('span', { class: 'inner' });
  inner.style.width = `${Math.round(100 * Math.min(Math.max(value, 0), 1))}%`;
  return h('span', { class: 'bar' }, h('span', { class: 'track', 'aria-hidden': 'true' }, inner), h('span', { class: 'number' }, percent(value)));
}

/** A picture in a box; what is behind a broken one is not shown. */
export function thumbnail(address, name = '') {
  const image = h('img', { src: address, alt: name, loading: 'lazy', decoding: 'async' });
  image.addEventListener('error', () => { image.hidden = true; });
  return h('span', { class: 'thumb' }, image);
}

/** Whether to go on; the dialog has the focus until it is answered. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const box = h('dialog', { 'aria-label': question, on: { close: () => { resolve(box.returnValue === 'yes'); box.remove(); } } },
      h('form', { method: 'dialog' }, h('p', {}, question),
        h('p', { class: 'buttons' }, h('button', { value: 'no' }, t('cancel')), h('button', { value: 'yes', class: 'danger' }, yes))));
    document.body.append(box);
    box.showModal();
  });
}
