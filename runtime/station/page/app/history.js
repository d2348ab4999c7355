// Who did what, when: the station's audit log.

import { get, query } from './api.js';
import { debounce, field, h } from './dom.js';
import { doing, trouble } from './parts.js';
import { moment, named, t } from './words.js';

const PAGE = 50;

const facts = (detail) => Object.entries(detail).map(([key, value]) => `${key}: ${typeof value === 'object' ? JSON.stringify(value) : value}`).join(', ');

function line(one) {
  const isStudy = /^\d+(\.\d+){2,}$/.test(one.what);
  return h('tr', {}, h('td', { class: 'nowrap' }, moment(one.at)), h('td', {}, one.who), h('td', {}, named('action', one.action)),
    h('td', { class: 'uid' }, isStudy ? h('a', { href: `#/study/${one.what}` }, one.what) : one.what), h('td', { class: 'uid' }, facts(one.detail)));
}

/** The entries about one thing, or all; `what` may be changed by `show`. */
export function log() {
  const body = h('tbody');
  const more = doing(t('history.older'), () => add(), { hidden: true });
  const said = h('div');
  const heads = ['when', 'who', 'action', 'what', 'detail'].map((key) => h('th', { scope: 'col' }, t(`history.${key}`)));
  const made = h('div', { class: 'log' }, h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('nav.history') },
    h('table', {}, h('thead', {}, h('tr', {}, ...heads)), body)), said, h('p', {}, more));
  let what = '';
  let last = 0;

  async function add(options = {}) {
    try {
      const { entries } = await get(query('/v1/audit', { what, before: last || null, limit: PAGE }), options);
      body.append(...entries.map(line));
      last = entries.at(-1)?.id ?? last;
      more.hidden = entries.length < PAGE;
      said.replaceChildren(...(body.rows.length ? [] : [h('p', { class: 'hint' }, t('history.none'))]));
    } catch (error) {
      said.replaceChildren(trouble(error));
    }
  }

  made.show = (wanted, options) => {
    what = wanted;
    last = 0;
    body.replaceChildren();
    return add(options);
  };
  return made;
}

export async function openHistory(main, [what = '']) {
  const made = log();
  const wanted = h('input', { type: 'search', value: what, name: 'what' });
  wanted.addEventListener('input', debounce(() => made.show(wanted.value.trim()), 250));
  main.replaceChildren(h('h1', {}, t('nav.history')), h('div', { class: 'filters' }, field(t('history.filter'), wanted, { class: 'field wide' })), made);
  await made.show(what);
  return {};
}
