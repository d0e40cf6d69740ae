"""Finding nodes of the same local network by UDP, and being found by them.

Only nodes of this network are heard and answered: a stranger from elsewhere who
knows the port must not learn which sites are held here. Senders are easily
forged within the network, so answers are few and short, and what is learnt is
worth an attempt to connect, and no more. Private addresses found so are used,
but nobody passes them on. Source: ZeroNet peer protocol, section 10.3.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorMulticast, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.log import leveled
from zeromsg.policy.rate import Buckets
from zeromsg.wire.local_announce import (
    DATAGRAM_LIMIT,
    DISCOVER_REQUEST,
    DISCOVER_RESPONSE,
    SITE_LIST_REQUEST,
    SITE_LIST_RESPONSE,
    Datagram,
    Sender,
    site_lists,
)
from zeromsg.wire.values import PeerAddress, site_sha256

PORT = 1544
EVERYBODY = ("255.255.255.255",)
DISCOVER_SECONDS = 300.0
"""Between two broadcasts of ours."""

GREETING_SECONDS = 1.0
"""After which somebody new makes us ask who is there; the same for all who come meanwhile."""

GREETINGS_APART = 30.0
NEIGHBOURS_LIMIT = 1000
SITES_LIMIT = 1000
"""Sites that are told to a neighbour: ten datagrams."""

BURST, PER_SECOND = 10.0, 1.0
"""Datagrams of one host that are looked at."""

ALL_BURST, ALL_PER_SECOND = 100.0, 20.0
"""The same of all hosts together."""

_EVERY_HOST = ""


class LocalAnnouncer(DatagramProtocol):
    """Discovery on the local network, off until `start`.

    reactor: listens. interface: the address listened on, "0.0.0.0" for all.
    port: UDP port listened on, where answers come too. broadcast_to: hosts or
    broadcast addresses, each with a port, that are asked who is there.
    node: this node's peer id, and the TCP port where it takes connections.
    sites: addresses of our sites. found: told a site and an address.
    """

    noisy = False
    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        reactor: IReactorMulticast,
        clock: IReactorTime,
        rng: random.Random,
        interface: str,
        port: int,
        broadcast_to: Sequence[tuple[str, int]],
        node: Callable[[], tuple[str, int]],
        sites: Callable[[], Sequence[str]],
        found: Callable[[str, PeerAddress], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._interface = interface
        self._port = port
        self._broadcast_to = tuple(broadcast_to)
        self._node = node
        self._sites = sites
        self._found = found
        self._listening: Any = None
        self._greeting: IDelayedCall | None = None
        self._last_greeting = -GREETINGS_APART
        self._by_host = Buckets(BURST, PER_SECOND)
        self._by_all = Buckets(ALL_BURST, ALL_PER_SECOND)
        # What each neighbour's sites_changed was when its list came, None before.
        self._neighbours: OrderedDict[tuple[str, str], int | None] = OrderedDict()
        # Neighbours ask for our list again when this number differs; so it begins anywhere.
        self._changed = rng.getrandbits(31)
        self._told: tuple[str, ...] = ()
        self._asking = LoopingCall(self._ask_everybody)
        self._asking.clock = clock

    # Life.

    def start(self) -> None:
        """Listen, ask who is there, and again every five minutes. Raises Unreachable."""
        try:
            self._listening = self._reactor.listenMulticast(
                self._port, self, self._interface, DATAGRAM_LIMIT, listenMultiple=True
            )
        except (CannotListenError, OSError) as problem:
            raise Unreachable(f"cannot listen on UDP port {self._port}: {problem}") from None
        self._wire.setBroadcastAllowed(True)
        self._asking.start(DISCOVER_SECONDS, now=True)

    def stop(self) -> Any:
        """Stop; returns a Deferred, or None if nothing was begun."""
        if self._asking.running:
            self._asking.stop()
        if self._greeting is not None and self._greeting.active():
            self._greeting.cancel()
        listening, self._listening = self._listening, None
        return listening.stopListening() if listening is not None else None

    @property
    def port(self) -> int:
        """The UDP port that is listened on, 0 before."""
        return int(self._wire.getHost().port) if self._listening is not None else 0

    @property
    def _wire(self) -> Any:
        return self.transport

    # Asking.

    def _ask_everybody(self) -> None:
        for target in self._broadcast_to:
            self._send(Datagram(DISCOVER_REQUEST, self._sender()), target)

    def _greet(self) -> None:
        """Somebody new is there: see who else is, soon but not often."""
        if self._greeting is not None and self._greeting.active():
            return
        now = self._clock.seconds()
        at = max(now + GREETING_SECONDS, self._last_greeting + GREETINGS_APART)
        self._last_greeting = at
        self._greeting = self._clock.callLater(at - now, self._ask_everybody)

    # Hearing.

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        host = _local_host(addr)
        if host is None or self._listening is None or not self._allowed(host):
            return
        try:
            message = Datagram.from_wire(datagram)
        except TheirMistake as mistake:
            self._log.debug("{host} sent no discovery: {why}", host=host, why=str(mistake))
            return
        if message.sender.peer_id == self._node()[0]:
            return
        self._heard(message, host)

    def _allowed(self, host: str) -> bool:
        now = self._clock.seconds()
        if not self._by_host.allows(host, now) or not self._by_all.allows(_EVERY_HOST, now):
            return False
        self._by_host.spoke(host, now)
        self._by_all.spoke(_EVERY_HOST, now)
        return True

    def _heard(self, message: Datagram, host: str) -> None:
        back = (host, message.sender.broadcast_port)
        neighbour = (host, message.sender.peer_id)
        if message.cmd == DISCOVER_REQUEST:
            changed = self._sites_changed()
            self._send(Datagram(DISCOVER_RESPONSE, self._sender(), changed), back)
            if neighbour not in self._neighbours:
                self._remember(neighbour, None)
                self._greet()
        elif message.cmd == DISCOVER_RESPONSE:
            known = self._neighbours.get(neighbour)
            if known is None or known != message.sites_changed:
                self._send(Datagram(SITE_LIST_REQUEST, self._sender()), back)
        elif message.cmd == SITE_LIST_REQUEST:
            changed = self._sites_changed()
            hashes = [site_sha256(site) for site in self._told[:SITES_LIMIT]]
            for part in site_lists(self._sender(), changed, hashes):
                self._send(part, back)
        elif message.cmd == SITE_LIST_RESPONSE:
            self._remember(neighbour, message.sites_changed)
            self._learn(message, host)

    def _learn(self, message: Datagram, host: str) -> None:
        if not message.sender.port:
            return
        ours: Mapping[bytes, str] = {site_sha256(site): site for site in self._sites()}
        address = PeerAddress(host, message.sender.port)
        for digest in message.sites:
            site = ours.get(digest)
            if site is not None:
                self._found(site, address)

    def _remember(self, neighbour: tuple[str, str], changed: int | None) -> None:
        self._neighbours[neighbour] = changed
        self._neighbours.move_to_end(neighbour)
        if len(self._neighbours) > NEIGHBOURS_LIMIT:
            self._neighbours.popitem(last=False)

    # Speaking.

    def _sites_changed(self) -> int:
        """A number that is another one whenever our sites are others."""
        sites = tuple(sorted(self._sites()))
        if sites != self._told:
            self._told = sites
            self._changed += 1
        return self._changed

    def _sender(self) -> Sender:
        peer_id, port = self._node()
        return Sender(peer_id, port, self.port)

    def _send(self, datagram: Datagram, target: tuple[str, int]) -> None:
        try:
            self._wire.write(datagram.to_wire(), target)
        except OSError as problem:
            # No network at the moment, or no way to broadcast.
            self._log.debug("cannot send to {host}: {why}", host=target[0], why=str(problem))


def _local_host(addr: Any) -> str | None:
    """The sender's host if it is one of this network, in canonical form."""
    try:
        address = PeerAddress(addr[0], 0)
    except ValueError:
        return None
    return address.host if address.is_private else None
