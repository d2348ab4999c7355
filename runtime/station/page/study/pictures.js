// The pictures of a series: scrolled by wheel, keys and slider, zoomed and moved, with windows that the station applies.

import { pictureOf, query, send } from '../app/api.js';
import { button, choice, debounce, field, h } from '../app/dom.js';
import { why } from '../app/parts.js';
import { number, t } from '../app/words.js';
import { Viewer } from '/page/shared/viewer.js';

// Centre and width in HU, as runtime/pictures/view.py has them: where a drag begins.
export const WINDOWS = { abdomen: [50, 400], bone: [400, 1800], brain: [40, 80], lung: [-600, 1500], mediastinum: [50, 350] };
const SIDE = 2048; // pixels of the longer side that are fetched
const MOST_KEPT = 80; // pictures
const AHEAD = 2; // pictures fetched before they are asked for

export class Pictures {
  #slides = [];
  #place = 0;
  #series = null;
  #window = ''; // as the station takes it; '' for the file's own
  #light = [100, 100]; // brightness and contrast in percent, of what has no window in known units
  #tool = 'move';
  #overlay = null; // {label} while a map is shown
  #kept = new Map();
  #asked = null;
  #changed;

  /** @param changed called when another picture is looked at */
  constructor(changed) {
    this.#changed = changed;
    this.#make();
    this.#load = debounce(() => this.#fetch(), 40);
  }

  #load;

