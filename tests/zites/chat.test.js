// The chat's model, without a page. Run by tests/zites/test_javascript.py.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const Chat = require("../../zeromsg/zites/chat/model.js");

const NOW = 1800000000;
const ME = "1Me";
let count = 0;

function event(message, more = {}) {
  count += 1;
  return {
    ip: "192.0.2.1:26552", hash: `hash${count}`, message, signed_by: "1Ann", cert: "",
    broadcast: true, timestamp: NOW, user: { address: "1Ann", id: null, provider: null }, ...more,
  };
}

const say = (text, nick = "Ann") => ({ cmd: "say", nick, text });
const poll = { cmd: "poll", nick: "Ann", question: "Tea?", options: ["yes", "no"], seconds: 30 };

test("what the room sends is valid", () => {
  const good = [
    say("hello"), say("two\nlines\tand a tab"), say("שלום \u200f!"), say("👩‍👧"),
    { cmd: "here", nick: "Ann" }, { cmd: "here", nick: "Ann", note: "away", bot: true },
    { cmd: "who" }, poll, { cmd: "vote", nick: "Ann", choice: 1 },
    { cmd: "private", encrypted: { v: 1 } }, { cmd: "private", to: ME, nick: "Ann", text: "psst" },
  ];
  for (const message of good) {
    assert.equal(new Chat.Room(ME).receive(event(message), NOW).verdict.word, "valid", JSON.stringify(message));
  }
});

test("what breaks the room's rules is invalid, with the reason", () => {
  const bad = [
    [null, "no message"], ["hello", "no message"], [[], "no message"], [7, "no message"],
    [{}, "no such"], [{ cmd: "constructor" }, "no such"], [{ cmd: "__proto__" }, "no such"],
    [say(""), "no text"], [say("  "), "no text"], [say("x".repeat(501)), "too much"], [say(7), "no text"],
    [say("\u202eevil"), "deceive"], [say("a\u0007b"), "deceive"],
    [say("x", ""), "name"], [say("x", "x".repeat(25)), "name"], [say("x", "bob@zeroid.bit"), "user ID"],
    [say("x", "a\nb"), "deceive"], [say("x", 5), "name"],
    [{ ...poll, options: ["one"] }, "two to six"], [{ ...poll, options: ["a", "a"] }, "same"],
    [{ ...poll, options: ["a", 1] }, "line"], [{ ...poll, seconds: 1 }, "time"], [{ ...poll, question: "" }, "line"],
    [{ cmd: "vote", nick: "Ann", choice: "1" }, "vote"], [{ cmd: "private", to: ME, nick: "Ann" }, "no text"],
  ];
  for (const [message, reason] of bad) {
    const { verdict } = new Chat.Room(ME).receive(event(message), NOW);
    assert.equal(verdict.word, "invalid", JSON.stringify(message));
    assert.match(verdict.reason, new RegExp(reason), JSON.stringify(message));
  }
});

test("lengths are counted in characters, as the schema counts them", () => {
  assert.equal(Chat.problemOf(say("😀".repeat(500))), "");
  assert.notEqual(Chat.problemOf(say("😀".repeat(501))), "");
});

test("unsigned messages are invalid", () => {
  const { verdict } = new Chat.Room(ME).receive(event(say("hi"), { signed_by: "" }), NOW);
  assert.deepEqual(verdict, { word: "invalid", reason: "nobody signed it" });
});

test("what was said a moment ago is ignored, later it is not", () => {
  const room = new Chat.Room(ME);
  const word = (message, timestamp) => room.receive(event(message, { timestamp }), timestamp).verdict.word;
  assert.equal(word(say("hi"), NOW), "valid");
  assert.equal(word(say("hi"), NOW + 10), "ignore");
  assert.equal(word(say("ho"), NOW + 11), "valid");
  assert.equal(word(say("hi"), NOW + 71), "valid");
});

test("the same words of two people are no repetition, nor are those from the history", () => {
  const room = new Chat.Room(ME);
  room.receive(event(say("hi")), NOW);
  assert.equal(room.receive(event(say("hi"), { signed_by: "1Bob" }), NOW).verdict.word, "valid");
  assert.equal(room.receive(event(say("hi")), NOW, true).verdict.word, "valid");
});

