// The report: a draft that a person edits, signs with their name, and releases. What is signed is never changed.

import { get, may, post, put, session, study as address } from "./api.js"
import { choice, field, h } from "./dom.js"
import { tell } from "./main.js"
import { actionWord, moment, t } from "./words.js"
import { provenance } from "./scores.js"
import { mark } from "./worklist.js"

const TEMPLATES = ["general", "chest-xray", "ct", "fundus", "dermatology", "pathology"]

/** The panel, and what is called when something about the study has changed. */
export async function report(study, patient, facts, signal) {
  const path = `${address(study.uid)}/report`
  let now = await get(path, { signal })
  const models = (await get("/v1/models", { signal })).data.filter((one) => one.kind === "generator")
  const text = h("textarea", { "aria-label": t("report.text"), spellcheck: "true" })
  const name = h("input", { value: session.csrf ? session.name : "", readonly: session.csrf ? true : null, autocomplete: "name" })
  const clinical = h("input", { maxlength: "2000" })
  const template = choice([["", t("report.byModality")], ...templates()], "")
  const head = h("p", {})
  const acts = h("div", { class: "row" })
  const past = h("div", {})
  const paper = h("div", { class: "printed" })
  const wrong = h("p", { class: "error", role: "alert" })
  const unused = h("div", {})
  const other = h("div", { role: "status" })
  const changed = () => text.value !== now.text

  const act = (work) => async () => {
    wrong.textContent = ""
    try {
      now = (await work()) ?? now
      show()
    } catch (error) {
      wrong.textContent = error.message
      if (error.status === 409) await refresh(study.results)
    }
  }
  const save = act(() => put(path, { text: text.value, version: now.version }))
  const sign = act(async () => {
    if (!name.value.trim()) throw new Error(t("report.needsName"))
    if (changed()) now = await put(path, { text: text.value, version: now.version })
    return post(`${path}/sign`, { name: name.value, version: now.version })
  })
  const release = act(() => post(`${path}/release`))
  const reopen = act(() => post(`${path}/reopen`))
  const draft = act(async () => {
    if (changed()) now = await put(path, { text: text.value, version: now.version }) // else the draft would stand in its way
    await post(`${address(study.uid)}/jobs`, { kind: "report", template: template.value || null, clinical: clinical.value })
    tell(t("report.asked"))
    return now
  })

  function show() {
    const isSigned = now.state === "signed" || now.state === "released"
    text.value = now.text
    text.readOnly = isSigned || !may("reader")
    const who = now.model ? t("report.byModel", { model: now.model }) : now.author
    head.replaceChildren(mark(now.state), " ", isSigned
      ? t("report.signed", { name: now.signed_by, when: moment(now.signed_at) })
      : now.version ? t("report.version", { version: now.version, who }) : "")
    const buttons = !may("reader") ? [] : isSigned
      ? [now.state === "signed" ? h("button", { class: "main", onclick: release }, t("report.release")) : null,
        h("button", { onclick: reopen }, t("report.reopen"))]
      : [h("button", { onclick: save }, t("report.save")), field(t("report.name"), name),
        h("button", { class: "main", onclick: sign }, t("report.sign"))]
    acts.replaceChildren(...buttons.filter(Boolean), h("button", { onclick: () => print() }, t("report.print")))
    asking.hidden = isSigned || !models.length || !may("reader")
    past.replaceChildren(...now.history.map((one) => h("div", { class: "soft small" }, `${moment(one.at)} · ${one.who} · ${actionWord(one.action)}`)))
    paper.replaceChildren(
      h("h1", {}, t("report.title")), h("p", {}, patient),
      h("dl", { class: "facts" }, facts.flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])),
      h("pre", {}, now.text),
      h("p", {}, isSigned ? t("report.signed", { name: now.signed_by, when: moment(now.signed_at) }) : t("report.unsigned")),
      h("footer", {}, t("caution")))
  }

  const asking = h("details", {}, h("summary", {}, t("report.draft")),
    h("div", { class: "row" }, field(t("report.template"), template), field(t("report.clinical"), clinical, true),
      h("button", { onclick: draft }, t("report.askDraft"))))
  show()
  const panel = h("section", { class: "card", "aria-label": t("report.title") },
    h("div", { class: "screen" }, h("h2", {}, t("report.title")), head, asking, text, other, wrong, acts, unused,
      h("details", {}, h("summary", {}, t("report.history")), past)),
    paper)
  const stay = (event) => changed() && !text.readOnly && event.preventDefault()
  addEventListener("beforeunload", stay, { signal })
  addEventListener("medge:leaving", (event) => {
    if (changed() && !text.readOnly && !confirm(t("report.unsaved"))) event.preventDefault()
  }, { signal })
  const showUnused = (results) => {
    const left = results.filter((one) => one.kind === "report" && one.content.entered === false)
    unused.replaceChildren(...(left.length ? [h("details", {}, h("summary", {}, t("report.drafts")),
      left.map((one) => h("div", {}, h("p", { class: "soft small" }, moment(one.created)), h("pre", {}, one.content.text), provenance(one.content))))] : []))
  }
  showUnused(study.results)
  /** A newer version is shown at once, unless somebody is writing here: then they choose, and lose nothing. */
  const refresh = async (results) => {
    showUnused(results)
    const newest = await get(path, { signal, background: true })
    if (newest.version < now.version || (newest.version === now.version && newest.state === now.state)) return
    if (!changed() || text.readOnly) {
      now = newest
      show()
      return
    }
    const choose = (isMine) => () => {
      const mine = text.value
      now = newest
      show()
      if (isMine && !text.readOnly) text.value = mine
      wrong.textContent = ""
      other.replaceChildren()
    }
    other.replaceChildren(h("p", { class: "error" }, t("report.newer")), h("div", { class: "row" },
      newest.signed_at ? null : h("button", { onclick: choose(true) }, t("report.keepMine")),
      h("button", { onclick: choose(false) }, t("report.takeNew"))))
  }
  return [panel, refresh]
}

const templates = () => TEMPLATES.map((one) => [one, t(`template.${one}`)])
