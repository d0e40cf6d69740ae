"""Whether this node's port can be reached from outside: what peers say, and what comes in.

A connection that a peer opened proves it. Without one, a few peers that we
dialled are asked (`checkport`: they try to connect), soon after the start and
then rarely. One that says "open" is believed, for it gains nothing by a lie;
"closed" is believed when nobody that was asked says otherwise.
Source: ZeroNet peer protocol, commands.
"""

import random
from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Answer, IPeerLink, IPeers
from zeromsg.log import leveled
from zeromsg.policy.addresses import is_private, range_of
from zeromsg.wire.names import CHECKPORT

LOOK_SECONDS = 10.0
FIRST_SECONDS = 20.0
"""What a node has to find peers before it asks them."""

AGAIN_SECONDS = 3600.0
SOON_SECONDS = 300.0
"""When it is asked again, and when if only one peer had an opinion."""

ASKED = 3
"""Peers that are asked at a time."""

KINDS = ("ipv4", "ipv6")


class PortCheck:
    """Knows, for each family of addresses, whether the port is open.

    port: the port that this node listens on, 0 for none.
    private: whether peers on private networks count.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        peers: IPeers,
        clock: IReactorTime,
        rng: random.Random,
        port: Callable[[], int],
        private: bool,
    ) -> None:
        self._peers = peers
        self._clock = clock
        self._rng = rng
        self._port = port
        self._private = private
        self._open: dict[str, bool | None] = dict.fromkeys(KINDS)
        self._next = dict.fromkeys(KINDS, clock.seconds() + FIRST_SECONDS)
        self._asking: dict[str, Deferred[None]] = {}
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        self._looking.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        for asking in list(self._asking.values()):
            asking.cancel()

    def is_open(self, kind: str) -> bool | None:
        """Whether the port can be reached over this family; None if that is not known."""
        return self._open.get(kind) if self._port() else False

    def all(self) -> Mapping[str, bool | None]:
        return {kind: self.is_open(kind) for kind in KINDS}

    def _look(self) -> None:
        if not self._port():
            return
        now = self._clock.seconds()
        for kind in KINDS:
            links = [link for link in self._peers.links if self._counts(link, kind)]
            if any(not link.dialled for link in links):
                self._conclude(kind, True)
                self._next[kind] = now + AGAIN_SECONDS
            elif now >= self._next[kind] and kind not in self._asking:
                self._ask(kind, [link for link in links if link.dialled])

    def _counts(self, link: IPeerLink, kind: str) -> bool:
        if link.declared.kind != kind:
            return False
        return self._private or not is_private(link.identity)

    def _ask(self, kind: str, links: list[IPeerLink]) -> None:
        self._rng.shuffle(links)
        # Our own kind first: trying takes a ZeroNet node seconds that it counts against us.
        links.sort(key=lambda link: not link.extension)
        chosen = list({range_of(link.identity): link for link in reversed(links)}.values())[-ASKED:]
        if chosen:
            self._asking[kind] = Deferred.fromCoroutine(self._gather(kind, chosen))
            self._asking[kind].addErrback(self._failed)

    async def _gather(self, kind: str, links: list[IPeerLink]) -> None:
        try:
            # All at once; each answer is awaited for as long as any request is.
            asked = [
                link.ask(CHECKPORT, {"port": self._port()}).addCallbacks(_said, _silent)
                for link in links
            ]
            said = [await opinion for opinion in asked]
        finally:
            self._asking.pop(kind, None)
        opinions = [status for status in said if status is not None]
        self._next[kind] = self._clock.seconds() + (
            AGAIN_SECONDS if len(opinions) > 1 else SOON_SECONDS
        )
        if opinions:
            self._conclude(kind, any(opinions))

    def _conclude(self, kind: str, is_open: bool) -> None:
        if self._open[kind] is not is_open:
            self._open[kind] = is_open
            self._log.info(
                "the port for peers is {state} ({kind})",
                state="open" if is_open else "closed: others cannot connect to this node",
                kind=kind,
            )

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("asking about the port failed", failure)


def _said(answer: Answer) -> bool | None:
    """Whether a peer could connect; None if it did not say."""
    status = answer.get("status")
    return {"open": True, "closed": False}.get(status) if isinstance(status, str) else None


def _silent(failure: Failure) -> None:
    failure.trap(Unreachable)
