// The chat: what the person does goes to the node, what the node brings goes into the room.
"use strict";

const zeroFrame = new ZeroFrame();
const connection = new ConnectionState(zeroFrame, byId("state"));

const POLL_PEERS = 20; // how many peers a poll asks
const WHO_SECONDS = 5;

let room = null; // once we know who we are
let nick = "";
let settings = {};
let full = true; // whether the node can seal messages and gather replies
const early = []; // messages that came before the room was there
const outbox = new Set(); // {message, encrypt, state, problem}
const openPolls = new Map(); // entry -> its place in the page

// Talking to the node

// Everything that this zite sends is signed with the person's key for this site.
function broadcast(message, more = {}) {
  const extra = full ? { timestamp: true } : {};
  return zeroFrame.cmd("peerBroadcast", { message, privatekey: false, ...extra, ...more });
}

zeroFrame.on("open", async () => {
  connection.look();
  const site = await zeroFrame.cmd("siteInfo");
  if (room) room.me = site.auth_address;
  else await begin(site);
  say({ cmd: "here", nick });
  gather();
});

zeroFrame.on("close", () => connection.gone());

connection.onChange = () => flush();

zeroFrame.on("peerReceive", (event) => {
  if (room) received(event);
  else early.push(event);
});

// Another certificate was chosen: from now on we are somebody else.
zeroFrame.on("setSiteInfo", (site) => {
  if (room) room.me = site.auth_address;
  connection.look();
});

async function begin(site) {
  const server = await zeroFrame.cmd("serverInfo");
  // Nodes with the PeerMessage plugin carry the room, but know neither of these.
  full = Boolean(server.zeromsg);
  byId("new-poll").hidden = !full;
  settings = await zeroFrame.cmd("userGetSettings").catch(() => ({}));
  const certified = (site.cert_user_id || "").split("@")[0];
  nick = settings.nick || certified.slice(0, Chat.NICK_LIMIT) || `guest ${site.auth_address.slice(-4)}`;
  byId("my-address").textContent = site.auth_address;
  showMe();
  const kept = full ? await zeroFrame.cmd("peerHistory", { limit: 200 }).catch(() => []) : [];
  room = new Chat.Room(site.auth_address);
  for (const event of kept) received(event, true);
  for (const event of early.splice(0)) received(event);
}

function received(event, kept = false) {
  const now = unixNow();
  const entry = room.receive(event, now, kept);
  if (!entry) return;
  // The node waits for our verdict before it passes a message on. Our own need none.
  if (!kept && event.ip !== "self") judge(event.hash, entry.verdict.word);
  if (entry.kind === "who" && entry.verdict.word === "valid") {
    reply(event.hash, { cmd: "here", nick }).catch(() => {});
  } else if (entry.kind === "poll") {
    entry.deadline = entry.time + event.message.seconds;
  }
  if (room.log.at(-1) === entry) append(entry);
  showPeople();
}

function judge(hash, word) {
  const command = { valid: "peerValid", invalid: "peerInvalid", ignore: "peerIgnore" }[word];
  // A node of another kind has no peerIgnore; to be silent is the same there.
  if (full || word !== "ignore") zeroFrame.cmd(command, { hash }).catch(() => {});
}

function reply(hash, message) {
  return zeroFrame.cmd("peerReply", { hash, message, privatekey: false });
}

// Things that nobody misses if they get lost.
function say(message) {
  broadcast(message).catch(() => {});
}

// Who is there? The neighbours reply with a `here` each.
async function gather() {
  if (!full) return;
  const replies = await broadcast({ cmd: "who" }, { broadcast: false, peer_count: POLL_PEERS, timeout: WHO_SECONDS })
    .catch(() => []);
  for (const one of replies) room.met(one, unixNow());
  showPeople();
}

setInterval(() => {
  if (room && zeroFrame.isOpen) say({ cmd: "here", nick });
}, Chat.HERE_SECONDS * 1000);

