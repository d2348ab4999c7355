// A study: its series, its pictures, what was found, and its report.

import { get, may, picture, post, remove, study as address } from "./api.js"
import { afterwards, h } from "./dom.js"
import { show, tell } from "./main.js"
import { report } from "./report.js"
import { scores, similar } from "./scores.js"
import { uploads } from "./upload.js"
import { frames, viewer } from "./viewer.js"
import { day, moment, person, plain, t } from "./words.js"
import { mark } from "./worklist.js"

export async function study(main, uid, signal) {
  let found = await get(address(uid), { signal })
  const shownSeries = found.series.filter((one) => one.instances.some((each) => each.rows || each.kind !== "dicom"))
  const all = shownSeries.length ? shownSeries : found.series
  let series = all.find((one) => one.instances.some((each) => each.uid === found.picture)) ?? all[0]
  const middle = h("div", {})
  const said = h("div", { "aria-live": "polite" })
  const work = h("div", {})
  const state = h("span", {}, mark(found.state))
  let view = null
  let order = new Map()

  const showScores = () => said.replaceChildren(scores(found.results, view.shown(), order, view))
  const open = (one) => {
    series = one
    const places = frames(one)
    order = new Map(places.map((each, at) => [`${each.instance} ${each.frame}`, at]))
    const telling = [...places.keys()].filter((at) => places[at].instance === found.picture)
    const middleOf = (some) => some[Math.floor((some.length - 1) / 2)]
    view = viewer(one, middleOf(telling.length ? telling : [...places.keys()]), afterwards(showScores, 120))
    middle.replaceChildren(view.element)
    list.replaceChildren(...all.map(entry))
    showScores()
  }
  const entry = (one) => {
    const face = one.instances[Math.floor(one.instances.length / 2)]
    const what = [one.modality, plain(one.description) || one.body_part].filter(Boolean).join(" · ")
    return h("li", {}, h("button", { "aria-current": one === series ? "true" : null, onclick: () => open(one) },
      h("img", { src: picture(face.uid, { side: 128 }), alt: "", loading: "lazy" }),
      h("span", {}, what, h("div", { class: "soft small" }, t("study.pictures", { count: frames(one).length })))))
  }
  const list = h("ul", {})
  const showWork = () => {
    work.replaceChildren(...jobs(found.jobs))
    state.replaceChildren(mark(found.state))
  }
  const reload = afterwards(async () => {
    if (signal.aborted) return
    found = await get(address(uid), { signal, background: true })
    showWork()
    if (view) showScores()
    await drafted(found.results)
  }, 400)
  addEventListener("medge:changed", ({ detail }) => {
    if (detail.kind === "all" || detail.uid === uid || detail.study === uid) reload()
  }, { signal })

  const name = person(found.patient.name) || found.patient.id || t("list.unnamed")
  const facts = [
    [t("study.number"), found.patient.id], [t("study.born"), day(found.patient.birth_date)], [t("study.sex"), found.patient.sex],
    [t("study.date"), found.date ? day(found.date) : moment(found.received)], [t("study.accession"), found.accession],
    [t("study.description"), plain(found.description)],
  ].filter(([, value]) => value)
  const [panel, drafted] = await report(found, name, facts, signal)
  const again = h("button", { onclick: () => post(`${address(uid)}/jobs`, { kind: "classify" }).then(reload, (error) => tell(error.message)) },
    t("study.again"))
  const gone = h("button", { onclick: async () => {
    if (!confirm(t("study.sure"))) return
    await remove(address(uid)).then(() => (location.hash = "#/"), (error) => tell(error.message))
  } }, t("study.remove"))
  const question = h("a", { href: `#/ask/${encodeURIComponent(found.picture ?? "")}` }, t("study.ask"))
  main.replaceChildren(
    h("div", { class: "screen" },
      h("h1", {}, name, " ", state),
      h("dl", { class: "facts" }, facts.flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])),
      h("div", { class: "row" }, found.picture ? question : null, may("reader") ? again : null, may("admin") ? gone : null)),
    h("div", { class: "study" },
      h("nav", { class: "seriesbox screen", "aria-label": t("study.series") }, list),
      h("div", { class: "screen" }, middle, may("reader") ? uploads(show, uid) : ""),
      h("div", {},
        h("section", { class: "card screen", "aria-label": t("scores.title") }, h("h2", {}, t("scores.title")), said),
        h("div", { class: "screen" }, series ? similar(() => view.shown()) : null), panel,
        h("section", { class: "card screen", "aria-label": t("jobs.title") }, h("h2", {}, t("jobs.title")), work))),
  )
  if (series) open(series)
  showWork()
}

/** Work on the study: what runs with its progress, what failed with its reason. */
function jobs(found) {
  if (!found.length) return [h("p", { class: "soft" }, t("jobs.none"))]
  return found.slice(0, 20).map((job) => {
    const act = (what) => () => post(`/v1/jobs/${job.id}/${what}`).catch((error) => tell(error.message))
    const isOpen = job.state === "waiting" || job.state === "running"
    return h("div", { class: "score" },
      h("span", {}, t(`job.${job.kind}`), " ", mark(job.state)),
      h("span", { class: "tail" },
        job.state === "waiting" && job.ahead ? h("span", { class: "soft small" }, t("jobs.ahead", { count: job.ahead })) : null,
        isOpen && may("reader") ? h("button", { onclick: act("cancel") }, t("jobs.cancel")) : null,
        (job.state === "parked" || job.state === "cancelled") && may("reader")
          ? h("button", { onclick: act("retry") }, t("jobs.retry")) : null),
      job.state === "running" && job.steps
        ? h("progress", { max: String(job.steps), value: String(job.done), "aria-label": t(`job.${job.kind}`) }) : null,
      job.reason && job.state !== "done" ? h("span", { class: "error small" }, job.reason) : null)
  })
}
