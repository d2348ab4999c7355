// The work on a study: what waits, runs, was parked and why, and what a person can do about it.

import { ask, post } from '../app/api.js';
import { h, toast } from '../app/dom.js';
import { chip, confirmed, doing } from '../app/parts.js';
import { moment, named, number, t } from '../app/words.js';

export function workPanel(study, changed, session) {
  const list = h('ul', { class: 'jobs' });
  const act = (text, id, action) => doing(text, async () => {
    await post(`/v1/jobs/${id}/${action}`, {});
    await changed();
  });

  function job(one) {
    const isOpen = one.state === 'waiting' || one.state === 'running';
    const progress = one.state === 'running' && h('progress', { max: one.steps || 1, 'aria-label': named('job', one.kind), ...(one.steps ? { value: one.done } : {}) });
    const facts = [
      one.state === 'waiting' && one.ahead > 0 && t('work.ahead', { n: number(one.ahead) }),
      one.state === 'running' && one.steps > 0 && t('work.steps', { doing: one.doing, n: number(one.done), of: number(one.steps) }),
      one.failures > 0 && t('work.failures', { n: number(one.failures) }), moment(one.ended ?? one.created),
    ].filter(Boolean).join(' · ');
    return h('li', { class: 'card' }, h('div', { class: 'line' }, h('b', {}, named('job', one.kind)), chip('work', one.state)), progress,
      one.reason && h('p', { class: 'reason' }, one.reason), h('p', { class: 'hint' }, facts),
      h('p', { class: 'buttons' }, isOpen && act(t('cancel'), one.id, 'cancel'),
        (one.state === 'parked' || one.state === 'cancelled') && act(t('work.retry'), one.id, 'retry')));
  }

  const remove = doing(t('work.remove'), async () => {
    if (!(await confirmed(t('work.remove.sure'), t('work.remove')))) return;
    await ask('DELETE', `/v1/studies/${encodeURIComponent(study.uid)}`);
    toast(t('work.removed'));
    location.hash = '#/';
  }, { class: 'danger' });
  const again = doing(t('work.again'), async () => {
    await post(`/v1/studies/${encodeURIComponent(study.uid)}/jobs`, { kind: 'classify' });
    await changed();
  });
  const isAdmin = !session || session.role === 'admin';
  const node = h('div', {}, h('p', { class: 'buttons' }, again, isAdmin && remove), list);
  let shown = '';
  const show = (detail) => {
    const text = JSON.stringify(detail.jobs);
    if (text === shown) return;
    shown = text;
    list.replaceChildren(...(detail.jobs.length ? detail.jobs.map(job) : [h('li', { class: 'hint' }, t('work.none'))]));
  };
  return { node, show };
}
