"""What a node remembers of one site's messages: rates, where they came from, what waits."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

import attrs

from zeromsg.policy.rate import Frequency

QUEUE_MESSAGES = 1000
QUEUE_BYTES = 8 * 1024 * 1024
ORIGINS = 10_000

T = TypeVar("T")


@attrs.frozen
class Queued:
    """A message that waits for a client. row: its number on disk; event: JSON text."""

    row: int
    event: str


class Queue:
    """Messages for the next client, bounded in number and bytes; oldest fall out."""

    def __init__(self, messages: int = QUEUE_MESSAGES, size: int = QUEUE_BYTES) -> None:
        self._limit = messages
        self._size_limit = size
        self._items: deque[Queued] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Queued) -> list[Queued]:
        """Add one; returns what fell out, possibly the new one itself."""
        self._items.append(item)
        self._size += len(item.event)
        dropped = []
        while len(self._items) > self._limit or self._size > self._size_limit:
            oldest = self._items.popleft()
            self._size -= len(oldest.event)
            dropped.append(oldest)
        return dropped

    def take(self) -> Queued | None:
        """The oldest, or None."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._size -= len(item.event)
        return item


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
