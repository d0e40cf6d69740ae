// The page around a site: it holds the keys, the sandboxed frame holds the site.
//
// Two connections lead to the node. Over `site` goes what the frame says, and it
// has the rights of the site. `own` was opened with this page's secret: over it
// the person answers prompts and grants permissions. Nothing of the frame is
// passed on over `own`.
//
// wrapper_key, page_secret, wrapper_nonce and ajax_key stand in the page.
"use strict";

const page = JSON.parse(document.body.dataset.page);
const frame = document.getElementById("inner-iframe");
const STORED_LIMIT = 512 * 1024;

let innerReady = false;
let told = false; // whether the frame knows that the connection is open
let loaded = false;
let info = null;
const infoWaiting = [];

const own = new Connection(
  "wrapper_key=" + wrapper_key + "&page_secret=" + page_secret,
  { opened: ownOpened, closed: ownClosed, message: fromNode },
);
const site = new Connection(
  "wrapper_key=" + wrapper_key,
  { opened: siteOpened, closed: siteClosed, message: fromSite },
);

// The frame

function toInner(message) {
  if (loaded) frame.contentWindow.postMessage(message, "*");
}

function reply(id, result) { toInner({ cmd: "response", to: id, result }); }

function loadFrame() {
  if (loaded) return;
  const path = location.pathname === "/" + page.address ? location.pathname + "/" : location.pathname;
  const query = location.search ? location.search + "&" : "?";
  loaded = true;
  frame.src = location.origin + path + query + "wrapper_nonce=" + wrapper_nonce;
  frame.hidden = false;
  document.getElementById("loading").hidden = true;
  frame.addEventListener("load", () => {
    if (!innerReady) toInner({ cmd: "wrapperReady" });
    if (document.activeElement === document.body) frame.focus();
  });
}

window.addEventListener("message", (event) => {
  if (event.source !== frame.contentWindow || event.origin !== "null") return;
  const message = event.data;
  if (typeof message !== "object" || message === null || typeof message.cmd !== "string") return;
  // A nonce that is not this page's is refused; whether there must be one, the site says.
  if (message.wrapper_nonce !== wrapper_nonce &&
      (page.nonceNeeded || message.wrapper_nonce !== undefined)) return;
  const command = Object.hasOwn(commands, message.cmd) ? commands[message.cmd] : null;
  if (command) command(message.params, message.id);
  else if (message.cmd !== "response") toSite(message);
});

function toSite(message) {
  if (typeof message.id !== "number" || !Number.isFinite(message.id)) {
    reply(message.id, { error: "invalid: the message has no number as id" });
    return;
  }
  const params = message.params === undefined ? [] : message.params;
  site.send(message.cmd, params, message.id, (result) => reply(message.id, result));
}

// Commands that the wrapper itself carries out

function list(params) { return Array.isArray(params) ? params : [params]; }

