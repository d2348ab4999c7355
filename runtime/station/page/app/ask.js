// Questions for a language model: the answer comes word by word and can be stopped.

import { dataUrl, eventsOf, get, send } from './api.js';
import { button, choice, field, h } from './dom.js';
import { provenance, trouble } from './parts.js';
import { named, t } from './words.js';

const MOST_TOKENS = 700;

/** The station's language models, and a list to choose one from. */
export async function modelChoice() {
  const { data } = await get('/v1/models');
  const models = data.filter((one) => one.kind === 'generator');
  const text = ({ id, recipes, parity }) => `${id} (${Object.values(recipes).join(', ')}; ${named('parity', parity)})`;
  const list = choice(models.map((one) => [one.id, text(one)]), models[0]?.id, () => {}, { name: 'model' });
  return { list, chosen: () => models.find((one) => one.id === list.value) };
}

/**
 * A conversation.
 * @param picture gives {url, note} of the picture that goes with a question, or null
 */
export async function conversation({ picture, pictureText }) {
  const { list, chosen } = await modelChoice();
  if (!list.options.length) return h('p', { class: 'hint' }, t('ask.no_model'));
  const turns = [];
  const log = h('div', { class: 'talk', role: 'log', 'aria-label': t('ask.talk'), tabindex: '0' });
  const question = h('textarea', { rows: 3, name: 'question', required: true });
  const withPicture = h('input', { type: 'checkbox', name: 'with-picture', checked: true });
  const go = h('button', { class: 'first' }, t('ask.go'));
  const stop = button(t('ask.stop'), () => running?.abort(), { hidden: true, class: 'stop' });
  const place = h('p', { class: 'hint', role: 'status' });
  let running = null;

  function bubble(who, text, note) {
    const words = h('div', { class: 'words' }, text);
    const made = h('div', { class: `bubble ${who}` }, words, note && h('small', {}, note));
    log.append(made);
    log.scrollTop = log.scrollHeight;
    return { made, words };
  }

  async function answer(model, made, words) {
    const body = { model: model.id, messages: turns, stream: true, max_tokens: MOST_TOKENS };
    const response = await send('POST', '/v1/chat/completions', { body, signal: running.signal });
    let text = '';
    let ending = null;
    place.textContent = t('ask.thinking');
    for await (const { comment, data } of eventsOf(response)) {
      const waits = /^place (\d+), about (\d+) s/.exec(comment ?? '');
      if (waits) place.textContent = t('ask.place', { n: waits[1], seconds: waits[2] });
      if (!data || data === '[DONE]') continue;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      const [part] = found.choices ?? [];
      if (part?.delta?.content) {
        place.textContent = t('ask.writing');
        text += part.delta.content;
        words.textContent = text;
        log.scrollTop = log.scrollHeight;
      }
      ending = part?.finish_reason ?? ending;
    }
    if (ending === 'length') made.append(h('small', {}, t('ask.cut')));
    return text;
  }

  async function submit(event) {
    event.preventDefault();
    const text = question.value.trim();
    if (!text || running) return;
    const model = chosen();
    running = new AbortController();
    go.hidden = true;
    stop.hidden = false;
    place.textContent = t('ask.sending');
    const before = turns.length;
    let made = null;
    try {
      const shown = withPicture.checked ? await picture() : null;
      const parts = [{ type: 'text', text }, ...(shown ? [{ type: 'image_url', image_url: { url: shown.url } }] : [])];
      turns.push({ role: 'user', content: parts });
      bubble('me', text, shown?.note);
      question.value = '';
      withPicture.checked = false; // the picture is part of the conversation by now
      made = bubble('it', '');
      const said = await answer(model, made.made, made.words);
      turns.push({ role: 'assistant', content: said });
    } catch (error) {
      if (error.name === 'AbortError') {
        made?.made.append(h('small', {}, t('ask.stopped')));
        turns.push({ role: 'assistant', content: made?.words.textContent || '…' });
      } else {
        turns.length = before;
        (made?.made ?? log).append(trouble(error));
        question.value ||= text;
        withPicture.checked = true;
      }
    }
    if (made?.words.textContent) made.made.append(provenance({ ...model, model: model.id }));
    running = null;
    go.hidden = false;
    stop.hidden = true;
    place.textContent = '';
    question.focus();
  }

  const anew = button(t('ask.anew'), () => {
    running?.abort();
    turns.length = 0;
    log.replaceChildren();
    withPicture.checked = true;
    question.focus();
  });
  question.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) form.requestSubmit();
    else return;
    event.preventDefault();
  });
  const form = h('form', { class: 'question', on: { submit } }, field(t('ask.question'), question),
    h('label', { class: 'check' }, withPicture, h('span', {}, pictureText)), field(t('model'), list),
    h('p', { class: 'buttons' }, anew, stop, go));
  const made = h('div', { class: 'conversation' }, log, place, form);
  made.pictureChanged = () => { withPicture.checked = true; };
  made.end = () => running?.abort();
  return made;
}

export async function openAsk(main) {
  const file = h('input', { type: 'file', name: 'picture' });
  const picture = async () => {
    const [one] = file.files;
    if (!one) return null;
    const type = /^image\//.test(one.type) ? one.type : 'application/dicom';
    return { url: await dataUrl(one, type), note: one.name };
  };
  const talk = await conversation({ picture, pictureText: t('ask.send_file') });
  file.addEventListener('change', () => talk.pictureChanged?.());
  main.replaceChildren(h('h1', {}, t('nav.ask')), h('div', { class: 'card reading' }, field(t('ask.file'), file), talk));
  return { close: () => talk.end?.() };
}
