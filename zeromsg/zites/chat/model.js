// What the chat knows, and how it judges messages. No page here: `node --test` runs it too.
//
// Every message of the room is one of these. All are signed; p2p.json says the
// same to the nodes, so most of what is wrong never gets here.
//
//   {cmd: "say", nick, text}                         to everybody
//   {cmd: "here", nick, note?, bot?}                 I am here (every minute, and on opening)
//   {cmd: "private", to, nick, text}                 all but cmd is sealed to the person `to`
//   {cmd: "who"}                                     a question; the reply is a `here`
//   {cmd: "poll", nick, question, options, seconds}  a question; the reply is
//   {cmd: "vote", nick, choice}                      the number of an option
"use strict";

const Chat = (() => {
  const TEXT_LIMIT = 500;
  const NICK_LIMIT = 24;
  const LINE_LIMIT = 120;
  const LOG_LIMIT = 500; // messages kept in the page; the oldest go
  const PEOPLE_LIMIT = 500;
  const HERE_SECONDS = 60; // between two times of saying that one is here
  const GONE_SECONDS = 150; // unheard of for so long: no longer shown as here
  const REPEAT_SECONDS = 60;

  // Characters that draw over other text, reverse it, or cannot be seen.
  const TRICKS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u206f\ufeff]/;

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isLine = (value, limit) =>
    typeof value === "string" && value.trim() !== "" && [...value].length <= limit;

  // What each kind of message must look like: a sentence about what is wrong, or "".
  const SHAPES = {
    say: (m) => nickProblem(m.nick) || textProblem(m.text),
    here: (m) => nickProblem(m.nick) || (m.note === undefined ? "" : lineProblem(m.note)),
    who: () => "",
    private: (m) => nickProblem(m.nick) || textProblem(m.text),
    poll: (m) => nickProblem(m.nick) || lineProblem(m.question) || optionsProblem(m),
    vote: (m) => nickProblem(m.nick) || (Number.isInteger(m.choice) ? "" : "a vote for nothing"),
  };

  function nickProblem(nick) {
    if (!isLine(nick, NICK_LIMIT)) return "the name is missing or too long";
    if (TRICKS.test(nick) || nick.includes("\n")) return "the name has characters that deceive";
    // bob@zeroid.bit is what a certificate says. A name that anybody may choose must not look so.
    return nick.includes("@") ? "the name looks like a user ID" : "";
  }

  function textProblem(text) {
    if (!isLine(text, TEXT_LIMIT)) return "there is no text, or too much";
    return TRICKS.test(text) ? "the text has characters that deceive" : "";
  }

  function lineProblem(line) {
    if (!isLine(line, LINE_LIMIT)) return "a line is missing or too long";
    return TRICKS.test(line) || line.includes("\n") ? "a line has characters that deceive" : "";
  }

  function optionsProblem({ options, seconds }) {
    if (!Array.isArray(options) || options.length < 2 || options.length > 6) {
      return "a poll has two to six options";
    }
    if (new Set(options).size < options.length) return "two options are the same";
    if (!(Number.isInteger(seconds) && seconds >= 5 && seconds <= 300)) return "no time to answer";
    return options.map(lineProblem).find(Boolean) || "";
  }

  // What is wrong with a message, or "". A sealed one that we cannot read is fine.
  function problemOf(message) {
    if (!isObject(message)) return "it is no message of this room";
    if (!Object.hasOwn(SHAPES, message.cmd)) return "this room has no such message";
    if (message.cmd === "private" && isObject(message.encrypted)) return "";
    return SHAPES[message.cmd](message);
  }

  class Room {
    // me: our own address.
    constructor(me) {
      this.me = me;
      this.people = new Map(); // address -> {address, nick, note, bot, id, seen}
      this.log = []; // what is shown, oldest first
      this._byHash = new Map();
      this._said = new Map(); // author and text -> when
    }

    // A `peerReceive` event: an entry {kind, verdict, ...}, or null for what was here before.
    //
    // now: Unix seconds. kept: it comes from the node's history, judged long ago.
    receive(event, now, kept = false) {
      if (this._byHash.has(event.hash)) return null;
      const message = event.message;
      const entry = {
        hash: event.hash,
        kind: isObject(message) ? message.cmd : "",
        author: event.signed_by,
        // A clock may be ahead, so nobody speaks from the future.
        time: Math.min(event.timestamp || now, now),
        mine: event.signed_by === this.me,
        local: event.ip === "self",
        message,
        verdict: this._judge(event, now, kept),
      };
      if (entry.kind === "private" && isObject(message.encrypted)) entry.kind = "sealed";
      if (entry.verdict.word === "valid") this._meet(event, entry.time);
      this._remember(entry);
      return entry;
    }

    // The verdict that the node is told, with the reason that people are shown.
    //
    // "invalid" costs the author, and in the end a ban: only for what everybody
    // would judge alike. "ignore" costs nothing: the message is just not passed on.
    _judge({ message, signed_by: author, timestamp }, now, kept) {
      const problem = author ? problemOf(message) : "nobody signed it";
      if (problem) return { word: "invalid", reason: problem };
      if (message.cmd === "say" && !kept) {
        const what = JSON.stringify([author, message.text]);
        const when = timestamp || now;
        const before = this._said.get(what);
        this._said.delete(what); // to the end of the map
        this._said.set(what, when);
        if (this._said.size > LOG_LIMIT) this._said.delete(this._said.keys().next().value);
        if (before !== undefined && Math.abs(when - before) < REPEAT_SECONDS) {
          return { word: "ignore", reason: "the same was said a moment ago" };
        }
      }
      return { word: "valid", reason: "" };
    }

    // Note who wrote: the newest name counts.
    _meet({ message, signed_by: address, user }, time) {
      const known = this.people.get(address) || { address, nick: "", note: "", bot: false, seen: 0 };
      if (time < known.seen) return;
      if (message.nick) known.nick = message.nick;
      if (message.cmd === "here") {
        known.note = message.note || "";
        known.bot = message.bot === true;
      }
      known.id = (user && user.id) || "";
      known.seen = time;
      this.people.delete(address); // to the end of the map
      this.people.set(address, known);
      if (this.people.size > PEOPLE_LIMIT) this.people.delete(this.people.keys().next().value);
    }

    // A reply to `who`.
    met(reply, now) {
      const { reply: message, signed_by: author } = reply;
      if (author && isObject(message) && message.cmd === "here" && !problemOf(message)) {
        this._meet({ message, signed_by: author, user: null }, now);
      }
    }

    _remember(entry) {
      this._byHash.set(entry.hash, entry);
      if (entry.kind === "here" || entry.kind === "who") {
        // Not shown, but not to be taken twice either.
        if (this._byHash.size > 4 * LOG_LIMIT) this._byHash.delete(this._byHash.keys().next().value);
        return;
      }
      this.log.push(entry);
      if (this.log.length > LOG_LIMIT) this._byHash.delete(this.log.shift().hash);
    }

    get(hash) {
      return this._byHash.get(hash);
    }

    // Who was heard of lately, ourselves excepted, by name.
    here(now) {
      return [...this.people.values()]
        .filter((person) => person.address !== this.me && now - person.seen < GONE_SECONDS)
        .sort((a, b) => a.nick.localeCompare(b.nick) || a.address.localeCompare(b.address));
    }

    // How to call somebody: a user ID is proven by a certificate, a name is not.
    nameOf(address) {
      const person = this.people.get(address);
      return (person && (person.id || person.nick)) || short(address);
    }
  }

  // The result of a poll: votes for each option, and how many peers said nothing useful.
  //
  // replies: what peerBroadcast gave. A person has one vote, however many of their nodes replied.
  function tally(options, replies) {
    const counts = options.map(() => 0);
    const voters = new Set();
    let silent = 0;
    let spoilt = 0;
    for (const { reply, signed_by: voter } of replies) {
      if (isObject(reply) && typeof reply.error === "string") {
        silent += 1;
      } else if (
        voter && !voters.has(voter) && isObject(reply) && reply.cmd === "vote" &&
        Number.isInteger(reply.choice) && reply.choice >= 0 && reply.choice < options.length
      ) {
        voters.add(voter);
        counts[reply.choice] += 1;
      } else {
        spoilt += 1;
      }
    }
    return { counts, votes: voters.size, asked: replies.length, silent, spoilt };
  }

  const short = (address) => (address ? `${address.slice(0, 4)}…${address.slice(-4)}` : "nobody");

  // A colour of one's own, out of the address: degrees on the colour wheel.
  function hue(address) {
    let sum = 0;
    for (const letter of address || "") sum = (sum * 31 + letter.codePointAt(0)) % 360;
    return sum;
  }

  return {
    Room, tally, problemOf, nickProblem, short, hue,
    TEXT_LIMIT, NICK_LIMIT, LINE_LIMIT, HERE_SECONDS, GONE_SECONDS,
  };
})();

if (typeof module === "object") module.exports = Chat;
