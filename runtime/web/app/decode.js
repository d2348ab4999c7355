// Pictures that the browser itself can read, to { width, height, data }, RGB bytes.

import { MedgeError } from './errors.js';
import { checkSize } from './pixels.js';

/** Decode by content, whatever the file's name; of 16 bits a channel the browser leaves eight. */
export async function decodeImage(bytes) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new MedgeError('This is no image that the browser can read, and no DICOM file.');
  }
  const { width, height } = bitmap;
  checkSize(bitmap);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return { width, height, data: rgb };
}

/** A picture that the browser reads: it has one frame and no window. Its interface is that of DicomPicture. */
export class PlainPicture {
  #image;

  constructor(bytes) { this.#image = decodeImage(bytes); }

  frames = 1;

  isGrey = false;

  async show() { return { frame: 0, image: await this.#image }; }
}

/** RGB bytes on a canvas of their size. */
export function paint(canvas, { width, height, data }) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  if (!context) throw new MedgeError(`This browser has no room for a picture of ${width} × ${height} pixels.`);
  const shown = context.createImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    shown.data[to] = data[from];
    shown.data[to + 1] = data[from + 1];
    shown.data[to + 2] = data[from + 2];
    shown.data[to + 3] = 255;
  }
  context.putImageData(shown, 0, 0);
}