const commands = {
  innerReady() {
    innerReady = true;
    site.connect();
    tell();
  },
  wrapperInnerLoaded() {
    if (location.hash) frame.contentWindow.location.replace(frame.src.replace(/#.*/, "") + location.hash);
  },
  wrapperNotification(params) {
    const [kind, text, milliseconds] = list(params);
    const known = ["info", "error", "done", "ask"].includes(kind) ? kind : "info";
    Notices.show(known, text, Number(milliseconds) / 1000 || 0);
  },
  wrapperProgress(params) {
    const [name, text, percent] = list(params);
    Notices.progress(String(name), text, Number(percent) || 0);
  },
  wrapperConfirm(params, id) {
    const [text, caption] = list(params);
    const captions = Array.isArray(caption) ? caption : [caption === undefined ? "ok" : caption];
    const choices = captions.slice(0, 20).map((label, number) => (
      { answer: number + 1, label: String(label) }));
    askForSite(text, choices, null, id);
  },
  wrapperPrompt(params, id) {
    const [text, type, caption, placeholder] = list(params);
    const known = ["text", "password", "number", "email"].includes(type) ? type : "text";
    const input = { type: known, placeholder: String(placeholder === undefined ? "" : placeholder) };
    askForSite(text, [{ answer: "", label: String(caption || "OK") }], input, id);
  },
  wrapperSetTitle(params) { document.title = frame.title = String(list(params)[0]).slice(0, 300); },
  wrapperSetViewport(params) {
    document.getElementById("viewport").content = String(list(params)[0]).slice(0, 300);
  },
  wrapperReload(params) {
    const more = list(params)[0];
    if (typeof more !== "string" || !more) location.reload();
    else location.search = (location.search ? location.search + "&" : "?") + more;
  },
  async wrapperGetLocalStorage(params, id) {
    const stored = localStorage.getItem(await storageKey());
    let value = null;
    try { value = JSON.parse(stored); } catch (damaged) { /* as if there were none */ }
    reply(id, value);
  },
  async wrapperSetLocalStorage(params, id) {
    try {
      const text = JSON.stringify(params === undefined ? null : params);
      if (text.length > STORED_LIMIT) throw new Error("it takes over " + STORED_LIMIT + " characters");
      localStorage.setItem(await storageKey(), text);
      reply(id, undefined);
    } catch (problem) {
      reply(id, { error: "too-big: this cannot be stored: " + problem.message });
    }
  },
  wrapperGetState(params, id) { reply(id, history.state); },
  wrapperPushState(params) { changeState("pushState", params); },
  wrapperReplaceState(params) { changeState("replaceState", params); },
  wrapperGetAjaxKey(params, id) { reply(id, ajax_key); },
  wrapperOpenWindow(params) {
    const [address, target] = list(params);
    let url;
    try { url = new URL(String(address), location.href); } catch (nonsense) { return; }
    // A script would run here, with the keys.
    if (!["http:", "https:", "mailto:"].includes(url.protocol)) return;
    if (["_top", "_self", "_parent"].includes(target)) location.assign(url.href);
    else window.open(url.href, "_blank", "noopener,noreferrer");
  },
  async wrapperPermissionAdd(params, id) {
    const permission = String(list(params)[0]);
    const held = (await siteInfo()).settings.permissions;
    if (held.includes(permission)) { reply(id, "ok"); return; }
    const meaning = await own.call("permissionDetails", [permission]);
    if (typeof meaning !== "string") { reply(id, meaning); return; }
    Notices.ask({
      own: true,
      title: "This site asks for a permission",
      text: decoded(meaning) + ".",
      choices: [{ answer: true, label: "Grant" }],
      cancel: "Refuse",
      end: async (granted) => {
        if (granted) reply(id, await own.call("permissionAdd", [permission]));
      },
    });
  },
  wrapperRequestFullscreen() { frame.requestFullscreen().catch(() => {}); },
  async wrapperWebNotification(params, id) {
    const [title, name, options] = list(params);
    const allowed = "Notification" in window && await Notification.requestPermission() === "granted";
    if (!allowed) { reply(id, { error: "denied: no notifications of the browser" }); return; }
    const shown = new Notification(String(title), {
      body: String((options && options.body) || ""), tag: page.address + String(name),
    });
    shown.onclick = () => { window.focus(); toInner({ cmd: "webNotificationClick", params: { id: name } }); };
    shown.onclose = () => toInner({ cmd: "webNotificationClose", params: { id: name } });
    webNotifications.set(String(name), shown);
    reply(id, "ok");
  },
  wrapperCloseWebNotification(params) {
    const shown = webNotifications.get(String(list(params)[0]));
    if (shown) shown.close();
  },
};
commands.innerLoaded = commands.wrapperInnerLoaded;
const webNotifications = new Map();

function decoded(html) {
  const area = document.createElement("textarea");
  area.innerHTML = html; // its content is text, whatever it looks like
  return area.value;
}

function askForSite(text, choices, input, id) {
  Notices.ask({
    own: false,
    title: page.title + " asks",
    text: String(text),
    choices,
    input,
    // A page takes any reply for a yes, so there is none for a no.
    end: (answer) => { if (answer !== null) reply(id, answer); },
  });
}

async function storageKey() {
  return "site." + page.address + "." + (await siteInfo()).auth_address;
}

function changeState(how, params) {
  const [state, title, url] = list(params);
  let target = location.href;
  // Only behind the path: the address bar goes on naming this site.
  if (typeof url === "string") {
    target = url[0] === "#"
      ? location.pathname + location.search + url
      : location.pathname + "?" + url.replace(/^\?/, "");
  }
  history[how](state, "", target);
  if (title) document.title = frame.title = String(title).slice(0, 300);
}

window.addEventListener("popstate", (event) => {
  toInner({ cmd: "wrapperPopState", params: { href: location.href, state: event.state } });
});

// The site's connection

function tell() {
  if (told || !innerReady || !site.open) return;
  told = true;
  toInner({ cmd: "wrapperOpenedWebsocket" });
}

function siteOpened() {
  site.call("channelJoin", [["siteChanged", "serverChanged"]]);
  tell();
}

function siteClosed(wait, code) {
  if (told) {
    told = false;
    toInner({ cmd: "wrapperClosedWebsocket" });
  }
  return code !== SITE_GONE;
}

// Events for the wrapper alone; every other one is the page's.
const FOR_WRAPPER = [
  "confirm", "prompt", "updating", "redirect", "injectHtml", "injectScript",
];

function fromSite(message) {
  if (message.cmd === "notification") {
    const [kind, text, milliseconds] = list(message.params);
    // "ask" is for programs: here the person is asked over the page's own connection.
    if (kind !== "ask") Notices.show(kind, text, Number(milliseconds) / 1000 || 8);
  } else if (message.cmd === "progress") {
    commands.wrapperProgress(message.params);
  } else if (message.cmd === "error") {
    Notices.show("error", String(message.params));
  } else if (!FOR_WRAPPER.includes(message.cmd)) {
    toInner(message);
  }
}

// The page's own connection

const SITE_GONE = 4004;

function ownOpened() {
  connectionState("");
  own.call("channelJoin", [["siteChanged"]]);
  own.call("permissionDetails", ["ADMIN"]).then((meaning) => {
    if (typeof meaning === "string" || (meaning && /^closed/.test(meaning.error))) return;
    connectionState("This page is too old to answer questions of the node.", "Reload", () => location.reload());
  });
  own.call("siteInfo").then(learn);
  if (site.socket === null && innerReady) site.connect();
}

function ownClosed(wait, code) {
  // Those that still wait at the node are asked again.
  Notices.takeBack();
  if (code === SITE_GONE) {
    connectionState("This node does not hold the site any more.", "All sites", () => location.assign("/"));
    return false;
  }
  connectionState(
    "The node does not answer. What you do is kept, and sent when it is back.", "Try now",
    () => { own.connect(); if (innerReady) site.connect(); },
  );
  return true;
}

function connectionState(text, label, action) {
  const line = document.getElementById("connection");
  line.hidden = !text;
  line.replaceChildren(text);
  if (!label) return;
  const button = document.createElement("button");
  button.append(label);
  button.addEventListener("click", action);
  line.append(" ", button);
}

function fromNode(message) {
  if (message.cmd === "setSiteInfo") learn(message.params);
  else if (message.cmd === "zeromsgPromptOver") Notices.takeBack(message.params.id);
  else if (message.cmd === "zeromsgPrompt") {
    const { id, text, choices } = message.params;
    Notices.ask({
      own: true,
      key: id,
      title: "A question of your node",
      text,
      choices,
      cancel: "No",
      end: (answer) => own.respond(id, answer),
    });
  }
}

function learn(result) {
  if (!result || result.error) return;
  info = result;
  for (const resolve of infoWaiting.splice(0)) resolve(info);
  if (!loaded && missing && Object.keys(info.content).length) waitForPage();
}

function siteInfo() {
  return info ? Promise.resolve(info) : new Promise((resolve) => infoWaiting.push(resolve));
}

// Before the site's page is here

let missing = false;

async function waitForPage() {
  missing = false;
  while (!loaded) {
    const found = await own.call("siteInfo", { file_status: page.innerPath });
    if (found.error && !/^closed/.test(found.error)) { progress(found.error, true); return; }
    if (found.error) continue;
    if (found.event) { loadFrame(); return; }
    const listed = Object.keys(found.content).length > 0;
    showFiles(found, listed);
    const got = await own.call("fileNeed", { inner_path: page.innerPath, timeout: 20 });
    if (got !== "ok" && listed && !found.bad_files) {
      document.getElementById("bar").hidden = true;
      progress("This site has no such page.", true);
      missing = true;
      return;
    }
    if (got !== "ok" && !found.bad_files) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function showFiles(found, listed) {
  if (!listed) {
    progress("Looking for peers that have the site …", true);
    return;
  }
  const all = found.content.files || 0;
  const bar = document.getElementById("bar");
  bar.hidden = !all;
  bar.max = all || 1;
  bar.value = Math.max(0, all - found.bad_files);
  progress(bar.value + " of " + all + " files are here.", false);
}

function progress(text, elsewhere) {
  document.getElementById("progress").textContent = text;
  document.getElementById("elsewhere").hidden = !elsewhere;
}

own.connect();
if (page.here) loadFrame();
else waitForPage();
