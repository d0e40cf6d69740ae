// The line between this page and its node.
//
// A zite runs in a sandboxed frame. What it wants to say to the node it posts to
// the wrapper page around the frame, and the answers come back the same way.
//
//   const zeroFrame = new ZeroFrame();
//   zeroFrame.on("open", start);                      // the node is there (again)
//   zeroFrame.on("peerReceive", (event) => ...);      // and every other event
//   const info = await zeroFrame.cmd("siteInfo");     // throws on {"error": ...}
//   zeroFrame.cmd("siteInfo", {}, (info) => ...);     // or as ZeroNet's own class has it
//
// The npm package `zeroframe` does the same, and works here as well.
"use strict";

// How long the answer to a call may take that was under way when the node went away.
const LOST_SECONDS = 10;

class ZeroFrame {
  constructor() {
    // The last one counts: who made the link may have put another before it.
    this._nonce = (/.*wrapper_nonce=([A-Za-z0-9]+)/.exec(location.href) || [])[1];
    this._lastId = 0;
    this._handlers = new Map();
    this._waiting = new Map(); // id -> {resolve, reject}
    this._held = []; // what is posted once the node is there
    this.isOpen = false;
    window.addEventListener("message", (event) => {
      if (event.source === window.parent) this._received(event.data);
    });
    this._post("innerReady", {}, undefined);
  }

  // Have `handler(params)` called for each event of this name.
  on(name, handler) {
    this._handlers.set(name, handler);
  }

  cmd(cmd, params = {}, callback = null) {
    const id = ++this._lastId;
    const answer = new Promise((resolve, reject) => this._waiting.set(id, { resolve, reject }));
    // What the wrapper does itself needs no node.
    if (this.isOpen || cmd.startsWith("wrapper")) this._post(cmd, params, id);
    else this._held.push([cmd, params, id]);
    if (callback) {
      answer.then(callback, (problem) => callback({ error: problem.message }));
      return undefined;
    }
    return answer;
  }

  _post(cmd, params, id) {
    window.parent.postMessage({ cmd, params, id, wrapper_nonce: this._nonce }, "*");
  }

  _received(message) {
    if (!message || typeof message.cmd !== "string") return;
    if (message.cmd === "response") this._answered(message.to, message.result);
    else if (message.cmd === "wrapperReady") this._post("innerReady", {}, undefined);
    else if (message.cmd === "wrapperOpenedWebsocket") this._opened();
    else if (message.cmd === "wrapperClosedWebsocket") this._closed();
    else this._tell(message.cmd, message.params);
  }

  _answered(id, result) {
    const waiting = this._waiting.get(id);
    if (!waiting) return;
    this._waiting.delete(id);
    if (result && result.error) waiting.reject(new Error(result.error));
    else waiting.resolve(result);
  }

  _opened() {
    // Calls that the node may have forgotten when it went away do not wait for ever.
    const held = new Set(this._held.map(([, , id]) => id));
    const old = [...this._waiting.keys()].filter((id) => !held.has(id));
    setTimeout(() => {
      for (const id of old) this._answered(id, { error: "closed: the node went away meanwhile" });
    }, LOST_SECONDS * 1000);
    this.isOpen = true;
    for (const call of this._held.splice(0)) this._post(...call);
    this._tell("open");
  }

  _closed() {
    this.isOpen = false;
    this._tell("close");
  }

  _tell(name, params) {
    const handler = this._handlers.get(name);
    if (handler) handler(params);
  }
}
