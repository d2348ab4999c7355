// Pictures that the browser itself can read, to { width, height, data }, RGB bytes.

import { MedgeError } from './errors.js';
import { MAX_PIXELS } from './pixels.js';

/** Decode by content, whatever the file's name; of 16 bits a channel the browser leaves eight. */
export async function decodeImage(bytes) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new MedgeError('This is no image that the browser can read, and no DICOM file.');
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) throw new MedgeError(`This image has ${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6} million are read.`);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => data[Math.floor(i / 3) * 4 + (i % 3)]) };
}
