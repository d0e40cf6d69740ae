// Small helpers for pages. Strangers' words only ever become text, never HTML.
"use strict";

// An element: make("button", {class: "main", onclick: f}, "Send"). Children are elements or texts.
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A picture out of the page's own <symbol>s.
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

const byId = (id) => document.getElementById(id);
const unixNow = () => Date.now() / 1000;

// Show whether the node is there, and how many peers of this site it is connected to.
//
// peers: that number, or null as long as it is not known. onChange() is called when it changes.
class ConnectionState {
  constructor(zeroFrame, shown) {
    this._zeroFrame = zeroFrame;
    this._shown = shown;
    this.peers = null;
    this.onChange = () => {};
    setInterval(() => this.look(), 2000);
  }

  async look() {
    if (!this._zeroFrame.isOpen) return;
    let peers = null;
    try {
      peers = (await this._zeroFrame.cmd("peerList")).filter((peer) => peer.connected).length;
    } catch {
      // A node of another kind has no peerList.
    }
    if (!this._zeroFrame.isOpen) return;
    const count = peers === 1 ? "1 peer" : `${peers} peers`;
    this._show("open", peers === null ? "Connected" : peers === 0 ? "No peer yet" : count);
    this._set(peers);
  }

  gone() {
    this._show("closed", "Node is gone");
    this._set(null);
  }

  _set(peers) {
    if (peers === this.peers) return;
    this.peers = peers;
    this.onChange();
  }

  _show(state, text) {
    this._shown.dataset.state = state;
    // A screen reader reads it out on each change, so only real ones are made.
    if (this._shown.textContent !== text) this._shown.textContent = text;
  }
}
