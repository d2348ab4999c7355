// A bundle over HTTP: its manifest, files checked against it, and its label bank.

import { MedgeError } from './errors.js';
import { readTensors } from './safetensors.js';

const FORMAT_VERSION = 2;
const SEAL_BYTES = 83; // the manifest's last member, the SHA-256 of the bytes before it (runtime/bundles/manifest.py)

export async function openBundle() {
  const response = await fetch('manifest.json').catch(() => null);
  if (!response?.ok) throw new MedgeError('The bundle can’t be loaded. Open the page once with a connection, then it works without.');
  const bytes = new Uint8Array(await response.arrayBuffer());
  const manifest = JSON.parse(new TextDecoder().decode(bytes));
  if (manifest.format_version > FORMAT_VERSION) throw new MedgeError('This bundle is newer than the page. Copy the page again with it.');
  if (manifest.format_version < FORMAT_VERSION) throw new MedgeError('This bundle is older than the page. Export the bundle again.');
  await check(bytes.subarray(0, -SEAL_BYTES), manifest.digest, 'manifest.json');
  if (!opened(manifest)?.towers.vision) throw new MedgeError('This bundle holds nothing that a browser runs. Export it with --target web.');
  const status = parity(manifest).status ?? 'not measured';
  if (status !== 'passed') throw new MedgeError(`This bundle’s parity with the original model is ${status}; it is not used. See parity.html.`);
  return manifest;
}

/** What the page opens of a bundle: its ONNX towers, with their parity. */
const opened = (manifest) => manifest.artefacts.onnx;

/** What was measured of it: { status, warnings, … }. */
export const parity = (manifest) => opened(manifest).parity ?? {};

/** How the vision tower is called: { recipe, file, inputs, output, … }. */
export const visionTower = (manifest) => opened(manifest).towers.vision;

export function entry(manifest, role) {
  return manifest.files.find((file) => file.role === role);
}

/** A file's bytes, checked by size and, where the browser offers it (https and localhost), by SHA-256. */
export async function readFile(file, onProgress = () => {}) {
  const response = await fetch(file.path);
  if (!response.ok) throw new MedgeError(`The bundle’s file ${file.path} can’t be loaded (${response.status}).`);
  const bytes = new Uint8Array(file.bytes);
  const reader = response.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > bytes.length) throw new MedgeError(`${file.path} is longer than the bundle says. Copy it again.`);
    bytes.set(value, at);
    at += value.length;
    onProgress(at / bytes.length);
  }
  if (at !== bytes.length) throw new MedgeError(`${file.path} is cut short: ${at} of ${bytes.length} bytes. Copy it again.`);
  await check(bytes, file.sha256, file.path);
  return bytes;
}

/** Compare the SHA-256 of bytes with what it should be, where the browser can compute it. */
async function check(bytes, expected, path) {
  if (!globalThis.crypto?.subtle) return;
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const text = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (text !== expected) throw new MedgeError(`${path} was changed or damaged. Copy the bundle again.`);
}

/** labels.safetensors to { names, embeddings }: one unit-length embedding a label. */
export function readLabelBank(bytes) {
  const { metadata, tensors } = readTensors(bytes, 'labels.safetensors');
  // Names from their own JSON text: an object would put labels such as "1" and "2" before the others.
  return { names: orderedKeys(metadata.prompts), embeddings: tensors.embeddings.rows };
}

function orderedKeys(text) {
  const keys = [];
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:\s*\[(?:"(?:[^"\\]|\\.)*"|[^\]"])*\]/g)) keys.push(JSON.parse(match[1]));
  return keys;
}
