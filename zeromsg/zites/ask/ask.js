// The page: ask some peers, gather their replies; answer what others ask.
"use strict";

const zeroFrame = new ZeroFrame();
const connection = new ConnectionState(zeroFrame, byId("state"));
const SHOWN_LIMIT = 50; // questions in each of the two lists

zeroFrame.on("open", () => {
  connection.look();
  byId("ask").querySelector("button").disabled = false;
});
zeroFrame.on("close", () => connection.gone());

// Asking

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const seconds = Number(byId("seconds").value);
  const message = { cmd: "ask", text: byId("question").value.trim(), seconds };
  const problem = Ask.problemOf(message);
  byId("problem").textContent = problem ? `Not sent: ${problem}.` : "";
  if (problem) return;
  byId("question").value = "";
  const place = pending(message);
  try {
    const replies = await zeroFrame.cmd("peerBroadcast", {
      message,
      privatekey: false,
      broadcast: false, // to some, who reply, and not to everybody
      peer_count: Number(byId("peers").value),
      timeout: seconds,
    });
    finish(place, Ask.rows(replies));
  } catch (failure) {
    finish(place, [], failure.message);
  }
});

function pending({ text, seconds }) {
  const bar = make("progress", { max: seconds, value: 0, "aria-label": "time" });
  const place = make("li", { class: "card asked" },
    make("p", { class: "theirs question", dir: "auto" }, text), bar,
    make("p", { class: "quiet outcome" }, "Gathering replies"));
  const start = unixNow();
  place.timer = setInterval(() => { bar.value = unixNow() - start; }, 200);
  insert(byId("asked"), place);
  return place;
}

function finish(place, rows, problem = "") {
  clearInterval(place.timer);
  place.querySelector("progress").remove();
  place.querySelector(".outcome").textContent = problem || Ask.summary(rows);
  place.append(make("ul", { class: "rows" }, ...rows.map((row) =>
    make("li", { class: `reply ${row.kind}` },
      make("span", { class: "theirs", dir: "auto" }, row.text),
      make("span", { class: "mono quiet", title: row.who }, row.who ? `${row.who.slice(0, 8)}…` : row.ip)))));
}

// Answering

zeroFrame.on("peerReceive", (event) => {
  const { word } = Ask.judge(event);
  const command = { valid: "peerValid", invalid: "peerInvalid", ignore: "peerIgnore" }[word];
  zeroFrame.cmd(command, { hash: event.hash }).catch(() => {});
  if (word === "valid") asked(event);
});

function asked({ hash, message, signed_by: author }) {
  const place = make("li", { class: "card other" },
    make("p", { class: "theirs question", dir: "auto" }, message.text),
    make("p", { class: "mono quiet", title: author }, `asked by ${author.slice(0, 8)}…`));
  insert(byId("others"), place);
  byId("none").hidden = true;
  const standing = byId("answer").value.trim();
  if (standing) {
    answer(place, hash, standing);
    return;
  }
  const input = make("input", { maxlength: Ask.TEXT_LIMIT, required: true, "aria-label": "Your answer" });
  const form = make("form", { class: "row", autocomplete: "off" }, input, make("button", { class: "main", type: "submit" }, "Answer"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.remove();
    answer(place, hash, input.value.trim());
  });
  place.append(form);
  setTimeout(() => {
    if (!form.isConnected) return;
    form.replaceWith(make("p", { class: "quiet" }, "The time to answer is over."));
  }, message.seconds * 1000);
}

async function answer(place, hash, text) {
  const said = make("p", { class: "quiet" }, "Answering");
  place.append(said);
  try {
    await zeroFrame.cmd("peerReply", { hash, message: { cmd: "answer", text }, privatekey: false });
    said.textContent = `You answered: ${text}`;
  } catch (problem) {
    said.textContent = problem.message;
    said.classList.add("bad");
  }
}

byId("standing").addEventListener("submit", (event) => event.preventDefault());

function insert(list, place) {
  list.prepend(place);
  while (list.children.length > SHOWN_LIMIT) list.lastChild.remove();
}
