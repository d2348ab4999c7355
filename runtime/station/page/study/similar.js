// Cases of this clinic that are like the picture that is looked at, or that fit a text.

import { pictureOf, post } from '../app/api.js';
import { field, h } from '../app/dom.js';
import { thumbnail, trouble } from '../app/parts.js';
import { percent, t } from '../app/words.js';

const COUNT = 12;

export function similar(pictures) {
  const list = h('ul', { class: 'similar' });
  const said = h('p', { class: 'hint', role: 'status' });
  const text = h('input', { type: 'search', name: 'similar-text' });
  let shown = null;

  async function find(asked) {
    said.textContent = t('loading');
    const mine = shown = JSON.stringify(asked);
    try {
      const { found } = await post('/v1/search', { ...asked, count: COUNT });
      if (mine !== shown) return;
      said.textContent = found.length ? '' : t('similar.none');
      list.replaceChildren(...found.map((one) => h('li', {}, h('a', { href: `#/study/${one.study}` },
        thumbnail(pictureOf(one.instance, { frame: one.frame || null, side: 256 }), t('similar.case')), h('span', {}, t('similar.share', { share: percent(one.similarity) }))))));
    } catch (error) {
      if (mine !== shown) return;
      list.replaceChildren();
      said.replaceChildren(trouble(error));
    }
  }

  const submit = (event) => {
    event.preventDefault();
    const words = text.value.trim();
    if (words) find({ text: words });
    else if (pictures.current) find({ instance: pictures.current.uid });
  };
  const node = h('div', {}, h('form', { class: 'filters', on: { submit } }, field(t('similar.text'), text, { class: 'field wide' }),
    h('button', {}, t('similar.go'))), said, list);
  const show = (isOpen) => {
    const { current } = pictures;
    if (isOpen && current && !text.value && shown !== JSON.stringify({ instance: current.uid })) find({ instance: current.uid });
  };
  return { node, show };
}
