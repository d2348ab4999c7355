// What the encoder says of the picture that is shown: its labels, what calibrated scores decide, where, and what is like it.

import { link, picture, post } from "./api.js"
import { h } from "./dom.js"
import { tell } from "./main.js"
import { percent, t } from "./words.js"

const SHOWN = 8 // labels before the rest is asked for

/** The judged picture that is shown, or the nearest one of the same series. */
function judged(content, shown, order) {
  const of = content.instances.filter((one) => order.has(`${one.instance} ${one.frame}`))
  const place = order.get(`${shown.instance} ${shown.frame}`) ?? 0
  const far = (one) => Math.abs(order.get(`${one.instance} ${one.frame}`) - place)
  return of.sort((one, other) => far(one) - far(other))[0]
}

/** A panel about one picture of a series; `order` is {"instance frame": place}. */
export function scores(results, shown, order, view) {
  const found = results.filter((one) => one.kind === "classify").map((one) => [one.content, judged(one.content, shown, order)])
  const [content, one] = found.reverse().find(([, picked]) => picked) ?? []
  if (!one) return h("p", { class: "soft" }, t("scores.none"))
  const exact = one.instance === shown.instance && one.frame === shown.frame
  return h("div", {},
    exact ? null : h("p", { class: "soft small" }, t("scores.other", { at: order.get(`${one.instance} ${one.frame}`) + 1 })),
    one.error ? h("p", { class: "error" }, one.error) : table(content, one, view),
    provenance(content))
}

/** Which bundle said it, by which recipe, and what its parity measurement found. */
export function provenance(content) {
  const recipes = [...new Set(Object.values(content.recipes ?? {}))].join(", ")
  return h("p", { class: "soft small" }, `${t("result.by")} ${content.model}`, recipes ? ` (${recipes})` : "", " · ",
    h("span", { class: `mark ${content.parity}` }, `${t("result.parity")}: ${t(`parity.${content.parity}`)}`))
}

function table(content, one, view) {
  const says = new Map((one.decision?.findings ?? []).map((finding) => [finding.label, finding]))
  const rows = one.labels.map((score) => scored(score, says.get(score.label), one, content.maps === false ? null : view))
  const rest = rows.slice(SHOWN)
  const more = h("button", { onclick: () => {
    more.replaceWith(...rest)
  } }, t("scores.more", { count: rest.length }))
  return h("div", {},
    one.decision?.unlike ? h("p", { class: "unlike", role: "alert" }, t("scores.unlike")) : null,
    content.calibrated ? null : h("p", { class: "soft small" }, t("scores.uncalibrated")),
    one.labels.length ? null : h("p", { class: "soft" }, t("scores.nolabels")),
    rows.slice(0, SHOWN), rest.length ? more : null)
}

/** Without a view there is no button that shows where: the bundle can't say it. */
function scored(score, finding, one, view) {
  const share = finding?.probability ?? score.probability
  const where = h("button", { "aria-pressed": "false", onclick: async () => {
    if (view.mapShown() && where.getAttribute("aria-pressed") === "true") {
      view.hideMap()
      where.setAttribute("aria-pressed", "false")
      return
    }
    const query = new URLSearchParams({ label: score.label, frame: one.frame })
    try {
      await view.showMap(`/v1/instances/${encodeURIComponent(one.instance)}/map?${query}`)
      where.setAttribute("aria-pressed", "true")
    } catch (error) {
      tell(error.message)
    }
  } }, t("scores.where"))
  const says = finding && h("span", { class: `mark ${finding.says.split(" ")[0]}` }, t(`says.${finding.says}`))
  return h("div", { class: "score" }, h("span", {}, score.label), h("span", { class: "tail" }, says, percent(share), view && where),
    h("meter", { min: "0", max: "1", value: String(share), "aria-label": score.label }))
}

/** Pictures of this clinic that are like the one that is shown. */
export function similar(view) {
  const list = h("ul", { class: "near" })
  const button = h("button", { onclick: async () => {
    list.replaceChildren(h("li", { class: "soft" }, t("loading")))
    try {
      const { found } = await post("/v1/search", { instance: view().instance, count: 8 })
      list.replaceChildren(...found.map((one) => h("li", {}, h("a", { href: link(one.study) },
        h("img", { src: picture(one.instance, { frame: one.frame, side: 128 }), alt: t("similar.open"), loading: "lazy" }),
        one.similarity.toFixed(2)))))
      if (!found.length) list.replaceChildren(h("li", { class: "soft" }, t("similar.none")))
    } catch (error) {
      list.replaceChildren(h("li", { class: "error" }, error.message))
    }
  } }, t("similar.find"))
  return h("section", { class: "card", "aria-label": t("similar.title") }, h("h2", {}, t("similar.title")), button, list)
}
