"""The flight recorder: what became of the last messages, check by check.

Bounded, and cheap enough to run always: a record is one object and a short
list. Addresses are kept, and shown only to who asks for them.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec

CAPACITY = 10_000
"""Messages that are remembered; the oldest are forgotten first."""

CHECKS_LIMIT = 64
"""Checks kept of one message, however many copies of it come."""


class Record(msgspec.Struct):
    """One message at this node.

    fate: "accepted" or "own", whatever became of other copies; else the check
    that refused the last one.
    checks: (name, passed, microseconds) in order, of all copies.
    sources: who sent copies. clients: how many were shown it.
    verdict: of the clients, "" while it is awaited or where none was.
    relays: to how many peers it was passed on.
    heard: verdicts that peers answered, by verdict.
    """

    site: str = ""
    at: float = 0.0
    fate: str = ""
    copies: int = 0
    checks: list[tuple[str, bool, float]] = []
    sources: list[str] = []
    clients: int = 0
    verdict: str = ""
    relays: int = 0
    heard: dict[str, int] = {}
    queued: bool = False

    def again(self, source: str) -> None:
        """A copy that was known already."""
        self.copies += 1
        if source not in self.sources and len(self.sources) < CHECKS_LIMIT:
            self.sources.append(source)

    def to_map(self, with_peers: bool) -> dict[str, Any]:
        """For clients and commands; addresses only `with_peers`."""
        return {
            "site": self.site,
            "at": self.at,
            "fate": self.fate,
            "copies": self.copies,
            "checks": [
                {"check": name, "passed": passed, "microseconds": round(time, 1)}
                for name, passed, time in self.checks
            ],
            "from": list(self.sources) if with_peers else len(self.sources),
            "clients": self.clients,
            "verdict": self.verdict or None,
            "relays": self.relays,
            "heard": dict(self.heard),
            "queued": self.queued,
        }


class Stopwatch:
    """Times the checks of one copy of a message."""

    __slots__ = ("_began", "_last", "_timer", "checks")

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began = self._last = timer()
        self.checks: list[tuple[str, bool, float]] = []

    def check(self, name: str, passed: bool) -> None:
        """A check ended; its time is what passed since the one before."""
        now = self._timer()
        self.checks.append((name, passed, (now - self._last) * 1e6))
        self._last = now

    @property
    def seconds(self) -> float:
        """What all checks took, until the last one that ended."""
        return self._last - self._began


class Recorder:
    """Records by the message's digest."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self.get = self._records.get

    def __len__(self) -> int:
        return len(self._records)

    def hashes(self, beginning: str) -> list[str]:
        """Which hashes begin with these hex digits, two at most. Looks at all: for people."""
        all_hashes = (digest.hex() for digest in self._records)
        return list(islice((hash for hash in all_hashes if hash.startswith(beginning)), 2))

    def record(self, digest: bytes, at: float) -> Record:
        """The record of a message, new if need be."""
        record = self._records.get(digest)
        if record is None:
            record = self._records[digest] = Record(at=at)
            if len(self._records) > self._capacity:
                self._records.popitem(last=False)
        return record

    def copy(self, digest: bytes, source: str, fate: str, watch: Stopwatch, at: float) -> Record:
        """Another copy came from somebody, was checked, and met this fate."""
        record = self.record(digest, at)
        record.again(source)
        if record.fate not in ("accepted", "own"):
            record.fate = fate
        record.checks.extend(watch.checks[: CHECKS_LIMIT - len(record.checks)])
        return record
