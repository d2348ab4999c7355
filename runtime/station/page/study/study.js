// One study: its pictures beside what was found, the report, questions, similar cases, the work on it, and its history.

import { conversation } from '../app/ask.js';
import { dataUrl, get, pictureOf } from '../app/api.js';
import { h } from '../app/dom.js';
import { log } from '../app/history.js';
import { chip, thumbnail } from '../app/parts.js';
import { uploader } from '../app/upload.js';
import { day, number, person, t } from '../app/words.js';
import { findings } from './findings.js';
import { Pictures } from './pictures.js';
import { reportPanel } from './report.js';
import { similar } from './similar.js';
import { workPanel } from './work.js';

const TABS = ['findings', 'report', 'ask', 'similar', 'work', 'history'];

/** Tabs as WAI-ARIA describes them: the arrows choose, and Tab goes on to the panel. */
function tabs(names, chosen) {
  const panels = Object.fromEntries(names.map((name) => [name,
    h('div', { role: 'tabpanel', id: `panel-${name}`, 'aria-labelledby': `tab-${name}`, tabindex: '0', hidden: true })]));
  const heads = names.map((name) => h('button', {
    type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': `panel-${name}`, on: { click: () => choose(name) },
  }, t(`tab.${name}`)));
  const list = h('div', { role: 'tablist', 'aria-label': t('tab'), class: 'tabs' }, ...heads);
  list.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = names[(heads.indexOf(document.activeElement) + by + names.length) % names.length];
    event.preventDefault();
    choose(next);
    heads[names.indexOf(next)].focus();
  });
  const choose = (name) => {
    names.forEach((one, place) => {
      panels[one].hidden = one !== name;
      heads[place].setAttribute('aria-selected', String(one === name));
      heads[place].tabIndex = one === name ? 0 : -1;
    });
    chosen(name);
  };
  return { node: h('section', { class: 'panel' }, list, ...Object.values(panels)), panels, choose };
}

function seriesList(detail, chosen) {
  const made = h('ul', { class: 'series', 'aria-label': t('series') });
  const show = (all, current) => made.replaceChildren(...all.map((one) => {
    const middle = one.instances[Math.floor(one.instances.length / 2)];
    const count = one.instances.reduce((sum, each) => sum + Math.max(1, each.frames), 0);
    const name = [one.modality, one.description || one.body_part].filter(Boolean).join(' ');
    return h('li', {}, h('button', { type: 'button', 'aria-pressed': String(one.uid === current), on: { click: () => chosen(one) } },
      middle ? thumbnail(pictureOf(middle.uid, { side: 128 })) : null, h('span', {}, name || t('series.one')), h('small', {}, t('pictures', { n: number(count) }))));
  }));
  return { made, show };
}

export async function openStudy(main, [uid, wanted], session) {
  const path = `/v1/studies/${encodeURIComponent(uid)}`;
  let detail = await get(path);
  let tab = null;
  let series = detail.series.find((one) => one.instances.some((each) => each.uid === detail.picture)) ?? detail.series[0] ?? null;
  const opened = new Set();
  const pictures = new Pictures(() => tell());
  const panelOf = {
    findings: findings(pictures), report: reportPanel(detail, session), similar: similar(pictures),
    work: workPanel(detail, () => look(), session), history: log(),
  };
  const { node, panels, choose } = tabs(TABS, open);
  for (const [name, panel] of Object.entries(panelOf)) panels[name].append(panel.node ?? panel);
  const list = seriesList(detail, (one) => showSeries(one));
  const facts = h('div', { class: 'facts' });
  let talk = null;

  function tellFacts() {
    const { patient } = detail;
    const about = [patient.id, patient.birth_date && day(patient.birth_date), patient.sex].filter(Boolean).join(' · ');
    const what = [detail.modalities.join(', '), detail.description, day(detail.date)].filter(Boolean).join(' · ');
    facts.replaceChildren(h('h1', { tabindex: '-1' }, person(patient.name)), h('p', {}, about), h('p', {}, what),
      h('p', { class: 'states' }, chip('state', detail.state), detail.report !== 'none' && chip('report', detail.report)));
  }

  function showSeries(one) {
    series = one;
    pictures.show(one);
    list.show(detail.series, one?.uid);
  }

  /** Tell the panels which picture is looked at. */
  function tell() {
    panelOf.findings.show(detail);
    panelOf.similar.show(opened.has('similar') && tab === 'similar');
    talk?.pictureChanged?.();
  }

  async function open(name) {
    tab = name;
    history.replaceState(null, '', `#/study/${uid}/${name}`);
    if (name === 'similar') panelOf.similar.show(true);
    if (name === 'history') await panelOf.history.show(uid);
    if (opened.has(name)) return;
    opened.add(name);
    if (name === 'report') await panelOf.report.load();
    if (name === 'ask') {
      talk = await conversation({
        pictureText: t('ask.send_picture'),
        picture: async () => {
          const blob = await pictures.blob();
          return blob && { url: await dataUrl(blob, 'image/png'), note: pictures.caption };
        },
      });
      panels.ask.replaceChildren(talk);
    }
  }

  /** Look again at what may have changed, without moving what a person looks at. */
  async function look(options = {}) {
    const old = JSON.stringify([detail.series, detail.results]);
    try {
      detail = await get(path, options);
    } catch (error) {
      if (error.status === 404) location.hash = '#/';
      return;
    }
    tellFacts();
    panelOf.work.show(detail);
    panelOf.report.show(detail);
    if (JSON.stringify([detail.series, detail.results]) === old) return;
    const now = detail.series.find((one) => one.uid === series?.uid) ?? detail.series[0] ?? null;
    if (JSON.stringify(now) !== JSON.stringify(series)) pictures.renew(now);
    series = now;
    list.show(detail.series, now?.uid);
    panelOf.findings.show(detail);
  }

  const add = uploader({ study: uid, sent: () => look(), small: true });
  main.replaceChildren(h('div', { class: 'study' },
    h('div', { class: 'head' }, h('a', { href: '#/', class: 'back' }, `‹ ${t('nav.worklist')}`), facts, add),
    h('div', { class: 'stage' }, list.made, pictures.node, node)));
  tellFacts();
  panelOf.work.show(detail);
  panelOf.report.show(detail);
  showSeries(series);
  choose(TABS.includes(wanted) ? wanted : 'findings');
  return {
    refresh: () => look({ background: true }),
    stays: (name, [other, next]) => {
      if (name !== 'study' || other !== uid) return false;
      if (TABS.includes(next) && next !== tab) choose(next);
      return true;
    },
    leaves: () => panelOf.report.leaves(),
    close: () => {
      talk?.end?.();
      panelOf.report.close();
      pictures.close();
    },
  };
}
