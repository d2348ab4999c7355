// The page put together: its header, who is here, and which view is shown.

import { ask, get, post, setSession } from './api.js';
import { openAsk } from './ask.js';
import { button, choice, debounce, field, h } from './dom.js';
import { openHistory } from './history.js';
import { follow } from './live.js';
import { trouble, trying, why } from './parts.js';
import { openRecord } from './record.js';
import { LANGUAGES, choose, language, load, t } from './words.js';
import { openWorklist } from './worklist.js';
import { openStudy } from '../study/study.js';

const VIEWS = { '': openWorklist, study: openStudy, ask: openAsk, record: openRecord, history: openHistory };
const NAVIGATION = [['', 'nav.worklist'], ['ask', 'nav.ask'], ['record', 'nav.record'], ['history', 'nav.history']];
const THEME = 'medge-theme';
const main = document.getElementById('main');
let shown = null;
let session = null;

function paint(theme) {
  localStorage.setItem(THEME, theme);
  document.documentElement.style.colorScheme = { light: 'light', dark: 'dark' }[theme] ?? 'light dark';
}

function header() {
  const links = NAVIGATION.map(([name, key]) => h('a', { href: `#/${name}`, 'data-view': name }, t(key)));
  const themes = ['auto', 'light', 'dark'].map((name) => [name, t(`theme.${name}`)]);
  document.getElementById('skip').textContent = t('skip');
  document.getElementById('notice').textContent = t('notice');
  document.getElementById('top').replaceChildren(
    h('a', { class: 'brand', href: '#/' }, h('img', { src: '/page/icon.svg', alt: '', width: 28, height: 28 }), h('span', {}, t('brand'))),
    h('nav', { 'aria-label': t('nav') }, ...links),
    h('span', { id: 'live', class: 'live', role: 'status' }),
    h('details', { class: 'menu' }, h('summary', { 'aria-label': t('settings') }, '⋯'), h('div', { class: 'drawer' },
      field(t('language'), choice(Object.entries(LANGUAGES), language, choose, { id: 'language' })),
      field(t('theme'), choice(themes, localStorage.getItem(THEME) ?? 'auto', paint, { id: 'theme' })),
      h('p', { id: 'who' }), h('p', {}, h('a', { href: '/docs' }, t('api'))))),
  );
}

function tellWho() {
  const place = document.getElementById('who');
  if (!session?.must_log_in) return place.replaceChildren();
  place.replaceChildren(t('who', session), ' ', button(t('logout'), () => trying(async () => {
    await ask('DELETE', '/v1/session');
    location.reload();
  })));
}

function login() {
  shown?.close?.();
  shown = null;
  if (document.getElementById('login')) return;
  const name = h('input', { name: 'name', autocomplete: 'username', required: true });
  const password = h('input', { name: 'password', type: 'password', autocomplete: 'current-password', required: true });
  const said = h('p', { class: 'error', role: 'alert' });
  const enter = async (event) => {
    event.preventDefault();
    try {
      setSession(await post('/v1/session', { name: name.value, password: password.value }));
      location.reload();
    } catch (error) {
      said.textContent = why(error);
      password.value = '';
      password.focus();
    }
  };
  document.title = `${t('login')} · ${t('brand')}`;
  main.replaceChildren(h('form', { id: 'login', class: 'card narrow', on: { submit: enter } }, h('h1', {}, t('login')),
    field(t('login.name'), name), field(t('login.password'), password), said, h('button', { class: 'first' }, t('login'))));
  name.focus();
}

async function route() {
  const [, name = '', ...rest] = location.hash.split('/').map(decodeURIComponent);
  if (shown?.stays?.(name, rest)) return;
  if (shown?.leaves && !(await shown.leaves())) return history.back();
  shown?.close?.();
  for (const link of document.querySelectorAll('[data-view]')) {
    const here = link.dataset.view === (name === 'study' ? '' : name);
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.replaceChildren(h('p', { class: 'hint' }, t('loading')));
  try {
    shown = await (VIEWS[name] ?? openWorklist)(main, rest, session);
  } catch (error) {
    if (error.status === 401) return login();
    main.replaceChildren(trouble(error));
  }
  const head = main.querySelector('h1');
  document.title = head ? `${head.textContent} · ${t('brand')}` : t('brand');
  head?.setAttribute('tabindex', '-1');
  head?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function begin() {
  await load();
  paint(localStorage.getItem(THEME) ?? 'auto');
  header();
  document.addEventListener('medge-login', login);
  try {
    session = await get('/v1/session');
    setSession(session);
  } catch (error) {
    if (error.status === 401) return login();
  }
  tellWho();
  const refresh = debounce((changes) => shown?.refresh?.(changes), 300);
  const live = document.getElementById('live');
  follow(refresh, (state) => {
    live.dataset.state = state;
    live.textContent = state === 'none' ? '' : t(`live.${state}`);
  });
  window.addEventListener('hashchange', route);
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault(); // its address would name a view
    main.focus();
  });
  document.addEventListener('click', ({ target }) => {
    const menu = document.querySelector('.menu[open]');
    if (menu && !menu.contains(target)) menu.open = false;
  });
  await route();
}

begin();
