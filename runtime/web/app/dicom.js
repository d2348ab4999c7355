// DICOM to RGB bytes: uncompressed little endian and JPEG baseline; what is shown follows runtime/pictures/dicom.py. Parsing is
// dicom-parser's (vendor/dicomParser.min.js, a script that leaves `dicomParser` behind).

import { MedgeError } from './errors.js';

const UNCOMPRESSED = new Set(['1.2.840.10008.1.2', '1.2.840.10008.1.2.1']);
const CUT_SHORT = 'This DICOM file is cut short: it has fewer pixels than it says.';
const JPEG_BASELINE = '1.2.840.10008.1.2.4.50';
const OTHERS = {
  '1.2.840.10008.1.2.1.99': 'deflated', '1.2.840.10008.1.2.2': 'big endian', '1.2.840.10008.1.2.4.51': 'JPEG of 12 bits',
  '1.2.840.10008.1.2.4.57': 'lossless JPEG', '1.2.840.10008.1.2.4.70': 'lossless JPEG', '1.2.840.10008.1.2.4.80': 'JPEG-LS',
  '1.2.840.10008.1.2.4.81': 'JPEG-LS', '1.2.840.10008.1.2.4.90': 'JPEG 2000', '1.2.840.10008.1.2.4.91': 'JPEG 2000',
  '1.2.840.10008.1.2.5': 'RLE',
};

export function isDicom(bytes) {
  return bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === 'DICM';
}

/** Decode the middle frame of a DICOM file: { width, height, data }. `decode` maps JPEG bytes to such an image. */
export async function readDicom(bytes, decode) {
  let set;
  try {
    set = globalThis.dicomParser.parseDicom(bytes);
  } catch (error) {
    if (error?.dataSet?.elements.x7fe00010) throw new MedgeError(CUT_SHORT); // all was read but the pixels
    throw new MedgeError(`The DICOM header is damaged: ${error?.message ?? error?.exception ?? error}.`);
  }
  const element = set.elements.x7fe00010;
  if (!element) throw new MedgeError('This DICOM file holds no image.');
  const syntax = (set.string('x00020010') ?? '').trim();
  const width = set.uint16('x00280011');
  const height = set.uint16('x00280010');
  if (!width || !height) throw new MedgeError('This DICOM file does not say how many rows and columns its image has.');
  for (const [tag, what] of [['x00283000', 'a modality table'], ['x00283010', 'a display table'], ['x52009229', 'enhanced multi-frame groups']]) {
    if (set.elements[tag]) throw new MedgeError(`This DICOM file uses ${what}, which this page can't apply. Use medge on a computer.`);
  }
  const frames = Math.max(parseInt(set.string('x00280008') ?? '1', 10) || 1, 1);
  const frame = Math.floor(frames / 2);
  if (syntax === JPEG_BASELINE) {
    const jpeg = element.basicOffsetTable?.length
      ? globalThis.dicomParser.readEncapsulatedImageFrame(set, element, frame)
      : globalThis.dicomParser.readEncapsulatedPixelDataFromFragments(set, element, frames === 1 ? 0 : frame, frames === 1 ? element.fragments.length : 1);
    const image = await decode(jpeg);
    const photometric = (set.string('x00280004') ?? '').trim();
    if (!photometric.startsWith('MONOCHROME')) return image;
    return showGrey(set, Float64Array.from({ length: width * height }, (_, index) => image.data[index * 3]), width, height);
  }
  if (!UNCOMPRESSED.has(syntax)) {
    throw new MedgeError(`This DICOM file is compressed as ${OTHERS[syntax] ?? 'something unknown'} (transfer syntax ${syntax}), `
      + 'which this page can’t read. Use medge on a computer, or save it uncompressed.');
  }
  return readUncompressed(set, element, width, height, frame);
}

function readUncompressed(set, element, width, height, frame) {
  const photometric = (set.string('x00280004') ?? '').trim();
  const allocated = set.uint16('x00280100');
  const samples = set.uint16('x00280002') ?? 1;
  if (![8, 16].includes(allocated)) throw new MedgeError(`This DICOM file has ${allocated} bits a pixel; 8 and 16 can be read.`);
  const count = width * height * samples;
  const start = element.dataOffset + frame * count * (allocated / 8);
  if (start + count * (allocated / 8) > element.dataOffset + element.length) {
    throw new MedgeError(CUT_SHORT);
  }
  const signed = set.uint16('x00280103') === 1;
  const view = new DataView(set.byteArray.buffer, set.byteArray.byteOffset + start);
  const unit = allocated === 8 ? (signed ? 'getInt8' : 'getUint8') : (signed ? 'getInt16' : 'getUint16');
  const raw = Float64Array.from({ length: count }, (_, index) => view[unit](index * (allocated / 8), true));
  if (photometric === 'RGB' && samples === 3 && allocated === 8) {
    const planes = set.uint16('x00280006') === 1;
    const area = width * height;
    return { width, height, data: planes ? Uint8Array.from(raw, (_, i) => raw[(i % 3) * area + Math.floor(i / 3)]) : Uint8Array.from(raw) };
  }
  if (!photometric.startsWith('MONOCHROME') || samples !== 1) {
    throw new MedgeError(`This page can't show the colours ${photometric} of an uncompressed DICOM file. Use medge on a computer.`);
  }
  return showGrey(set, raw, width, height);
}

const number = (set, tag) => {
  const value = parseFloat((set.string(tag) ?? '').split('\\')[0]);
  return Number.isNaN(value) ? null : value;
};

/** Rescale, window (the file's first, else its own range), invert MONOCHROME1. */
function showGrey(set, raw, width, height) {
  const slope = number(set, 'x00281053') ?? 1;
  const intercept = number(set, 'x00281052') ?? 0;
  const values = raw.map((value) => value * slope + intercept);
  const centre = number(set, 'x00281050');
  const wide = number(set, 'x00281051');
  let shown;
  if (centre !== null && wide !== null && wide >= 1) shown = window(values, centre, wide, (set.string('x00281056') ?? 'LINEAR').trim());
  else shown = ownRange(set, raw, values);
  const invert = (set.string('x00280004') ?? '').trim() === 'MONOCHROME1';
  const data = new Uint8Array(width * height * 3);
  shown.forEach((value, index) => {
    const grey = roundHalfEven(Math.min(Math.max(value, 0), 1) * 255);
    data.fill(invert ? 255 - grey : grey, index * 3, index * 3 + 3);
  });
  return { width, height, data };
}

/** DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3. */
function window(values, centre, width, kind) {
  if (kind === 'SIGMOID') return values.map((value) => 1 / (1 + Math.exp((-4 * (value - centre)) / width)));
  if (kind === 'LINEAR_EXACT') return values.map((value) => (value - centre) / width + 0.5);
  if (width <= 1) return values.map((value) => (value > centre - 0.5 ? 1 : 0));
  return values.map((value) => (value - (centre - 0.5)) / (width - 1) + 0.5);
}

function ownRange(set, raw, values) {
  const signed = set.uint16('x00280103') === 1;
  if (set.uint16('x00280101') === 8 && !signed) return values.map((value) => value / 255);
  const padding = set.elements.x00280120 ? (signed ? set.int16('x00280120') : set.uint16('x00280120')) : null;
  let low = Infinity;
  let high = -Infinity;
  for (const skip of [true, false]) {
    values.forEach((value, index) => {
      if (skip && raw[index] === padding) return;
      low = Math.min(low, value);
      high = Math.max(high, value);
    });
    if (low <= high) break;
  }
  return values.map((value) => (high > low ? (value - low) / (high - low) : 0));
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
