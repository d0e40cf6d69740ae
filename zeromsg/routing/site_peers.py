"""Which peers take part in which site, and what they say of further ones.

A peer takes part in a site once it asked something about it, or answered a
question about it (`routing.introducing`). What peers say of further peers goes
into the book (`policy.peer_book`), within bounds.
"""

import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from zeromsg.errors import TheirMistake
from zeromsg.interfaces import Answer, IPeerLink, ISites
from zeromsg.policy.addresses import is_private
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.peer_book import PeerBook, Source
from zeromsg.policy.rate import Buckets
from zeromsg.routing.introducing import Introducing
from zeromsg.routing.neighbours import Neighbours
from zeromsg.routing.pacing import Pacing
from zeromsg.routing.speaking import Speaking
from zeromsg.wire.names import CARRIES, CARRY
from zeromsg.wire.peer_messages import octets, text
from zeromsg.wire.values import PeerAddress, pack_address, unpack_address, unpack_onion

PEX_LIMIT = 50
"""Addresses taken from one message."""

PEX_BURST = 200
PEX_PER_SECOND = 1.0
"""Addresses taken from one host at once, and after that; ZeroNet nodes name five a site."""

CARRIES_LIMIT = 50
"""Peers with closed ports that are named in one message."""

PEX_OWN = 5
"""Addresses we name when we ask."""

ANSWER_BURST = 20
ANSWERS_PER_SECOND = 0.2
"""Answers for one host that are made from the whole book; further ones name connected peers."""

_ONION_V3 = 62

_KINDS = (
    ("peers", unpack_address),
    ("peers_ipv6", unpack_address),
    ("peers_onion", unpack_onion),
)


