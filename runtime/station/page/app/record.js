// Questions over a patient's record: a FHIR bundle that is read, and not kept.

import { get, post } from "./api.js"
import { choice, field, h } from "./dom.js"
import { provenance } from "./scores.js"
import { t } from "./words.js"

export async function record(main, _, signal) {
  const models = (await get("/v1/models", { signal })).data.filter((one) => one.kind === "generator")
  if (!models.length) {
    main.replaceChildren(h("h1", {}, t("record.title")), h("p", {}, t("ask.nomodel")))
    return
  }
  let bundle = null
  const model = choice(models.map((one) => [one.id, one.id]), models[0].id)
  const told = h("p", { class: "soft small", role: "status" })
  const file = h("input", { type: "file", accept: ".json,application/json,application/fhir+json", required: true, onchange: async () => {
    bundle = null
    told.textContent = ""
    const [one] = file.files
    if (!one) return
    try {
      bundle = JSON.parse(await one.text())
      told.textContent = t("record.read", { count: bundle.entry?.length ?? 0 })
    } catch {
      told.textContent = t("record.nojson")
    }
  } })
  const question = h("textarea", { rows: "3", required: true, maxlength: "4000" })
  const out = h("div", { "aria-live": "polite" })
  const go = h("button", { class: "main" }, t("ask.send"))
  const send = async (event) => {
    event.preventDefault()
    if (!bundle) return
    const asked = bundle // the one that the answer is about, whatever is chosen meanwhile
    go.disabled = true
    out.replaceChildren(h("p", { class: "soft" }, t("ask.waiting")))
    try {
      const found = await post("/v1/record", { bundle: asked, question: question.value, model: model.value }, { signal })
      const recipes = models.find((one) => one.id === found.model)?.recipes
      out.replaceChildren(h("section", { class: "card" },
        h("div", { class: "turn answer" }, found.answer), provenance({ ...found, recipes }),
        h("p", { class: "soft small" }, t("record.shown", { shown: found.shown, of: found.of })),
        found.note ? h("p", { class: "small" }, found.note) : null,
        h("h2", {}, t("record.sources")), found.sources.map((one) => source(asked, one)),
        found.sources.length ? null : h("p", { class: "soft" }, t("record.nosources"))))
    } catch (error) {
      if (!signal.aborted) out.replaceChildren(h("p", { class: "error", role: "alert" }, error.message))
    }
    go.disabled = false
  }
  main.replaceChildren(
    h("h1", {}, t("record.title")), h("p", { class: "soft" }, t("record.about")),
    h("form", { class: "card", onsubmit: send },
      h("div", { class: "row" }, field(t("ask.model"), model), field(t("record.file"), file, true)), told,
      field(t("ask.question"), question), h("div", { class: "row" }, go)),
    out,
  )
}

/** A cited resource, one click away. */
function source(bundle, reference) {
  const found = (Array.isArray(bundle.entry) ? bundle.entry : []).map((one) => one.resource).find((one) => one && `${one.resourceType}/${one.id}` === reference)
  return h("details", {}, h("summary", {}, reference), h("pre", {}, found ? JSON.stringify(found, null, 1) : t("record.missing")))
}
