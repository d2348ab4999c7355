// Studies: found, filtered, and brought in.

import { get, link, may, picture, post } from "./api.js"
import { afterwards, choice, field, h } from "./dom.js"
import { tell } from "./main.js"
import { day, moment, person, plain, stateWord, t } from "./words.js"

const PAGE = 50
const STATES = ["new", "waiting", "running", "done", "needs a look"]
const MODALITIES = ["CR", "CT", "DX", "ES", "MG", "MR", "OP", "OT", "SM", "US", "XC"]
const kept = { text: "", modality: "", state: "", offset: 0 } // what was filtered last, for those who come back

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
    kept[name] = event.target.value
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
      field(t("list.state"), choice([all, ...STATES.map((one) => [one, stateWord(one)])], kept.state, { onchange: filter("state") }))),
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads.map(([key]) => h("th", { scope: "col" }, t(key))))), body),
    pages,
  )
  addEventListener("medge:changed", later, { signal })
  const clock = setInterval(() => reload(true).catch(() => {}), 30_000) // where events do not come through
  signal.addEventListener("abort", () => clearInterval(clock))
  await reload()
}

const filtered = () => kept.text || kept.modality || kept.state

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

/** Where files, folders and photos are dropped or chosen. */
function uploads(reload) {
  const told = h("p", { class: "soft small wide", role: "status" }, t("upload.hint"))
  const take = async (files) => {
    if (!files.length) return
    const form = new FormData()
    for (const file of files) form.append("files", file, file.webkitRelativePath || file.name)
    told.textContent = t("upload.sending", { count: files.length })
    try {
      const { received } = await post("/v1/studies", form)
      const wrong = received.filter((one) => one.error)
      const taken = received.length - wrong.length
      told.replaceChildren(t("upload.done", { count: taken }),
        ...wrong.slice(0, 20).map((one) => h("div", { class: "error" }, `${one.name}: ${one.error.message}`)))
      await reload()
    } catch (error) {
      told.replaceChildren(h("span", { class: "error" }, error.message))
      tell(error.message)
    }
  }
  const pick = (text, attributes) => {
    const input = h("input", { type: "file", multiple: true, "aria-label": text, ...attributes, onchange: (event) => {
      take([...event.target.files]).then(() => (input.value = ""))
    } })
    return h("span", { class: "pick" }, h("button", { tabindex: "-1", "aria-hidden": "true" }, text), input)
  }
  const box = h("section", { class: "drop", "aria-label": t("upload.title") },
    pick(t("upload.files"), {}), pick(t("upload.folder"), { webkitdirectory: true }),
    pick(t("upload.photo"), { accept: "image/*", capture: "environment" }), told)
  box.addEventListener("dragover", (event) => {
    event.preventDefault()
    box.classList.add("over")
  })
  box.addEventListener("dragleave", () => box.classList.remove("over"))
  box.addEventListener("drop", async (event) => {
    event.preventDefault()
    box.classList.remove("over")
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean)
    try {
      await take(entries.length ? (await Promise.all(entries.map(inside))).flat() : [...event.dataTransfer.files])
    } catch (error) {
      tell(error.message)
    }
  })
  return box
}

/** The files of a dropped file or folder. */
async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))]
  const reader = entry.createReader()
  const found = []
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
    if (!some.length) return found
    found.push(...(await Promise.all(some.map(inside))).flat())
  }
}
