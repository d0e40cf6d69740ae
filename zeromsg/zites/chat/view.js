// How the chat's entries look. Reads the model, and changes nothing in it.
"use strict";

const ChatView = (() => {
  const GROUP_SECONDS = 180; // lines of one person within this time stand together

  const VERDICTS = {
    valid: { icon: "check", text: "valid" },
    ignore: { icon: "pause", text: "ignored" },
    invalid: { icon: "cross", text: "invalid" },
  };

  function coloured(element, address) {
    element.style.setProperty("--hue", Chat.hue(address));
    return element;
  }

  function face(name, address) {
    const letter = [...name.trim()][0] || "?";
    return coloured(make("span", { class: "face", "aria-hidden": "true" }, letter), address);
  }

  function person(name, address) {
    return [
      coloured(make("span", { class: "name theirs", dir: "auto" }, name), address),
      make("span", { class: "mono quiet", title: address }, Chat.short(address)),
    ];
  }

  function clock(time) {
    const date = new Date(time * 1000);
    const text = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return make("time", { datetime: date.toISOString() }, text);
  }

  const theirs = (text, name = "p") => make(name, { class: "theirs", dir: "auto" }, text);

  // What became of it: of our own where it went, of others' how we judged it.
  function fate(entry) {
    if (entry.mine) {
      if (entry.reached === undefined) return null;
      const text =
        entry.reached === 0 ? "no peer was there" : `sent to ${entry.reached} peer${entry.reached === 1 ? "" : "s"}`;
      return make("span", { class: entry.reached ? "fate" : "fate warn" }, icon(entry.reached ? "check" : "pause"), text);
    }
    const { word, reason } = entry.verdict;
    const verdict = VERDICTS[word];
    const text = reason ? `${verdict.text}: ${reason}` : verdict.text;
    return make("span", { class: `fate ${word}` }, icon(verdict.icon), text);
  }

  const meta = (entry) => make("p", { class: "meta" }, clock(entry.time), fate(entry));

  function words(entry, room) {
    const { message } = entry;
    if (entry.verdict.word === "invalid") {
      // Never shown unasked, and then as what it is: data.
      return [
        make("details", {}, make("summary", {}, "A message that breaks the room's rules"),
          make("p", { class: "theirs mono" }, JSON.stringify(message).slice(0, 1000))),
      ];
    }
    if (entry.kind === "sealed") return [make("p", {}, icon("lock"), " a private message for somebody else")];
    if (entry.kind === "private") {
      const whom = entry.mine ? ["for ", theirs(room.nameOf(message.to), "bdi"), " alone"] : ["for you alone"];
      return [make("p", { class: "secret" }, icon("lock"), " ", ...whom), theirs(message.text)];
    }
    return [theirs(message.text)];
  }

  // A poll: buttons to answer another's, bars for our own.
  function poll(entry, actions, now) {
    const { message, mine, result, choice } = entry;
    const left = Math.max(0, Math.ceil(entry.deadline - now));
    const list = make("ul", { class: "options" });
    message.options.forEach((option, index) => {
      if (!mine) {
        const button = make("button", {
          type: "button",
          disabled: choice !== undefined || left === 0,
          "aria-pressed": String(choice === index),
          onclick: () => actions.vote(entry, index),
        }, theirs(option, "span"));
        list.append(make("li", {}, button));
        return;
      }
      const votes = result ? result.counts[index] : 0;
      const share = result && result.votes ? Math.round((100 * votes) / result.votes) : 0;
      const bar = make("span", { class: "bar" });
      bar.style.setProperty("--share", `${share}%`);
      list.append(make("li", { class: "count" }, bar, theirs(option, "span"), make("b", {}, result ? `${votes}` : "–")));
    });
    return [
      make("p", { class: "asks" }, icon("poll"), mine ? " Your poll" : " Poll"),
      make("p", { class: "theirs question", dir: "auto" }, message.question),
      list,
      make("p", { class: "quiet outcome" }, outcome(entry, left)),
    ];
  }

  function outcome({ mine, result, choice, problem, message }, left) {
    if (problem) return problem;
    if (!mine) {
      if (choice !== undefined) return `You answered: ${message.options[choice]}`;
      return left ? `${left} s left to answer` : "The time to answer is over";
    }
    if (!result) return `Gathering replies, ${left} s at most`;
    if (result.asked === 0) return "There was no peer to ask";
    const parts = [`${result.votes} of ${result.asked} peer${result.asked === 1 ? "" : "s"} answered`];
    if (result.silent) parts.push(`${result.silent} silent`);
    if (result.spoilt) parts.push(`${result.spoilt} not counted`);
    return parts.join(", ");
  }

  function follows(entry, before) {
    return Boolean(
      before && before.author === entry.author && before.kind !== "poll" && entry.kind !== "poll" &&
      Math.abs(entry.time - before.time) < GROUP_SECONDS,
    );
  }

  // One entry of the log. before: the entry above it.
  function entry(entry, before, room, actions, now) {
    const joined = follows(entry, before);
    const classes = ["entry", entry.kind, entry.mine ? "mine" : "other", entry.verdict.word];
    if (joined) classes.push("joined");
    const user = room.people.get(entry.author);
    const name = (user && user.id) || (entry.verdict.word !== "invalid" && entry.message.nick) || room.nameOf(entry.author);
    const item = make("li", { class: classes.join(" "), "data-hash": entry.hash });
    if (!entry.mine) item.append(face(name, entry.author));
    const body = make("div", { class: "body" });
    const head = make("p", { class: entry.mine || joined ? "head unseen" : "head" }, ...(entry.mine ? ["You"] : person(name, entry.author)));
    const inner = entry.kind === "poll" && entry.verdict.word !== "invalid" ? poll(entry, actions, now) : words(entry, room);
    body.append(head, make("div", { class: "bubble" }, ...inner, meta(entry)));
    item.append(body);
    return item;
  }

  // Something of ours that could not be sent, or not yet. why: what it waits for.
  function unsent(item, why, actions) {
    const failed = item.state === "failed";
    const state = failed ? item.problem : why;
    const buttons = failed
      ? make("p", { class: "buttons" },
          make("button", { type: "button", onclick: () => actions.again(item) }, "Send again"),
          make("button", { type: "button", class: "plain", onclick: () => actions.drop(item) }, "Drop"))
      : null;
    return make("li", { class: "entry mine unsent" },
      make("div", { class: "body" },
        make("div", { class: "bubble" }, theirs(item.message.text), make("p", { class: failed ? "meta bad" : "meta" }, state), buttons)));
  }

  // Somebody in the list of people.
  function member(who, chosen, pick) {
    const name = who.id || who.nick || Chat.short(who.address);
    const about = who.bot ? "a program" : who.note;
    const text = make("span", { class: "who" }, make("span", { class: "line" }, ...person(name, who.address)),
      who.note || who.bot ? make("span", { class: "quiet theirs", dir: "auto" }, who.note || about) : null);
    if (who.bot) return make("li", { class: "member" }, face(name, who.address), text);
    return make("li", { class: "member" },
      make("button", { type: "button", class: "plain", "aria-pressed": String(chosen), onclick: () => pick(who.address) },
        face(name, who.address), text, icon("lock")));
  }

  return { entry, unsent, member, outcome };
})();
