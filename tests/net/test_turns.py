"""How connections share the node's time."""

import pytest

from zeromsg.net.turns import SHARE_SECONDS, TURN_SECONDS, Turns


class Loop:
    """An event loop whose time passes by what is done in it alone."""

    def __init__(self):
        self.now = 100.0
        self.calls = []

    def seconds(self):
        return self.now

    def callLater(self, seconds, action):
        assert seconds == 0
        self.calls.append(action)

    def turn(self):
        """Do what was asked for before; the seconds that it took."""
        before = self.now
        calls, self.calls = self.calls, []
        for action in calls:
            action()
        return self.now - before


class Work:
    """Handles so many pieces that take so long each, and notes when it did."""

    def __init__(self, loop, turns, name, pieces, seconds, log):
        self._loop, self._turns = loop, turns
        self._name, self._left, self._seconds = name, pieces, seconds
        self._log = log

    def go_on(self):
        began = self._turns.begin()
        while self._left:
            self._left -= 1
            self._log.append(self._name)
            self._loop.now += self._seconds
            if self._turns.is_over(began):
                self._turns.wait(self.go_on)
                return


@pytest.fixture
def loop():
    return Loop()


def test_who_is_alone_has_the_whole_turn_and_goes_on_in_the_next(loop):
    turns, log = Turns(loop), []
    Work(loop, turns, "a", 100, TURN_SECONDS / 10.5, log).go_on()
    assert len(log) == 11
    loop.turn()
    assert len(log) == 22
    for _ in range(20):
        loop.turn()
    assert len(log) == 100 and loop.calls == []


def test_a_turn_ends_whoever_comes_besides(loop):
    turns, log = Turns(loop), []
    for name in range(50):
        Work(loop, turns, name, 100, TURN_SECONDS / 40.5, log).go_on()
    assert log == [0] * 41 + list(range(1, 50))


def test_those_who_wait_have_small_shares_in_order(loop):
    turns, log = Turns(loop), []
    for name in "abc":
        Work(loop, turns, name, 1000, SHARE_SECONDS / 4.5, log).go_on()
    log.clear()
    loop.turn()
    assert "".join(log) == "aaaaabbbbbcccccaaaaabbbbbcccccaaaaabbbbb"[: len(log)]
    assert 30 <= len(log) <= 40


def test_the_event_loop_comes_round_within_a_turn_and_a_piece(loop):
    turns, log = Turns(loop), []
    for name in range(200):
        Work(loop, turns, name, 1000, 0.002, log).go_on()
    assert all(loop.turn() <= TURN_SECONDS + 0.003 for _ in range(40))
    # Nobody was forgotten.
    assert set(log) == set(range(200))


def test_nothing_is_asked_of_the_clock_where_nobody_works(loop):
    Work(loop, Turns(loop), "a", 3, 0.0, []).go_on()
    loop.turn()
    assert loop.calls == []