// A node that sends something looks for peers to send it to.
setInterval(() => {
  if (room && zeroFrame.isOpen && connection.peers === 0 && outbox.size) say({ cmd: "here", nick });
}, 5000);

// Sending

function send(text, to) {
  const item = { message: { cmd: "say", nick, text }, encrypt: {}, state: "waiting", problem: "" };
  if (to) {
    item.message = { cmd: "private", to, nick, text };
    // Sealed to ourselves too, so that we can read it again after a reload.
    item.encrypt = { encrypt: { to: [to, room.me], fields: ["to", "nick", "text"] } };
  }
  const problem = Chat.problemOf(item.message);
  if (problem) return problem;
  enqueue(item);
  return "";
}

// A message goes out once the node is there and knows a peer: before, nobody would get it.
function enqueue(item) {
  item.state = "waiting";
  outbox.add(item);
  flush();
}

function flush() {
  if (zeroFrame.isOpen && connection.peers !== 0) {
    for (const item of outbox) if (item.state === "waiting") dispatch(item);
  }
  showOutbox();
}

async function dispatch(item) {
  item.state = "sending";
  try {
    // immediate: who has the chat closed gets it when they open it.
    const { hash, peers } = await broadcast(item.message, { immediate: true, ...item.encrypt });
    outbox.delete(item);
    const entry = room.get(hash);
    if (entry) {
      entry.reached = peers;
      redraw(entry);
    }
  } catch (problem) {
    item.state = "failed";
    item.problem = problem.message;
  }
  showOutbox();
}

async function ask(question, options, seconds) {
  const now = unixNow();
  const message = { cmd: "poll", nick, question, options, seconds };
  const problem = Chat.problemOf(message);
  if (problem) return problem;
  // A question is not shown to ourselves, so the entry is made here.
  const entry = {
    hash: `poll ${now}`, kind: "poll", author: room.me, time: now, mine: true, message,
    verdict: { word: "valid", reason: "" }, deadline: now + seconds,
  };
  room.log.push(entry);
  append(entry);
  broadcast(message, { broadcast: false, peer_count: POLL_PEERS, timeout: seconds })
    .then((replies) => { entry.result = Chat.tally(options, replies); })
    .catch((failure) => { entry.problem = failure.message; })
    .then(() => redraw(entry));
  return "";
}

async function vote(entry, choice) {
  entry.choice = choice;
  redraw(entry);
  try {
    await reply(entry.hash, { cmd: "vote", nick, choice });
  } catch (problem) {
    entry.problem = problem.message;
    redraw(entry);
  }
}

// Showing

const scroller = byId("scroller");
const actions = {
  vote,
  again: enqueue,
  drop(item) {
    outbox.delete(item);
    showOutbox();
  },
};

const placeOf = (entry) =>
  [...byId("log").children].find((place) => place.dataset.hash === entry.hash);

function view(entry) {
  const before = room.log[room.log.indexOf(entry) - 1];
  const made = ChatView.entry(entry, before, room, actions, unixNow());
  if (entry.kind === "poll" && !entry.result && !entry.problem) openPolls.set(entry, made);
  else openPolls.delete(entry);
  return made;
}

function append(entry) {
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
  byId("empty").hidden = true;
  byId("log").append(view(entry));
  while (byId("log").children.length > room.log.length) byId("log").firstChild.remove();
  if (atEnd || entry.mine) scroller.scrollTop = scroller.scrollHeight;
}

function redraw(entry) {
  const place = placeOf(entry);
  if (place) place.replaceWith(view(entry));
}

// The seconds that are left; only the text changes, so that nobody loses a button under the finger.
setInterval(() => {
  const now = unixNow();
  for (const [entry, place] of openPolls) {
    const left = Math.max(0, Math.ceil(entry.deadline - now));
    place.querySelector(".outcome").textContent = ChatView.outcome(entry, left);
    if (left === 0 && !entry.mine) {
      for (const button of place.querySelectorAll("button")) button.disabled = true;
      openPolls.delete(entry);
    }
  }
  if (room) showPeople();
}, 1000);

