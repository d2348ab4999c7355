// Studies: found, filtered, and brought in.

import { get, link, may, picture } from "./api.js"
import { afterwards, choice, field, h } from "./dom.js"
import { uploads } from "./upload.js"
import { day, moment, person, plain, stateWord, t } from "./words.js"

const PAGE = 50
const STATES = ["new", "waiting", "running", "done", "needs a look"]
const MODALITIES = ["CR", "CT", "DX", "ES", "MG", "MR", "OP", "OT", "SM", "US", "XC"]
const kept = { text: "", modality: "", state: "", since: "", until: "", offset: 0 } // what was filtered last, for those who come back

export async function worklist(main, _, signal) {
  const body = h("tbody")
  const rows = new Map() // what has not changed stays as it is, and its picture is not asked for again
  const pages = h("div", { class: "row" })
  const reload = async (background = false) => {
    const query = new URLSearchParams({ ...kept, limit: PAGE })
    const found = await get(`/v1/studies?${query}`, { signal, background })
    const made = new Map(found.studies.map((one) => [JSON.stringify(one), one]))
    for (const text of rows.keys()) if (!made.has(text)) rows.delete(text)
    for (const [text, one] of made) if (!rows.has(text)) rows.set(text, row(one))
    body.replaceChildren(...[...made.keys()].map((text) => rows.get(text)))
    if (!found.studies.length) {
      body.append(h("tr", {}, h("td", { colspan: 6, class: "soft" }, t(filtered() ? "list.nothing" : "list.empty"))))
    }
    const turn = (by) => () => {
      kept.offset = Math.max(0, kept.offset + by)
      reload()
    }
    pages.replaceChildren(
      ...(kept.offset ? [h("button", { onclick: turn(-PAGE) }, t("list.newer"))] : []),
      ...(found.more ? [h("button", { onclick: turn(PAGE) }, t("list.older"))] : []),
    )
  }
  const soon = afterwards(() => !signal.aborted && reload(), 250)
  const later = afterwards(() => !signal.aborted && reload(true), 800)
  const filter = (name) => (event) => {
    kept[name] = event.target.type === "date" ? event.target.value.replaceAll("-", "") : event.target.value
    kept.offset = 0
    soon()
  }
  const all = ["", t("list.all")]
  const heads = [["list.picture"], ["list.patient"], ["list.what"], ["list.when"], ["list.state"], ["list.report"]]
  main.replaceChildren(
    h("h1", {}, t("list.title")),
    may("reader") ? uploads(reload) : "",
    h("div", { class: "row", role: "search" },
      field(t("list.search"), h("input", { type: "search", value: kept.text, oninput: filter("text") }), true),
      field(t("list.modality"), choice([all, ...MODALITIES.map((one) => [one, one])], kept.modality, { onchange: filter("modality") })),
      field(t("list.state"), choice([all, ...STATES.map((one) => [one, stateWord(one)])], kept.state, { onchange: filter("state") })),
      field(t("list.since"), date(kept.since, filter("since"))), field(t("list.until"), date(kept.until, filter("until")))),
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads.map(([key]) => h("th", { scope: "col" }, t(key))))), body),
    pages,
  )
  addEventListener("medge:changed", later, { signal })
  const clock = setInterval(() => reload(true).catch(() => {}), 30_000) // where events do not come through
  signal.addEventListener("abort", () => clearInterval(clock))
  await reload()
}

const filtered = () => kept.text || kept.modality || kept.state || kept.since || kept.until

/** A day's field; `value` is DICOM's YYYYMMDD. */
const date = (value, onchange) =>
  h("input", { type: "date", value: value.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3"), onchange })

function row(study) {
  const name = person(study.patient.name) || study.patient.id || t("list.unnamed")
  const face = study.picture
    ? h("img", { src: picture(study.picture, { side: 128 }), alt: "", loading: "lazy" })
    : h("div", { class: "noimage" })
  return h("tr", {},
    h("td", { class: "face" }, face),
    h("td", { class: "patient" }, h("a", { href: link(study.uid) }, name),
      study.patient.id && name !== study.patient.id ? h("div", { class: "soft small" }, study.patient.id) : null),
    h("td", { class: "plain" }, [study.modalities.join(", "), plain(study.description)].filter(Boolean).join(" · ")),
    h("td", { class: "plain" }, study.date ? day(study.date) : moment(study.received)),
    h("td", { class: "marks" }, mark(study.state)),
    h("td", { class: "marks" }, study.report === "none" ? null : mark(study.report)))
}

/** A state as a coloured word. */
export const mark = (state) => h("span", { class: `mark ${state.split(" ")[0]}` }, stateWord(state))
