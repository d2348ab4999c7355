// One series: its pictures are scrolled, zoomed, moved and windowed.

import { picture } from "./api.js"
import { afterwards, choice, field, h } from "./dom.js"
import { t } from "./words.js"

const PRESETS = { abdomen: [40, 400], bone: [300, 1500], brain: [40, 80], lung: [-600, 1500], mediastinum: [50, 350] }
const SIDE = 1024 // pixels that are asked for

/** Every picture of a series, frames of a file one after the other. */
export const frames = (series) =>
  series.instances.flatMap((one) => Array.from({ length: one.frames }, (_, frame) => ({ instance: one.uid, frame })))

/**
 * The viewer of a series. `moved` is told the picture that is shown. In CT a drag sets the window, which the station applies to the file's own
 * numbers; other pictures are made brighter and harder here.
 */
export function viewer(series, start, moved) {
  const all = frames(series)
  const image = h("img", { alt: t("view.picture"), draggable: "false" })
  const overlay = h("img", { alt: "", hidden: true })
  const note = h("span", { class: "note" })
  const stage = h("div", { class: "stage", tabindex: "0", role: "img", "aria-label": t("view.stage") }, image, overlay, note)
  const look = { at: Math.min(start, all.length - 1), zoom: 1, x: 0, y: 0, window: null, bright: 1, hard: 1 }
  const isCt = series.modality === "CT"
  const slider = h("input", { type: "range", min: "1", max: String(all.length), value: String(look.at + 1) })
  const windows = choice(
    [["", t("view.own")], ...Object.keys(PRESETS).map((name) => [name, t(`view.${name}`)])], "", { onchange: () => preset() },
  )

  const place = () => {
    const move = `translate(${look.x}px, ${look.y}px) scale(${look.zoom})`
    image.style.transform = overlay.style.transform = move
    image.style.filter = look.bright === 1 && look.hard === 1 ? "" : `brightness(${look.bright}) contrast(${look.hard})`
  }
  const load = () => {
    const { instance, frame } = all[look.at]
    const window = look.window && `${Math.round(look.window[0])},${Math.max(1, Math.round(look.window[1]))}`
    image.src = picture(instance, { frame, window, side: SIDE })
    const shown = all.length > 1 ? t("view.of", { at: look.at + 1, count: all.length }) : ""
    note.textContent = [shown, window && `${t("view.window")} ${window}`].filter(Boolean).join(" · ")
  }
  const soon = afterwards(load, 60)
  const go = (at) => {
    const next = Math.min(all.length - 1, Math.max(0, at))
    if (next === look.at) return
    look.at = next
    slider.value = String(next + 1)
    hideMap()
    soon()
    moved(all[next])
  }
  const preset = () => {
    look.window = PRESETS[windows.value]?.slice() ?? null
    load()
  }
  const reset = () => {
    Object.assign(look, { zoom: 1, x: 0, y: 0, window: null, bright: 1, hard: 1 })
    windows.value = ""
    place()
    load()
  }
  const zoom = (factor) => {
    look.zoom = Math.min(20, Math.max(0.5, look.zoom * factor))
    place()
  }
  const hideMap = () => {
    overlay.hidden = true
    overlay.removeAttribute("src")
  }
  const tune = (dx, dy) => {
    if (isCt) {
      look.window ??= PRESETS.abdomen.slice()
      look.window = [look.window[0] + 2 * dy, Math.max(1, look.window[1] + 2 * dx)]
      windows.value = ""
      soon()
    } else {
      look.bright = Math.min(5, Math.max(0.1, look.bright * (1 - dy / 200)))
      look.hard = Math.min(8, Math.max(0.1, look.hard * (1 + dx / 200)))
      place()
    }
  }

  const fingers = new Map()
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId)
    fingers.set(event.pointerId, event)
  })
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId)
    if (!before) return
    fingers.set(event.pointerId, event)
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY]
    if (fingers.size === 2) {
      const [other] = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId)
      const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY)
      zoom(far(event) / Math.max(far(before), 1))
    } else if (event.buttons === 2 || event.shiftKey || tool.value === "window") tune(dx, dy)
    else {
      look.x += dx
      look.y += dy
      place()
    }
  })
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => fingers.delete(event.pointerId))
  stage.addEventListener("contextmenu", (event) => event.preventDefault())
  stage.addEventListener("wheel", (event) => {
    event.preventDefault()
    if (event.ctrlKey || all.length === 1) zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15)
    else go(look.at + Math.sign(event.deltaY))
  }, { passive: false })
  stage.addEventListener("dblclick", reset)
  stage.addEventListener("keydown", (event) => {
    const keys = {
      ArrowDown: () => go(look.at + 1), ArrowUp: () => go(look.at - 1), PageDown: () => go(look.at + 10),
      PageUp: () => go(look.at - 10), Home: () => go(0), End: () => go(all.length - 1), "+": () => zoom(1.25),
      "-": () => zoom(0.8), 0: reset, ArrowLeft: () => tune(-10, 0), ArrowRight: () => tune(10, 0),
    }
    if (!keys[event.key]) return
    event.preventDefault()
    keys[event.key]()
  })
  slider.addEventListener("input", () => go(Number(slider.value) - 1))
  image.addEventListener("error", () => (note.textContent = t("view.broken")))

  const tool = choice([["move", t("view.move")], ["window", t("view.tune")]], "move")
  const tools = h("div", { class: "tools" },
    all.length > 1 ? field(t("view.scroll"), slider, true) : null, field(t("view.drag"), tool),
    isCt ? field(t("view.window"), windows) : null,
    h("button", { onclick: () => zoom(1.25), "aria-label": t("view.larger") }, "+"),
    h("button", { onclick: () => zoom(0.8), "aria-label": t("view.smaller") }, "−"),
    h("button", { onclick: reset }, t("view.reset")))
  load()
  return {
    element: h("div", {}, stage, tools, h("p", { class: "soft small" }, t("view.help"))),
    shown: () => all[look.at],
    /** Lay over the picture where the encoder saw a label; rejects where it can't. */
    showMap: (source) => new Promise((resolve, reject) => {
      overlay.onload = () => {
        overlay.hidden = false
        resolve()
      }
      overlay.onerror = () => reject(new Error(t("scores.nomap")))
      overlay.src = source
    }),
    hideMap,
    mapShown: () => !overlay.hidden,
  }
}
