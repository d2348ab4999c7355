// A classic worker, since the decoders are scripts that leave a name behind (npm @cornerstonejs/codec-openjpeg and codec-charls).

const VENDOR = new URL('../vendor/', self.location.href).href;
const LIBRARIES = {
  'JPEG 2000': { script: 'openjpegwasm_decode.js', factory: 'OpenJPEGWASM', decoder: 'J2KDecoder' },
  'JPEG-LS': { script: 'charlswasm_decode.js', factory: 'CharLSWASM', decoder: 'JpegLSDecoder' },
};
const quiet = () => {};

self.onmessage = async ({ data: { kind, bytes } }) => {
  const { script, factory, decoder } = LIBRARIES[kind];
  let library;
  try {
    importScripts(VENDOR + script);
    library = await self[factory]({ locateFile: (name) => VENDOR + name, print: quiet, printErr: quiet });
  } catch {
    self.postMessage({ missing: true });
    return;
  }
  try {
    const made = new library[decoder]();
    made.getEncodedBuffer(bytes.length).set(bytes);
    made.decode();
    const { width, height, componentCount } = made.getFrameInfo();
    const pixels = made.getDecodedBuffer().slice(); // a copy: what the decoder gives lies in its own memory
    if (!pixels.length) throw new Error('nothing decoded');
    const planar = componentCount > 1 && made.getInterleaveMode?.() === 0;
    self.postMessage({ width, height, samples: componentCount, planar, pixels }, [pixels.buffer]);
  } catch {
    self.postMessage({ damaged: true });
  }
};
