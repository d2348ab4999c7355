// Calibrated scores: present, absent or uncertain, and whether a picture is unlike all that the bundle was calibrated on.
// The arithmetic is that of runtime/decisions, in double precision; docs/reference/bundle-format.md says it in words.

import { MedgeError } from './errors.js';
import { readTensors } from './safetensors.js';

const FORMAT = 1;
const PATH = 'scores.safetensors';
export const UNLIKE = 'unlike anything this bundle was calibrated on';

/**
 * A calibration from the bytes of its file: { facts, whitening, centres }.
 *
 * @param size numbers of an embedding
 */
export function readCalibration(bytes, size) {
  const { metadata, tensors: { whitening, centres, ...others } } = readTensors(bytes, PATH);
  const problem = () => {
    if (!whitening || !centres || Object.keys(others).length || !metadata.facts) return 'it holds something else';
    if (whitening.shape[0] !== size || whitening.shape[1] !== size || centres.shape[1] !== size) return 'it is of embeddings of another size';
    const values = [...whitening.rows, ...centres.rows];
    if (!values.every((row) => row.every(Number.isFinite))) return 'a value is no finite number';
    return problemOf(JSON.parse(metadata.facts), centres.shape[0]);
  };
  let found;
  try {
    found = problem();
  } catch (error) { // a field is missing, or of another form
    found = error.message;
  }
  if (found) throw new MedgeError(`${PATH} is no calibration of scores: ${found}. Calibrate or copy it again.`);
  return { facts: JSON.parse(metadata.facts), whitening: whitening.rows, centres: centres.rows };
}

/** Refuse a calibration of other scores than this bundle's, whose thresholds would be wrong here. */
export function checkBelongs({ facts }, manifest) {
  const hash = (role) => manifest.files.find((file) => file.role === role)?.sha256;
  const fingerprint = `${hash('vision')}/${manifest.preprocessing.profile}`;
  if (facts.fingerprint !== fingerprint || facts.labels_sha256 !== hash('labels')) {
    throw new MedgeError(`${PATH} was fitted to other scores than this bundle’s. Run “medge calibrate-scores” on this bundle.`);
  }
}

const isNumber = (least, most) => (value) => Number.isFinite(value) && value >= least && value <= most;
const isShare = isNumber(0, 1);

/** What is wrong with facts, or null. */
function problemOf({ format, form, labels, kinds, centres, limit }, count) {
  if (format !== FORMAT) return `its format is ${format}, and this page reads ${FORMAT}`;
  if (!['one label', 'findings'].includes(form)) return `its form is ${form}`;
  if (!labels.length || !kinds.length || centres.length !== count) return 'its labels, kinds or centres are not complete';
  if (!centres.every((kind) => Number.isInteger(kind) && kind >= 0 && kind < kinds.length)) return 'a centre is of a kind that is not there';
  if (limit !== null && !isNumber(0, 1e9)(limit)) return 'its limit is no distance';
  for (const { slopes, offsets, points, likely_from: likelyFrom } of kinds) {
    if (![slopes, offsets, points].every((values) => values.length === labels.length)) return 'a kind has not as many values as there are labels';
    if (!slopes.every((slope) => slope > 0 && isNumber(0, 1000)(slope)) || !offsets.every(isNumber(-1e6, 1e6))) return 'a slope or an offset is out of bounds';
    const thresholds = points.filter(Boolean).map((point) => [point.absent_below, point.present_above]);
    if (![likelyFrom, ...thresholds.flat()].every((share) => share === null || isShare(share))) return 'a threshold is no share';
    if (thresholds.some(([low, high]) => low !== null && high !== null && low > high)) return 'a label is both present and absent';
    if (form === 'one label' && !thresholds.length) return 'a kind has no label';
  }
  return null;
}

/**
 * Decide on an image: { unlike, distance, kind, findings: [{ label, says, probability }], likely }.
 *
 * @param embedding of unit length
 * @param logits scale * cosine + bias of the calibrated labels; null where the image is scored for other labels
 */
export function decide({ facts, whitening, centres }, embedding, logits) {
  const white = whitening.map((row) => row.reduce((sum, value, index) => sum + value * embedding[index], 0));
  const squares = centres.map((centre) => centre.reduce((sum, value, index) => sum + (white[index] - value) ** 2, 0));
  const nearest = squares.indexOf(Math.min(...squares));
  const distance = Math.sqrt(squares[nearest]);
  const kind = facts.kinds[facts.centres[nearest]];
  const unlike = facts.limit !== null && distance > facts.limit;
  if (!logits) return { unlike, distance, kind: kind.name, findings: [], likely: null };
  const shares = probabilities(kind, logits, facts.form === 'one label');
  const findings = facts.labels.map((label, index) => {
    const point = kind.points[index];
    if (!point) return { label, says: 'not calibrated', probability: null };
    const says = said(point, shares[index]);
    return { label, says: unlike && says !== 'not calibrated' ? 'uncertain' : says, probability: shares[index] };
  });
  const isLikely = (_, index) => kind.points[index] && (unlike || shares[index] >= kind.likely_from);
  return { unlike, distance, kind: kind.name, findings, likely: kind.likely_from === null ? null : facts.labels.filter(isLikely) };
}

function probabilities({ slopes, offsets, points }, logits, isOne) {
  const scaled = logits.map((logit, index) => logit * slopes[index] + offsets[index]);
  if (!isOne) return scaled.map((value) => 1 / (1 + Math.exp(-value)));
  const there = scaled.map((value, index) => (points[index] ? value : -Infinity)); // labels of other kinds take nothing
  const greatest = Math.max(...there);
  const powers = there.map((value) => Math.exp(value - greatest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function said({ absent_below: low, present_above: high }, share) {
  if (low === null && high === null) return 'not calibrated';
  if (low !== null && share < low) return 'absent';
  return high !== null && share > high ? 'present' : 'uncertain';
}