class SitePeers:
    """Membership of links in sites, and what is said of further peers.

    private: whether peers on private networks may name others there.
    carries: whether this node hands messages on to peers with closed ports.
    configured: peers that the operator named, whatever sites they hold.
    """

    def __init__(
        self,
        sites: ISites,
        book: PeerBook,
        speaking: Speaking,
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: random.Random,
        *,
        private: bool = False,
        carries: bool = False,
        configured: Collection[PeerAddress] = (),
    ) -> None:
        self._sites = sites
        self.book = book
        self.speaking = speaking
        self._clock = clock
        self._wall = wall
        self.rng = rng
        self._private = private
        self._carries = carries
        self.neighbours = Neighbours()
        self._configured = configured
        self._members: dict[str, dict[IPeerLink, None]] = {}
        self._named = Buckets(PEX_BURST, PEX_PER_SECOND)
        self._answered = Buckets(ANSWER_BURST, ANSWERS_PER_SECOND)
        self._watchers: list[Callable[[str], None]] = []
        self._pacing = Pacing(speaking, self._least_seconds, clock)
        self.introducing = Introducing(
            sites=sites,
            book=book,
            clock=clock,
            wall=wall,
            takes_part=self.takes_part,
            params=self._own_pex,
            taken=self._introduced,
        )

    def start(self) -> None:
        self.introducing.start()

    def stop(self) -> None:
        self.introducing.stop()
        self._pacing.stop()

    def watch(self, joined: Callable[[str], None]) -> None:
        """Be told of each site that some further peer turns out to take part in."""
        self._watchers.append(joined)

    def members(self, site: str) -> list[IPeerLink]:
        """Links of peers that take part in the site and may know peer messages."""
        deaf = self.speaking.deaf
        members = self._members.get(site, {})
        reached = {link.address for link in members if link.face and link.dialled}
        if not reached:
            return [link for link in members if not deaf(link)]
        # Who we reached ourselves needs no second copy over a link that says it is the same.
        return [link for link in members if not deaf(link) and link.claim not in reached]

    def participants(self, site: str) -> list[IPeerLink]:
        """Links of all peers that take part in the site, those without messages too."""
        return list(self._members.get(site, ()))

    def deaf_count(self, site: str) -> int:
        """How many peers that take part in the site do not know peer messages."""
        return len(self.participants(site)) - len(self.members(site))

    def takes_part(self, site: str, link: IPeerLink) -> bool:
        return link in self._members.get(site, ())

    def joined(self, site: str, link: IPeerLink) -> None:
        """The peer showed that it takes part in the site."""
        if link in self._members.get(site, ()) or not speaks_of(link.face, site):
            return
        if link in self.introducing:
            self._members.setdefault(site, {})[link] = None
            if link.claim is not None:
                # Hearsay; all strangers count as one teller.
                self.book.heard(site, link.claim, Source.ASKED_US, self._wall(), link.identity)
            if link.address is not None:
                self._met(site, link, link.address)
            self.introducing.named(site, link)
            for joined in self._watchers:
                joined(site)

    def _met(self, site: str, link: IPeerLink, address: PeerAddress) -> None:
        now = self._wall()
        if address in self._configured:
            self.book.heard(site, address, Source.CONFIGURED, now)
        if link.dialled:
            self.book.reached(site, address, now)
            return
        # Where it came from is certain, that it listens there is its word.
        self.book.heard(site, address, Source.ASKED_US, now, link.identity)
        self.book.seen(site, address, now)

    def opened(self, link: IPeerLink) -> None:
        self.speaking.opened(link)
        if CARRY in link.features:
            self.neighbours.opened(link)
        self.introducing.opened(link)

    def closed(self, link: IPeerLink) -> None:
        self.neighbours.closed(link)
        self.introducing.closed(link)
        now = self._wall()
        heirs = self.introducing.of_node(link.declared)
        for site, members in self._members.items():
            if link in members:
                del members[link]
                for heir in heirs:
                    self.introducing.meant_for(site, heir)
                if link.address is not None:
                    self.book.seen(site, link.address, now)

    def left(self, site: str) -> None:
        """A site is held no more."""
        self._members.pop(site, None)

    def introduce(self, site: str) -> None:
        """Tell every peer of a site that is new here, but those that know."""
        self.introducing.site_added(site)

    def ask_more(self, site: str) -> None:
        """Ask one zeromsg neighbour for further peers of a site; others only now and then."""
        ours = [link for link in self._members.get(site, ()) if link.extension]
        if ours:
            self.introducing.renew(site, self.rng.choice(ours))

    def _own_pex(self, site: str, link: IPeerLink) -> dict[str, Any]:
        """What we say and ask when we introduce ourselves."""
        named = self.exchange(site, link, PEX_OWN, connected=True)
        # ZeroNet nodes leave out the kinds that they have none of.
        params = {key: found for key, found in named.items() if found or key == "peers"}
        return {"site": site, **params, "need": 5}

    def _introduced(self, site: str, answer: Any, link: IPeerLink) -> None:
        self.joined(site, link)
        self.learn(site, answer, link)

    def learn(self, site: str, message: Any, link: IPeerLink) -> None:
        """Addresses out of a pex request or answer. Raises TheirMistake on malformed ones."""
        for key, unpack in _KINDS:
            packed = message.get(key)
            if packed is None:
                continue
            if not isinstance(packed, list):
                raise TheirMistake(f"{key} is no list")
            for item in packed[:PEX_LIMIT]:
                try:
                    address = unpack(octets(item, key, 64))
                except TheirMistake as mistake:
                    if mistake.points:
                        raise
                    # An onion with a wrong checksum: ZeroNet nodes pass those on unseen.
                    continue
                if self._may_name(link, address):
                    self.book.heard(site, address, Source.PEX, self._wall(), link.identity)

        if CARRY in link.features:
            self._learn_carried(site, message.get(CARRIES, []), link)

    def _learn_carried(self, site: str, names: object, link: IPeerLink) -> None:
        if not isinstance(names, list):
            raise TheirMistake(f"{CARRIES} is no list")
        heard = [text(name, CARRIES, 100) for name in names[:CARRIES_LIMIT]]
        self.neighbours.add(link, site, heard)

    def traced(self, site: str, link: IPeerLink, trace: tuple[str, ...] | None) -> None:
        """A broadcast names the hops it took: the last one is a neighbour of our neighbour."""
        if trace:
            self.neighbours.add(link, site, trace[-1:])

    def _may_name(self, link: IPeerLink, address: PeerAddress) -> bool:
        now = self._clock.seconds()
        if address.kind == "onion" and len(address.host) != _ONION_V3:
            return False  # no Tor of today reaches it
        if is_private(address.host) and not is_private(link.identity):
            # Whoever names a private address could make us knock at our own network.
            return False
        if not self._named.allows(link.identity, now):
            return False
        self._named.spoke(link.identity, now)
        return True

    def found(
        self, site: str, addresses: Iterable[PeerAddress], source: Source, teller: str
    ) -> None:
        """Peers of a site that another source named. teller: which tracker or host it was."""
        for address in addresses:
            self.book.heard(site, address, source, self._wall(), teller)

    def listed(self, site: str) -> list[dict[str, Any]]:
        """The site's peers for its clients: connected ones, known ones, neighbours' neighbours.

        capable: whether it knows peer messages, None where nobody knows.
        last_seen: Unix time it was last connected, or None.
        """
        now = self._wall()
        members = self._members.get(site, {})
        capable = self.speaking.capable
        entries = {
            link.name: _entry(True, bool(link.extension) or capable(link.declared), now)
            for link in members
        }
        for peer in self.book.peers(site):
            seen = peer.last_seen or None
            entries.setdefault(str(peer.address), _entry(False, capable(peer.address), seen))
        for name in self.neighbours.names(site):
            entries.setdefault(name, _entry(False, None, None))
        return [{"ip": name, **entry} for name, entry in entries.items()]

    def answer(self, site: str, link: IPeerLink, need: int) -> dict[str, list[Any]]:
        """What is said to a pex; looking through the book takes a while, so not at any rate."""
        now = self._clock.seconds()
        connected = not self._answered.allows(link.identity, now)
        if not connected:
            self._answered.spoke(link.identity, now)
        return self.exchange(site, link, need, connected)

    def exchange(
        self, site: str, link: IPeerLink, need: int, connected: bool = False
    ) -> dict[str, list[Any]]:
        """Packed addresses of the site's peers for a pex. connected: of these alone."""
        answer: dict[str, list[Any]] = {"peers": [], "peers_ipv6": [], "peers_onion": []}
        keys = {"ipv4": "peers", "ipv6": "peers_ipv6", "onion": "peers_onion"}
        members = [member.address for member in self._members.get(site, ())]
        others = [] if connected else self.book.peers(site)
        heard = (peer.address for peer in others if not peer.failures)
        wanted = self._presentable([*members, *heard], link)
        for address in list(wanted)[: min(need, PEX_LIMIT)]:
            answer[keys[address.kind]].append(pack_address(address))
        if self._carries and link.extension:
            closed = [member.name for member in self.members(site) if member.address is None]
            answer[CARRIES] = [name for name in closed if name != link.name][-CARRIES_LIMIT:]
        return answer

    def _presentable(
        self, addresses: Iterable[PeerAddress | None], asker: IPeerLink
    ) -> dict[PeerAddress, None]:
        # Among nodes of a private network its addresses mean something.
        private = self._private and is_private(asker.identity)
        return {
            address: None
            for address in addresses
            if address is not None
            and (private or not is_private(address.host))
            and address != asker.address
        }

    def send(self, site: str, link: IPeerLink, cmd: str, packed: bytes) -> Deferred[Answer]:
        """Send a peer message of a site, as fast as the peer takes them.

        Fails with Unreachable, also where the peer does not know peer messages.
        """
        return self._pacing.send(site, link, cmd, packed)

    def _least_seconds(self, site: str) -> float:
        held = self._sites.get(site)
        rules = held.rules if held is not None else None
        return rules.freq_limit or 0.0 if rules is not None else 0.0

    def understands(self, link: IPeerLink) -> None:
        """The peer sent a peer message itself."""
        self.speaking.understands(link)


def _entry(connected: bool, capable: bool | None, last_seen: float | None) -> dict[str, Any]:
    return {"connected": connected, "capable": capable, "last_seen": last_seen}
