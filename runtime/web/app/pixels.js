// The preprocessing profiles, byte for byte as runtime/pictures/preprocess.py; images are { width, height, data }, RGB bytes.

import { MedgeError } from './errors.js';

const MAX_PIXELS = 100_000_000;

/** Refuse a picture that is too large, before anything is made of it. */
export function checkSize({ width, height }) {
  if (width * height > MAX_PIXELS) throw new MedgeError(`This image has ${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6} million are read.`);
}

const PROFILES = {
  'eval-tf': resizeTensorFlow,
  'hf-bicubic': (image, side) => resamplePillow(image, side, side, BICUBIC),
  'finetune-pil': (image, side) => resamplePillow(image, side, side, BILINEAR),
  'serving-pad': (image, side) => resamplePillow(padToSquare(image), side, side, BICUBIC),
  'clip-crop': shorterEdgeAndCrop,
};

/** Resize to side x side by the profile that the bundle was made and measured with. */
export function resize(image, profile, side) {
  if (!(profile in PROFILES)) throw new MedgeError(`This page does not know the preprocessing profile “${profile}”.`);
  return PROFILES[profile](image, side);
}

/** RGB bytes to the model's input: channels first, float32, (level / 255 - mean) / std of each channel. */
export function normalisePixels({ width, height, data }, { mean, std }) {
  const area = width * height;
  const out = new Float32Array(3 * area);
  for (let index = 0; index < area; index++) {
    for (let channel = 0; channel < 3; channel++) {
      out[channel * area + index] = (data[index * 3 + channel] / 255 - mean[channel]) / std[channel];
    }
  }
  return out;
}

/** tf.image.resize cast to bytes: half-pixel centres, no antialiasing, truncated, every step in single precision. */
function resizeTensorFlow({ width, height, data }, side) {
  const f = Math.fround;
  const corners = (size) => {
    const scale = f(size / side);
    return Array.from({ length: side }, (_, index) => {
      const position = f(f(f(index + 0.5) * scale) - 0.5);
      const floor = Math.floor(position);
      return { low: Math.max(floor, 0), high: Math.min(floor + 1, size - 1), weight: f(position - floor) };
    });
  };
  const rows = corners(height);
  const columns = corners(width);
  const out = new Uint8Array(side * side * 3);
  rows.forEach((row, y) => columns.forEach((column, x) => {
    for (let channel = 0; channel < 3; channel++) {
      const at = (line, place) => data[(line * width + place) * 3 + channel];
      const mix = (line) => {
        const first = at(line, column.low);
        return f(first + f((at(line, column.high) - first) * column.weight));
      };
      const upper = mix(row.low);
      out[(y * side + x) * 3 + channel] = f(upper + f(f(mix(row.high) - upper) * row.weight));
    }
  }));
  return { width: side, height: side, data: out };
}

const triangle = (x) => Math.max(1 - Math.abs(x), 0);

/** Keys' cubic with a = -0.5, as Pillow's. */
function bicubic(x) {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

const BILINEAR = { filter: triangle, support: 1 };
const BICUBIC = { filter: bicubic, support: 2 };
const ONE = 2 ** 22;

/** Pillow's weights along one direction: for each output position where they start, and their values in 22 bits of fixed point. */
function coefficients(size, side, { filter, support }) {
  const scale = size / side;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: side }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support * stretch + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support * stretch + 0.5), size);
    const raw = Array.from({ length: last - first }, (_, offset) => filter((first + offset - centre + 0.5) / stretch));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map((w) => Math.trunc((w / total) * ONE + (w / total < 0 ? -0.5 : 0.5))) };
  });
}

const clipped = (sum) => Math.min(Math.max(Math.floor((sum + ONE / 2) / ONE), 0), 255);

function alongX(image, side, kernel) {
  const { width, height, data } = image;
  if (width === side) return image;
  const out = new Uint8Array(height * side * 3);
  coefficients(width, side, kernel).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        weights.forEach((weight, offset) => { sum += data[(y * width + first + offset) * 3 + channel] * weight; });
        out[(y * side + x) * 3 + channel] = clipped(sum);
      }
    }
  });
  return { width: side, height, data: out };
}

function alongY(image, side, kernel) {
  const { width, height, data } = image;
  if (height === side) return image;
  const row = width * 3;
  const out = new Uint8Array(side * row);
  coefficients(height, side, kernel).forEach(({ first, weights }, y) => {
    for (let at = 0; at < row; at++) {
      let sum = 0;
      weights.forEach((weight, offset) => { sum += data[(first + offset) * row + at] * weight; });
      out[y * row + at] = clipped(sum);
    }
  });
  return { width, height: side, data: out };
}

/** Pillow's resampling of bytes: along x first, unless along y saves more than twice as much, as Pillow does from version 13 on. */
function resamplePillow(image, columns, rows, kernel) {
  const rowsFirst = image.height > rows && image.height - rows > 2 * Math.max(0, image.width - columns);
  return rowsFirst ? alongX(alongY(image, rows, kernel), columns, kernel) : alongY(alongX(image, columns, kernel), rows, kernel);
}

/** The shorter edge to `side`, then the middle square. */
function shorterEdgeAndCrop(image, side) {
  const shorter = Math.min(image.width, image.height);
  const [columns, rows] = [image.width, image.height].map((edge) => Math.trunc((side * edge) / shorter));
  if (columns * rows > MAX_PIXELS) throw new MedgeError(`An image of ${image.width} × ${image.height} pixels is too narrow for this model.`);
  const { data } = resamplePillow(image, columns, rows, BICUBIC);
  const [left, top] = [Math.floor((columns - side) / 2), Math.floor((rows - side) / 2)];
  const out = new Uint8Array(side * side * 3);
  for (let y = 0; y < side; y++) {
    const from = ((y + top) * columns + left) * 3;
    out.set(data.subarray(from, from + side * 3), y * side * 3);
  }
  return { width: side, height: side, data: out };
}

function padToSquare({ width, height, data }) {
  const size = Math.max(width, height);
  const top = Math.floor((size - height) / 2);
  const left = Math.floor((size - width) / 2);
  const out = new Uint8Array(size * size * 3);
  for (let y = 0; y < height; y++) {
    out.set(data.subarray(y * width * 3, (y + 1) * width * 3), ((y + top) * size + left) * 3);
  }
  return { width: size, height: size, data: out };
}
