// The frame around every view: who is here, where one can go, and the view that the address names.

import { enter, get, remove, session } from "./api.js"
import { ask } from "./ask.js"
import { choice, h } from "./dom.js"
import { history } from "./history.js"
import { login } from "./login.js"
import { record } from "./record.js"
import { study } from "./study.js"
import { choose, language, LANGUAGES, load, t, wanted } from "./words.js"
import { worklist } from "./worklist.js"

const VIEWS = { "": worklist, study, ask, record, history }
const main = document.getElementById("main")
let leaving = new AbortController()
let events = null
let here = location.hash

/** Tell something in passing. */
export function tell(message) {
  const line = h("p", {}, message)
  document.getElementById("told").append(line)
  setTimeout(() => line.remove(), 8000)
}

function top(name) {
  const goes = [["", t("nav.worklist")], ["ask", t("nav.ask")], ["record", t("nav.record")]]
  if (session.role === "admin") goes.push(["history", t("nav.history")])
  const here = name === "study" ? "" : name
  const links = goes.map(([to, text]) => h("a", { href: `#/${to}`, "aria-current": to === here ? "page" : null }, text))
  const languages = choice(Object.entries(LANGUAGES), language, {
    "aria-label": t("nav.language"),
    onchange: (event) => choose(event.target.value).then(show),
  })
  const out = h("button", { onclick: leave }, t("nav.logout"))
  document.getElementById("top").replaceChildren(
    h("a", { class: "name", href: "#/" }, "medge"),
    h("nav", { "aria-label": t("nav.name") }, session.name ? links : []),
    h("span", { class: "who" }, session.csrf ? [session.name, out] : null, languages),
  )
  document.getElementById("caution").textContent = t("caution")
  document.getElementById("skip").textContent = t("nav.skip")
}

async function leave() {
  if (!dispatchEvent(new CustomEvent("medge:leaving", { cancelable: true }))) return
  leaving.abort()
  const gone = remove("/v1/session")
  events?.close()
  enter({ name: "", role: "viewer" }) // what is still under way is refused from now on, and asks for no login
  await gone
  globalThis.history.replaceState(null, "", "#/")
  await begin()
}

/** Show what the address names. A view gets the page's middle, the address's rest, and a signal that ends with it. */
export async function show() {
  if (!dispatchEvent(new CustomEvent("medge:leaving", { cancelable: true }))) {
    globalThis.history.replaceState(null, "", here || "#/") // text that is not saved stays
    return
  }
  here = location.hash
  leaving.abort()
  leaving = new AbortController()
  const [, name = "", rest = ""] = /^#\/?([a-z]*)\/?(.*)$/.exec(location.hash) ?? []
  const view = VIEWS[name] ?? worklist
  top(name)
  main.replaceChildren(h("p", { class: "soft" }, t("loading")))
  const { signal } = leaving
  try {
    await view(main, decodeURIComponent(rest), signal)
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(h("p", { class: "error", role: "alert" }, error.message))
  }
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · medge`
}

function listen() {
  events?.close()
  if (document.hidden) return // a browser has six connections to a station, and each open page would hold one
  events = new EventSource("/v1/events")
  for (const kind of ["study", "job"]) {
    events.addEventListener(kind, (event) => {
      dispatchEvent(new CustomEvent("medge:changed", { detail: { kind, ...JSON.parse(event.data) } }))
    })
  }
}

async function begin() {
  try {
    enter(await get("/v1/session"))
  } catch (error) {
    if (error.status !== 401) throw error
    events?.close()
    enter({ name: "", role: "viewer" })
    top("")
    main.replaceChildren(login(begin))
    return
  }
  listen()
  await show()
}

addEventListener("hashchange", show)
/** A session that has ended is begun again over the view, so that nothing that is written there is lost. */
function again() {
  if (!session.name || document.querySelector("dialog")) return
  const box = h("dialog", {}, login(() => {
    box.remove()
    listen()
  }))
  box.addEventListener("cancel", (event) => event.preventDefault())
  document.body.append(box)
  box.showModal()
}

addEventListener("medge:login", again)
document.addEventListener("visibilitychange", () => {
  if (!session.name) return
  listen()
  if (document.hidden) events.close()
  else dispatchEvent(new CustomEvent("medge:changed", { detail: { kind: "all" } }))
})
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault()) // a file beside the box opens no page
await load(wanted())
begin().catch((error) => main.replaceChildren(h("p", { class: "error", role: "alert" }, error.message)))
