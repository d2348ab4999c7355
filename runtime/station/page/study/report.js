// The report: drafted by template, edited, signed, released, reopened, and printed.

import { ask, get, post } from '../app/api.js';
import { modelChoice } from '../app/ask.js';
import { button, choice, field, h, toast } from '../app/dom.js';
import { chip, confirmed, doing, provenance, trouble, why } from '../app/parts.js';
import { day, moment, named, person, t } from '../app/words.js';

// As runtime/assistants/radiology_report.py has them.
export const TEMPLATES = ['general', 'chest-xray', 'ct', 'fundus', 'dermatology', 'pathology'];

/** What goes onto paper. */
function paper(study, report, made) {
  const facts = [
    [t('patient'), person(study.patient.name)], [t('patient.id'), study.patient.id], [t('patient.born'), day(study.patient.birth_date)],
    [t('patient.sex'), study.patient.sex], [t('study.date'), day(study.date)], [t('study.what'), [study.modalities.join(', '), study.description].filter(Boolean).join(' · ')],
    [t('study.accession'), study.accession],
  ].filter(([, value]) => value);
  const isSigned = Boolean(report.signed_at);
  return h('article', { class: 'paper' }, h('h2', {}, t('tab.report')), h('dl', {}, ...facts.flatMap(([key, value]) => [h('dt', {}, key), h('dd', {}, value)])),
    h('div', { class: 'words' }, report.text),
    h('p', { class: 'signature' }, isSigned ? t('report.signed_by', { name: report.signed_by, when: moment(report.signed_at) }) : t('report.unsigned')),
    made && provenance(made), h('p', { class: 'notice' }, t('notice')), h('p', { class: 'uid' }, study.uid));
}

