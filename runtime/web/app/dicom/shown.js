// Stored values to what is shown, RGB bytes: as runtime/pictures/dicom.py does it.

import { MedgeError } from '../errors.js';

/**
 * A grey frame, to be looked at through any window. Its window is { centre, width, from }: `from` is 'file', 'levels' or 'range'
 * (the file has none: its 256 levels, or all of its values), 'all' (asked for) or 'chosen'.
 */
export class GreyFrame {
  #set;
  #header;
  #values;
  #slope;
  #intercept;

  constructor(set, header, values) {
    this.#set = set;
    this.#header = header;
    this.#values = values;
    this.#slope = number(set, 'x00281053') ?? 1;
    this.#intercept = number(set, 'x00281052') ?? 0;
  }

  /**
   * Rescale, window, invert MONOCHROME1: { image, window }.
   * @param chosen { centre, width }, 'range' for all values, or null for the file's own
   */
  show(chosen) {
    const { width, height, photometric } = this.#header;
    const [window, brightness] = this.#windowed(chosen);
    const table = this.#table(brightness, photometric === 'MONOCHROME1');
    const mask = table.length - 1;
    const data = new Uint8Array(width * height * 3);
    this.#values.forEach((value, index) => {
      const level = table[value & mask];
      data[index * 3] = level;
      data[index * 3 + 1] = level;
      data[index * 3 + 2] = level;
    });
    return { image: { width, height, data }, window };
  }

  /** Which window holds, and what makes brightness, 0 to 1 or beyond, of a rescaled value. */
  #windowed(chosen) {
    if (chosen === 'range') {
      const all = asWindow(this.#range());
      return [{ ...all, from: 'all' }, through(all, 'LINEAR')];
    }
    if (chosen) return [{ ...chosen, from: 'chosen' }, through(chosen, 'LINEAR')];
    const [centre, width] = [number(this.#set, 'x00281050'), number(this.#set, 'x00281051')];
    if (centre !== null && width !== null && width >= 1) {
      return [{ centre, width, from: 'file' }, through({ centre, width }, (this.#set.string('x00281056') ?? 'LINEAR').trim())];
    }
    // No window stated: 8-bit values as they are, others over the range that they have.
    if (this.#header.stored === 8 && !this.#header.signed) return [{ centre: 128, width: 256, from: 'levels' }, (value) => value / 255];
    const { low, high } = this.#range();
    return [{ ...asWindow({ low, high }), from: 'range' }, (value) => (high > low ? (value - low) / (high - low) : 0)];
  }

  /** The level of each stored value: there are fewer of these than a film has pixels. */
  #table(brightness, invert) {
    const bits = 8 * this.#values.BYTES_PER_ELEMENT;
    const table = new Uint8Array(2 ** bits);
    const value = new this.#values.constructor(1);
    for (let index = 0; index < table.length; index++) {
      value[0] = index;
      const level = roundHalfEven(Math.min(Math.max(brightness(value[0] * this.#slope + this.#intercept), 0), 1) * 255);
      table[index] = invert ? 255 - level : level;
    }
    return table;
  }

  /** The least and the greatest rescaled value, padding left out. */
  #range() {
    const { signed } = this.#header;
    const padding = this.#set.elements.x00280120 ? this.#set[signed ? 'int16' : 'uint16']('x00280120') : null;
    for (const skip of [padding, null]) {
      let [low, high] = [Infinity, -Infinity];
      this.#values.forEach((value) => {
        if (value === skip) return;
        if (value < low) low = value;
        if (value > high) high = value;
      });
      const ends = [low, high].map((value) => value * this.#slope + this.#intercept);
      if (low <= high) return { low: Math.min(...ends), high: Math.max(...ends) };
    }
    return { low: 0, high: 0 };
  }
}

/** The linear window that shows just this range. */
const asWindow = ({ low, high }) => ({ centre: (low + high + 1) / 2, width: high - low + 1 });

/** DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3. */
function through({ centre, width }, kind) {
  if (kind === 'SIGMOID') return (value) => 1 / (1 + Math.exp((-4 * (value - centre)) / width));
  if (kind === 'LINEAR_EXACT') return (value) => (value - centre) / width + 0.5;
  if (width <= 1) return (value) => (value > centre - 0.5 ? 1 : 0);
  return (value) => (value - (centre - 0.5)) / (width - 1) + 0.5;
}

/** A frame in colours as RGB bytes: { width, height, data }. */
export function showColours({ width, height, photometric, stored }, { values, planar, isRgb }) {
  const area = width * height;
  const data = new Uint8Array(area * 3);
  const wide = 255 / (2 ** stored - 1);
  for (let index = 0; index < data.length; index++) {
    const value = planar ? values[(index % 3) * area + Math.floor(index / 3)] : values[index];
    data[index] = stored > 8 ? roundHalfEven(Math.min(value * wide, 255)) : value;
  }
  if (!isRgb && photometric === 'YBR_FULL') toRgb(data);
  return { width, height, data };
}

/** ISO/IEC 10918-5, section 7, in single precision as pydicom computes it. */
function toRgb(data) {
  const f = Math.fround;
  const byte = (value) => Math.min(Math.max(Math.floor(f(value + 0.5)), 0), 255);
  const [bb, gb, gr, rr] = [1.772, (-0.114 * 1.772) / 0.587, (-0.299 * 1.402) / 0.587, 1.402].map(f);
  for (let at = 0; at < data.length; at += 3) {
    const [y, b, r] = [data[at], data[at + 1] - 128, data[at + 2] - 128];
    data[at] = byte(f(y + f(rr * r)));
    data[at + 1] = byte(f(f(y + f(gb * b)) + f(gr * r)));
    data[at + 2] = byte(f(y + f(bb * b)));
  }
}

/** The first of a possibly multi-valued number, or null where there is none. */
function number(set, tag) {
  const text = (set.string(tag) ?? '').split('\\')[0].trim();
  const value = Number(text);
  if (!Number.isFinite(value)) throw new MedgeError('This DICOM file states a rescale or a window that is no finite number.');
  return text ? value : null;
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
