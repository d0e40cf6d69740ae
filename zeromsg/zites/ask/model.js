// Questions and answers, without a page.
//
//   {cmd: "ask", text, seconds}    a question to some peers (peerBroadcast with broadcast: false)
//   {cmd: "answer", text}          the reply of one of them (peerReply)
"use strict";

const Ask = (() => {
  const TEXT_LIMIT = 280;

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isText = (value) =>
    typeof value === "string" && value.trim() !== "" && [...value].length <= TEXT_LIMIT;

  // What is wrong with a message, or "".
  function problemOf(message) {
    if (!isObject(message) || !["ask", "answer"].includes(message.cmd)) return "it is no message of this site";
    if (!isText(message.text)) return "there is no text, or too much";
    if (message.cmd === "answer") return "";
    const { seconds } = message;
    return Number.isInteger(seconds) && seconds >= 5 && seconds <= 300 ? "" : "there is no time to answer";
  }

  // The verdict on a `peerReceive` event. An answer comes as a reply, and only then.
  function judge({ message, signed_by: author, broadcast }) {
    const problem = author ? problemOf(message) : "nobody signed it";
    if (problem) return { word: "invalid", reason: problem };
    if (message.cmd !== "ask") return { word: "invalid", reason: "an answer that nobody asked for" };
    return broadcast ? { word: "ignore", reason: "a question is not for everybody" } : { word: "valid", reason: "" };
  }

  // What the peers replied, a row for each that was asked: {kind, text, who, ip}. kind:
  // "answer", "silent" (none in time), "refused" (the peer or the way to it) or "spoilt".
  function rows(replies) {
    const made = replies.map(({ ip, reply, signed_by: who }) => {
      if (isObject(reply) && typeof reply.error === "string") {
        const [code, ...rest] = reply.error.split(": ");
        return { kind: code === "timeout" ? "silent" : "refused", text: rest.join(": ") || code, who: "", ip };
      }
      if (who && isObject(reply) && reply.cmd === "answer" && !problemOf(reply)) {
        return { kind: "answer", text: reply.text, who, ip };
      }
      return { kind: "spoilt", text: "a reply that is no answer", who: who || "", ip };
    });
    const order = ["answer", "spoilt", "refused", "silent"];
    return made.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  }

  // The same in a sentence.
  function summary(made) {
    if (!made.length) return "There was no peer to ask.";
    const count = (kind) => made.filter((row) => row.kind === kind).length;
    const parts = [`${count("answer")} of ${made.length} peer${made.length === 1 ? "" : "s"} answered`];
    if (count("silent")) parts.push(`${count("silent")} silent`);
    if (count("refused")) parts.push(`${count("refused")} not reached`);
    if (count("spoilt")) parts.push(`${count("spoilt")} not understood`);
    return `${parts.join(", ")}.`;
  }

  return { TEXT_LIMIT, judge, problemOf, rows, summary };
})();

if (typeof module === "object") module.exports = Ask;
