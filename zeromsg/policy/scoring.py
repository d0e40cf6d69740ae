"""Ban points: what a sender has done wrong lately, and when that is enough.

Points belong to what is proven: the remote host of a clear-net connection, an
onion that we dialled, `key:<address>` for who signed. At `BAN_POINTS` a sender
is banned for an hour, the next time for two, then four; points halve every ten
minutes. Accepted first deliveries earn points back, and a little credit.

What clients rejected is an account of its own within that sum: nothing earns it
back, or whoever carries honest messages could buy a share of bad ones with
them; and it halves after ten minutes without a further one, so that ten
rejections are a ban whenever the first of them came.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

import attrs

BAN_POINTS = 100.0
BAN_SECONDS = 3600.0
LONGEST_BAN = 30 * 86400.0
STRIKES_SECONDS = 7 * 86400.0
"""After so long without a ban, the next one is an hour again."""

HALF_LIFE = 600.0
EARNED = 2.0
"""What one accepted first delivery earns back."""

CREDIT = 50.0
"""How far below zero a good sender's points may fall."""

IDENTITY_LIMIT = 10_000
"""Senders whose points are remembered; those unheard of longest are forgotten first."""

_SEARCHED = 1000
"""Most bans that are passed over to find somebody to forget."""


@attrs.frozen
class Banned:
    """A ban, as it is kept on disk. until: seconds; strikes: how many bans there were."""

    identity: str
    until: float
    strikes: int
    reason: str


@attrs.define
class _Record:
    points: float
    at: float
    rejected: float = 0.0
    rejected_at: float = 0.0
    banned_until: float = 0.0
    strikes: int = 0
    reason: str = ""


class Scoring:
    """Points of every proven sender. Times are seconds of one clock, Unix time if bans are kept."""

    def __init__(self, capacity: int = IDENTITY_LIMIT) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def charge(self, identity: str, points: float, now: float, reason: str = "") -> bool:
        """Add points; whether the sender is banned from now on."""
        if points <= 0:
            return self.banned(identity, now)
        record = self._record(identity, now)
        record.points += points
        return self._weigh(record, now, reason)

    def rejected(self, identity: str, points: float, now: float, reason: str = "") -> bool:
        """The same for a message that clients rejected: nothing earns these points back."""
        if points <= 0:
            return self.banned(identity, now)
        record = self._record(identity, now)
        record.rejected = _rejected(record, now) + points
        record.rejected_at = now
        return self._weigh(record, now, reason)

    def _weigh(self, record: _Record, now: float, reason: str) -> bool:
        # Credit pays for no rejection.
        points = max(record.points, 0.0)
        if points + (_rejected(record, now) if record.rejected else 0.0) >= BAN_POINTS:
            self._ban(record, now, reason)
        return record.banned_until > now

    def earn(self, identity: str, now: float) -> None:
        """The sender delivered a message first, and it was accepted."""
        record = self._record(identity, now)
        record.points = max(record.points - EARNED, -CREDIT)

    def ban(self, identity: str, now: float, seconds: float, reason: str) -> None:
        """Ban by hand, for so many seconds."""
        record = self._record(identity, now)
        record.strikes += 1
        record.banned_until, record.reason = now + seconds, reason

    def pardon(self, identity: str) -> bool:
        """Forget all that is held against a sender; whether it was banned."""
        record = self._records.pop(identity, None)
        return record is not None and record.banned_until > 0

    def points(self, identity: str, now: float) -> float:
        """What is held against a sender now; below zero is credit."""
        record = self._records.get(identity)
        return _halved(record, now) + _rejected(record, now) if record else 0.0

    def banned(self, identity: str, now: float) -> bool:
        record = self._records.get(identity)
        return record is not None and record.banned_until > now

    def bans(self, now: float) -> list[Banned]:
        """Bans in force, and those whose strikes still count."""
        return [
            Banned(identity, record.banned_until, record.strikes, record.reason)
            for identity, record in self._records.items()
            if record.strikes and now - record.banned_until < STRIKES_SECONDS
        ]

    def restore(self, bans: Iterable[Banned], now: float) -> None:
        """Take over the bans of an earlier run."""
        for ban in bans:
            record = self._record(ban.identity, now)
            record.banned_until, record.strikes = ban.until, ban.strikes
            record.reason = ban.reason

    def _ban(self, record: _Record, now: float, reason: str) -> None:
        if now - record.banned_until > STRIKES_SECONDS:
            record.strikes = 0
        seconds = min(BAN_SECONDS * 2.0 ** min(record.strikes, 20), LONGEST_BAN)
        record.strikes += 1
        record.points = record.rejected = 0.0
        record.banned_until, record.reason = now + seconds, reason

    def _record(self, identity: str, now: float) -> _Record:
        record = self._records.get(identity)
        if record is None:
            record = self._records[identity] = _Record(0.0, now)
            if len(self._records) > self._capacity:
                self._forget(now)
        else:
            self._records.move_to_end(identity)
        periods = _periods(record, now)
        if periods:
            record.points *= 0.5**periods
            record.at += HALF_LIFE * periods
        return record

    def _forget(self, now: float) -> None:
        """Drop the record unheard of longest, but rather none of a ban in force."""
        # The newest is whom this makes room for.
        older = min(_SEARCHED, len(self._records) - 1)
        for identity, record in islice(self._records.items(), older):
            if record.banned_until <= now:
                del self._records[identity]
                return
        self._records.popitem(last=False)


def _halved(record: _Record, now: float) -> float:
    return float(record.points * 0.5 ** _periods(record, now))


def _rejected(record: _Record, now: float) -> float:
    return float(record.rejected * 0.5 ** max(0, int((now - record.rejected_at) // HALF_LIFE)))


def _periods(record: _Record, now: float) -> int:
    """Whole ten minutes that have passed. Until then points stand: ten times ten is a ban."""
    return max(0, int((now - record.at) // HALF_LIFE))
