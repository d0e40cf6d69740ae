// The game's model, without a page. Run by tests/zites/test_javascript.py.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { Games, isLegal, isOver, turn, won } = require("../../zeromsg/zites/tictactoe/model.js");

const GAME = "0123456789abcdef0123456789abcdef";

// What arrives at one player of what the other sent; it travels sealed.
const from = (author, message, more = {}) => ({
  ip: "192.0.2.1:26552", hash: "h", message, signed_by: author, user: { address: author, id: null },
  encrypted: { opened: true, by: "auth" }, ...more,
});

// Two players in the middle of a game, X to move first.
function started() {
  const ann = new Games("1Ann");
  const bob = new Games("1Bob");
  assert.equal(bob.receive(from("1Ann", ann.invite(GAME, "1Bob"))).game, GAME);
  assert.equal(ann.receive(from("1Bob", bob.accept(GAME))).game, GAME);
  return { ann, bob };
}

test("lines win, full boards do not", () => {
  assert.deepEqual(won([0, 3, 1, 4, 2]), { mark: "X", line: [0, 1, 2] });
  assert.deepEqual(won([8, 2, 0, 4, 1, 6]), { mark: "O", line: [2, 4, 6] });
  const draw = [0, 1, 2, 4, 3, 5, 7, 6, 8];
  assert.equal(won(draw), null);
  assert.ok(isLegal(draw) && isOver(draw));
  assert.equal(turn(draw), "");
  assert.equal(turn([4]), "O");
});

test("moves that break the rules are not legal", () => {
  for (const moves of [null, "04", [9], [-1], [0, 0], [0.5], ["0"], [0, 3, 1, 4, 2, 5], [...Array(10).keys()]]) {
    assert.equal(isLegal(moves), false, JSON.stringify(moves));
  }
});

test("a game from the invitation to the end", () => {
  const { ann, bob } = started();
  let mover = ann;
  for (const cell of [0, 3, 1, 4, 2]) {
    const other = mover === ann ? bob : ann;
    const message = mover.play(GAME, cell);
    assert.equal(other.receive(from(mover.me, message)).verdict.word, "valid");
    mover = other;
  }
  for (const games of [ann, bob]) assert.equal(won(games.all.get(GAME).moves).mark, "X");
  assert.equal(bob.play(GAME, 8), null);
  assert.equal(bob.leave(GAME), null); // over: only taken away here
  assert.equal(bob.all.size, 0);
});

test("nobody moves out of turn, or onto a mark", () => {
  const { ann, bob } = started();
  assert.equal(bob.play(GAME, 4), null);
  const message = ann.play(GAME, 4);
  assert.equal(ann.play(GAME, 0), null);
  bob.receive(from("1Ann", message));
  assert.equal(bob.play(GAME, 4), null);
  assert.equal(bob.play("f".repeat(32), 4), null);
});

test("cheating is invalid, and changes nothing", () => {
  const { ann, bob } = started();
  bob.receive(from("1Ann", ann.play(GAME, 4)));
  ann.receive(from("1Bob", bob.play(GAME, 0)));
  const play = (moves) => ({ cmd: "play", game: GAME, to: "1Bob", moves });
  for (const moves of [[4, 0, 8, 7], [4, 0, 8, 7, 6], [3, 0, 8], [4, 0, 0], "4", [4, 0, 99], undefined]) {
    assert.equal(bob.receive(from("1Ann", play(moves))).verdict.word, "invalid", JSON.stringify(moves));
  }
  // In Bob's place: it is Ann's turn, and Bob moves twice.
  assert.equal(ann.receive(from("1Bob", play([4, 0, 8]))).verdict.word, "invalid");
  assert.deepEqual(bob.all.get(GAME).moves, [4, 0]);
  assert.deepEqual(ann.all.get(GAME).moves, [4, 0]);
});

test("strangers cannot play, accept or leave", () => {
  const { ann, bob } = started();
  for (const message of [
    { cmd: "play", game: GAME, to: "1Bob", moves: [0] },
    { cmd: "leave", game: GAME, to: "1Bob" },
    { cmd: "accept", game: GAME, to: "1Ann" },
    { cmd: "invite", game: GAME, to: "1Bob" },
  ]) {
    for (const games of [ann, bob]) {
      const result = games.receive(from("1Eve", message));
      assert.equal(result.verdict.word, "ignore");
      assert.equal(result.game, undefined);
    }
  }
  assert.deepEqual(bob.all.get(GAME).moves, []);
  assert.equal(bob.all.get(GAME).opponent, "1Ann");
});

