// A page that is opened from disk cannot start a Worker, and the search needs one. A hidden frame takes its place: its
// scripts are loaded by tags, and messages pass between the two windows. On a server, none of this is used.
if (location.protocol === "file:") {
  const load = (inside, url) => new Promise((resolve, reject) => {
    const script = inside.document.createElement("script")
    Object.assign(script, { src: new URL(url, location.href).href, onload: resolve, onerror: reject })
    inside.document.head.append(script)
  })

  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => load(this.inside, each)), Promise.resolve())
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = load(this.inside, url)
      this.terminate = () => frame.remove()
    }

    async postMessage(data) {
      await this.ready
      this.inside.dispatchEvent(new MessageEvent("message", { data }))
    }
  }
}
