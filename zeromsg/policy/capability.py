"""Which nodes know peer messages, and how this node came to know that.

Nobody is asked: a zeromsg node says so in its handshake, a ZeroNet node shows
it by sending or taking a peer message. One that answers a message as unknown is
left alone for a day, because each further one costs this node points there.
Nodes are remembered by host and the port that they declare, whether or not
that port is open: a node keeps both when it connects again.

Times are Unix seconds, as this survives restarts.
"""

from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum

import attrs

from zeromsg.wire.values import PeerAddress

DEAF_SECONDS = 24 * 3600.0
CAPABLE_SECONDS = 30 * 86400.0
"""How long it is remembered that a node does not know peer messages, and that it does."""

NODES_LIMIT = 10_000

_REFRESH_SECONDS = 3600.0


class Evidence(StrEnum):
    """How a node's capability became known."""

    HANDSHAKE = "handshake"
    SENT = "sent-a-message"
    TOOK = "took-a-message"
    UNKNOWN = "answered-unknown"


@attrs.frozen
class Known:
    """capable: whether peer messages may be sent. at: Unix time of the last evidence."""

    capable: bool
    how: Evidence
    at: float

    def holds(self, now: float) -> bool:
        return now - self.at < (CAPABLE_SECONDS if self.capable else DEAF_SECONDS)


class Capabilities:
    """What is remembered of at most `NODES_LIMIT` nodes; the oldest evidence goes first."""

    def __init__(self, limit: int = NODES_LIMIT) -> None:
        self._limit = limit
        self._known: OrderedDict[PeerAddress, Known] = OrderedDict()
        self._changed: OrderedDict[PeerAddress, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, node: PeerAddress, how: Evidence, now: float) -> None:
        """A node showed whether it knows peer messages."""
        before = self._known.get(node)
        if before is not None and before.how is how and now - before.at < _REFRESH_SECONDS:
            return
        self._known[node] = Known(how is not Evidence.UNKNOWN, how, now)
        self._known.move_to_end(node)
        self._changed[node] = None
        if len(self._known) > self._limit:
            forgotten, _ = self._known.popitem(last=False)
            self._changed[forgotten] = None
        if len(self._changed) > 2 * NODES_LIMIT:
            self._changed.popitem(last=False)  # nothing is written at present

    def of(self, node: PeerAddress, now: float) -> Known | None:
        """What is known of a node and still holds."""
        known = self._known.get(node)
        return known if known is not None and known.holds(now) else None

    def capable(self, node: PeerAddress, now: float) -> bool | None:
        """Whether it knows peer messages; None if that is not known."""
        known = self.of(node, now)
        return known.capable if known is not None else None

    def restore(self, known: Iterable[tuple[PeerAddress, Known]], now: float) -> None:
        """What an earlier run wrote down, in any order."""
        for node, what in sorted(known, key=lambda entry: entry[1].at):
            if what.holds(now) and len(self._known) < self._limit:
                self._known.setdefault(node, what)

    def take_changes(self) -> tuple[list[tuple[PeerAddress, Known]], list[PeerAddress]]:
        """What to write down, and what to strike out, since this was called last."""
        changed, self._changed = self._changed, OrderedDict()
        kept = [(node, self._known[node]) for node in changed if node in self._known]
        return kept, [node for node in changed if node not in self._known]
