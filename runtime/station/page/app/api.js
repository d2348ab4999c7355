// The station's interface. What it refuses is an error with the sentence that it gave.

export const session = { name: "", role: "viewer", csrf: null, must_log_in: false }
const RANKS = ["viewer", "reader", "admin"]

/** Whether who uses the page may do what a role may. */
export const may = (role) => RANKS.indexOf(session.role) >= RANKS.indexOf(role)

export class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`
  try {
    message = (await response.json()).error.message
  } catch {
    // a proxy's page, or nothing: the status has to do
  }
  if (response.status === 401 && !response.url.endsWith("/v1/session")) dispatchEvent(new CustomEvent("medge:login"))
  return new Refused(response.status, message)
}

/** A response as it comes, for streams and pictures. `body` is an object for JSON, or a FormData. */
export async function ask(method, path, body, { signal, background = false } = {}) {
  const headers = {}
  if (method !== "GET" && session.csrf) headers["X-CSRF-Token"] = session.csrf
  if (background) headers["Medge-Background"] = "1" // a refresh that nobody asked for keeps no session alive
  const isForm = body instanceof FormData
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json"
  const given = isForm || body === undefined ? body : JSON.stringify(body)
  let response = await fetch(path, { method, headers, signal, body: given })
  if (response.status === 403 && headers["X-CSRF-Token"]) {
    // Somebody has logged in anew in another window: this one's word is of a session that has ended.
    const found = await fetch("/v1/session")
    if (found.ok) enter(await found.json())
    if (session.csrf && session.csrf !== headers["X-CSRF-Token"]) {
      headers["X-CSRF-Token"] = session.csrf
      response = await fetch(path, { method, headers, signal, body: given })
    }
  }
  if (!response.ok) throw await refusal(response)
  return response
}

async function json(...given) {
  const response = await ask(...given)
  return response.status === 204 ? null : response.json()
}

export const get = (path, options) => json("GET", path, undefined, options)
export const post = (path, body, options) => json("POST", path, body, options)
export const put = (path, body) => json("PUT", path, body)
export const remove = (path) => json("DELETE", path)

/** Take over who is logged in. */
export function enter(found) {
  Object.assign(session, { csrf: null, must_log_in: false }, found)
}

export const picture = (uid, given = {}) => {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value !== null && value !== undefined))
  return `/v1/instances/${encodeURIComponent(uid)}/picture?${query}`
}
export const study = (uid) => `/v1/studies/${encodeURIComponent(uid)}`
export const link = (uid) => `#/study/${encodeURIComponent(uid)}`

/** The lines of a server-sent stream's data; comments go to `comment`. */
export async function* lines(response, comment) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let held = ""
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    held += value
    const parts = held.split("\n")
    held = parts.pop()
    for (const part of parts) {
      if (part.startsWith(":")) comment(part.slice(1).trim())
      else if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6))
    }
  }
}
