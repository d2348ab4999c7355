// Files of tensors: eight bytes of header length, a JSON header, then the tensors' bytes, little-endian.

import { MedgeError } from './errors.js';

/** { metadata, tensors: { name: { shape, rows } } }, of tensors of two dimensions and single precision. */
export function readTensors(bytes, path) {
  try {
    const size = Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0, true));
    const { __metadata__: metadata = {}, ...header } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
    const tensors = Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, read(entry, bytes, 8 + size)]));
    return { metadata, tensors };
  } catch (error) {
    throw new MedgeError(`${path} is damaged (${error.message}). Copy the bundle again.`);
  }
}

function read({ dtype, shape, data_offsets: [from, to] }, bytes, start) {
  const [count, width] = shape;
  const isWhole = shape.length === 2 && to - from === 4 * count * width && start + to <= bytes.length;
  if (dtype !== 'F32' || !isWhole) throw new Error('a tensor has another size than its header says');
  const floats = new Float32Array(bytes.slice(start + from, start + to).buffer);
  return { shape, rows: Array.from({ length: count }, (_, row) => floats.subarray(row * width, (row + 1) * width)) };
}
