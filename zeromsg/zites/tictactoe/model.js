// The games one takes part in, and how messages change them. No page here.
//
//   {cmd: "here"}                          shows our key, so that others can seal to us
//   {cmd: "invite", game, to}              `to` plays second, with O
//   {cmd: "accept", game, to}
//   {cmd: "play", game, to, moves}         all moves so far: one that got lost costs nothing
//   {cmd: "leave", game, to}
//
// `game` stays readable, so that nobody tries keys on games of others. `to` and
// `moves` are sealed to the opponent, and to ourselves for our other pages.
"use strict";

const TicTacToe = (() => {
  const LINES = [
    [0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6],
  ];
  const GAMES_LIMIT = 50;
  const ASKED_LIMIT = 10; // invitations that wait for us
  const COMMANDS = ["invite", "accept", "play", "leave"];

  const VALID = { word: "valid", reason: "" };
  const invalid = (reason) => ({ word: "invalid", reason });
  const ignore = (reason) => ({ word: "ignore", reason });

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

  // Three in a row: the mark and the cells, or null.
  function won(moves) {
    for (const line of LINES) {
      const marks = line.map((cell) => moves.indexOf(cell)).map((n) => (n < 0 ? "" : "XO"[n % 2]));
      if (marks[0] && marks[0] === marks[1] && marks[1] === marks[2]) return { mark: marks[0], line };
    }
    return null;
  }

  const isOver = (moves) => moves.length === 9 || won(moves) !== null;

  // Moves as they may follow each other: X first, cells 0 to 8, none twice, none after the end.
  function isLegal(moves) {
    return (
      Array.isArray(moves) && moves.length <= 9 && new Set(moves).size === moves.length &&
      moves.every((cell, n) => Number.isInteger(cell) && cell >= 0 && cell <= 8 && !isOver(moves.slice(0, n)))
    );
  }

  const startsWith = (moves, start) => start.every((cell, n) => moves[n] === cell);

  // Whose turn it is; "" once the game is over.
  const turn = (moves) => (isOver(moves) ? "" : "XO"[moves.length % 2]);

  // Games by their number. Each is {id, opponent, mark, state, moves}: opponent is an address,
  // or a user ID as long as it has not answered; state is "invited" (by us), "asked" (by them),
  // "on" or "left".
  class Games {
    constructor(me, stored = null) {
      this.me = me;
      this.all = new Map();
      const games = isObject(stored) && Array.isArray(stored.games) ? stored.games : [];
      for (const game of games) if (isLegal(game.moves)) this.all.set(game.id, game);
    }

    // What to keep for the next time.
    toJSON() {
      return { games: [...this.all.values()] };
    }

    add(game) {
      this.all.set(game.id, game);
      if (this.all.size <= GAMES_LIMIT) return;
      const finished = [...this.all.values()].find((one) => one.state === "left" || isOver(one.moves));
      this.all.delete((finished || this.all.values().next().value).id);
    }

    // Each of these gives the message to send, or null where it is not our turn to do so.

    invite(id, opponent) {
      this.add({ id, opponent, mark: "X", state: "invited", moves: [] });
      return this.message(id, "invite");
    }

    accept(id) {
      const game = this.all.get(id);
      if (!game || game.state !== "asked") return null;
      game.state = "on";
      return this.message(id, "accept");
    }

    play(id, cell) {
      const game = this.all.get(id);
      if (!game || game.state !== "on" || turn(game.moves) !== game.mark) return null;
      if (!isLegal([...game.moves, cell])) return null;
      game.moves = [...game.moves, cell];
      return this.message(id, "play");
    }

    leave(id) {
      const game = this.all.get(id);
      if (!game) return null;
      if (game.state === "left" || isOver(game.moves)) {
        this.all.delete(id);
        return null;
      }
      game.state = "left";
      return this.message(id, "leave");
    }

    // What the opponent may have missed, or null.
    again(id) {
      const game = this.all.get(id);
      if (!game) return null;
      if (game.state === "invited") return this.message(id, "invite");
      if (game.state !== "on") return null;
      if (game.moves.length === 0) return game.mark === "O" ? this.message(id, "accept") : null;
      return turn(game.moves) === game.mark ? null : this.message(id, "play");
    }

    message(id, cmd) {
      const { opponent, moves } = this.all.get(id);
      return { cmd, game: id, to: opponent, ...(cmd === "play" ? { moves } : {}) };
    }

    // A `peerReceive` event: {verdict, game, behind}. game: its number, if it changed;
    // behind: the opponent misses something of ours.
    receive({ message, signed_by: author, user, encrypted }) {
      if (!isObject(message) || !author) return { verdict: invalid("it is no message of this site") };
      if (message.cmd === "here") return { verdict: VALID };
      const { cmd, game: id } = message;
      if (!COMMANDS.includes(cmd) || !/^[0-9a-f]{32}$/.test(id)) {
        return { verdict: invalid("it is no message of this site") };
      }
      const game = this.all.get(id);
      const names = [author, user && user.id];
      const theirs = game !== undefined && names.includes(game.opponent);
      if (!encrypted || !encrypted.opened) {
        return { verdict: theirs ? invalid("our opponent sealed it to somebody else") : VALID };
      }
      if (author === this.me) return { verdict: VALID, ...this._own(game, message) };
      if (cmd === "invite") return this._invited(id, author, game, theirs);
      if (!theirs) return { verdict: ignore("we know nothing of this game") };
      if (cmd === "leave") {
        if (!isOver(game.moves)) game.state = "left";
        return { verdict: VALID, game: id };
      }
      if (cmd === "accept") {
        if (game.state !== "invited") return { verdict: VALID };
        game.state = "on";
        game.opponent = author;
        return { verdict: VALID, game: id };
      }
      return this._played(game, message.moves);
    }

    _invited(id, author, game, theirs) {
      if (game) {
        // Sent again, as our answer may have got lost; of somebody else it is an odd coincidence.
        return { verdict: theirs ? VALID : ignore("this game is another's"), behind: theirs && game.state === "on" };
      }
      const asked = [...this.all.values()].filter((one) => one.state === "asked").length;
      if (asked >= ASKED_LIMIT) return { verdict: ignore("too many invitations wait") };
      this.add({ id, opponent: author, mark: "O", state: "asked", moves: [] });
      return { verdict: VALID, game: id };
    }

    _played(game, moves) {
      if (!isLegal(moves)) return { verdict: invalid("the moves break the rules of the game") };
      if (game.state !== "on") return { verdict: ignore("the game is not on") };
      if (startsWith(game.moves, moves)) {
        return { verdict: VALID, behind: moves.length < game.moves.length };
      }
      const next = moves.length === game.moves.length + 1 && startsWith(moves, game.moves);
      if (!next || turn(game.moves) === game.mark) {
        return { verdict: invalid("it was not their turn, or they changed earlier moves") };
      }
      game.moves = moves;
      return { verdict: VALID, game: game.id };
    }

    // From another page of ours.
    _own(game, { cmd, moves }) {
      if (!game) return {};
      if (cmd === "play" && isLegal(moves) && moves.length > game.moves.length && startsWith(moves, game.moves)) {
        game.moves = moves;
      } else if (cmd === "leave" && !isOver(game.moves)) game.state = "left";
      else if (cmd === "accept" && game.state === "asked") game.state = "on";
      else return {};
      return { game: game.id };
    }
  }

  return { Games, isLegal, isOver, turn, won };
})();

if (typeof module === "object") module.exports = TicTacToe;