export function reportPanel(study, session) {
  const path = `/v1/studies/${encodeURIComponent(study.uid)}/report`;
  const text = h('textarea', { rows: 12, name: 'report', 'aria-label': t('report.text') });
  const state = h('div', { class: 'line' });
  const said = h('div', { role: 'status' });
  const tools = h('div', { class: 'actions' });
  const past = h('div');
  const print = h('div', { class: 'print' });
  const drafting = h('p', { class: 'hint', role: 'status' });
  let report = null;
  let detail = study;
  let models = null;

  const isDirty = () => report !== null && !text.readOnly && text.value !== report.text;
  const drafted = () => [...detail.results].reverse().find((one) => one.kind === 'report')?.content;

  async function load(options = {}) {
    try {
      models ??= await modelChoice();
      take(await get(path, options));
    } catch (error) {
      said.replaceChildren(trouble(error));
    }
  }

  /** Show a report; what a person has written and not saved stays. */
  function take(found, isForced = false) {
    const isKept = isDirty() && !isForced;
    if (isKept && found.version !== report.version) {
      said.replaceChildren(h('p', { class: 'error', role: 'alert' }, t('report.newer'), ' ', button(t('report.load'), () => take(found, true))));
      return;
    }
    const isNew = JSON.stringify(found) !== JSON.stringify(report);
    report = found;
    if (!isKept) text.value = found.text;
    if (isNew || isForced) said.replaceChildren();
    tell();
  }

  async function save() {
    if (!isDirty()) return true;
    try {
      const sent = text.value;
      const found = await ask('PUT', path, { body: { text: sent, version: report.version } });
      report = { ...found, text: sent };
      take(found, text.value === sent);
      return true;
    } catch (error) {
      if (error.status !== 409) throw error;
      const newest = await get(path);
      said.replaceChildren(h('p', { class: 'error', role: 'alert' }, why(error), ' ', button(t('report.load'), () => take(newest, true))));
      return false;
    }
  }

  async function step(name, body) {
    take(await post(`${path}/${name}`, body), true);
    toast(named('report', report.state));
    tools.querySelector('button')?.focus();
  }

  function sign() {
    const isPerson = Boolean(session?.must_log_in);
    const name = h('input', { name: 'signature', required: true, value: isPerson ? session.name : '', autocomplete: 'name' });
    name.readOnly = isPerson;
    const submit = async (event) => {
      event.preventDefault();
      try {
        if (await save()) await step('sign', { name: name.value, version: report.version });
        box.close();
      } catch (error) {
        problem.textContent = why(error);
      }
    };
    const problem = h('p', { class: 'error', role: 'alert' });
    const box = h('dialog', { 'aria-labelledby': 'sign-title', on: { close: () => box.remove() } }, h('form', { on: { submit } },
      h('h2', { id: 'sign-title' }, t('report.sign')), h('p', {}, t('report.sign.about')), field(t('report.name'), name), problem,
      h('p', { class: 'buttons' }, button(t('cancel'), () => box.close()), h('button', { class: 'first' }, t('report.sign')))));
    document.body.append(box);
    box.showModal();
    name.focus();
  }

  function draft() {
    const template = choice([['', t('template.auto')], ...TEMPLATES.map((one) => [one, t(`template.${one}`)])], '', () => {}, { name: 'template' });
    const clinical = h('input', { name: 'clinical', maxlength: 2000 });
    const go = doing(t('report.write'), async () => {
      if (text.value.trim() && !(await confirmed(t('report.write.sure'), t('report.write')))) return;
      const body = { kind: 'report', model: models.list.value || null, template: template.value || null, clinical: clinical.value };
      show({ ...detail, jobs: [await post(`/v1/studies/${encodeURIComponent(study.uid)}/jobs`, body), ...detail.jobs] });
    });
    const parts = [field(t('template'), template), field(t('report.clinical'), clinical), models?.list.options.length ? field(t('model'), models.list) : null];
    return h('details', { class: 'drafting', open: report.state === 'none' }, h('summary', {}, t('report.by_model')), ...parts.filter(Boolean), h('p', { class: 'buttons' }, go));
  }

  function tell() {
    const isSigned = Boolean(report.signed_at);
    const made = report.author === 'station' || report.model ? drafted() : null;
    text.readOnly = isSigned;
    const signed = isSigned && h('span', {}, t('report.signed_by', { name: report.signed_by, when: moment(report.signed_at) }));
    state.replaceChildren(...[chip('report', report.state), report.version > 0 && h('span', { class: 'hint' }, t('report.version', { n: report.version })), signed].filter(Boolean));
    const keep = doing(t('report.save'), async () => { if (await save()) toast(t('report.saved')); });
    const release = doing(t('report.release'), async () => {
      if (await confirmed(t('report.release.sure'), t('report.release'))) await step('release');
    }, { class: 'first' });
    const actions = {
      none: [keep], draft: [keep, button(t('report.sign'), sign, { class: 'first' })],
      signed: [doing(t('report.reopen'), () => step('reopen')), release], released: [doing(t('report.reopen'), () => step('reopen'))],
    }[report.state] ?? [];
    const paperButton = button(t('print'), () => { putOnPaper(); window.print(); });
    const buttons = h('p', { class: 'buttons' }, report.text && paperButton, ...actions);
    const maker = made && h('div', {}, h('p', { class: 'hint' }, t('report.drafted')), provenance(made));
    tools.replaceChildren(...[buttons, maker, !isSigned && draft()].filter(Boolean));
    past.replaceChildren(...(report.history.length ? [h('details', {}, h('summary', {}, t('report.history')),
      h('ol', { class: 'past' }, ...report.history.map((one) => h('li', {}, `${moment(one.at)} · ${one.who} · ${named('action', one.action)}`))))] : []));
  }

  function putOnPaper() {
    if (report) print.replaceChildren(paper(detail, { ...report, text: text.value }, report.model ? drafted() : null));
  }

  function show(found) {
    detail = found;
    const job = detail.jobs.find((one) => one.kind === 'report' && ['waiting', 'running', 'parked'].includes(one.state));
    const words = job && { waiting: t('report.waiting', { n: job.ahead }), running: `${t('report.drafting')} ${job.doing}`, parked: `${t('report.parked')} ${job.reason}` }[job.state];
    drafting.textContent = words ?? '';
    if (report !== null) load({ background: true });
  }

  const warn = (event) => { if (isDirty()) event.preventDefault(); };
  window.addEventListener('beforeunload', warn);
  window.addEventListener('beforeprint', putOnPaper);
  const node = h('div', { class: 'report' }, state, drafting, said, text, tools, past, print);
  return {
    node, load, show,
    leaves: async () => !isDirty() || confirmed(t('report.unsaved'), t('report.leave')),
    close: () => {
      window.removeEventListener('beforeunload', warn);
      window.removeEventListener('beforeprint', putOnPaper);
    },
  };
}
