// What the person reads and answers: notices in a corner, questions in a dialog.
//
// Texts of sites may use b, u, i, small and br. They are put together from nodes,
// never parsed as html, so nothing else of them can come to life.
"use strict";

const Notices = (() => {
  const corner = document.getElementById("notices");
  const dialog = document.getElementById("question");
  const LIMIT = 20;
  const QUESTIONS = 20;
  // Long enough that a click meant for the page below hits no button here.
  const CALM_MS = 500;

  const ENTITIES = { lt: "<", gt: ">", amp: "&", quot: '"', "#x27": "'", "#39": "'", nbsp: "\u00a0" };

  function plain(text) {
    return text.replace(/&(lt|gt|amp|quot|#x27|#39|nbsp);/g, (_, name) => ENTITIES[name]);
  }

  // Nodes of a text with the short list of tags.
  function formatted(text) {
    const root = document.createDocumentFragment();
    const open = [root];
    for (const part of String(text).slice(0, 10000).split(/(<\/?(?:b|u|i|small|br)\s*\/?>)/i)) {
      const tag = /^<(\/?)(b|u|i|small|br)\s*\/?>$/i.exec(part);
      const inmost = open[open.length - 1];
      if (!tag) inmost.append(plain(part));
      else if (tag[2].toLowerCase() === "br") inmost.append(document.createElement("br"));
      else if (!tag[1] && open.length < 20) {
        const made = document.createElement(tag[2].toLowerCase());
        inmost.append(made);
        open.push(made);
      } else if (tag[1] && inmost.localName === tag[2].toLowerCase()) open.pop();
    }
    return root;
  }

  function button(label, action, className = "") {
    const made = document.createElement("button");
    made.type = "button";
    made.className = className;
    made.append(label);
    // A page can make events, but none that the browser trusts.
    made.addEventListener("click", (event) => { if (event.isTrusted) action(); });
    return made;
  }

  // kind: info, error, done, ask or progress. seconds: 0 stays until it is closed.
  function show(kind, text, seconds = 0, name = null) {
    const known = name === null ? null : [...corner.children].find((each) => each.dataset.name === name);
    const notice = document.createElement("div");
    notice.className = "notice " + kind;
    notice.setAttribute("role", kind === "error" ? "alert" : "status");
    if (name !== null) notice.dataset.name = name;
    const body = document.createElement("div");
    body.append(formatted(text));
    const close = button("×", () => notice.remove(), "close");
    close.setAttribute("aria-label", "Close");
    notice.append(body, close);
    if (known) known.replaceWith(notice);
    else corner.append(notice);
    while (corner.children.length > LIMIT) corner.firstChild.remove();
    if (seconds > 0) setTimeout(() => notice.remove(), seconds * 1000);
    return notice;
  }

  // A progress notice: 100 is done, below 0 an error.
  function progress(name, text, percent) {
    const kind = percent < 0 ? "error" : percent >= 100 ? "done" : "progress";
    const notice = show(kind, text, percent >= 100 ? 3 : 0, "progress-" + name);
    if (percent >= 0 && percent < 100) {
      const bar = document.createElement("progress");
      bar.max = 100;
      bar.value = percent;
      notice.firstChild.append(bar);
    }
  }

  // Questions come one at a time; each has an `end` that is called once, with
  // the answer or null, and a `key` by which it can be taken back.
  const waiting = [];
  let current = null;

  function ask(question) {
    if (waiting.length >= QUESTIONS) question.end(null);
    else waiting.push(question);
    if (!current) next();
  }

  // key: of one question of the node; without one, all of them.
  function takeBack(key) {
    const ended = (each) => each.key !== undefined && (key === undefined || each.key === key);
    for (let place = waiting.length - 1; place >= 0; place--) {
      if (ended(waiting[place])) waiting.splice(place, 1);
    }
    if (current && ended(current)) finish(null, false);
  }

  function finish(answer, tell = true) {
    const ended = current;
    current = null;
    if (dialog.open) dialog.close();
    if (ended && tell) ended.end(answer);
    next();
  }

  function next() {
    current = waiting.shift() || null;
    if (!current) return;
    const asked = document.getElementById("asked");
    dialog.className = current.own ? "own" : "site";
    document.getElementById("asker").textContent = current.title;
    if (current.own) asked.textContent = current.text;
    else asked.replaceChildren(formatted(current.text));
    const answers = document.getElementById("answers");
    answers.replaceChildren();
    let input = null;
    if (current.input) {
      input = document.createElement("input");
      input.type = current.input.type;
      input.placeholder = current.input.placeholder;
      input.setAttribute("aria-labelledby", "asked");
      input.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && event.isTrusted) { event.preventDefault(); finish(input.value); }
      });
      answers.append(input);
    }
    const buttons = current.choices.map((choice, number) =>
      button(choice.label, () => finish(input ? input.value : choice.answer), number ? "" : "first"));
    buttons.push(button(current.cancel || "Cancel", () => finish(null), "cancel"));
    answers.append(...buttons);
    for (const each of buttons) each.disabled = true;
    const asksForRights = current.own;
    setTimeout(() => {
      for (const each of buttons) each.disabled = false;
      // So that Enter alone grants nothing.
      if (!input) (asksForRights ? buttons[buttons.length - 1] : buttons[0]).focus();
    }, CALM_MS);
    dialog.showModal();
    if (input) input.focus();
  }

  dialog.addEventListener("cancel", (event) => { event.preventDefault(); finish(null); });

  return { show, progress, ask, takeBack };
})();
