// One frame's stored values, from whatever transfer syntax: as runtime/pictures/dicom_frames.py and pydicom read them.

import { decodeImage } from '../decode.js';
import { MedgeError } from '../errors.js';
import { readHeader } from './codestream.js';
import { decodeApart } from './codecs.js';

export const CUT_SHORT = 'This DICOM file is cut short: it has fewer pixels than it says.';

const UNCOMPRESSED = new Set(['1.2.840.10008.1.2', '1.2.840.10008.1.2.1']);
const READERS = {
  '1.2.840.10008.1.2.5': readRle,
  '1.2.840.10008.1.2.4.50': readJpeg,
  '1.2.840.10008.1.2.4.80': (bytes, header) => readApart('JPEG-LS', bytes, header),
  '1.2.840.10008.1.2.4.81': (bytes, header) => readApart('JPEG-LS', bytes, header),
  '1.2.840.10008.1.2.4.90': (bytes, header) => readApart('JPEG 2000', bytes, header),
  '1.2.840.10008.1.2.4.91': (bytes, header) => readApart('JPEG 2000', bytes, header),
};
const OTHERS = {
  '1.2.840.10008.1.2.1.99': 'deflated', '1.2.840.10008.1.2.2': 'big endian', '1.2.840.10008.1.2.4.51': 'JPEG of 12 bits',
  '1.2.840.10008.1.2.4.57': 'lossless JPEG', '1.2.840.10008.1.2.4.70': 'lossless JPEG',
};

/**
 * The values of a frame: { values, planar, isRgb }; `values` is a typed array of one or two bytes a sample.
 * @param header what the file says of its pixels (dicom.js)
 */
export async function readFrame(set, header, frame) {
  const { syntax } = header;
  if (UNCOMPRESSED.has(syntax)) return readUncompressed(set, header, frame);
  if (!READERS[syntax]) {
    throw new MedgeError(`This DICOM file is compressed as ${OTHERS[syntax] ?? 'something unknown'} (transfer syntax ${syntax}), `
      + 'which this page can’t read. Use medge on a computer, or save it uncompressed.');
  }
  return READERS[syntax](encapsulated(set, header.frames, frame), header);
}

/** The bytes of one compressed frame. */
function encapsulated(set, frames, frame) {
  const element = set.elements.x7fe00010;
  const { dicomParser } = globalThis;
  try {
    if (element.basicOffsetTable?.length) return dicomParser.readEncapsulatedImageFrame(set, element, frame);
    const { fragments } = element;
    if (frames === 1) return dicomParser.readEncapsulatedPixelDataFromFragments(set, element, 0, fragments.length);
    if (fragments.length === frames) return dicomParser.readEncapsulatedPixelDataFromFragments(set, element, frame, 1);
  } catch {
    throw new MedgeError(CUT_SHORT);
  }
  throw new MedgeError('This DICOM file does not say where its frames begin. Use medge on a computer.');
}

function readUncompressed(set, header, frame) {
  const element = set.elements.x7fe00010;
  const bytes = header.width * header.height * header.samples * (header.allocated / 8);
  const start = frame * bytes;
  if (start + bytes > element.length) throw new MedgeError(CUT_SHORT);
  const from = element.dataOffset + start;
  return stored(set.byteArray.slice(from, from + bytes), header, header.planar);
}

/** DICOM PS3.5, annex G: a PackBits segment for each byte of a sample, the highest byte first. */
function readRle(bytes, header) {
  const { samples, allocated } = header;
  const size = allocated / 8;
  const plane = header.width * header.height;
  const damaged = new MedgeError('The RLE pixels of this DICOM file are damaged.');
  if (bytes.length < 64) throw damaged;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getUint32(0, true);
  if (count !== samples * size) throw new MedgeError(`This DICOM file has ${count} RLE segments, and its header needs ${samples * size}.`);
  const edges = [...Array.from({ length: count }, (_, index) => view.getUint32(4 + 4 * index, true)), bytes.length];
  if (edges[0] < 64 || edges.some((edge, index) => index && edge < edges[index - 1])) throw damaged;
  const out = new Uint8Array(plane * samples * size);
  for (let number = 0; number < count; number++) {
    const sample = Math.floor(number / size);
    const first = sample * plane * size + (size - 1 - (number % size));
    const written = unpack(bytes.subarray(edges[number], edges[number + 1]), out, first, size, plane);
    if (written < plane) throw new MedgeError('This DICOM file is cut short: an RLE segment has fewer pixels than it says.');
  }
  return stored(out, header, true);
}

