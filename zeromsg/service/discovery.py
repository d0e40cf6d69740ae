"""How a node is found, and finds others, beyond the peers it is connected to.

Trackers are told of the node's sites, the local network where that is wanted,
and the node is a tracker for others where that is wanted. What comes back goes
into the book of peers.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Entropy, IPeerLink, IRequests
from zeromsg.log import leveled
from zeromsg.net.local_announcer import EVERYBODY, LocalAnnouncer
from zeromsg.net.local_announcer import PORT as LOCAL_PORT
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_links import TrackerLinks
from zeromsg.net.tracker_zero import SignOnion, ZeroAnnouncer
from zeromsg.net.trackers import Trackers, all_trackers
from zeromsg.policy.peer_book import Source
from zeromsg.policy.tracker_book import TrackerBook
from zeromsg.routing.announcing import Announcing, Presence
from zeromsg.routing.port_check import PortCheck
from zeromsg.routing.site_peers import SitePeers
from zeromsg.routing.tracker_server import TrackerServer
from zeromsg.service.config import PeerSettings
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.trackers import PeerKind
from zeromsg.wire.values import PeerAddress

_KINDS: tuple[PeerKind, ...] = ("ipv4", "ipv6", "onion")


@attrs.frozen
class Outside:
    """What a node has of the world beside connections to peers.

    reactor: for UDP and names; None where there are none, as in memory.
    source: the address that everything is sent from, or None.
    """

    reactor: Any = None
    source: str | None = None


class Discovery:
    """Announces the node's sites and serves others as a tracker.

    reach: how to connect to a tracker in the name of an onion, "" for none. onions: ours,
    without `.onion`, by the site for which they are announced. direct: False where
    Tor is the only way out. sign_onion: proves that an onion is ours.
    port: where others connect, 0 for nowhere. ours: the handshake to a remote address.
    known: an open link to an address. kinds: of addresses that can be dialled.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        settings: PeerSettings,
        outside: Outside,
        *,
        site_peers: SitePeers,
        port_check: PortCheck,
        sites: Callable[[], Sequence[str]],
        connector: Callable[[PeerAddress], IStreamClientEndpoint],
        reach: Callable[[PeerAddress, str], IStreamClientEndpoint],
        onions: Callable[[], Mapping[str, str]],
        sign_onion: SignOnion,
        direct: bool,
        ours: Callable[[PeerAddress], Handshake],
        known: Callable[[str], IPeerLink | None],
        port: Callable[[], int],
        peer_id: str,
        kinds: Collection[str],
        tls: Any,
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: random.Random,
        entropy: Entropy,
        charge: Callable[[str, float, str], None],
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._site_peers = site_peers
        self._port_check = port_check
        self._connector = connector
        self._reach = reach
        self._onions = onions
        self._sign_onion = sign_onion
        self._direct = direct
        self._ours = ours
        self._known = known
        self._port = port
        self._peer_id = peer_id
        self._kinds = frozenset(kind for kind in _KINDS if kind in kinds)
        self._tls = tls
        self._clock = clock
        self._entropy = entropy
        self._charge = charge
        self._links: TrackerLinks | None = None
        self._announcing: Announcing | None = None
        self._make_announcing = lambda asker: Announcing(
            trackers=settings.trackers,
            asker=asker,
            sites=sites,
            presence=self._presence,
            enough=lambda site: len(site_peers.participants(site)) >= settings.outgoing,
            found=self._found,
            allow_private=settings.allow_private,
            clock=clock,
            wall=wall,
            rng=rng,
        )
        self.server = (
            TrackerServer(TrackerBook(), clock, rng, entropy, settings.allow_private)
            if settings.serve_tracker
            else None
        )
        self._local = (
            LocalAnnouncer(
                reactor=outside.reactor,
                clock=clock,
                rng=rng,
                interface=outside.source or "0.0.0.0",
                port=LOCAL_PORT,
                broadcast_to=[(host, LOCAL_PORT) for host in EVERYBODY],
                node=lambda: (peer_id, port()),
                sites=sites,
                found=self._met,
            )
            if settings.local_discovery and outside.reactor is not None
            else None
        )

    # Life.

    def start(self, requests: IRequests) -> None:
        """Begin. requests: who answers what trackers ask of us."""
        self._links = TrackerLinks(
            connector=self._reach,
            ours=self._ours,
            known=lambda address: self._known(str(address)),
            requests=requests,
            tls=self._tls,
            clock=self._clock,
            limits=Limits(self._settings.requests_in_flight, self._settings.unsent_limit),
            charge=self._charge,
        )
        self._announcing = self._make_announcing(self._asker(self._links))
        self._announcing.start()
        if self._local is not None:
            try:
                self._local.start()
            except Unreachable as problem:
                # Without it the node is as good as one that it was not wanted for.
                self._log.warn("no discovery on the local network: {why}", why=str(problem))

    def stop(self) -> None:
        if self._announcing is not None:
            self._announcing.stop()
        if self._links is not None:
            self._links.stop()
        if self._local is not None:
            self._local.stop()

    def site_added(self, site: str) -> None:
        """Announce a site that is new here."""
        if self._announcing is not None:
            self._announcing.site_added(site)

    def status(self) -> Mapping[str, Any]:
        """What the operator is shown."""
        trackers = self._announcing.status() if self._announcing is not None else []
        return {
            "trackers": [tracker.to_map() for tracker in trackers],
            **({} if self.server is None else {"serving": self.server.status()}),
        }

    # Between the parts.

    def _asker(self, links: TrackerLinks) -> Trackers:
        reactor = self._outside.reactor
        if reactor is None:
            resolver = Resolver(None, self._clock, self._settings.allow_private)
            zero = ZeroAnnouncer(
                link_to=links.link_to, resolver=resolver, sign_onion=self._sign_onion
            )
            return Trackers({"zero": zero}, "this node has no way to such trackers")
        return all_trackers(
            reactor=reactor,
            clock=self._clock,
            connector=self._connector,
            link_to=links.link_to,
            sign_onion=self._sign_onion,
            peer_id=self._peer_id,
            entropy=self._entropy,
            interface=self._outside.source or "",
            allow_private=self._settings.allow_private,
            direct=self._direct,
        )

    def _presence(self) -> Presence:
        port = self._port()
        opened = self._port_check.all()
        # Where nothing is known yet, it may well be open: we listen there.
        listed = frozenset(
            kind
            for kind in ("ipv4", "ipv6")
            if port and kind in self._kinds and opened.get(kind) is not False
        )
        return Presence(port, listed, self._kinds, self._onions())

    def _found(self, site: str, addresses: Sequence[PeerAddress], tracker: str) -> None:
        self._site_peers.found(site, addresses, Source.TRACKER, tracker)

    def _met(self, site: str, address: PeerAddress) -> None:
        self._site_peers.found(site, [address], Source.LOCAL, address.host)