function showOutbox() {
  const items = [...outbox].filter((item) => item.state !== "sending");
  const why = zeroFrame.isOpen ? "waiting for a peer" : "waiting for the node";
  byId("outbox").replaceChildren(...items.map((item) => ChatView.unsent(item, why, actions)));
  if (!items.length) return;
  byId("empty").hidden = true;
  scroller.scrollTop = scroller.scrollHeight;
}

function showMe() {
  byId("me").disabled = false;
  byId("my-name").textContent = nick;
}

let shownPeople = "";

function showPeople() {
  const here = room.here(unixNow());
  const chosen = byId("to").value;
  const now = JSON.stringify([here.map(({ seen, ...rest }) => rest), chosen]);
  if (now === shownPeople) return; // who tabs through the list stays where they are
  shownPeople = now;
  byId("people-count").textContent = here.length;
  byId("alone").hidden = here.length > 0;
  byId("people-list").replaceChildren(
    ...here.map((who) => ChatView.member(who, who.address === chosen, pick)),
  );
  // Whom we are writing to stays, even if not heard of for a while.
  const offered = here.filter((who) => !who.bot && full);
  const away = chosen && !offered.some((who) => who.address === chosen) ? [room.people.get(chosen)] : [];
  byId("to").replaceChildren(
    make("option", { value: "" }, "everybody"),
    ...[...offered, ...away].map((who) =>
      make("option", { value: who.address }, `${room.nameOf(who.address)} (${Chat.short(who.address)})`)),
  );
  byId("to").value = chosen;
}

// What the person does

function pick(address) {
  byId("to").value = byId("to").value === address ? "" : address;
  chosen();
  openPeople(false);
  byId("text").focus();
}

function chosen() {
  const secret = byId("to").value !== "";
  byId("composer").classList.toggle("secret", secret);
  byId("to-note").textContent = secret ? "only they can read it" : "";
  showPeople();
}

function openPeople(open) {
  byId("people").classList.toggle("open", open);
  byId("show-people").setAttribute("aria-expanded", String(open));
}

byId("to").addEventListener("change", chosen);
byId("show-people").addEventListener("click", () =>
  openPeople(!byId("people").classList.contains("open")));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") openPeople(false);
});

const text = byId("text");

function grow() {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 160)}px`;
}

text.addEventListener("input", grow);
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!room || !text.value.trim()) return;
  const problem = send(text.value.trim(), byId("to").value);
  byId("problem").textContent = problem ? `Not sent: ${problem}.` : "";
  if (!problem) text.value = "";
  grow();
});

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

byId("me").addEventListener("click", () => {
  byId("name").value = nick;
  byId("name-problem").textContent = "";
  byId("name-dialog").showModal();
  byId("name").select();
});

byId("name-dialog").querySelector("form").addEventListener("submit", (event) => {
  const name = byId("name").value.trim();
  const problem = Chat.nickProblem(name);
  byId("name-problem").textContent = problem;
  if (problem) {
    event.preventDefault(); // the dialog stays
    return;
  }
  nick = name;
  showMe();
  settings = { ...settings, nick };
  zeroFrame.cmd("userSetSettings", { settings }).catch(() => {});
  say({ cmd: "here", nick });
});

byId("new-poll").addEventListener("click", () => {
  byId("poll-problem").textContent = "";
  byId("poll-dialog").showModal();
});

byId("poll-dialog").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const options = byId("options").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const problem = await ask(byId("question").value.trim(), options, Number(byId("seconds").value));
  byId("poll-problem").textContent = problem;
  if (problem) return;
  byId("question").value = "";
  byId("poll-dialog").close();
});
