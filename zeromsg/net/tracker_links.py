"""Links to zero:// trackers, apart from those to peers.

A tracker is asked about sites that it need not hold. If it were introduced to
them as peers are, each would cost us ban points there, so its link is no
concern of routing: it is opened for an announce, says so in its handshake, and
is closed when nothing came for a while. Where the tracker is a peer as well,
the link that exists is used. Source: ZeroNet peer protocol, sections 3, 6, 10.1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import IPeerLink, IRequests
from zeromsg.net.dialer import CONNECT_SECONDS, DIAL_ERRORS
from zeromsg.net.peer_protocol import Limits, PeerProtocol, TlsFailed
from zeromsg.net.socks import CONNECT_SECONDS as ONION_SECONDS
from zeromsg.policy.faces import CLEAR
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

TICK_SECONDS = 1.0
IDLE_SECONDS = 20.0
"""Silence after which such a link is closed, as ZeroNet nodes do."""

LINKS_LIMIT = 32

_Key = tuple[PeerAddress, str]


class TrackerLinks:
    """Opens links to trackers, and is their owner (`peer_protocol.ILinkOwner`).

    connector: how to connect to an address in the name of an onion of ours, ""
    for none. ours: what this node says of itself. known: an open link that
    exists anyway. requests: who answers what the tracker asks of us.
    """

    def __init__(
        self,
        *,
        connector: Callable[[PeerAddress, str], IStreamClientEndpoint],
        ours: Callable[[PeerAddress], Handshake],
        known: Callable[[PeerAddress], IPeerLink | None],
        requests: IRequests,
        tls: CertificateOptions | None,
        clock: IReactorTime,
        limits: Limits,
        charge: Callable[[str, float, str], None],
    ) -> None:
        self._connector = connector
        self._ours = ours
        self._known = known
        self._requests = requests
        self._tls = tls
        self._clock = clock
        self._limits = limits
        self._charge = charge
        self._all: dict[PeerProtocol, _Key] = {}
        self._plain: set[PeerAddress] = set()
        self._running = True
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def link_to(self, address: PeerAddress, onion: str) -> Deferred[IPeerLink]:
        """An open link (`tracker_zero.LinkTo`). Fails with Unreachable."""
        known = self._known(address) if not onion else None
        if known is not None:
            return succeed(known)
        for link, key in self._all.items():
            if key == (address, onion) and link.open:
                return succeed(link)
        return Deferred.fromCoroutine(self._dial(address, onion))

    def stop(self) -> None:
        """Close everything now."""
        self._running = False
        for link in list(self._all):
            link.drop("this node stops")

    async def _dial(self, address: PeerAddress, onion: str) -> IPeerLink:
        """TLS first, then plain where the tracker cannot; never TLS to onions."""
        if not self._speaks_plain(address):
            try:
                return await self._open(address, onion, tls_first=True)
            except TlsFailed:
                if len(self._plain) < LINKS_LIMIT:
                    self._plain.add(address)
        return await self._open(address, onion, tls_first=False)

    def _speaks_plain(self, address: PeerAddress) -> bool:
        # ZeroNet nodes never look for TLS on connections from these two.
        here = address.host in ("127.0.0.1", "::1")
        return self._tls is None or address.kind == "onion" or here or address in self._plain

    async def _open(self, address: PeerAddress, onion: str, tls_first: bool) -> IPeerLink:
        if not self._running:
            raise Unreachable("this node stops")
        if self._requests.banned(address.host):
            raise Unreachable("that tracker is banned")
        if len(self._all) >= LINKS_LIMIT:
            raise Unreachable("too many links to trackers")
        link = PeerProtocol(
            self,
            address,
            lambda remote: self._handshake(remote, onion),
            self._clock,
            self._limits,
            dialled=True,
            tls=self._tls,
            tls_first=tls_first,
            # A face that speaks of no site: trackers need none.
            face=onion or address.host if address.kind == "onion" else CLEAR,
        )
        self._all[link] = (address, onion)
        if not self._ticking.running:
            self._ticking.start(TICK_SECONDS, now=False)
        try:
            connecting = self._connector(address, onion).connect(_OneShot(link))
            seconds = 2 * ONION_SECONDS if address.kind == "onion" else CONNECT_SECONDS
            connecting.addTimeout(seconds, self._clock)
            await connecting
        except DIAL_ERRORS as problem:
            self._forget(link)
            raise Unreachable(f"cannot connect: {type(problem).__name__}") from None
        except Exception:
            self._forget(link)
            raise
        return await link.ready

    def _handshake(self, remote: PeerAddress, onion: str) -> Handshake:
        ours = attrs.evolve(self._ours(remote), tracker_connection=True)
        # An onion is not to be known by the node's other names.
        return attrs.evolve(ours, onion=onion, peer_id="") if onion else ours

    def _tick(self) -> None:
        now = self._clock.seconds()
        for link in list(self._all):
            link.tick(now)
            if link.open and link.idle(now) > IDLE_SECONDS:
                link.drop("nothing more to announce")

    def _forget(self, link: PeerProtocol) -> None:
        self._all.pop(link, None)
        if not self._all and self._ticking.running:
            self._ticking.stop()

    # ILinkOwner.

    def link_opened(self, link: PeerProtocol) -> None:
        """Routing is not told: a tracker is not introduced to our sites."""

    def link_lost(self, link: PeerProtocol, opened: bool) -> None:
        self._forget(link)

    def link_requested(
        self, link: PeerProtocol, req_id: Any, cmd: str, params: Mapping[Any, Any]
    ) -> None:
        self._requests.requested(link, req_id, cmd, params)

    def link_erred(self, link: PeerProtocol, mistake: TheirMistake) -> None:
        self._charge(link.identity, mistake.points, "broken messages")

    def link_holds(self, link: PeerProtocol, size: int) -> None:
        """They are few, and dialled by this node."""


class _OneShot(Factory):
    """Gives an endpoint the protocol that was made for it."""

    noisy = False

    def __init__(self, link: PeerProtocol) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> PeerProtocol:
        return self._link
