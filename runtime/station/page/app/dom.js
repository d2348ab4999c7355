// Elements from data. Text becomes text nodes only: nothing that a file or a model says is ever read as HTML.

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'selected', 'max', 'min', 'open', 'htmlFor']);

/** An element: attributes by name (`on` holds listeners; null and false leave one out), then children: nodes or texts. */
export function h(name, given = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key === 'on') for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (value === null || value === undefined || value === false) continue;
    else if (PROPERTIES.has(key)) made[key] = value;
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A button of a form or a page. */
export function button(text, listener, given = {}) {
  return h('button', { type: 'button', ...given, on: { click: listener } }, text);
}

/** A label with its field. */
export function field(text, input, given = {}) {
  return h('label', { class: 'field', ...given }, h('span', {}, text), input);
}

/** A drop-down list of [value, text]. */
export function choice(options, value, listener, given = {}) {
  const made = h('select', { ...given, on: { change: () => listener(made.value) } });
  made.append(...options.map(([key, text]) => h('option', { value: key }, text)));
  made.value = value;
  return made;
}

/** Calls at most once in so many milliseconds, the last time with what came last. */
export function debounce(work, milliseconds) {
  let timer = null;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

let said = null;

/** Say something for a few seconds, to screen readers too. */
export function toast(text, isError = false) {
  const place = document.getElementById('toast');
  place.textContent = text;
  place.classList.toggle('bad', isError);
  place.hidden = false;
  clearTimeout(said);
  said = setTimeout(() => { place.hidden = true; place.textContent = ''; }, isError ? 9000 : 4000);
}
