// The page: what the person does becomes messages, what comes changes the games.
"use strict";

const zeroFrame = new ZeroFrame();
const connection = new ConnectionState(zeroFrame, byId("state"));
const HERE_SECONDS = 60;
const GONE_SECONDS = 150;

let games = null; // once we know who we are
const early = []; // messages that came before that
const here = new Map(); // who was heard of lately: address -> {name, seen}

zeroFrame.on("open", async () => {
  connection.look();
  if (!games) await begin();
  announce();
  // What was sent while the opponent's node was away may be lost.
  for (const id of [...games.all.keys()].slice(-5)) send(games.again(id));
});
zeroFrame.on("close", () => connection.gone());
zeroFrame.on("peerReceive", (event) => (games ? received(event) : early.push(event)));

async function begin() {
  const site = await zeroFrame.cmd("siteInfo");
  // A sandboxed page has no storage of its own: the wrapper keeps it, for this site and user.
  const stored = await zeroFrame.cmd("wrapperGetLocalStorage", []);
  games = new TicTacToe.Games(site.auth_address, stored);
  byId("me").textContent = site.cert_user_id || site.auth_address;
  byId("invite").querySelector("button.main").disabled = false;
  show();
  for (const event of early.splice(0)) received(event);
}

function received(event) {
  const { verdict, game, behind } = games.receive(event);
  if (event.ip !== "self") {
    const command = { valid: "peerValid", invalid: "peerInvalid", ignore: "peerIgnore" }[verdict.word];
    zeroFrame.cmd(command, { hash: event.hash }).catch(() => {});
  }
  if (verdict.word === "valid" && event.signed_by !== games.me) {
    if (!here.has(event.signed_by)) announce(); // who is new here does not know us either
    here.set(event.signed_by, { name: (event.user && event.user.id) || event.signed_by, seen: unixNow() });
    if (here.size > 200) here.delete(here.keys().next().value);
    showPeople();
  }
  if (game) changed();
  if (behind) send(games.again(event.message.game));
}

// Who has shown no signed message here has no key that one could seal to.
let announced = 0;
function announce() {
  if (unixNow() - announced < 10) return;
  announced = unixNow();
  zeroFrame.cmd("peerBroadcast", { message: { cmd: "here" }, privatekey: false, timestamp: true }).catch(() => {});
}
setInterval(() => { if (games && zeroFrame.isOpen) announce(); }, HERE_SECONDS * 1000);

async function send(message) {
  if (!message) return;
  const fields = Object.keys(message).filter((name) => name !== "cmd" && name !== "game");
  try {
    await zeroFrame.cmd("peerBroadcast", {
      message,
      privatekey: false,
      timestamp: true,
      immediate: true, // the opponent may have the page closed
      encrypt: { to: [message.to, games.me], fields },
    });
    byId("problem").textContent = "";
  } catch (problem) {
    byId("problem").textContent = problem.message;
    // An invitation that nobody could be sent is none.
    if (message.cmd === "invite") games.all.delete(message.game);
    changed();
  }
}

function act(message) {
  send(message);
  changed();
}

function changed() {
  zeroFrame.cmd("wrapperSetLocalStorage", games.toJSON()).catch(() => {});
  show();
}

// Showing

function status(game) {
  const result = TicTacToe.won(game.moves);
  if (result) return result.mark === game.mark ? ["You won!", "won"] : ["You lost", ""];
  if (TicTacToe.isOver(game.moves)) return ["A draw", ""];
  if (game.state === "invited") return ["Waiting for them to accept", ""];
  if (game.state === "asked") return ["You are invited", "yours"];
  if (game.state === "left") return ["The game was left", ""];
  return TicTacToe.turn(game.moves) === game.mark ? [`Your turn: ${game.mark}`, "yours"] : ["Their turn", ""];
}

function board(game) {
  const result = TicTacToe.won(game.moves);
  const mine = game.state === "on" && TicTacToe.turn(game.moves) === game.mark;
  const cells = [...Array(9).keys()].map((cell) => {
    const n = game.moves.indexOf(cell);
    const mark = n < 0 ? "" : "XO"[n % 2];
    const classes = [mark.toLowerCase() || "free"];
    if (result && result.line.includes(cell)) classes.push("line");
    return make("button", {
      type: "button",
      class: classes.join(" "),
      disabled: !mine || mark !== "",
      "data-cell": cell,
      "aria-label": `row ${Math.floor(cell / 3) + 1}, column ${(cell % 3) + 1}: ${mark || "free"}`,
      onclick: () => act(games.play(game.id, cell)),
    }, mark === "X" ? "✕" : mark === "O" ? "◯" : "");
  });
  return make("div", { class: "board", role: "group", "aria-label": "Board" }, ...cells);
}

function face(name) {
  const disc = make("span", { class: "face", "aria-hidden": "true" }, name.replace(/^1/, "")[0] || "?");
  disc.style.setProperty("--hue", [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 0));
  return disc;
}

const shorten = (name) => (name.includes("@") ? name : `${name.slice(0, 6)}…${name.slice(-4)}`);
const nameOf = (address) => shorten((here.get(address) || { name: address }).name);

function card(game) {
  const [text, kind] = status(game);
  const over = game.state === "left" || TicTacToe.isOver(game.moves);
  const accept = make("button", { type: "button", class: "main", onclick: () => act(games.accept(game.id)) }, "Accept");
  return make("li", { class: "card game", "data-game": game.id },
    make("div", { class: "against" },
      face(game.opponent),
      make("div", { class: "grow" },
        make("p", { class: "theirs", title: game.opponent }, nameOf(game.opponent)),
        make("p", { class: `status ${kind}`, role: "status" }, text))),
    game.state === "asked" || game.state === "invited" ? null : board(game),
    make("div", { class: "buttons" },
      game.state === "asked" ? accept : null,
      make("button", { type: "button", class: "plain", onclick: () => act(games.leave(game.id)) },
        over ? "Remove" : game.state === "asked" ? "Decline" : "Leave")));
}

function show() {
  const focused = document.activeElement;
  const at = focused && focused.dataset.cell ? [focused.closest("li").dataset.game, focused.dataset.cell] : null;
  byId("games").replaceChildren(...[...games.all.values()].reverse().map(card));
  if (!at) return;
  const again = document.querySelector(`[data-game="${at[0]}"] [data-cell="${at[1]}"]`);
  if (again) again.focus();
}

function showPeople() {
  const now = unixNow();
  const present = [...here].filter(([, who]) => now - who.seen < GONE_SECONDS);
  byId("here").replaceChildren(...present.map(([address, who]) => make("option", { value: address }, who.name)));
  byId("people").replaceChildren(...present.map(([address]) =>
    make("li", {}, make("button", { type: "button", onclick: () => { byId("opponent").value = address; } },
      face(address), make("span", { class: "theirs" }, nameOf(address))))));
}

byId("invite").addEventListener("submit", (event) => {
  event.preventDefault();
  const opponent = byId("opponent").value.trim();
  if (!games || !opponent) return;
  if (opponent === games.me) {
    byId("problem").textContent = "That is you.";
    return;
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  act(games.invite([...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(""), opponent));
  byId("opponent").value = "";
});
