// Questions to a language model, about a picture or none; the answer comes as it is made, and can be stopped.

import { ask as send, get, lines, picture } from "./api.js"
import { choice, field, h } from "./dom.js"
import { provenance } from "./scores.js"
import { t } from "./words.js"

const LIMIT = 768 // tokens of an answer
const SIDE = 1344 // pixels; more than any MedGemma sees

export async function ask(main, instance, signal) {
  const models = (await get("/v1/models", { signal })).data.filter((one) => one.kind === "generator")
  if (!models.length) {
    main.replaceChildren(h("h1", {}, t("ask.title")), h("p", {}, t("ask.nomodel")))
    return
  }
  let turns = []
  let source = instance ? await dataUrl(picture(instance, { side: SIDE }), signal) : null
  const model = choice(models.map((one) => [one.id, one.id]), models[0].id)
  const question = h("textarea", { rows: "3", required: true, "aria-label": t("ask.question") })
  const seen = h("div", { class: "asked" })
  const talk = h("div", { "aria-live": "polite", "aria-atomic": "false" })
  const status = h("p", { class: "soft small", role: "status" })
  const stop = h("button", { type: "button", disabled: true }, t("ask.stop"))
  const go = h("button", { class: "main" }, t("ask.send"))
  let running = null

  const showPicture = () => seen.replaceChildren(...(source ? [h("img", { src: source, alt: t("ask.about") })] : []))
  const file = h("input", { type: "file", accept: "image/*,.dcm", onchange: async () => {
    const [one] = file.files
    source = one ? await readUrl(one.name.endsWith(".dcm") ? one.slice(0, one.size, "application/dicom") : one) : null
    showPicture()
  } })
  const answer = async (event) => {
    event.preventDefault()
    if (running || !question.value.trim()) return
    const mine = turns // those of this conversation, whatever is begun meanwhile
    const asked = question.value.trim()
    const content = [{ type: "text", text: asked }]
    if (source && !mine.length) content.unshift({ type: "image_url", image_url: { url: source } })
    mine.push({ role: "user", content })
    const out = h("div", { class: "turn answer" })
    talk.append(h("div", { class: "turn" }, asked), out)
    question.value = ""
    running = new AbortController()
    signal.addEventListener("abort", () => running?.abort())
    stop.disabled = false
    go.disabled = true
    status.textContent = t("ask.waiting")
    let said = ""
    let ended = false
    try {
      const body = { model: model.value, messages: mine, stream: true, max_tokens: LIMIT }
      const response = await send("POST", "/v1/chat/completions", body, { signal: running.signal })
      const place = (comment) => {
        const [, at, seconds] = /^place (\d+), about (\d+) s$/.exec(comment) ?? []
        if (at) status.textContent = t("ask.place", { at, seconds })
      }
      for await (const chunk of lines(response, place)) {
        if (chunk.error) throw new Error(chunk.error.message)
        const [{ delta, finish_reason: end }] = chunk.choices.length ? chunk.choices : [{ delta: {} }]
        if (delta.content) {
          said += delta.content
          out.append(delta.content)
          status.textContent = t("ask.answering")
        }
        ended ||= Boolean(end)
        if (end === "length") out.append(h("div", { class: "soft small" }, t("ask.cut")))
      }
      status.textContent = ended ? "" : t("ask.broken")
    } catch (error) {
      if (error.name === "AbortError") status.textContent = t("ask.stopped")
      else {
        status.textContent = ""
        out.append(h("div", { class: "error", role: "alert" }, error.message))
      }
    }
    if (said) {
      mine.push({ role: "assistant", content: said })
      const entry = models.find((one) => one.id === model.value)
      out.after(provenance({ model: entry.id, recipes: entry.recipes, parity: entry.parity }))
    } else mine.pop()
    running = null
    stop.disabled = true
    go.disabled = false
  }
  stop.addEventListener("click", () => running?.abort())
  const anew = h("button", { type: "button", onclick: () => {
    running?.abort()
    turns = []
    talk.replaceChildren()
    status.textContent = ""
  } }, t("ask.anew"))
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) answer(event)
  })
  showPicture()
  main.replaceChildren(
    h("h1", {}, t("ask.title")),
    h("form", { class: "card", onsubmit: answer },
      h("div", { class: "row" }, field(t("ask.model"), model), field(t("ask.picture"), file, true)), seen,
      field(t("ask.question"), question), h("div", { class: "row" }, go, stop, anew), status),
    talk,
  )
  question.focus()
}

async function dataUrl(address, signal) {
  return readUrl(await (await send("GET", address, undefined, { signal })).blob())
}

const readUrl = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader()
  reader.onload = () => resolve(reader.result)
  reader.onerror = () => reject(reader.error)
  reader.readAsDataURL(blob)
})
