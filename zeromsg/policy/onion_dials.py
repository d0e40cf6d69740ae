"""When an onion may be dialled: few at once, and those that failed after a while.

A dial to an onion takes Tor several circuits and some seconds, so there are
few of them at a time. What failed is tried again after a pause that depends on
why: an onion that is not known may only be not published yet, one whose port
is closed will hardly open it soon, and one that wants a key will not do without.
"""

import random
from collections import OrderedDict

import attrs

from zeromsg.protocol.socks import OURS, Problem
from zeromsg.wire.values import PeerAddress

IN_FLIGHT = 8
REMEMBERED = 10_000
"""Onions whose failures are remembered."""


@attrs.frozen
class Pause:
    """Seconds until the first further try, and at most; it doubles in between."""

    first: float
    most: float


_PAUSES = {
    # Perhaps it has just started, or Tor has an old descriptor.
    Problem.NO_DESCRIPTOR: Pause(15.0, 1800.0),
    Problem.INTRODUCTION: Pause(10.0, 1800.0),
    Problem.HOST: Pause(15.0, 1800.0),
    # Circuits break; the peer may be well.
    Problem.RENDEZVOUS: Pause(5.0, 600.0),
    Problem.INTRODUCTION_TIMEOUT: Pause(10.0, 600.0),
    Problem.TIMEOUT: Pause(5.0, 600.0),
    Problem.EXPIRED: Pause(10.0, 600.0),
    Problem.GENERAL: Pause(10.0, 600.0),
    # It is there, and does not want to.
    Problem.REFUSED: Pause(60.0, 3600.0),
    Problem.BAD_DESCRIPTOR: Pause(600.0, 3600.0),
    Problem.KEY_MISSING: Pause(600.0, 3600.0),
    Problem.KEY_WRONG: Pause(600.0, 3600.0),
    Problem.BAD_ADDRESS: Pause(86400.0, 86400.0),
}
_OTHERS = Pause(10.0, 600.0)


@attrs.define
class _Failed:
    count: int
    until: float


class OnionDials:
    """The budget. Times are seconds of one clock."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._running = 0
        self._failed: OrderedDict[PeerAddress, _Failed] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running

    def refusal(self, address: PeerAddress, now: float) -> str:
        """Why an onion is not dialled now, or "" if it may be."""
        if self._running >= IN_FLIGHT:
            return "too many onions are being dialled"
        failed = self._failed.get(address)
        if failed is not None and failed.until > now:
            return "that onion was tried just now"
        return ""

    def begun(self) -> None:
        self._running += 1

    def ended(self) -> None:
        self._running -= 1

    def succeeded(self, address: PeerAddress) -> None:
        self._failed.pop(address, None)

    def failed(self, address: PeerAddress, problem: Problem, now: float) -> None:
        """A dial failed; what is Tor's own problem is none of the onion's."""
        if problem in OURS:
            return
        pause = _PAUSES.get(problem, _OTHERS)
        failed = self._failed.setdefault(address, _Failed(0, 0.0))
        seconds = min(pause.first * 2.0 ** min(failed.count, 20), pause.most)
        failed.count += 1
        failed.until = now + seconds * self._rng.uniform(0.75, 1.25)
        self._failed.move_to_end(address)
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
