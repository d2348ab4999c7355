// What a compressed frame says of itself before it is decoded, as runtime/pictures/codestream.py reads it.

import { MedgeError } from '../errors.js';

const NO_FRAME = new Set([0xc4, 0xc8, 0xcc]); // tables and extensions among JPEG's markers C0 to CF

/**
 * The header of a JPEG, JPEG-LS or JPEG 2000 codestream: { height, width, samples, precision, signed }, and of
 * JPEG also { ids, app }, the components' names and which of the markers JFIF and Adobe are there.
 */
export function readHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint16(0) === 0xffd8) return jpeg(view);
    const start = view.getUint32(0) === 0xff4fff51 ? 0 : inBoxes(view);
    if (start !== null) return jpeg2000(view, start);
  } catch (error) {
    if (error instanceof RangeError) throw new MedgeError('A compressed frame of this DICOM file is cut off.');
    throw error;
  }
  throw new MedgeError('A compressed frame of this DICOM file does not begin as its transfer syntax demands.');
}

/** ITU-T T.81, table B.1, and T.87 for JPEG-LS. */
function jpeg(view) {
  const app = new Set();
  for (let at = 2; at < view.byteLength;) {
    if (view.getUint8(at) !== 0xff) break;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) { at += 1; continue; } // fill bytes are allowed before a marker
    if (((marker & 0xf0) === 0xc0 && !NO_FRAME.has(marker)) || marker === 0xf7) {
      const samples = view.getUint8(at + 9);
      return {
        precision: view.getUint8(at + 4), height: view.getUint16(at + 5), width: view.getUint16(at + 7), samples, app,
        ids: Array.from({ length: samples }, (_, index) => view.getUint8(at + 10 + 3 * index)), signed: false,
      };
    }
    if (marker === 0xda || marker === 0xd9) break;
    if (marker === 0xe0 && view.getUint32(at + 4) === 0x4a464946) app.add('JFIF');
    if (marker === 0xee && view.getUint32(at + 4) === 0x41646f62) app.add('Adobe');
    at += marker === 0x01 || (marker >= 0xd0 && marker < 0xd9) ? 2 : 2 + view.getUint16(at + 2);
  }
  throw new MedgeError('A compressed frame of this DICOM file states no size.');
}

/** Where the codestream begins in a JP2 file, which some devices store in place of the bare codestream. */
function inBoxes(view) {
  if (view.getUint32(4) !== 0x6a502020) return null;
  for (let at = 0; at < view.byteLength;) {
    const size = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x6a703263) return at + (size === 1 ? 16 : 8);
    if (size < 8) break; // no box before the codestream is longer than 32 bits can say
    at += size;
  }
  throw new MedgeError('A compressed frame of this DICOM file holds no codestream.');
}

/** The SIZ marker: ITU-T T.800, A.5.1. */
function jpeg2000(view, start) {
  const [right, bottom, left, top] = [8, 12, 16, 20].map((place) => view.getUint32(start + place));
  const depth = view.getUint8(start + 42);
  return {
    height: bottom - top, width: right - left, samples: view.getUint16(start + 40), precision: (depth & 0x7f) + 1, signed: depth >= 0x80,
  };
}
