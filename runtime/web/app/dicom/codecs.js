// JPEG 2000 and JPEG-LS: decoded in a worker of its own for each frame, which is ended where it takes too long.

import { MedgeError } from '../errors.js';

const LONGEST = 60_000; // milliseconds, for the largest films on a slow phone

/**
 * Decode a frame: { width, height, samples, planar, pixels }, the samples of a pixel in `pixels` as one byte or as two, low first.
 * @param kind 'JPEG 2000' or 'JPEG-LS'
 */
export async function decodeApart(kind, bytes) {
  const worker = new Worker(new URL('./codec_worker.js', import.meta.url));
  let timer;
  try {
    const answer = await new Promise((resolve) => {
      timer = setTimeout(() => resolve({ slow: true }), LONGEST);
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = () => resolve({ missing: true });
      const copy = bytes.slice(); // a view would take the whole file along
      worker.postMessage({ kind, bytes: copy }, [copy.buffer]);
    });
    if (answer.missing) {
      throw new MedgeError(`The decoder of ${kind} is not in this bundle, so this DICOM file can’t be read. Copy the bundle again, or export it again with --target web.`);
    }
    if (answer.slow) throw new MedgeError(`This DICOM file takes more than ${LONGEST / 1000} seconds to decode.`);
    if (!answer.pixels) throw new MedgeError(`The ${kind} pixels of this DICOM file are damaged.`);
    return answer;
  } finally {
    clearTimeout(timer);
    worker.terminate();
  }
}
