// Search when the site is read from a disk or a USB stick: a browser starts no worker from a file, so its script runs in a
// hidden frame instead. mkdocs-material's offline plugin would load such a script from a content network; this one is ours.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.scope = frame.contentWindow
      this.scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const worker = new URL(url, location.href)
      const load = address => new Promise((done, failed) => {
        const script = frame.contentDocument.createElement("script")
        script.src = new URL(address, worker)
        script.onload = done
        script.onerror = failed
        frame.contentDocument.body.append(script)
      })
      this.scope.importScripts = (...addresses) =>
        addresses.reduce((before, address) => before.then(() => load(address)), Promise.resolve())
      this.loaded = load(worker)
    }

    postMessage(data) {
      this.loaded.then(() => this.scope.dispatchEvent(new this.scope.MessageEvent("message", { data })))
    }
  }
}
