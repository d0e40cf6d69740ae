"""What has to be done so that the onions of a node can be reached: a state for each.

    absent --add--> adding --added--> uploading --uploaded--> reachable
      ^               |                   |
      +----refused----+     (nothing uploaded in time: removed, and added again)

Tor says nothing when the upload of a descriptor got lost, and does not repeat
it, so an onion that nobody took in time is taken down and put up again with
the same key. All are absent when the connection to Tor is lost. `now` goes in,
orders come out. Source: Tor control-spec (ADD_ONION, HS_DESC).
"""

import enum
import random

import attrs

UPLOAD_SECONDS = 90.0
"""What Tor has to tell that a directory took the descriptor; it usually takes seconds."""

REFUSED_FIRST = 2.0
REFUSED_MOST = 300.0

AT_ONCE = 4
"""Onions that are being added at one time."""

RECONNECT_FIRST = 1.0
RECONNECT_MOST = 60.0


class State(enum.Enum):
    """Where an onion stands."""

    ABSENT = "absent"
    ADDING = "adding"
    UPLOADING = "uploading"
    REACHABLE = "reachable"


@attrs.define
class _Onion:
    state: State = State.ABSENT
    since: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    problem: str = ""


@attrs.frozen
class Add:
    """Ask Tor to serve this onion."""

    name: str


@attrs.frozen
class Remove:
    """Ask Tor to take it down: it will be added again."""

    name: str


Order = Add | Remove


class Upkeep:
    """The onions of a node, by name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._onions: dict[str, _Onion] = {}

    def want(self, name: str) -> None:
        """This onion is to be served from now on."""
        self._onions.setdefault(name, _Onion())

    def drop(self, name: str) -> None:
        """It is not to be served any more."""
        self._onions.pop(name, None)

    def orders(self, now: float) -> list[Order]:
        """What to do now; of what is ordered it is assumed that it is begun."""
        orders: list[Order] = []
        busy = sum(onion.state is State.ADDING for onion in self._onions.values())
        for name, onion in self._onions.items():
            if onion.state is State.UPLOADING and now - onion.since > UPLOAD_SECONDS:
                orders.append(Remove(name))
                self._failed(onion, "no directory took it in time", now)
            elif onion.state is State.ABSENT and now >= onion.not_before and busy < AT_ONCE:
                busy += 1
                onion.state, onion.since = State.ADDING, now
                orders.append(Add(name))
        return orders

    def added(self, name: str, now: float) -> None:
        """Tor serves it."""
        onion = self._onions.get(name)
        if onion is not None and onion.state is State.ADDING:
            onion.state, onion.since = State.UPLOADING, now

    def refused(self, name: str, problem: str, now: float) -> None:
        """Tor does not."""
        onion = self._onions.get(name)
        if onion is not None:
            self._failed(onion, problem, now)

    def uploaded(self, name: str, now: float) -> bool:
        """A directory took its descriptor; whether that is news."""
        onion = self._onions.get(name)
        if onion is None or onion.state not in (State.ADDING, State.UPLOADING):
            return False
        onion.state, onion.since = State.REACHABLE, now
        onion.failures, onion.problem = 0, ""
        return True

    def lost(self) -> None:
        """The connection to Tor is gone, and every onion with it."""
        for onion in self._onions.values():
            onion.state, onion.not_before = State.ABSENT, 0.0

    def state(self, name: str) -> State:
        onion = self._onions.get(name)
        return onion.state if onion is not None else State.ABSENT

    def problem(self, name: str) -> str:
        """What went wrong last, or "" once it can be reached."""
        onion = self._onions.get(name)
        return onion.problem if onion is not None else ""

    def _failed(self, onion: _Onion, problem: str, now: float) -> None:
        pause = min(REFUSED_FIRST * 2.0 ** min(onion.failures, 20), REFUSED_MOST)
        onion.state, onion.since, onion.problem = State.ABSENT, now, problem
        onion.failures += 1
        onion.not_before = now + pause * self._rng.uniform(0.75, 1.25)


class Backoff:
    """Growing pauses between tries to reach Tor, with jitter."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0

    def next(self) -> float:
        """Seconds until the next try."""
        pause = min(RECONNECT_FIRST * 2.0 ** min(self._count, 20), RECONNECT_MOST)
        self._count += 1
        return pause * self._rng.uniform(0.75, 1.25)

    def reset(self) -> None:
        self._count = 0
