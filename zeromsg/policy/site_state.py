"""What a node remembers of one site's messages: rates, where they came from, what waits."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

from zeromsg.policy.rate import Frequency

QUEUE_MESSAGES = 1000
QUEUE_BYTES = 8 * 1024 * 1024
ORIGINS = 10_000

T = TypeVar("T")


@attrs.frozen
class Queued:
    """A message that waits for a client.

    row: its number on disk. event: JSON text. shown: the users, by master
    address, that have it already.
    """

    row: int
    event: str
    shown: frozenset[str] = frozenset()


class Queue:
    """Messages for clients to come, bounded in number and bytes; oldest fall out."""

    def __init__(self, messages: int = QUEUE_MESSAGES, size: int = QUEUE_BYTES) -> None:
        self._limit = messages
        self._size_limit = size
        self._items: OrderedDict[int, Queued] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Queued) -> list[Queued]:
        """Add one; returns what fell out, possibly the new one itself."""
        self._items[item.row] = item
        self._size += len(item.event)
        dropped = []
        while len(self._items) > self._limit or self._size > self._size_limit:
            _, oldest = self._items.popitem(last=False)
            self._size -= len(oldest.event)
            dropped.append(oldest)
        return dropped

    def waiting_for(self, user: str) -> Iterator[Queued]:
        """What a user was not shown, oldest first; the queue may change meanwhile."""
        for row in list(self._items):
            item = self._items.get(row)
            if item is not None and user not in item.shown:
                yield item

    def remove(self, item: Queued) -> None:
        """Take out one that is in the queue."""
        del self._items[item.row]
        self._size -= len(item.event)

    def show(self, item: Queued, user: str) -> None:
        """Let one stay that a user is shown: it waits for others."""
        self._items[item.row] = attrs.evolve(item, shown=item.shown | {user})


class Recent(Generic[T]):
    """The last `capacity` things by hash."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[str, T] = OrderedDict()

    def put(self, key: str, item: T) -> None:
        self._items[key] = item
        self._items.move_to_end(key)
        if len(self._items) > self._capacity:
            self._items.popitem(last=False)

    def get(self, key: str) -> T | None:
        return self._items.get(key)


@attrs.define
class SiteState(Generic[T]):
    """State of one site. origins: who sent a message, for replies to it."""

    frequency: Frequency = attrs.field(factory=Frequency)
    queue: Queue = attrs.field(factory=Queue)
    origins: Recent[T] = attrs.field(factory=lambda: Recent(ORIGINS))