test("games of others pass unread, garbage does not", () => {
  const bob = new Games("1Bob");
  const sealed = { cmd: "play", game: GAME, encrypted: { v: 1 } };
  assert.equal(bob.receive(from("1Ann", sealed, { encrypted: { opened: false } })).verdict.word, "valid");
  assert.equal(bob.receive(from("1Ann", { cmd: "here" }, { encrypted: undefined })).verdict.word, "valid");
  for (const message of [null, "x", {}, { cmd: "play" }, { cmd: "play", game: "1" }, { cmd: "toString", game: GAME }]) {
    assert.equal(bob.receive(from("1Ann", message)).verdict.word, "invalid", JSON.stringify(message));
  }
  assert.equal(bob.receive(from("", { cmd: "here" })).verdict.word, "invalid");
});

test("an opponent who seals to somebody else is told", () => {
  const { bob } = started();
  const sealed = { cmd: "play", game: GAME, encrypted: { v: 1 } };
  assert.equal(bob.receive(from("1Ann", sealed, { encrypted: { opened: false } })).verdict.word, "invalid");
});

test("a move that got lost comes with the next sign of life", () => {
  const { ann, bob } = started();
  const lost = ann.play(GAME, 4);
  assert.deepEqual(ann.again(GAME), lost);
  assert.equal(bob.again(GAME).cmd, "accept"); // Bob knows of no move yet
  assert.equal(bob.receive(from("1Ann", ann.again(GAME))).game, GAME);
  assert.equal(bob.receive(from("1Ann", ann.again(GAME))).verdict.word, "valid"); // twice does no harm
  const answer = bob.play(GAME, 0);
  // Ann, who has not seen it, repeats her move: Bob sees that she is behind.
  assert.equal(bob.receive(from("1Ann", lost)).behind, true);
  ann.receive(from("1Bob", answer));
  assert.equal(ann.again(GAME), null);
});

test("an answer that got lost is given again", () => {
  const ann = new Games("1Ann");
  const bob = new Games("1Bob");
  const invitation = ann.invite(GAME, "1Bob");
  bob.receive(from("1Ann", invitation));
  bob.accept(GAME);
  assert.equal(bob.receive(from("1Ann", ann.again(GAME))).behind, true);
  assert.equal(ann.receive(from("1Bob", bob.again(GAME))).game, GAME);
});

test("a user ID as opponent becomes an address with the answer", () => {
  const ann = new Games("1Ann");
  ann.invite(GAME, "bob@zeroid.bit");
  const accept = { cmd: "accept", game: GAME, to: "1Ann" };
  assert.equal(ann.receive(from("1Eve", accept)).verdict.word, "ignore");
  ann.receive(from("1Bob", accept, { user: { address: "1Bob", id: "bob@zeroid.bit" } }));
  assert.equal(ann.all.get(GAME).opponent, "1Bob");
});

test("games survive in storage, and what is no game there is dropped", () => {
  const { ann } = started();
  ann.play(GAME, 4);
  const stored = JSON.parse(JSON.stringify(ann));
  const again = new Games("1Ann", stored);
  assert.deepEqual(again.all.get(GAME), ann.all.get(GAME));
  for (const odd of [null, 5, [], {}, { games: 1 }, { games: [{ id: GAME, moves: [77] }] }]) {
    assert.equal(new Games("1Ann", odd).all.size, 0);
  }
});

test("games and invitations are bounded", () => {
  const bob = new Games("1Bob");
  const id = (number) => number.toString(16).padStart(32, "0");
  const words = [...Array(12).keys()].map((n) => bob.receive(from("1Ann", { cmd: "invite", game: id(n), to: "1Bob" })).verdict.word);
  assert.deepEqual(words.slice(9), ["valid", "ignore", "ignore"]);
  for (let n = 100; n < 200; n += 1) bob.invite(id(n), "1Ann");
  assert.equal(bob.all.size, 50);
});

test("what another page of ours did is taken over", () => {
  const { ann, bob } = started();
  const other = new Games("1Ann", JSON.parse(JSON.stringify(ann)));
  const message = ann.play(GAME, 4);
  assert.equal(other.receive(from("1Ann", message, { encrypted: { opened: true, by: "author" } })).game, GAME);
  assert.deepEqual(other.all.get(GAME).moves, [4]);
  assert.equal(bob.leave(GAME).cmd, "leave");
});
