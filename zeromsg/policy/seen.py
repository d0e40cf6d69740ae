"""Hashes of messages that were met already, bounded in number and age.

A message counts as seen once it was accepted, or refused for a reason that
lies in `raw` itself. A refusal that could be another peer's doing (a spoilt
signature beside a good `raw`, a rate limit) is not remembered, so that it does
not shadow the good copy.
"""

from collections import deque
from collections.abc import Iterable
from enum import IntEnum

CAPACITY = 1_000_000
LIFETIME = 24 * 3600.0
_BUCKET_SECONDS = 60.0

NEW_LIMIT = 200_000
"""Most that wait to be taken by whoever keeps them on disk; the oldest fall off."""


class Met(IntEnum):
    """What became of a hash. The numbers are stored on disk."""

    REFUSED = 0
    UNSIGNED = 1
    """Accepted without a signature: a signed copy is told again, as signed."""
    SIGNED = 2


class Seen:
    """Remembers at most `capacity` digests for at most `lifetime` seconds; oldest go first."""

    def __init__(self, capacity: int = CAPACITY, lifetime: float = LIFETIME) -> None:
        self._capacity = capacity
        self._lifetime = lifetime
        self._met: dict[bytes, Met] = {}
        # Digests by the minute in which they came, so that age costs no time for each.
        self._buckets: deque[tuple[float, deque[bytes]]] = deque()
        self._new: deque[tuple[bytes, int, float]] = deque(maxlen=NEW_LIMIT)
        self.get = self._met.get

    def __len__(self) -> int:
        return len(self._met)

    def add(self, digest: bytes, met: Met, now: float) -> None:
        """Remember a digest, or what is newly known of it."""
        if digest not in self._met:
            self._bucket(now).append(digest)
        self._met[digest] = met
        self._new.append((digest, int(met), now))
        if len(self._met) > self._capacity:
            self._drop_oldest()

    def _bucket(self, now: float) -> deque[bytes]:
        if not self._buckets or now - self._buckets[-1][0] >= _BUCKET_SECONDS:
            self.expire(now)
            self._buckets.append((now, deque()))
        return self._buckets[-1][1]

    def _drop_oldest(self) -> None:
        _, digests = self._buckets[0]
        self._met.pop(digests.popleft(), None)
        if not digests:
            self._buckets.popleft()

    def expire(self, now: float) -> None:
        """Forget what is older than the lifetime, to a minute."""
        while self._buckets and now - self._buckets[0][0] > self._lifetime + _BUCKET_SECONDS:
            for digest in self._buckets.popleft()[1]:
                self._met.pop(digest, None)

    def restore(self, rows: Iterable[tuple[bytes, int, float]]) -> None:
        """Take over what an earlier run kept: digest, `Met`, time; oldest first."""
        for digest, met, at in rows:
            self.add(digest, Met(met), at)
        self._new.clear()

    def take_new(self) -> list[tuple[bytes, int, float]]:
        """What was added since the last call, for whoever keeps it on disk."""
        new = list(self._new)
        self._new.clear()
        return new
