// The console of one site: shows its messages as they come, and sends some.
// wrapper_key and page_secret stand in the page. By the secret the node knows
// that it talks to this page, and takes its answers for the person's.
"use strict";

const list = document.getElementById("messages");
const state = document.getElementById("state");
const input = document.getElementById("message");
const scheme = location.protocol === "https:" ? "wss://" : "ws://";
const url = scheme + location.host + "/Websocket?wrapper_key=" + wrapper_key
  + "&page_secret=" + page_secret;
const prompts = document.getElementById("prompts");
const LINES = 500;

let socket = null;
let lastId = 0;
const waiting = new Map();

function call(cmd, params) {
  const id = ++lastId;
  socket.send(JSON.stringify({ cmd, params, id }));
  return new Promise((resolve) => waiting.set(id, resolve));
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function show(kind, who, what) {
  const line = element("li", kind, "");
  line.append(element("span", "who", who), " ", element("span", "what", what));
  list.append(line);
  while (list.children.length > LINES) list.firstChild.remove();
  line.scrollIntoView({ block: "nearest" });
}

function sender(params) {
  if (params.user && params.user.id) return params.user.id;
  if (params.signed_by) return params.signed_by;
  return params.ip === "self" ? "this node, unsigned" : params.ip + ", unsigned";
}

function text(message) {
  return typeof message === "string" ? message : JSON.stringify(message);
}

// What a site asks the person. All of it is a stranger's text, so it is shown
// as text, and only a real click on a button answers.
function ask(prompt) {
  if (prompts.querySelector(`[data-id="${CSS.escape(prompt.id)}"]`)) return;
  const box = element("div", "prompt", "");
  box.dataset.id = prompt.id;
  box.append(element("p", "", prompt.text));
  const buttons = prompt.choices.map((choice) => [choice.label, choice.answer]);
  for (const [label, answer] of [...buttons, ["Dismiss", null]]) {
    const button = element("button", "", label);
    button.type = "button";
    button.addEventListener("click", (event) => {
      if (!event.isTrusted) return;
      const response = { cmd: "response", to: prompt.id, result: answer, id: ++lastId };
      socket.send(JSON.stringify(response));
    });
    box.append(button);
  }
  prompts.append(box);
}

function askedNoMore(id) {
  for (const box of prompts.children) if (box.dataset.id === id) { box.remove(); break; }
}

function received(event) {
  const message = JSON.parse(event.data);
  if (message.cmd === "response") {
    const resolve = waiting.get(message.to);
    waiting.delete(message.to);
    if (resolve) resolve(message.result);
  } else if (message.cmd === "peerReceive") {
    const params = message.params;
    show(params.ip === "self" ? "own" : "other", sender(params), text(params.message));
    // The site's rules let it pass, and the console knows no better.
    if (params.ip !== "self") call("peerValid", [params.hash]);
  } else if (message.cmd === "zeromsgPrompt") {
    ask(message.params);
  } else if (message.cmd === "zeromsgPromptOver") {
    askedNoMore(message.params.id);
  } else if (message.cmd === "error") {
    show("error", "error", String(message.params));
  }
}

function connect() {
  state.textContent = "connecting";
  socket = new WebSocket(url);
  socket.onopen = () => { state.textContent = "connected"; };
  socket.onmessage = received;
  socket.onclose = () => {
    state.textContent = "the node is gone; trying again";
    waiting.clear();
    prompts.replaceChildren();
    setTimeout(connect, 2000);
  };
}

document.getElementById("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!input.value || socket.readyState !== WebSocket.OPEN) return;
  let message = input.value;
  try { message = JSON.parse(input.value); } catch (notJson) { /* it is text */ }
  input.value = "";
  const params = { message };
  if (document.getElementById("sign").checked) params.privatekey = false;
  const result = await call("peerBroadcast", params);
  if (result.error) show("error", "refused", result.error);
  else if (!result.sent) show("error", "nobody there", "no peer of this site is connected");
});

connect();
