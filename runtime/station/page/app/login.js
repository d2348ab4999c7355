// Name and password.

import { enter, post } from "./api.js"
import { field, h } from "./dom.js"
import { t } from "./words.js"

/** A form; `then` is called when somebody has logged in. */
export function login(then) {
  const name = h("input", { autocomplete: "username", required: true })
  const password = h("input", { type: "password", autocomplete: "current-password", required: true })
  const wrong = h("p", { class: "error", role: "alert" })
  const send = async (event) => {
    event.preventDefault()
    wrong.textContent = ""
    try {
      enter(await post("/v1/session", { name: name.value, password: password.value }))
      await then()
    } catch (error) {
      wrong.textContent = error.message
      password.value = ""
      password.focus()
    }
  }
  return h("form", { class: "login card", onsubmit: send },
    h("h1", {}, t("login.title")), field(t("login.name"), name), field(t("login.password"), password), wrong,
    h("button", { class: "main" }, t("login.enter")))
}
