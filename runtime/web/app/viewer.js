// The original in a box: zoom by buttons, keys and the wheel; moved by the box's own scrolling or by dragging with the mouse.

const STEP = 1.5;
const LEAST = 0.05;
const GREATEST = 16;

export class Viewer {
  #box;
  #image;
  #said;
  #scale = null; // CSS pixels for a pixel of the image; null: as large as the box lets it be

  /** @param figure an element with .viewer (img inside), buttons with data-zoom, and an output */
  constructor(figure) {
    this.#box = figure.querySelector('.viewer');
    this.#image = this.#box.querySelector('img');
    this.#said = figure.querySelector('output');
    figure.querySelectorAll('[data-zoom]').forEach((button) => button.addEventListener('click', () => this.#zoom(button.dataset.zoom)));
    this.#box.addEventListener('keydown', (event) => {
      const how = { '+': 'in', '=': 'in', '-': 'out', 0: 'fit', 1: 'full' }[event.key];
      if (!how || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#zoom(how);
    });
    this.#box.addEventListener('wheel', (event) => {
      if (!event.ctrlKey) return; // the plain wheel scrolls the page
      event.preventDefault();
      this.#zoom(event.deltaY < 0 ? 'in' : 'out');
    }, { passive: false });
    this.#drag();
    this.#image.addEventListener('load', () => this.#apply());
    new ResizeObserver(() => this.#tell()).observe(this.#box);
  }

  /** Another picture of the same size keeps its place and zoom. */
  show(address) {
    const old = this.#image.src;
    this.#image.src = address;
    if (old) URL.revokeObjectURL(old);
  }

  close() {
    if (this.#image.src) URL.revokeObjectURL(this.#image.src);
  }

  get #fitting() {
    const { clientWidth, clientHeight } = this.#box;
    return Math.min(clientWidth / this.#image.naturalWidth, clientHeight / this.#image.naturalHeight);
  }

  #zoom(how) {
    const now = this.#scale ?? this.#fitting;
    const next = { in: now * STEP, out: now / STEP, full: 1, fit: null }[how];
    this.#scale = next && Math.min(Math.max(next, LEAST), GREATEST);
    this.#apply();
  }

  #apply() {
    const box = this.#box;
    const middle = [
      (box.scrollLeft + box.clientWidth / 2) / box.scrollWidth, (box.scrollTop + box.clientHeight / 2) / box.scrollHeight,
    ];
    this.#image.classList.toggle('fits', this.#scale === null);
    this.#image.style.width = this.#scale === null ? '' : `${this.#image.naturalWidth * this.#scale}px`;
    box.scrollLeft = middle[0] * box.scrollWidth - box.clientWidth / 2;
    box.scrollTop = middle[1] * box.scrollHeight - box.clientHeight / 2;
    this.#tell();
  }

  #tell() {
    if (this.#image.naturalWidth) this.#said.textContent = `${Math.round(100 * (this.#scale ?? this.#fitting))} %`;
  }

  #drag() {
    const box = this.#box;
    box.addEventListener('pointerdown', (event) => {
      if (event.pointerType !== 'mouse' || event.button !== 0) return; // a finger scrolls the box as it scrolls a page
      box.setPointerCapture(event.pointerId);
      const move = ({ movementX, movementY }) => box.scrollBy(-movementX, -movementY);
      box.addEventListener('pointermove', move);
      box.addEventListener('lostpointercapture', () => box.removeEventListener('pointermove', move), { once: true });
    });
    this.#image.draggable = false;
  }
}
