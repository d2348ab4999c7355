// One file's result: its pictures, its view, its scores, or the sentence that says why there are none.

import { paint } from './decode.js';
import { UNLIKE } from './decisions.js';
import { ViewForm, viewWords } from './view_form.js';
import { Viewer } from './viewer.js';

const percent = (share) => (share === null ? '–' : `${(100 * share).toFixed(1)} %`);

/** What stands beside the file's name: what is present; where that is not known, what is likeliest. */
function headline(scores, decision) {
  if (!decision) return scores[0].label;
  const those = (word) => decision.findings.filter(({ says }) => says === word).map(({ label }) => label).join(', ');
  if (those('present')) return `${those('present')}: present`;
  if (those('uncertain')) return `${those('uncertain')}: uncertain`;
  return those('absent') ? 'no label is present' : 'no label is calibrated for this kind of picture';
}

function kindAndLikely({ kind, likely }) {
  const parts = [kind && `Kind of picture: ${kind}.`];
  if (likely) parts.push(likely.length ? `Likely labels: ${likely.join(', ')}.` : 'No label is likely enough to be named.');
  return parts.filter(Boolean).join(' ');
}

export class Result {
  #name;
  #frames = 1;
  #form = null;
  #viewer;

  /** @param template the page's <template> of a result */
  constructor(template, name) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.#name = name;
    this.#viewer = new Viewer(this.#find('.original'));
    this.#find('.print').addEventListener('click', () => this.#print());
    this.#head('waiting …');
  }

  #find(selector) { return this.element.querySelector(selector); }

  #head(text) { this.#find('h2').textContent = `${this.#name}: ${text}`; }

  #show(selector, isShown) { this.#find(selector).hidden = !isShown; }

  /** Before its scores are there, and again before those of another view: old ones must not stand beside a new picture. */
  wait() {
    this.element.setAttribute('aria-busy', 'true');
    this.#head('…');
    this.#find('.scores').hidden = true;
  }

  /** @param onChange is called with the view that the user chooses */
  takeForm(picture, onChange) {
    if (this.#form) return;
    this.#frames = picture.frames;
    this.#form = new ViewForm(this.#find('form'), picture, onChange);
  }

  /** @param address of the original as a picture file */
  showPictures(shown, address, square) {
    this.#find('.problem').hidden = true;
    this.#find('.pictures').hidden = false;
    this.#viewer.show(address);
    this.#form.show(shown);
    this.#find('.original .words').textContent = viewWords(shown, this.#frames);
    paint(this.#find('canvas'), square);
    this.#find('.square .words').textContent = `${square.width} × ${square.height} pixels`;
  }

  /** @param judged { scores, decision } as in model.js: calibrated scores are told in words, and of a picture unlike all nothing else is */
  showScores({ scores, decision }, milliseconds, facts) {
    this.element.removeAttribute('aria-busy');
    this.element.dataset.milliseconds = milliseconds;
    const unlike = decision?.unlike ?? false;
    const says = decision && new Map(decision.findings.map((finding) => [finding.label, finding.says]));
    this.#head(unlike ? UNLIKE : headline(scores, decision));
    this.#show('.unlike', unlike);
    this.#show('table', !unlike);
    this.#show('.says', says);
    this.#show('.numbers', !unlike);
    this.#show('.calibrated', says && !unlike);
    this.#show('.uncalibrated', !says);
    this.#find('.decided').textContent = says && !unlike ? kindAndLikely(decision) : '';
    this.#find('tbody').replaceChildren(...(unlike ? [] : scores).map(({ label, cosine, softmax, sigmoid }, index) => {
      const row = document.createElement('tr');
      const said = says?.get(label);
      Object.assign(row.dataset, { label, cosine, softmax, sigmoid, ...(said && { said }) });
      row.classList.toggle('first', said ? said === 'present' : index === 0);
      for (const textContent of [label, percent(softmax), percent(sigmoid), cosine.toFixed(3)]) {
        row.append(Object.assign(document.createElement('td'), { textContent }));
      }
      if (said) row.cells[0].after(Object.assign(document.createElement('td'), { textContent: said, className: 'said' }));
      return row;
    }));
    this.#find('.facts').textContent = facts;
    this.#find('.scores').hidden = false;
  }

  /** One sentence in place of the scores. */
  refuse(sentence) {
    this.element.removeAttribute('aria-busy');
    this.#find('h2').textContent = this.#name;
    this.#find('.problem').textContent = sentence;
    this.#find('.problem').hidden = false;
    this.#find('.pictures').hidden = true; // they may be those of another frame
    this.#find('.scores').hidden = true;
  }

  close() {
    this.#viewer.close();
    this.element.remove();
  }

  /** This one alone: another patient's result has no place on the same paper. */
  #print() {
    this.element.classList.add('alone');
    window.addEventListener('afterprint', () => this.element.classList.remove('alone'), { once: true });
    window.print();
  }
}
