// A DICOM file: what it says of its pixels, and its frames as they are shown. Parsing is dicom-parser's (vendor/dicomParser.min.js,
// a script that leaves `dicomParser` behind).

import { MedgeError } from '../errors.js';
import { checkSize } from '../pixels.js';
import { CUT_SHORT, readFrame } from './frames.js';
import { GreyFrame, showColours } from './shown.js';

// As in runtime/pictures/dicom.py: objects with pixels which are not a picture of a patient.
const NOT_PICTURES = {
  '1.2.840.10008.5.1.4.1.1.481.2': 'an RT dose grid', '1.2.840.10008.5.1.4.1.1.66.4': 'a segmentation (label mask)',
  '1.2.840.10008.5.1.4.1.1.66.7': 'a label map segmentation', '1.2.840.10008.5.1.4.1.1.30': 'a parametric map',
};
const CANT_APPLY = { x00283000: 'a modality table', x00283010: 'a display table', x52009229: 'enhanced multi-frame groups', x52009230: 'enhanced multi-frame groups' };
const COLOURS = ['RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_ICT', 'YBR_RCT'];

/** By its content, since files on a CD have no ending. */
export function isDicom(bytes) {
  return bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === 'DICM';
}

/** A DICOM file that was parsed and is a picture; a frame is decoded when it is asked for. */
export class DicomPicture {
  #set;
  #header;
  #last = null; // { frame, grey }: another window needs no other decoding

  constructor(bytes) {
    this.#set = parse(bytes);
    this.#header = headerOf(this.#set);
  }

  get frames() { return this.#header.frames; }

  /** Whether a window can be chosen. */
  get isGrey() { return this.#header.photometric.startsWith('MONOCHROME'); }

  /** Whether its values are Hounsfield units, for which windows have names. */
  get isCt() { return (this.#set.string('x00080060') ?? '').trim() === 'CT'; }

  /**
   * A frame as it is shown: { image, frame, window }, the last of grey files alone (shown.js).
   * @param frame from 0; the middle one where null
   * @param window { centre, width } in rescaled units, 'range' for all values; the file's own where null
   */
  async show({ frame = null, window = null } = {}) {
    const chosen = frame ?? Math.floor(this.frames / 2);
    if (!(chosen >= 0 && chosen < this.frames)) throw new MedgeError(`This DICOM file has ${this.frames} frame(s), so there is no frame ${chosen}.`);
    if (this.#last?.frame === chosen) return { frame: chosen, ...this.#last.grey.show(window) };
    const found = await readFrame(this.#set, this.#header, chosen);
    if (!this.isGrey) return { frame: chosen, image: showColours(this.#header, found) };
    this.#last = { frame: chosen, grey: new GreyFrame(this.#set, this.#header, found.values) };
    return { frame: chosen, ...this.#last.grey.show(window) };
  }
}

function parse(bytes) {
  try {
    return globalThis.dicomParser.parseDicom(bytes);
  } catch (error) {
    if (error?.dataSet?.elements.x7fe00010) throw new MedgeError(CUT_SHORT); // all was read but the pixels
    throw new MedgeError('The DICOM header of this file is damaged.'); // the parser's words may hold a value of the file
  }
}

/** What the file says of its pixels, checked. */
function headerOf(set) {
  const text = (tag) => (set.string(tag) ?? '').trim();
  const kind = NOT_PICTURES[text('x00080016')];
  if (kind) throw new MedgeError(`This is ${kind}, not a picture.`);
  if (!set.elements.x7fe00010) throw new MedgeError('This DICOM file holds no image.');
  if (set.warnings.some((words) => words.includes('missing sequence delimiter'))) throw new MedgeError(CUT_SHORT); // as a copy that stopped
  const header = {
    syntax: text('x00020010'), photometric: text('x00280004'), width: set.uint16('x00280011'), height: set.uint16('x00280010'),
    samples: set.uint16('x00280002') ?? 1, allocated: set.uint16('x00280100'), signed: set.uint16('x00280103') === 1,
    planar: set.uint16('x00280006') === 1, frames: Math.max(parseInt(text('x00280008') || '1', 10) || 1, 1),
  };
  header.stored = set.uint16('x00280101') ?? header.allocated;
  const { width, height, samples, allocated, photometric } = header;
  if (!width || !height) throw new MedgeError('This DICOM file does not say how many rows and columns its image has.');
  checkSize(header);
  for (const [tag, what] of Object.entries(CANT_APPLY)) {
    if (set.elements[tag]) throw new MedgeError(`This DICOM file uses ${what}, which this page can’t apply. Use medge on a computer.`);
  }
  if (![8, 16].includes(allocated)) throw new MedgeError(`This DICOM file has ${allocated} bits a pixel; 8 and 16 can be read.`);
  if (header.stored < 1 || header.stored > allocated) throw new MedgeError('This DICOM file has fewer bits than it says it stores.');
  const compressed = set.elements.x7fe00010.encapsulatedPixelData;
  const fits = photometric.startsWith('MONOCHROME') ? samples === 1
    : samples === 3 && COLOURS.includes(photometric) && (compressed || photometric === 'RGB' || photometric === 'YBR_FULL')
      && !(photometric === 'YBR_FULL' && header.stored > 8);
  if (!fits) throw new MedgeError(`This page can’t show the colours ${photometric} of this DICOM file. Use medge on a computer.`);
  return header;
}
