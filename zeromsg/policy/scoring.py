"""Ban points: what a sender has done wrong lately, and when that is enough.

Points belong to what is proven: the remote host of a clear-net connection, an
onion that we dialled. At `BAN_POINTS` a sender is banned for an hour; points
halve every ten minutes.
"""

from collections import OrderedDict

import attrs

BAN_POINTS = 100.0
BAN_SECONDS = 3600.0
HALF_LIFE = 600.0
IDENTITY_LIMIT = 10_000
"""Senders whose points are remembered; those unheard of longest are forgotten first."""


@attrs.define
class _Record:
    points: float
    at: float
    banned_until: float = 0.0


class Scoring:
    """Points of every proven sender. Times are seconds of one clock."""

    def __init__(self, capacity: int = IDENTITY_LIMIT) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def charge(self, identity: str, points: float, now: float) -> bool:
        """Add points; whether the sender is banned from now on."""
        if points <= 0:
            return self.banned(identity, now)
        record = self._records.setdefault(identity, _Record(0.0, now))
        self._records.move_to_end(identity)
        record.points = self._halved(record, now) + points
        record.at = now
        if record.points >= BAN_POINTS:
            record.points = 0.0
            record.banned_until = now + BAN_SECONDS
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)
        return record.banned_until > now

    def points(self, identity: str, now: float) -> float:
        record = self._records.get(identity)
        return self._halved(record, now) if record else 0.0

    def banned(self, identity: str, now: float) -> bool:
        record = self._records.get(identity)
        return record is not None and record.banned_until > now

    @staticmethod
    def _halved(record: _Record, now: float) -> float:
        return float(record.points * 0.5 ** ((now - record.at) / HALF_LIFE))
