// Questions over a patient's record (FHIR R4): the answer, and the resources that it rests on.

import { post } from './api.js';
import { modelChoice } from './ask.js';
import { field, h } from './dom.js';
import { provenance, trouble } from './parts.js';
import { number, t } from './words.js';

/** The resources of a bundle by reference, such as "Observation/12". */
function byReference(bundle) {
  const found = new Map();
  for (const { resource } of bundle.entry ?? []) {
    if (resource?.resourceType && resource.id) found.set(`${resource.resourceType}/${resource.id}`, resource);
  }
  return found;
}

const coded = (value) => value?.text ?? value?.coding?.[0]?.display ?? value?.coding?.[0]?.code;

/** What a resource is about, in one line. */
function inShort(resource) {
  const what = coded(resource.code) ?? coded(resource.medicationCodeableConcept) ?? coded(resource.vaccineCode) ?? coded(resource.type?.[0] ?? resource.type);
  const amount = resource.valueQuantity ? `${resource.valueQuantity.value} ${resource.valueQuantity.unit ?? ''}` : coded(resource.valueCodeableConcept) ?? resource.valueString;
  const when = resource.effectiveDateTime ?? resource.onsetDateTime ?? resource.authoredOn ?? resource.recordedDate ?? resource.performedDateTime ?? resource.period?.start;
  return [what, amount, when?.slice(0, 10)].filter(Boolean).join(' · ');
}

function source(reference, resource) {
  if (!resource) return h('li', {}, h('b', {}, reference));
  return h('li', {}, h('details', {}, h('summary', {}, h('b', {}, reference), ` ${inShort(resource)}`),
    h('pre', { tabindex: '0', 'aria-label': reference }, JSON.stringify(resource, null, 2))));
}

export async function openRecord(main) {
  const { list } = await modelChoice();
  const file = h('input', { type: 'file', accept: '.json,application/json,application/fhir+json', name: 'bundle', required: true });
  const question = h('textarea', { rows: 2, name: 'question', required: true });
  const facts = h('p', { class: 'hint', role: 'status' });
  const answers = h('div', { 'aria-live': 'polite' });
  const go = h('button', { class: 'first' }, t('ask.go'));
  let bundle = null;

  file.addEventListener('change', async () => {
    bundle = null;
    if (!file.files[0]) return;
    try {
      const read = JSON.parse(await file.files[0].text());
      if (read?.resourceType !== 'Bundle') throw new Error('no bundle');
      bundle = read;
      facts.textContent = t('record.holds', { n: number(bundle.entry?.length ?? 0) });
    } catch {
      facts.textContent = t('record.no_bundle');
    }
  });

  async function submit(event) {
    event.preventDefault();
    if (!bundle) {
      facts.textContent = t('record.no_bundle');
      return;
    }
    go.disabled = true;
    facts.textContent = t('ask.thinking');
    const asked = question.value.trim();
    try {
      const found = await post('/v1/record', { bundle, question: asked, model: list.value || null });
      const known = byReference(bundle);
      answers.prepend(h('article', { class: 'card' }, h('h2', {}, asked), h('p', { class: 'words' }, found.answer),
        found.sources.length ? h('ul', { class: 'sources', 'aria-label': t('record.sources') }, ...found.sources.map((one) => source(one, known.get(one))))
          : h('p', { class: 'hint' }, t('record.no_sources')),
        h('p', { class: 'hint' }, t('record.shown', { shown: number(found.shown), of: number(found.of) }), ' ', found.note),
        !found.complete && h('p', { class: 'hint' }, t('ask.cut')), provenance(found)));
      facts.textContent = '';
      question.value = '';
    } catch (error) {
      facts.replaceChildren(trouble(error));
    }
    go.disabled = false;
  }

  main.replaceChildren(h('h1', {}, t('nav.record')), h('form', { class: 'card reading', on: { submit } },
    h('p', { class: 'hint' }, t('record.about')), field(t('record.file'), file), field(t('ask.question'), question),
    list.options.length ? field(t('model'), list) : h('p', { class: 'hint' }, t('ask.no_model')), facts, h('p', { class: 'buttons' }, go)),
  h('div', { class: 'reading' }, answers));
  return {};
}
