// Requests to the station, and what it answers where it refuses.

let csrf = null;

/** What the station says is wrong: a sentence, its status, and its code. */
export class Problem extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const setSession = (session) => { csrf = session?.csrf ?? null; };

/** The response of a request; `body` is sent as JSON, `form` as a form, `background` means that no person asked. */
export async function send(method, path, { body, form, signal, background, headers = {} } = {}) {
  const sent = { ...headers };
  if (body !== undefined) sent['Content-Type'] = 'application/json';
  if (background) sent['Medge-Background'] = '1';
  if (csrf && method !== 'GET') sent['X-CSRF-Token'] = csrf;
  let found;
  try {
    found = await fetch(path, { method, headers: sent, body: form ?? (body === undefined ? undefined : JSON.stringify(body)), signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem('', 0, 'unreachable');
  }
  if (!found.ok) {
    const problem = await problemOf(found);
    if (found.status === 401 && path !== '/v1/session') document.dispatchEvent(new CustomEvent('medge-login'));
    throw problem;
  }
  return found;
}

async function problemOf(response) {
  try {
    const { error } = await response.json();
    return new Problem(error.message, response.status, error.code);
  } catch {
    return new Problem(`${response.status} ${response.statusText}`, response.status, null);
  }
}

/** What a request answers, as JSON; null where there is nothing. */
export async function ask(method, path, options = {}) {
  const found = await send(method, path, options);
  return found.status === 204 ? null : found.json();
}

export const get = (path, options) => ask('GET', path, options);
export const post = (path, body, options = {}) => ask('POST', path, { body, ...options });

/** A path with a query; empty values are left out. */
export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const pictureOf = (uid, values = {}) => query(`/v1/instances/${encodeURIComponent(uid)}/picture`, values);

/** A file as a data URL of this type; the file's own where left out. */
export function dataUrl(blob, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(type ? reader.result.replace(/^data:[^;,]*/, `data:${type}`) : reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The server-sent events of a response: {event, data, id} each, and {comment} for a comment. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  let found = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split(/\r?\n/);
      held = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (found.data !== undefined) yield { event: 'message', ...found };
          found = {};
        } else if (line.startsWith(':')) yield { comment: line.slice(1).trim() };
        else {
          const [, key, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
          if (key === 'data' && found.data !== undefined) found.data += `\n${text}`;
          else if (key) found[key] = text;
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
