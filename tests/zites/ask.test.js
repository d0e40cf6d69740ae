// The question's model, without a page. Run by tests/zites/test_javascript.py.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const Ask = require("../../zeromsg/zites/ask/model.js");

const question = { cmd: "ask", text: "Who is there?", seconds: 20 };
const event = (message, more = {}) => ({ message, signed_by: "1Ann", broadcast: false, ...more });

test("questions are valid, and all else has its reason", () => {
  assert.equal(Ask.judge(event(question)).word, "valid");
  for (const [odd, word] of [
    [event(question, { broadcast: true }), "ignore"],
    [event(question, { signed_by: "" }), "invalid"],
    [event({ cmd: "answer", text: "me" }), "invalid"],
    [event({ ...question, text: " " }), "invalid"],
    [event({ ...question, text: "x".repeat(281) }), "invalid"],
    [event({ ...question, seconds: 301 }), "invalid"],
    [event({ ...question, seconds: "20" }), "invalid"],
    [event(null), "invalid"],
    [event("hello"), "invalid"],
  ]) {
    const verdict = Ask.judge(odd);
    assert.equal(verdict.word, word, JSON.stringify(odd));
    assert.notEqual(verdict.reason, "");
  }
});

test("each peer that was asked has a row, the silent ones last", () => {
  const rows = Ask.rows([
    { ip: "a:1", reply: { error: "timeout: no reply within 20 seconds" }, signed_by: "" },
    { ip: "b:1", reply: { cmd: "answer", text: "me" }, signed_by: "1Bob" },
    { ip: "c:1", reply: { error: "no-peer: Connection error" }, signed_by: "" },
    { ip: "d:1", reply: { cmd: "answer", text: "nobody signed" }, signed_by: "" },
    { ip: "e:1", reply: null, signed_by: "1Eve" },
  ]);
  assert.deepEqual(rows.map((row) => [row.ip, row.kind]), [
    ["b:1", "answer"], ["d:1", "spoilt"], ["e:1", "spoilt"], ["c:1", "refused"], ["a:1", "silent"],
  ]);
  assert.equal(rows[0].text, "me");
  assert.equal(rows[4].text, "no reply within 20 seconds");
  assert.equal(Ask.summary(rows), "1 of 5 peers answered, 1 silent, 1 not reached, 2 not understood.");
});

test("nobody there", () => {
  assert.deepEqual(Ask.rows([]), []);
  assert.equal(Ask.summary([]), "There was no peer to ask.");
});
