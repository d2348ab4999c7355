// The page's sentences, in the reader's language; dates and numbers by the browser's own rules for it.

export const LANGUAGES = { en: "English", es: "Español", fr: "Français", pt: "Português", sw: "Kiswahili" }

let words = {}
export let language = "en"

/** The language that was chosen before, else the first of the browser's that there is. */
export function wanted() {
  const kept = localStorage.getItem("medge.language")
  if (kept in LANGUAGES) return kept
  return navigator.languages.map((one) => one.slice(0, 2)).find((one) => one in LANGUAGES) ?? "en"
}

export async function load(chosen) {
  words = await (await fetch(`/page/words/${chosen}.json`)).json()
  language = chosen
  document.documentElement.lang = chosen
}

export function choose(chosen) {
  localStorage.setItem("medge.language", chosen)
  return load(chosen)
}

/** A sentence, with {name} replaced by a value. */
export function t(key, values = {}) {
  const sentence = words[key] ?? key
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole))
}

/** What the API calls a state, or an action of its log, in the reader's words; what is new to this page, as it is. */
const known = (kind, word) => words[`${kind}.${word}`] ?? word
export const stateWord = (state) => known("state", state)
export const actionWord = (action) => known("action", action)

/** DICOM's YYYYMMDD. */
export function day(text) {
  const [, year, month, date] = /^(\d{4})(\d\d)(\d\d)$/.exec(text) ?? []
  return year ? new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(new Date(year, month - 1, date)) : text
}

/** Seconds since 1970. */
export const moment = (seconds) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(1000 * seconds))

/** A text of DICOM's, in which ^ parts words. */
export const plain = (text) => text.replaceAll("^", " ").trim()

export const percent = (share) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share)

/** A name as DICOM writes it: "Family^Given^Middle". */
export const person = (name) => name.split("=")[0].split("^").filter(Boolean).join(", ")
