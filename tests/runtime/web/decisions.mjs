// node decisions.mjs PAGE GOLDEN: the page's decisions on golden images, and files that it refuses; an error ends it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [, , page, golden] = process.argv;
const { checkBelongs, decide, readCalibration } = await import(pathToFileURL(`${page}/app/decisions.js`));
const { cases, refused } = JSON.parse(readFileSync(golden, 'utf8'));
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const SIZE = cases[0].images[0].embedding.length;

function close(found, expected, name) {
  assert.ok(Math.abs(found - expected) <= 1e-9 * Math.abs(expected) + 1e-300, `${name}: ${found} in place of ${expected}`);
}

let count = 0;
for (const { name, scores, logit_scale: scale, logit_bias: bias, images } of cases) {
  const calibration = readCalibration(bytes(scores), SIZE);
  for (const { name: image, embedding, cosines, decision } of images) {
    const logits = cosines && cosines.map((cosine) => Math.fround(cosine) * scale + bias);
    const found = decide(calibration, embedding.map(Math.fround), logits);
    const where = `${name}, ${image}`;
    close(found.distance, decision.distance, where);
    found.findings.forEach(({ probability }, index) => {
      const expected = decision.findings[index].probability;
      if (expected === null) assert.equal(probability, null, where);
      else close(probability, expected, where);
    });
    const words = ({ unlike, kind, findings, likely }) => ({ unlike, kind, likely, said: findings.map(({ label, says }) => [label, says]) });
    assert.deepEqual(words(found), words(decision), where);
    count += 1;
  }
}

const asError = (pattern) => (error) => error.constructor.name === 'MedgeError' && pattern.test(error.message);
for (const { name, scores } of refused) {
  assert.throws(() => readCalibration(bytes(scores), SIZE), asError(/is damaged|is no calibration/), name);
}

const calibration = readCalibration(bytes(cases[0].scores), SIZE);
const manifest = (vision, labels, profile) => ({
  preprocessing: { profile }, files: [{ role: 'vision', sha256: vision }, { role: 'labels', sha256: labels }],
});
const labels = '0'.repeat(64);
checkBelongs(calibration, manifest('golden', labels, 'eval-tf'));
for (const other of [manifest('other', labels, 'eval-tf'), manifest('golden', labels, 'hf-bicubic'), manifest('golden', '1', 'eval-tf')]) {
  assert.throws(() => checkBelongs(calibration, other), asError(/other scores than this bundle/));
}
console.log(JSON.stringify({ images: count, refused: refused.length }));
