// The page's words in five languages, and dates and numbers as each writes them. A language is one file in lang/.

export const LANGUAGES = { en: 'English', fr: 'Français', es: 'Español', pt: 'Português', sw: 'Kiswahili' };
const KEPT = 'medge-language';
let words = {};
export let language = 'en';

/** What was chosen before, else what the browser prefers, else English. */
function preferred() {
  const wanted = [localStorage.getItem(KEPT), ...navigator.languages].filter(Boolean);
  return wanted.map((one) => one.slice(0, 2).toLowerCase()).find((one) => one in LANGUAGES) ?? 'en';
}

export async function load() {
  language = preferred();
  words = await (await fetch(`/page/lang/${language}.json`)).json();
  document.documentElement.lang = language;
}

export function choose(name) {
  localStorage.setItem(KEPT, name);
  location.reload();
}

/** The words for a key, with {names} filled in. */
export function t(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The words for one of the station's own values, such as a state; the value itself where it is new to this page. */
export function named(group, value) {
  return words[`${group}.${value}`] ?? value;
}

export const number = (value, options = {}) => new Intl.NumberFormat(language, options).format(value);
export const percent = (value) => number(value, { style: 'percent', maximumFractionDigits: value > 0 && value < 0.01 ? 1 : 0 });
export const size = (bytes) => (bytes < 1e6 ? `${number(bytes / 1e3, { maximumFractionDigits: 0 })} kB` : `${number(bytes / 1e6, { maximumFractionDigits: 1 })} MB`);

/** A moment in seconds since 1970. */
export function moment(seconds) {
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(seconds * 1000));
}

/** A day as DICOM writes it, YYYYMMDD; what is no such day stays as it is. */
export function day(text) {
  const found = /^(\d{4})(\d\d)(\d\d)$/.exec(text ?? '');
  if (!found) return text ?? '';
  const date = new Date(Date.UTC(found[1], found[2] - 1, found[3]));
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeZone: 'UTC' }).format(date);
}

/** A name as DICOM writes it: family^given^middle^prefix^suffix. */
export function person(text) {
  const [family, ...others] = (text ?? '').split('=')[0].split('^').map((one) => one.trim());
  const rest = others.filter(Boolean).join(' ');
  return [family, rest].filter(Boolean).join(', ') || t('patient.unnamed');
}
