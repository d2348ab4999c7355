// The worklist: studies with a picture each, found by state, modality, day and text.

import { get, pictureOf, query } from './api.js';
import { button, choice, debounce, field, h } from './dom.js';
import { chip, thumbnail, trouble } from './parts.js';
import { uploader } from './upload.js';
import { day, moment, named, number, person, t } from './words.js';

const PAGE = 25;
const STATES = ['', 'new', 'waiting', 'running', 'done', 'needs a look'];
const MODALITIES = ['', 'CR', 'CT', 'DX', 'MG', 'MR', 'NM', 'OP', 'PT', 'SM', 'US', 'XA', 'XC', 'OT'];
const KEPT = 'medge-worklist';

const kept = () => JSON.parse(sessionStorage.getItem(KEPT) ?? '{}');
const dicomDay = (text) => text.replaceAll('-', '');

function row(one) {
  const name = person(one.patient.name);
  const facts = [one.patient.id, one.patient.birth_date && day(one.patient.birth_date), one.patient.sex].filter(Boolean).join(' · ');
  return h('li', {}, h('a', { class: 'row', href: `#/study/${one.uid}` },
    one.picture ? thumbnail(pictureOf(one.picture, { side: 128 })) : h('span', { class: 'thumb' }),
    h('span', { class: 'name' }, h('b', {}, name), h('small', {}, facts)),
    h('span', { class: 'what' }, h('span', {}, one.modalities.join(', ') || '–'),
      h('small', {}, [one.description, t('objects', { n: number(one.instances) })].filter(Boolean).join(' · '))),
    h('span', { class: 'when' }, h('span', {}, day(one.date) || moment(one.received)), h('small', {}, one.accession)),
    h('span', { class: 'states' }, chip('state', one.state), one.report !== 'none' && chip('report', one.report))));
}

export async function openWorklist(main) {
  const wanted = { text: '', state: '', modality: '', since: '', until: '', offset: 0, ...kept() };
  const list = h('ul', { class: 'worklist' });
  const count = h('p', { class: 'hint', role: 'status' });
  const before = button(t('page.before'), () => turn(-PAGE));
  const after = button(t('page.after'), () => turn(PAGE));
  let asked = 0;

  async function show(options = {}) {
    const mine = ++asked;
    sessionStorage.setItem(KEPT, JSON.stringify(wanted));
    const given = { ...wanted, since: dicomDay(wanted.since), until: dicomDay(wanted.until), limit: PAGE };
    try {
      const { studies, more } = await get(query('/v1/studies', given), options);
      if (mine !== asked) return;
      const focused = document.activeElement?.closest?.('.row')?.getAttribute('href');
      const text = JSON.stringify(studies);
      if (list.dataset.shown !== text) {
        list.dataset.shown = text;
        list.replaceChildren(...studies.map(row));
        if (focused) list.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
      }
      const isFiltered = Object.entries(wanted).some(([key, value]) => key !== 'offset' && value);
      count.textContent = studies.length ? t('page.range', { from: number(wanted.offset + 1), to: number(wanted.offset + studies.length) })
        : t(isFiltered || wanted.offset ? 'worklist.none' : 'worklist.empty');
      before.disabled = wanted.offset === 0;
      after.disabled = !more;
      before.hidden = after.hidden = !more && wanted.offset === 0;
    } catch (error) {
      if (mine !== asked) return;
      if (error.code === 'no_store') {
        main.querySelector('.filters').hidden = true;
        send.hidden = true;
      }
      count.replaceChildren(trouble(error));
    }
  }

  function turn(by) {
    wanted.offset = Math.max(0, wanted.offset + by);
    return show().then(() => window.scrollTo(0, 0));
  }

  const change = (key) => (value) => {
    wanted[key] = value;
    wanted.offset = 0;
    return show();
  };
  const input = (key, type, wait) => {
    const made = h('input', { type, value: wanted[key], name: key });
    made.addEventListener('input', debounce(() => change(key)(made.value), wait));
    return made;
  };
  const states = STATES.map((one) => [one, one ? named('state', one) : t('all')]);
  const modalities = MODALITIES.map((one) => [one, one || t('all')]);
  const send = uploader({ sent: () => show() });
  main.replaceChildren(
    h('div', { class: 'title' }, h('h1', {}, t('nav.worklist'))),
    send,
    h('form', { class: 'filters', role: 'search', on: { submit: (event) => event.preventDefault() } },
      field(t('search'), input('text', 'search', 250), { class: 'field wide' }),
      field(t('state'), choice(states, wanted.state, change('state'), { name: 'state' })),
      field(t('modality'), choice(modalities, wanted.modality, change('modality'), { name: 'modality' })),
      field(t('since'), input('since', 'date', 100)), field(t('until'), input('until', 'date', 100))),
    list, h('div', { class: 'pager' }, before, count, after));
  await show();
  return { refresh: () => show({ background: true }) };
}
