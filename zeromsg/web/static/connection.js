// A WebSocket to the node that comes back by itself.
//
// What is sent while it is away waits, within bounds; calls whose answer was lost
// with a connection get an error once it is back.
"use strict";

class Connection {
  static QUEUE_MESSAGES = 1000;
  static QUEUE_CHARACTERS = 8 * 1024 * 1024;
  static FIRST_MS = 500;
  static LONGEST_MS = 15000;

  // handlers: opened(), closed(milliseconds until the next try, code), message(message).
  constructor(query, handlers) {
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    this.url = scheme + location.host + "/ZeroNet-Internal/Websocket?" + query;
    this.handlers = handlers;
    this.socket = null;
    this.queue = [];
    this.queued = 0;
    this.unanswered = new Map();
    this.lost = [];
    this.wait = Connection.FIRST_MS;
    this.timer = null;
    // Of our own calls; a page's number these only if it means to.
    this.lastId = 2 ** 40;
  }

  get open() { return this.socket !== null && this.socket.readyState === WebSocket.OPEN; }

  connect() {
    clearTimeout(this.timer);
    if (this.socket) return;
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => this.opened();
    socket.onmessage = (event) => this.received(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(event.code);
  }

  opened() {
    this.wait = Connection.FIRST_MS;
    this.handlers.opened();
    for (const end of this.lost.splice(0)) {
      end({ error: "closed: the connection to the node was lost before the answer came" });
    }
    const queue = this.queue.splice(0);
    this.queued = 0;
    for (const text of queue) this.socket.send(text);
  }

  closed(code) {
    this.socket = null;
    const sent = new Set(this.queue.map((text) => JSON.parse(text).id));
    for (const [id, ends] of this.unanswered) {
      if (sent.has(id)) continue; // it waits, and was not lost
      this.lost.push(...ends);
      this.unanswered.delete(id);
    }
    const wait = this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, Connection.LONGEST_MS);
    if (this.handlers.closed(wait, code) !== false) {
      this.timer = setTimeout(() => this.connect(), wait);
    }
  }

  received(message) {
    if (message.cmd !== "response") {
      this.handlers.message(message);
      return;
    }
    const ends = this.unanswered.get(message.to);
    if (!ends) return;
    const end = ends.shift();
    if (!ends.length) this.unanswered.delete(message.to);
    end(message.result);
  }

  // Send a call; `end` is called with its result, once.
  send(cmd, params, id, end) {
    let text;
    try { text = JSON.stringify({ cmd, params, id }); } catch (problem) {
      end({ error: "invalid: the parameters are no JSON" });
      return;
    }
    if (!this.open) {
      if (this.queue.length >= Connection.QUEUE_MESSAGES ||
          this.queued + text.length > Connection.QUEUE_CHARACTERS) {
        end({ error: "too-fast: too much waits for the node, which does not answer" });
        return;
      }
      this.queue.push(text);
      this.queued += text.length;
    }
    if (!this.unanswered.has(id)) this.unanswered.set(id, []);
    this.unanswered.get(id).push(end);
    if (this.open) this.socket.send(text);
  }

  call(cmd, params = []) {
    return new Promise((resolve) => this.send(cmd, params, ++this.lastId, resolve));
  }

  // Answer something that the node asked.
  respond(to, result) {
    if (this.open) this.socket.send(JSON.stringify({ cmd: "response", to, result, id: ++this.lastId }));
  }
}
