// Elements made of data. Text is only ever set as text, so that no file, no patient and no model can write the page's HTML.

/** An element. `on...` attributes are listeners; those that are false, null or undefined are left out; children are nodes or texts. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, "")
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value)
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false))
  return element
}

/** A label around its field. */
export const field = (name, input, wide = false) => h("label", { class: wide ? "wide" : null }, name, input)

/** A choice of [value, text] pairs. */
export function choice(pairs, chosen, attributes = {}) {
  return h("select", attributes, pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text)))
}

/** `work`, called once when nothing has asked for it for a while. What it asks the station for may end with its view. */
export function afterwards(work, milliseconds) {
  let timer = 0
  const done = async () => {
    try {
      await work()
    } catch (error) {
      if (error.name !== "AbortError") throw error
    }
  }
  return () => {
    clearTimeout(timer)
    timer = setTimeout(done, milliseconds)
  }
}