/** PackBits into every `step`th byte of `out`, at most `most` of them: how many were written. */
function unpack(packed, out, first, step, most) {
  let written = 0;
  for (let at = 0; at < packed.length && written < most;) {
    const control = packed[at++];
    if (control === 128) continue; // says nothing
    const run = control < 128 ? control + 1 : 257 - control;
    for (let index = 0; index < run && written < most; index++) {
      const from = control < 128 ? at + index : at;
      if (from >= packed.length) return written;
      out[first + step * written++] = packed[from];
    }
    at += control < 128 ? run : 1;
  }
  return written;
}

/** Bytes as the header has them, without the bits that hold no value. */
function stored(bytes, { allocated, stored: bits, signed }, planar) {
  const values = typed(bytes, allocated / 8, signed);
  if (bits < allocated) keepBits(values, bits, signed);
  return { values, planar, isRgb: false };
}

async function readJpeg(bytes, header) {
  const codestream = agreeing(bytes, header);
  if (header.samples === 3 && !header.photometric.startsWith('YBR') && !codestream.app.size && !hasRgbNames(codestream)) {
    throw new MedgeError('The colours of this JPEG in a DICOM file are stored in a way that this page can’t tell. Use medge on a computer.');
  }
  const { width, height, data } = await decodeImage(bytes).catch(() => {
    throw new MedgeError('The JPEG pixels of this DICOM file are damaged.');
  });
  if (width !== header.width || height !== header.height) throw contradicts(header, { width, height });
  if (header.samples === 3) return { values: data, planar: false, isRgb: true };
  const values = Uint8Array.from({ length: width * height }, (_, index) => data[index * 3]);
  return { values, planar: false, isRgb: false };
}

const hasRgbNames = ({ ids }) => ['82,71,66', '114,103,98'].includes(String(ids));

async function readApart(kind, bytes, header) {
  const codestream = agreeing(bytes, header);
  if (codestream.precision > 16) throw new MedgeError(`This DICOM file has ${codestream.precision} bits a pixel; at most 16 can be read.`);
  // CharLS searches for half a minute where the end of a frame is missing.
  if (kind === 'JPEG-LS' && !isEnded(bytes)) throw new MedgeError('A compressed frame of this DICOM file is cut off.');
  const size = codestream.precision <= 8 ? 1 : 2;
  const { width, height, samples, planar, pixels } = await decodeApart(kind, bytes);
  if (pixels.length !== width * height * samples * size || width !== header.width || height !== header.height) {
    throw contradicts(header, { width, height });
  }
  const values = typed(pixels, size, header.signed);
  // JPEG-LS has no signs; of JPEG 2000 some devices state the wrong ones.
  const restore = kind === 'JPEG-LS' ? header.signed : samples === 1 && codestream.signed !== header.signed;
  if (restore) keepBits(values, codestream.precision, header.signed);
  // OpenJPEG undoes JPEG 2000's own transforms of colour.
  return { values, planar, isRgb: ['YBR_ICT', 'YBR_RCT'].includes(header.photometric) };
}

/** Whether JPEG's end marker is there, before the zero that makes a frame's length even. */
function isEnded(bytes) {
  const end = bytes.length - (bytes[bytes.length - 1] === 0 ? 1 : 0);
  return bytes[end - 2] === 0xff && bytes[end - 1] === 0xd9;
}

/** A codestream's header, where it agrees with the file's: nothing else is given to a decoder. */
function agreeing(bytes, header) {
  const found = readHeader(bytes);
  if (found.width !== header.width || found.height !== header.height) throw contradicts(header, found);
  if (found.samples !== header.samples) {
    throw new MedgeError(`This DICOM file says ${header.samples} samples a pixel, and its compressed frame ${found.samples}.`);
  }
  if (found.precision > header.allocated) {
    throw new MedgeError(`A compressed frame of this DICOM file has ${found.precision} bits, and its header room for ${header.allocated}.`);
  }
  return found;
}

const contradicts = (header, found) => new MedgeError(
  `This DICOM file says ${header.width} × ${header.height} pixels, and its compressed frame ${found.width} × ${found.height}.`,
);

/** Low byte first, as every machine with a browser has them. */
function typed(bytes, size, signed) {
  if (size === 1) return signed ? new Int8Array(bytes.buffer) : bytes;
  return signed ? new Int16Array(bytes.buffer) : new Uint16Array(bytes.buffer);
}

/** Take the lowest bits of each value for the whole of it. */
function keepBits(values, bits, signed) {
  const unused = 32 - bits;
  for (let index = 0; index < values.length; index++) {
    values[index] = signed ? (values[index] << unused) >> unused : (values[index] << unused) >>> unused;
  }
}
