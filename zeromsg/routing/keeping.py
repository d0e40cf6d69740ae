"""Keeping enough connections for each site, by dialling peers from the book.

One look a second, a few dials at a time, one for a site: what is lost is
replaced soon, and a node that comes up does not knock at everybody at once.
Nobody shall be all that a node talks to: peers that connected to us count for
half at most, and so do those of one range of addresses, as long as there are
others to dial.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Container

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import NotTried, Unreachable
from zeromsg.interfaces import IPeerLink, IPeers, ISites
from zeromsg.log import leveled
from zeromsg.policy.addresses import is_private, range_of
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.peer_book import PeerBook
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.values import PeerAddress

LOOK_SECONDS = 1.0
DIALS_LIMIT = 4
"""Dials of this kind in progress."""

TRIAL_SECONDS = 10.0
"""What a dialled peer has to show that it takes part in the site."""

ASK_SECONDS = 60.0
"""How often zeromsg neighbours are asked for further peers where these are lacking."""

PRUNE_SECONDS = 3600.0
POSTPONE_SECONDS = 15.0


class Keeping:
    """Dials peers of sites that have too few.

    outgoing: connections wanted for each site; 0 dials nobody.
    kinds: of addresses that this node has a way to.
    banned: whether a host may not connect.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        site_peers: SitePeers,
        book: PeerBook,
        peers: IPeers,
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: random.Random,
        outgoing: int,
        kinds: Collection[str],
        banned: Callable[[str], bool],
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._book = book
        self._peers = peers
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._outgoing = outgoing
        self._kinds = kinds
        self._banned = banned
        # Dialled for a site, and not known yet to take part in it.
        self._trying: dict[tuple[str, PeerAddress], IDelayedCall | None] = {}
        self._asked: dict[str, float] = {}
        self._pruned = clock.seconds()
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        self._looking.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        for timer in self._trying.values():
            if timer is not None and timer.active():
                timer.cancel()
        self._trying.clear()

    # Dialling on behalf of others too.

    def dial(self, address: PeerAddress, site: str) -> Deferred[IPeerLink]:
        """A link to a peer of the book, which learns how that went. Fails with Unreachable."""
        return self._peers.link_to(address, site).addErrback(self._failed, address)

    def _failed(self, failure: Failure, address: PeerAddress) -> Failure:
        now = self._wall()
        if self._peers.is_us(address):
            self._book.forget(address)
        elif failure.check(NotTried):
            self._book.postpone(address, now + POSTPONE_SECONDS)
        elif failure.check(Unreachable):
            self._book.failed(address, self._rng, now)
        return failure

    def unconnected(self, site: str, count: int, onions: bool = False) -> list[PeerAddress]:
        """At most `count` peers of the site that have no link and may know peer messages.

        onions: only such.
        """
        return self._candidates(site, count, deaf=False, onions=onions) if count > 0 else []

    def _candidates(
        self, site: str, count: int, deaf: bool, full: Container[str] = (), onions: bool = False
    ) -> list[PeerAddress]:
        """deaf: whether nodes without messages will do. full: ranges of which there are enough."""
        busy = {
            link.address
            for link in self._peers.links
            if link.address is not None and speaks_of(link.face, site)
        }
        busy.update(address for held, address in self._trying if held == site)
        # For ZeroNet nodes a host is one peer, whatever its port.
        hosts = {address.host for address in busy if not is_private(address.host)}
        capable = self._site_peers.speaking.capable

        def wanted(address: PeerAddress) -> bool:
            if address.kind not in self._kinds or address.host in hosts:
                return False
            if self._banned(address.host):
                return False
            if onions and address.kind != "onion":
                return False
            if full and range_of(address.host) in full:
                return False
            return deaf or capable(address) is not False

        ranges = Counter(range_of(link.identity) for link in self._site_peers.participants(site))
        return self._book.candidates(site, count, busy, self._rng, self._wall(), wanted, ranges)

    # Looking after each site.

    def _look(self) -> None:
        if self._clock.seconds() - self._pruned > PRUNE_SECONDS:
            self._pruned = self._clock.seconds()
            self._book.prune(self._wall())
        sites = list(self._sites.addresses())
        self._rng.shuffle(sites)
        for site in sites:
            if self._dials() >= DIALS_LIMIT:
                return
            self._look_after(site)

    def _dials(self) -> int:
        return sum(timer is None for timer in self._trying.values())

    def _look_after(self, site: str) -> None:
        """Dial one more peer of the site, if it has too few or too many of one kind."""
        members = self._site_peers.members(site)
        there = {link.address for link in members}
        under_way = [at for held, at in self._trying if held == site and at not in there]
        incoming = sum(not link.dialled for link in members)
        half = self._outgoing // 2
        full: list[str] = []
        if len(members) - incoming + min(incoming, half) + len(under_way) >= self._outgoing:
            ranges = Counter(range_of(link.identity) for link in members)
            ranges.update(range_of(address.host) for address in under_way)
            full = [range_ for range_, count in ranges.items() if count > half]
            if ranges.total() - sum(ranges[range_] for range_ in full) >= half:
                return
        # Nodes without messages still know files and further peers; a few of them are enough.
        deaf = len(self._site_peers.participants(site)) < self._outgoing
        for address in self._candidates(site, 1, deaf, full):
            self._try(site, address)
            return
        if not full:
            self._ask_more(site)

    def _try(self, site: str, address: PeerAddress) -> None:
        key = (site, address)
        self._trying[key] = None
        self.dial(address, site).addCallbacks(
            self._linked, self._not_linked, (key,), {}, (key,), {}
        )

    def _ask_more(self, site: str) -> None:
        now = self._clock.seconds()
        if now - self._asked.get(site, float("-inf")) >= ASK_SECONDS:
            self._asked[site] = now
            self._site_peers.ask_more(site)

    def _linked(self, link: IPeerLink, key: tuple[str, PeerAddress]) -> None:
        if key in self._trying:
            self._trying[key] = self._clock.callLater(TRIAL_SECONDS, self._judge, link, key)
            self._site_peers.introducing.meant_for(key[0], link)

    def _not_linked(self, failure: Failure, key: tuple[str, PeerAddress]) -> None:
        failure.trap(Unreachable)
        self._trying.pop(key, None)

    def _judge(self, link: IPeerLink, key: tuple[str, PeerAddress]) -> None:
        self._trying.pop(key, None)
        site, address = key
        if not self._site_peers.takes_part(site, link):
            # Whoever does not hold the site is no peer of it, though it answers.
            self._book.failed(address, self._rng, self._wall(), site)