test("a message counts once, and the oldest leave", () => {
  const room = new Chat.Room(ME);
  const first = event(say("first"));
  assert.ok(room.receive(first, NOW));
  assert.equal(room.receive(first, NOW), null);
  for (let number = 0; number < 500; number += 1) room.receive(event(say(`line ${number}`)), NOW);
  assert.equal(room.log.length, 500);
  assert.equal(room.get(first.hash), undefined);
  assert.equal(room.log[0].message.text, "line 0");
});

test("nobody speaks from the future", () => {
  const room = new Chat.Room(ME);
  assert.equal(room.receive(event(say("hi"), { timestamp: NOW + 999 }), NOW).time, NOW);
  assert.equal(room.receive(event(say("ho"), { timestamp: null }), NOW).time, NOW);
});

test("private messages that we cannot read are told from those for us", () => {
  const room = new Chat.Room(ME);
  const sealed = event({ cmd: "private", encrypted: { v: 1 } }, { encrypted: { opened: false } });
  assert.equal(room.receive(sealed, NOW).kind, "sealed");
  const opened = event({ cmd: "private", to: ME, nick: "Ann", text: "psst" }, { encrypted: { opened: true } });
  assert.equal(room.receive(opened, NOW).kind, "private");
});

test("people are here for a while, under their newest name", () => {
  const room = new Chat.Room(ME);
  room.receive(event({ cmd: "here", nick: "Ann", note: "hello" }), NOW);
  room.receive(event(say("x", "Anna"), { timestamp: NOW + 5 }), NOW + 5);
  room.receive(event({ cmd: "here", nick: "I" }, { signed_by: ME }), NOW);
  assert.deepEqual(room.here(NOW + 10).map((who) => [who.nick, who.note]), [["Anna", "hello"]]);
  assert.deepEqual(room.here(NOW + 500), []);
  assert.equal(room.nameOf("1Ann"), "Anna");
  assert.equal(room.log.length, 1); // that somebody is here is no line
});

test("a certificate's ID goes before a chosen name", () => {
  const room = new Chat.Room(ME);
  room.receive(event(say("x"), { user: { address: "1Ann", id: "ann@zeroid.bit" } }), NOW);
  assert.equal(room.nameOf("1Ann"), "ann@zeroid.bit");
});

test("invalid messages introduce nobody, old ones do not undo newer names", () => {
  const room = new Chat.Room(ME);
  room.receive(event(say("x", "bob@zeroid.bit")), NOW);
  assert.equal(room.people.size, 0);
  room.receive(event(say("x", "New")), NOW);
  room.receive(event(say("y", "Old"), { timestamp: NOW - 100 }), NOW, true);
  assert.equal(room.nameOf("1Ann"), "New");
});

test("replies to `who` introduce their signers", () => {
  const room = new Chat.Room(ME);
  room.met({ reply: { cmd: "here", nick: "Cy" }, signed_by: "1Cy" }, NOW);
  room.met({ reply: { error: "timeout: no reply" }, signed_by: "" }, NOW);
  room.met({ reply: { cmd: "here", nick: "x@y" }, signed_by: "1Dan" }, NOW);
  assert.deepEqual(room.here(NOW).map((who) => who.nick), ["Cy"]);
});

test("votes are counted once a person; the silent and the spoilt are named", () => {
  const vote = (choice, signed_by) => ({ reply: { cmd: "vote", nick: "n", choice }, signed_by });
  const replies = [
    vote(0, "1A"), vote(1, "1B"), vote(1, "1C"), vote(0, "1C"), vote(2, "1D"), vote(-1, "1E"),
    vote("0", "1F"), vote(0, ""), { reply: null, signed_by: "1G" },
    { reply: { error: "timeout: no reply within 5 seconds" }, signed_by: "" },
  ];
  assert.deepEqual(Chat.tally(["yes", "no"], replies), {
    counts: [1, 2], votes: 3, asked: 10, silent: 1, spoilt: 6,
  });
  assert.deepEqual(Chat.tally(["yes", "no"], []), { counts: [0, 0], votes: 0, asked: 0, silent: 0, spoilt: 0 });
});

test("addresses are shortened, and give a colour each", () => {
  assert.equal(Chat.short("1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"), "1HeL…Tf3D");
  assert.equal(Chat.short(""), "nobody");
  for (const address of ["1A", "1B", "", null]) assert.ok(Chat.hue(address) >= 0 && Chat.hue(address) < 360);
});