  get current() { return this.#slides[this.#place] ?? null; }

  get series() { return this.#series; }

  get caption() {
    const { current } = this;
    if (!current) return '';
    const place = t('picture.of', { n: number(this.#place + 1), of: number(this.#slides.length) });
    return [this.#series.modality, this.#series.description, place].filter(Boolean).join(' · ');
  }

  /** Show a series from its middle, or from an instance. */
  show(series, uid = null) {
    this.#take(series);
    const found = this.#slides.findIndex((one) => one.uid === uid);
    this.#window = '';
    this.#light = [100, 100];
    this.#go(found >= 0 ? found : Math.floor((this.#slides.length - 1) / 2));
  }

  /** The same series with more in it: what is looked at stays. */
  renew(series) {
    const { current } = this;
    this.#take(series);
    const found = this.#slides.findIndex((one) => one.uid === current?.uid && one.frame === current?.frame);
    this.#go(Math.max(found, 0));
  }

  /** Go to a frame of an instance of this series. */
  find(uid, frame) {
    const found = this.#slides.findIndex((one) => one.uid === uid && (one.frame ?? 0) === (frame ?? one.frame ?? 0));
    if (found >= 0) this.#go(found);
  }

  /** The picture that is looked at. */
  async blob() { return this.current && this.#blob(this.#address(this.current)); }

  /** Lay the map of where the encoder saw a label over the picture; null for the picture alone. */
  async overlay(label) {
    const { current } = this;
    if (label === null) {
      this.#overlay = null;
      this.#tell();
      return this.#load();
    }
    const blob = await this.#blob(query(`/v1/instances/${encodeURIComponent(current.uid)}/map`, { label, frame: current.frame }));
    if (current !== this.current) return null;
    this.#overlay = { label };
    this.#display(blob);
    return this.#tell();
  }

  close() {
    this.#asked?.abort();
    this.viewer.close();
    this.#kept.clear();
  }

  #take(series) {
    this.#series = series;
    this.#slides = (series?.instances ?? []).flatMap((one) => Array.from({ length: Math.max(1, one.frames) },
      (_, frame) => ({ uid: one.uid, kind: one.kind, frame: one.frames > 1 ? frame : null })));
  }

  #go(place) {
    this.#place = Math.min(Math.max(place, 0), Math.max(this.#slides.length - 1, 0));
    this.#overlay = null;
    this.#tell();
    this.#load();
    this.#changed();
  }

  #address(slide) {
    return pictureOf(slide.uid, { frame: slide.frame, window: slide.kind === 'dicom' ? this.#window : '', side: SIDE });
  }

  async #blob(address, signal) {
    const known = this.#kept.get(address);
    if (known) return known;
    const blob = await (await send('GET', address, { signal })).blob();
    this.#kept.set(address, blob);
    if (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value);
    return blob;
  }

  async #fetch() {
    const slide = this.current;
    if (!slide || this.#overlay) return;
    this.#asked?.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    try {
      const blob = await this.#blob(this.#address(slide), signal);
      if (signal.aborted) return;
      this.#display(blob);
      for (let step = 1; step <= AHEAD; step += 1) {
        const next = this.#slides[this.#place + step];
        if (next) await this.#blob(this.#address(next), signal);
      }
    } catch (error) {
      if (error.name === 'AbortError' || slide !== this.current) return;
      this.said.textContent = why(error);
      this.box.classList.add('broken');
    }
  }

  #display(blob) {
    this.said.textContent = '';
    this.box.classList.remove('broken');
    this.viewer.show(URL.createObjectURL(blob));
  }

  #tell() {
    const isDicom = this.current?.kind === 'dicom';
    this.slider.max = Math.max(this.#slides.length - 1, 0);
    this.slider.value = this.#place;
    this.slider.setAttribute('aria-valuetext', this.caption);
    this.slider.parentElement.hidden = this.#slides.length < 2;
    this.place.textContent = this.caption;
    this.image.alt = this.caption;
    const isKnown = this.#window === '' || this.#window in WINDOWS;
    this.presets.value = isKnown ? this.#window : 'own';
    this.presets.disabled = !isDicom;
    this.image.style.filter = this.#overlay || this.#light.every((one) => one === 100) ? '' : `brightness(${this.#light[0]}%) contrast(${this.#light[1]}%)`;
    const lit = this.#light.some((one) => one !== 100) ? t('window.light', { brightness: number(this.#light[0]), contrast: number(this.#light[1]) }) : '';
    const hu = WINDOWS[this.#window] ?? (this.#window ? this.#window.split(',').map(Number) : null);
    this.values.textContent = hu ? t('window.values', { centre: number(hu[0]), width: number(hu[1]) }) : lit;
    this.legend.hidden = !this.#overlay;
    this.legend.firstChild.textContent = this.#overlay ? t('map.legend', { label: this.#overlay.label }) : '';
    this.original.hidden = !this.current;
    if (this.current) this.original.href = `/v1/instances/${encodeURIComponent(this.current.uid)}/object`;
    this.node.classList.toggle('empty', !this.current);
    this.windowing.setAttribute('aria-pressed', String(this.#tool === 'window'));
    this.box.classList.toggle('windowing', this.#tool === 'window');
  }

  #setWindow(value) {
    if (value === 'own') return;
    this.#window = value;
    this.#light = [100, 100];
    this.#overlay = null;
    this.#tell();
    this.#load();
  }

  #make() {
    this.image = h('img', { alt: '' });
    this.box = h('div', { class: 'viewer', tabindex: '0', role: 'group', 'aria-label': t('viewer') }, this.image);
    this.slider = h('input', { type: 'range', min: 0, max: 0, value: 0, step: 1, 'aria-label': t('picture') });
    this.slider.addEventListener('input', () => this.#go(Number(this.slider.value)));
    this.place = h('figcaption', {});
    this.values = h('span', { class: 'hint values' });
    this.said = h('p', { class: 'error', role: 'alert' });
    this.legend = h('p', { class: 'legend', hidden: true }, h('span', {}), ' ', button(t('map.off'), () => this.overlay(null)));
    this.original = h('a', { download: true, class: 'button' }, t('original'));
    this.presets = choice([['', t('window.file')], ...Object.keys(WINDOWS).map((one) => [one, t(`window.${one}`)]), ['own', t('window.own')]],
      '', (value) => this.#setWindow(value), { 'aria-label': t('window') });
    this.windowing = button(t('window.drag'), () => {
      this.#tool = this.#tool === 'window' ? 'move' : 'window';
      this.#tell();
    }, { 'aria-pressed': 'false', title: t('window.hint') });
    const zoom = (how, text, label) => h('button', { type: 'button', 'data-zoom': how, 'aria-label': label, title: label }, text);
    this.node = h('figure', { class: 'pictures' },
      h('div', { class: 'screen' }, this.box, this.said, this.legend), h('div', { class: 'scroller' }, this.slider), this.place,
      h('div', { class: 'tools', role: 'group', 'aria-label': t('tools') },
        zoom('in', '+', t('zoom.in')), zoom('out', '−', t('zoom.out')), zoom('fit', '⤢', t('zoom.fit')), zoom('full', '1:1', `1:1 ${t('zoom.full')}`), h('output', {}),
        this.presets, this.windowing, this.values, button('↺', () => this.#setWindow(''), { 'aria-label': t('window.reset'), title: t('window.reset') }), this.original));
    this.viewer = new Viewer(this.node);
    this.#listen();
  }

  #listen() {
    let turned = 0;
    this.box.addEventListener('wheel', (event) => {
      if (event.ctrlKey || this.#slides.length < 2) return; // with Ctrl the viewer zooms
      event.preventDefault();
      turned += event.deltaMode === 0 ? event.deltaY / 50 : event.deltaY;
      const steps = Math.trunc(turned);
      if (!steps) return;
      turned = 0;
      this.#go(this.#place + Math.sign(steps));
    }, { passive: false });
    this.box.addEventListener('keydown', (event) => {
      const last = this.#slides.length - 1;
      const next = {
        ArrowDown: this.#place + 1, ArrowRight: this.#place + 1, ArrowUp: this.#place - 1, ArrowLeft: this.#place - 1,
        PageDown: this.#place + 10, PageUp: this.#place - 10, Home: 0, End: last,
      }[event.key];
      if (next === undefined || last < 1 || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#go(next);
    });
    // In the capturing phase: the viewer would move the picture. The right button always windows.
    this.box.addEventListener('pointerdown', (event) => {
      if (!(event.button === 2 || (event.button === 0 && this.#tool === 'window')) || !this.current) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      this.box.focus();
      this.#drag(event);
    }, { capture: true });
    this.box.addEventListener('contextmenu', (event) => event.preventDefault());
  }

  /** Right and left change the width, up and down the centre; without known units contrast and brightness. */
  #drag({ pointerId, clientX, clientY }) {
    const isCt = this.current.kind === 'dicom' && this.#series.modality === 'CT';
    const hu = WINDOWS[this.#window] ?? (this.#window ? this.#window.split(',').map(Number) : WINDOWS.abdomen);
    const light = [...this.#light];
    const fetch = debounce(() => this.#load(), 60);
    const move = (event) => {
      const [right, down] = [event.clientX - clientX, event.clientY - clientY];
      this.#overlay = null;
      if (isCt || this.#window) {
        const step = Math.max(1, hu[1] / 300);
        this.#window = `${Math.round(hu[0] + down * step)},${Math.max(1, Math.round(hu[1] + right * step))}`;
        fetch();
      } else {
        this.#light = [Math.max(10, light[0] - Math.round(down / 2)), Math.max(10, light[1] + Math.round(right / 2))];
      }
      this.#tell();
    };
    this.box.setPointerCapture(pointerId);
    this.box.addEventListener('pointermove', move);
    this.box.addEventListener('lostpointercapture', () => this.box.removeEventListener('pointermove', move), { once: true });
  }
}
