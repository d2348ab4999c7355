// Who did what, when.

import { get, link } from "./api.js"
import { h } from "./dom.js"
import { actionWord, moment, t } from "./words.js"

export async function history(main, _, signal) {
  const body = h("tbody")
  const more = h("button", { onclick: () => load() }, t("list.older"))
  let before = 0
  const load = async () => {
    const { entries } = await get(`/v1/audit?limit=100&before=${before}`, { signal })
    body.append(...entries.map((one) => h("tr", {},
      h("td", {}, moment(one.at)), h("td", {}, one.who), h("td", {}, actionWord(one.action)),
      h("td", {}, /^[\d.]{10,}$/.test(one.what) ? h("a", { href: link(one.what) }, one.what) : one.what))))
    before = entries.at(-1)?.id ?? before
    more.hidden = entries.length < 100
  }
  const heads = ["history.when", "history.who", "history.action", "history.what"]
  main.replaceChildren(
    h("h1", {}, t("history.title")), h("p", { class: "soft" }, t("history.about")),
    h("table", { class: "log" }, h("thead", {}, h("tr", {}, heads.map((key) => h("th", { scope: "col" }, t(key))))), body),
    h("div", { class: "row" }, more),
  )
  await load()
}
