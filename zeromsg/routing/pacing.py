"""Keeping to a site's `freq_limit` towards ZeroNet nodes, which count it by neighbour.

What many authors say comes to a ZeroNet node through us, and for its plugin we
said it all: what follows too soon is refused, costs two points there, and is
lost for it, because it counts as seen. So messages of a site with that rule go
to such a node one by one, each a `freq_limit` after the answer to the one
before: then it cannot have been taken too soon, however long either was under
way. A copy of what the node knew already starts no waiting time there.

What waits is bounded; the oldest falls out, since newer ones are worth more,
and other neighbours may bring it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Answer, IPeerLink
from zeromsg.routing.speaking import Speaking
from zeromsg.wire.names import ALREADY_RECEIVED, UNKNOWN_COMMAND
from zeromsg.wire.values import PeerAddress

WAITING_LIMIT = 20
WAITING_SECONDS = 60.0
"""So many messages wait for one node and site, or as many as go out within that time."""

LANES_LIMIT = 10_000
"""Nodes and sites for which messages wait, or have to; the oldest are given up first."""

MARGIN_SECONDS = 0.05
"""For clocks that are set right meanwhile."""


@attrs.frozen(eq=False)
class _Message:
    link: IPeerLink
    cmd: str
    packed: bytes
    answered: Deferred[Answer]


@attrs.define(eq=False)
class _Lane:
    """What goes to one node of one site. under_way: the message that is not answered yet."""

    site: str
    node: PeerAddress
    waiting: deque[_Message] = attrs.field(factory=deque)
    under_way: _Message | None = None
    timer: IDelayedCall | None = None


class Pacing:
    """Sends peer messages, those of paced sites one by one.

    limit: seconds between two messages of a site, 0 for none.
    """

    def __init__(
        self, speaking: Speaking, limit: Callable[[str], float], clock: IReactorTime
    ) -> None:
        self._speaking = speaking
        self._limit = limit
        self._clock = clock
        self._lanes: OrderedDict[tuple[PeerAddress, str], _Lane] = OrderedDict()

    def stop(self) -> None:
        for lane in list(self._lanes.values()):
            self._give_up(lane, "this node stops")

    def send(self, site: str, link: IPeerLink, cmd: str, packed: bytes) -> Deferred[Answer]:
        """Send a message of a site, now or when the time has come.

        Fails with Unreachable, also where too many wait.
        """
        seconds = 0.0 if link.extension else self._limit(site)
        if not seconds:
            return self._speaking.send(link, cmd, packed)
        lane = self._lane(link.declared, site)
        message = _Message(link, cmd, packed, Deferred())
        lane.waiting.append(message)
        self._go_on(lane)
        while len(lane.waiting) > max(1, min(WAITING_LIMIT, int(WAITING_SECONDS / seconds))):
            _fail(lane.waiting.popleft(), "too many messages wait for it")
        return message.answered

    def _lane(self, node: PeerAddress, site: str) -> _Lane:
        lane = self._lanes.get((node, site))
        if lane is None:
            lane = self._lanes[node, site] = _Lane(site, node)
            if len(self._lanes) > LANES_LIMIT:
                self._give_up(next(iter(self._lanes.values())), "others wait, too")
        return lane

    def _give_up(self, lane: _Lane, reason: str) -> None:
        self._forget(lane)
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        while lane.waiting:
            _fail(lane.waiting.popleft(), reason)

    def _forget(self, lane: _Lane) -> None:
        if self._is_kept(lane):
            del self._lanes[lane.node, lane.site]

    def _is_kept(self, lane: _Lane) -> bool:
        # One that was given up may have a successor.
        return self._lanes.get((lane.node, lane.site)) is lane

    def _go_on(self, lane: _Lane) -> None:
        while lane.waiting and lane.under_way is None and lane.timer is None:
            message = lane.under_way = lane.waiting.popleft()
            sent = self._speaking.send(message.link, message.cmd, message.packed)
            sent.addBoth(self._answered, lane, message)
        if not lane.waiting and lane.under_way is None and lane.timer is None:
            self._forget(lane)

    def _answered(self, result: Any, lane: _Lane, message: _Message) -> None:
        """The waiting time begins where the node may have begun its own."""
        lane.under_way = None
        seconds = self._limit(lane.site)
        if seconds and _counts(result) and self._is_kept(lane):
            lane.timer = self._clock.callLater(seconds + MARGIN_SECONDS, self._time_is_up, lane)
        if isinstance(result, Failure):
            message.answered.errback(result)
        else:
            message.answered.callback(result)
        self._go_on(lane)

    def _time_is_up(self, lane: _Lane) -> None:
        lane.timer = None
        self._go_on(lane)


def _counts(result: Any) -> bool:
    """Whether the node counted the message. result: its answer, or a failure."""
    if isinstance(result, Failure):
        return False
    error = result.get("error")
    unknown = isinstance(error, str) and error.startswith(UNKNOWN_COMMAND)
    return not unknown and result.get("warning") != ALREADY_RECEIVED


def _fail(message: _Message, reason: str) -> None:
    message.answered.errback(Unreachable(reason))
