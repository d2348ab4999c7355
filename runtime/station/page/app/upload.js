// Files into the station: dropped, chosen, of a folder or a CD, or photos of a phone's camera.

import { post } from "./api.js"
import { field, h } from "./dom.js"
import { tell } from "./main.js"
import { t } from "./words.js"

// Of one request: a CD's thousands of files go in portions, and what has arrived stays when the network breaks off.
const MOST_FILES = 40
const MOST_BYTES = 64 << 20
const MOST_TOLD = 20 // refused files that are named
const PHOTOS = "image/jpeg,image/png" // by which phones also make JPEG of what their camera keeps otherwise

/** A place where files are dropped or chosen. `study` is where pictures go that say nothing of themselves; `sent` is called afterwards. */
export function uploads(sent, study = "") {
  const told = h("div", { class: "soft small wide", role: "status" }, t("upload.hint"))
  const take = async (files) => {
    if (!files.length) return
    const whose = study ? { study } : files.some(saysNothing) ? await askWhose(files) : {}
    if (!whose) return
    let refused = true
    try {
      refused = await send(files, whose, told)
    } catch (error) {
      told.replaceChildren(h("span", { class: "error" }, error.message))
      tell(error.message)
    }
    if (study && refused) return // the study is drawn anew, and what is said here would be gone
    if (study) tell(told.innerText)
    await sent()
  }
  const pick = (text, attributes) => {
    const input = h("input", { type: "file", multiple: true, "aria-label": text, ...attributes, onchange: (event) => {
      const files = [...event.target.files]
      input.value = ""
      take(files)
    } })
    return h("span", { class: "pick" }, h("button", { tabindex: "-1", "aria-hidden": "true" }, text), input)
  }
  const box = h("section", { class: "drop", "aria-label": t(study ? "upload.more" : "upload.title") },
    pick(t("upload.files"), {}), pick(t("upload.folder"), { webkitdirectory: true }),
    pick(t("upload.photo"), { accept: PHOTOS, capture: "environment" }), told)
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

/** Whether a file is a picture that names no patient; DICOM files do, whatever they are called. */
const saysNothing = (file) => /^image\/(?!dicom)/.test(file.type) || /\.(png|jpe?g|tiff?|bmp|webp)$/i.test(file.name)

/** Ask whose pictures these are; nothing where the dialog is closed. */
function askWhose(files) {
  return new Promise((resolve) => {
    const family = h("input", { autocomplete: "off", maxlength: "60" })
    const given = h("input", { autocomplete: "off", maxlength: "60" })
    const number = h("input", { autocomplete: "off", maxlength: "60" })
    let answer = null
    const box = h("dialog", { "aria-labelledby": "whose" },
      h("form", { method: "dialog", class: "whose", onsubmit: () => {
        const words = [family, given].map((one) => one.value.replaceAll(/[\^=\\]/g, " ").trim())
        answer = { patient_name: words.filter(Boolean).length ? words.join("^") : "", patient_id: number.value.trim() }
      } },
      h("h2", { id: "whose" }, t("upload.whose")),
      h("p", { class: "soft" }, t("upload.count", { count: files.length })),
      field(t("upload.family"), family), field(t("upload.given"), given), field(t("study.number"), number),
      h("div", { class: "row" }, h("button", { class: "main" }, t("upload.send")),
        h("button", { type: "button", onclick: () => box.close() }, t("upload.back")))))
    box.addEventListener("close", () => {
      box.remove()
      resolve(answer)
    })
    document.body.append(box)
    box.showModal()
  })
}

/** Send files in portions, with a bar; what was refused is named below it. Whether anything was. */
async function send(files, whose, told) {
  const bar = h("progress", { max: files.length, value: "0", "aria-label": t("upload.title") })
  const now = h("p", {}, t("upload.sending", { count: files.length }))
  told.replaceChildren(now, bar)
  const refused = []
  let taken = 0
  let left = 0
  for (const some of portions(files)) {
    const form = new FormData()
    for (const [key, value] of Object.entries(whose)) if (value) form.append(key, value)
    for (const file of some) form.append("files", file, file.webkitRelativePath || file.name)
    const found = await post("/v1/studies", form)
    const wrong = found.received.filter((one) => one.error || one.differs)
    refused.push(...wrong)
    taken += found.received.length - wrong.length
    left += found.left_out
    bar.value += some.length
  }
  const why = (one) => `${one.name}: ${one.error ? one.error.message : t("upload.differs")}`
  const rest = refused.length - MOST_TOLD
  told.replaceChildren(h("p", {}, t("upload.done", { count: taken }), left ? ` ${t("upload.left", { count: left })}` : ""),
    ...refused.slice(0, MOST_TOLD).map((one) => h("div", { class: "error" }, why(one))),
    ...(rest > 0 ? [h("div", { class: "error" }, t("upload.rest", { count: rest }))] : []))
  return refused.length > 0
}

function portions(files) {
  const made = []
  let bytes = Infinity
  for (const file of files) {
    if (bytes + file.size > MOST_BYTES || made.at(-1).length === MOST_FILES) {
      made.push([])
      bytes = 0
    }
    made.at(-1).push(file)
    bytes += file.size
  }
  return made
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
