// What the encoder says of the picture that is looked at, and where it looked.

import { button, h } from '../app/dom.js';
import { bar, chip, doing, provenance } from '../app/parts.js';
import { moment, number, t } from '../app/words.js';

/** The newest judgement of an instance, of its frame that is the nearest: {result, found}; null where it was not judged. */
export function judgementOf(detail, slide) {
  for (const result of [...detail.results].reverse().filter((one) => one.kind === 'classify')) {
    const all = result.content.instances.filter((one) => one.instance === slide?.uid);
    if (all.length) {
      const far = (one) => Math.abs((one.frame ?? 0) - (slide.frame ?? one.frame ?? 0));
      return { result, found: all.reduce((best, one) => (far(one) < far(best) ? one : best)) };
    }
  }
  return null;
}

/** The rows to show: each label with its probability and what is said of it, the likeliest first. */
export function rows(found, calibrated) {
  const said = new Map((found.decision?.findings ?? []).map((one) => [one.label, one]));
  return (found.labels ?? []).map(({ label, probability }) => {
    const finding = said.get(label);
    const says = finding?.says ?? 'not calibrated';
    return { label, probability: finding?.probability ?? probability, says: calibrated || finding ? says : 'not calibrated' };
  });
}

export function findings(pictures) {
  const node = h('div', { class: 'findings' });
  let shown = '';

  const where = (label) => doing(t('map.on'), () => pictures.overlay(label), { 'aria-label': t('map.of', { label }) });

  function table(found, calibrated) {
    const heads = ['label', 'probability', 'says', 'map'].map((key) => h('th', { scope: 'col' }, t(`findings.${key}`)));
    return h('table', { class: 'scores' }, h('thead', {}, h('tr', {}, ...heads)), h('tbody', {}, ...rows(found, calibrated).map((one) => h('tr', { class: one.says === 'present' ? 'present' : null },
      h('th', { scope: 'row' }, one.label), h('td', {}, bar(one.probability)), h('td', {}, chip('says', one.says)), h('td', {}, where(one.label))))));
  }

  function judged(detail) {
    const here = new Set((pictures.series?.instances ?? []).map((one) => one.uid));
    const results = detail.results.filter((one) => one.kind === 'classify');
    const all = results.flatMap((one) => one.content.instances).filter((one) => here.has(one.instance));
    if (all.length < 2) return null;
    return h('details', {}, h('summary', {}, t('findings.judged', { n: number(all.length) })),
      h('ul', { class: 'judged' }, ...all.map((one, place) => h('li', {}, button(
        one.error ? t('findings.unread') : `${number(place + 1)}: ${one.labels?.[0]?.label ?? '–'}`, () => pictures.find(one.instance, one.frame))))));
  }

  function show(detail) {
    const judgement = judgementOf(detail, pictures.current);
    const key = JSON.stringify([pictures.current, judgement, detail.state, detail.results.length]);
    if (key === shown) return;
    shown = key;
    if (!judgement) {
      const isComing = ['new', 'waiting', 'running'].includes(detail.state);
      node.replaceChildren(h('p', { class: 'hint' }, t(isComing ? 'findings.coming' : 'findings.none')), ...[judged(detail)].filter(Boolean));
      return;
    }
    const { result, found } = judgement;
    const { content } = result;
    const isOther = pictures.current.frame !== null && found.frame !== pictures.current.frame;
    const parts = [
      found.decision?.unlike && h('p', { class: 'unlike', role: 'note' }, t('findings.unlike')),
      !content.calibrated && h('p', { class: 'hint' }, t('findings.uncalibrated')),
      isOther && h('p', { class: 'hint' }, t('findings.nearest', { n: number(found.frame + 1) })),
      found.error && h('p', { class: 'error' }, found.error),
      !found.error && (found.labels?.length ? table(found, content.calibrated) : h('p', { class: 'hint' }, content.note || t('findings.no_labels'))),
      found.decision?.likely?.length && h('p', {}, t('findings.likely', { labels: found.decision.likely.join(', ') })),
      judged(detail), provenance(content), h('p', { class: 'hint' }, moment(result.created)),
    ];
    node.replaceChildren(...parts.filter(Boolean));
  }

  return { node, show };
}
