"""Announcing to UDP trackers: connect, announce, each repeated while it is unanswered.

Anybody can send us a datagram in the tracker's name, so an answer counts only
from the address that was asked and with the random number that was sent; all
else is passed over. What is lost is sent again after 15 s, then after 30 s
more (BEP 15 would go on for two hours); after a minute the announce has failed.
"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReactorUDP
from twisted.internet.protocol import DatagramProtocol

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Entropy
from zeromsg.net.resolving import Resolver
from zeromsg.wire.tracker_http import BittorrentAnswer
from zeromsg.wire.tracker_udp import (
    PACKET_LIMIT,
    announce_request,
    connect_request,
    parse_announce,
    parse_connect,
    transaction_of,
)
from zeromsg.wire.trackers import Announcement, Found, Tracker
from zeromsg.wire.values import PeerAddress, site_sha1

FIRST_SECONDS = 15.0
"""After which a request is repeated; each further time takes twice as long."""

ANNOUNCE_SECONDS = 60.0


class UdpAnnouncer:
    """Asks UDP trackers (one part of `interfaces.ITrackers`).

    interface: the address to send from, "" lets the system choose.
    """

    def __init__(
        self,
        *,
        reactor: IReactorUDP,
        resolver: Resolver,
        clock: IReactorTime,
        peer_id: str,
        entropy: Entropy,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._clock = clock
        self._peer_id = peer_id.encode("ascii").ljust(20, b"\0")[:20]
        self._entropy = entropy
        self._interface = interface

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        """Each site by itself. Raises Unreachable, TheirMistake."""
        address = (await self._resolver.addresses(tracker.host, tracker.port))[0]
        if address.kind == "onion":
            raise Unreachable("Tor carries no UDP")
        peers: dict[str, tuple[PeerAddress, ...]] = {}
        interval = None
        for site in announcement.sites:
            answer = await self._announce_one(address, site, announcement)
            peers[site] = answer.peers
            interval = answer.interval
        return Found(peers, interval)

    async def _announce_one(
        self, address: PeerAddress, site: str, announcement: Announcement
    ) -> BittorrentAnswer:
        socket = _Socket(address, self._clock)
        try:
            port: Any = self._reactor.listenUDP(
                0, socket, self._interface_for(address), PACKET_LIMIT
            )
        except (CannotListenError, OSError) as problem:
            raise Unreachable(f"cannot open a socket: {type(problem).__name__}") from None
        asking = Deferred.fromCoroutine(self._converse(socket, address, site, announcement))
        asking.addTimeout(ANNOUNCE_SECONDS, self._clock)
        try:
            return await asking
        except DeferredTimeout:
            raise Unreachable("no answer in time") from None
        finally:
            socket.close()
            port.stopListening()

    def _interface_for(self, address: PeerAddress) -> str:
        ipv6 = address.kind == "ipv6"
        if self._interface and ipv6 == (":" in self._interface):
            return self._interface
        return "::" if ipv6 else ""

    async def _converse(
        self, socket: "_Socket", address: PeerAddress, site: str, announcement: Announcement
    ) -> BittorrentAnswer:
        transaction = self._transaction()
        packet = await socket.ask(connect_request(transaction), transaction)
        connection = parse_connect(packet, transaction)
        transaction = self._transaction()
        port = announcement.port if announcement.listed else 0
        request = announce_request(
            connection, transaction, site_sha1(site), self._peer_id, port, announcement.need
        )
        packet = await socket.ask(request, transaction)
        return parse_announce(packet, transaction, address.kind == "ipv6")

    def _transaction(self) -> int:
        return int.from_bytes(self._entropy(4), "big")


class _Socket(DatagramProtocol):
    """One question at a time to one address, repeated until it is answered."""

    noisy = False

    def __init__(self, address: PeerAddress, clock: IReactorTime) -> None:
        self._address = (address.host, address.port)
        self._clock = clock
        self._request = b""
        self._transaction: int | None = None
        self._answered: Deferred[bytes] | None = None
        self._again: IDelayedCall | None = None

    def startProtocol(self) -> None:
        # The system then tells us when nobody is there, and drops what others send.
        self._wire.connect(*self._address)

    @property
    def _wire(self) -> Any:
        return self.transport

    def ask(self, request: bytes, transaction: int) -> Deferred[bytes]:
        """Send a request; fires with a packet that answers it."""
        self._request, self._transaction = request, transaction
        self._answered = Deferred()
        self._send(FIRST_SECONDS)
        return self._answered

    def close(self) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._answered = None

    def _send(self, patience: float) -> None:
        try:
            self._wire.write(self._request)
        except OSError as problem:
            self._fail(f"cannot send: {type(problem).__name__}")
        # Writing may have told us that nobody is there.
        if self._answered is not None:
            self._again = self._clock.callLater(patience, self._send, patience * 2)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if tuple(addr[:2]) != self._address or transaction_of(datagram) != self._transaction:
            return
        answered = self._answered
        self.close()
        if answered is not None and not answered.called:
            answered.callback(datagram)

    def connectionRefused(self) -> None:
        self._fail("nobody listens there")

    def stopProtocol(self) -> None:
        # Some reactors close the socket instead when nobody is there.
        self._fail("nobody listens there")

    def _fail(self, reason: str) -> None:
        answered = self._answered
        self.close()
        if answered is not None and not answered.called:
            answered.errback(Unreachable(reason))
