"""What is known of the peers of each site: who named them, who answered, whom to dial next.

Most of it is hearsay, and whoever fills the book decides whom this node talks
to. So hearsay is bounded thrice: for each site, for each range of addresses
and for each teller; a full book loses an entry of whoever has most. An address
that was reached once is never pushed out by hearsay, only by others that were
reached. Peers that fail sink and are left alone for a growing while.

Times are Unix seconds, as the book survives restarts (`take_changes` says what
to write, `restore` reads it).
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType

import attrs

from zeromsg.policy.addresses import ONIONS, is_private, range_of, unfit
from zeromsg.wire.values import PeerAddress

SITE_LIMIT = 500
"""Peers known of a site."""

BOOK_LIMIT = 20_000
"""Peers known in all."""

RANGE_SHARE = 32
"""Of a site's peers, those of one range that were never reached."""

ONION_SHARE = SITE_LIMIT // 2
"""The same of onions, which have no ranges."""

TELLER_SHARE = 64
"""Of a site's peers, those that one teller named and that were never reached."""

HOST_SHARE = 4
"""Ports of one public host."""

CHANGES_LIMIT = 2 * BOOK_LIMIT
"""Changes that wait to be written; the oldest fall off."""

RETRY_FIRST = 5.0
RETRY_MOST = 3600.0
FORGET_FAILURES = 8
FORGET_SECONDS = 3600.0
"""Failures in a row after which hearsay is forgotten, if nobody spoke of it for so long: whoever is
still announced would otherwise be heard of anew, and dialled anew without a pause."""

HEARSAY_SECONDS = 2 * 86400.0
PROVEN_SECONDS = 30 * 86400.0
"""How long a peer is kept that nobody speaks of, and how long one that was reached."""

_REFRESH_SECONDS = 600.0
"""Hearing the same again within this time changes nothing on disk."""


class Source(StrEnum):
    """How a peer came to be known."""

    CONFIGURED = "configured"
    PEX = "pex"
    TRACKER = "tracker"
    LOCAL = "local"
    ASKED_US = "asked-us"
    CONNECTED = "connected"


@attrs.define
class Peer:
    """One address as a peer of one site.

    teller: the range of whoever named it; of several, the one who named fewest.
    sources: when it was first and last heard of in each way.
    failures: in a row. last_seen: Unix time it was last connected, 0 for never.
    retry_at: not to be dialled before.
    """

    site: str
    address: PeerAddress
    teller: str
    sources: dict[Source, tuple[float, float]] = attrs.field(factory=dict)
    successes: int = 0
    failures: int = 0
    last_seen: float = 0.0
    retry_at: float = 0.0

    @property
    def proven(self) -> bool:
        """Whether this node itself reached it, so that no mere words can replace it."""
        return Source.CONNECTED in self.sources or Source.CONFIGURED in self.sources

    @property
    def first_heard(self) -> float:
        return min((first for first, _ in self.sources.values()), default=0.0)

    @property
    def last_heard(self) -> float:
        return max((last for _, last in self.sources.values()), default=0.0)

    def may_be_dialled(self, now: float) -> bool:
        # A time further off than any pause was written by a clock that was ahead.
        return self.retry_at <= now or self.retry_at > now + 2 * RETRY_MOST

    def worth(self) -> tuple[int, float]:
        """Greater for peers one would rather keep."""
        return (-self.failures, max(self.last_seen, self.last_heard))


Key = tuple[str, PeerAddress]


class PeerBook:
    """All that is known of peers, site by site.

    allow_private: whether a stranger may name private addresses.
    kinds: of addresses that are kept at all.
    is_us: whether an address is this node's own.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        kinds: Container[str] = ("ipv4", "ipv6", "onion"),
        is_us: Callable[[PeerAddress], bool] = lambda address: False,
        site_limit: int = SITE_LIMIT,
        limit: int = BOOK_LIMIT,
    ) -> None:
        self._allow_private = allow_private
        self._kinds = kinds
        self._is_us = is_us
        self._site_limit = site_limit
        self._limit = limit
        self._sites: dict[str, dict[PeerAddress, Peer]] = {}
        # Of peers that were never reached: how many each range, and each teller, has in a site.
        self._ranges: Counter[tuple[str, str]] = Counter()
        self._tellers: Counter[tuple[str, str]] = Counter()
        self._hosts: Counter[tuple[str, str]] = Counter()
        self._size = 0
        self._changed: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    # Hearing of peers.

    def heard(
        self, site: str, address: PeerAddress, source: Source, now: float, teller: str = ""
    ) -> bool:
        """Somebody named a peer; whether it is known now.

        teller: the proven identity of who named it, or the tracker; "" for
        what this node found out itself.
        """
        peers = self._sites.setdefault(site, {})
        told_by = _teller(teller)
        peer = peers.get(address)
        configured = source is Source.CONFIGURED or (
            peer is not None and Source.CONFIGURED in peer.sources
        )
        if not configured and not self._fits(address, source):
            return False
        if peer is None:
            if not self._make_room(site, address, told_by, source):
                return False
            peer = Peer(site, address, told_by)
            self._note(peer, source, now)
            self._add(peer)
        else:
            self._count(peer, -1)
            if told_by and self._tellers[site, told_by] <= self._tellers[site, peer.teller]:
                peer.teller = told_by
            self._note(peer, source, now)
            self._count(peer, +1)
        return True

    def _fits(self, address: PeerAddress, source: Source) -> bool:
        # Announcements on the local network name addresses of that network.
        private = self._allow_private or source is Source.LOCAL
        if address.kind not in self._kinds:
            return False
        return not unfit(address, allow_private=private) and not self._is_us(address)

    def _note(self, peer: Peer, source: Source, now: float) -> None:
        first, last = peer.sources.get(source, (now, 0.0))
        if now - last >= _REFRESH_SECONDS or source is Source.CONNECTED:
            peer.sources[source] = (first, now)
            self._mark(peer)

    def _make_room(self, site: str, address: PeerAddress, teller: str, source: Source) -> bool:
        """Drop whoever has to go for a new peer; False if the new one is who has to."""
        peers = self._sites[site]
        hearsay = source not in (Source.CONNECTED, Source.CONFIGURED)
        host, range_ = address.host, range_of(address.host)
        if not is_private(host) and self._hosts[site, host] >= HOST_SHARE:
            same = [peer for peer in peers.values() if peer.address.host == host]
            if hearsay or not all(peer.proven for peer in same):
                return self._drop_worst(same)
            self._forget(min(same, key=Peer.worth))
            return True
        share = ONION_SHARE if range_ == ONIONS else RANGE_SHARE
        if hearsay and self._ranges[site, range_] >= share:
            return self._drop_worst(
                peer for peer in peers.values() if range_of(peer.address.host) == range_
            )
        if hearsay and teller and self._tellers[site, teller] >= TELLER_SHARE:
            return self._drop_worst(peer for peer in peers.values() if peer.teller == teller)
        if len(peers) >= self._site_limit:
            return self._drop_from(peers, hearsay)
        if self._size >= self._limit:
            return self._drop_from(max(self._sites.values(), key=len), hearsay)
        return True

    def _drop_from(self, peers: dict[PeerAddress, Peer], hearsay: bool) -> bool:
        """Drop one of the largest range among those never reached; else, for a reached one, one."""
        unproven = [peer for peer in peers.values() if not peer.proven]
        if unproven:
            sizes = Counter(range_of(peer.address.host) for peer in unproven)
            largest = max(sizes, key=sizes.__getitem__)
            return self._drop_worst(
                peer for peer in unproven if range_of(peer.address.host) == largest
            )
        if hearsay:
            return False
        sizes = Counter(range_of(peer.address.host) for peer in peers.values())
        crowded = max(sizes.values())
        victims = (peer for peer in peers.values() if sizes[range_of(peer.address.host)] == crowded)
        self._forget(min(victims, key=Peer.worth))
        return True

    def _drop_worst(self, candidates: Iterable[Peer]) -> bool:
        """Of those never reached, drop the worst that the busiest teller named."""
        unproven = [peer for peer in candidates if not peer.proven]
        if not unproven:
            return False
        told = Counter(peer.teller for peer in unproven)
        busiest = max(told.values())
        self._forget(min((p for p in unproven if told[p.teller] == busiest), key=Peer.worth))
        return True

    # How it went.

    def reached(self, site: str, address: PeerAddress, now: float) -> None:
        """This node connected to the peer, and it takes part in the site."""
        if not self.heard(site, address, Source.CONNECTED, now):
            return
        peer = self._sites[site][address]
        peer.successes += 1
        peer.failures, peer.retry_at, peer.last_seen = 0, 0.0, now
        self._mark(peer)

    def seen(self, site: str, address: PeerAddress, now: float) -> None:
        """The peer is, or was until now, connected."""
        peer = self._sites.get(site, {}).get(address)
        if peer is not None:
            peer.last_seen = now
            self._mark(peer)

    def failed(
        self, address: PeerAddress, rng: random.Random, now: float, site: str | None = None
    ) -> None:
        """The peer could not be reached, or (with `site`) has nothing to do with that site."""
        for name in [site] if site is not None else list(self._sites):
            peer = self._sites.get(name, {}).get(address)
            if peer is None:
                continue
            peer.failures += 1
            pause = min(RETRY_FIRST * 2.0 ** (peer.failures - 1), RETRY_MOST)
            peer.retry_at = now + pause * rng.uniform(0.75, 1.25)
            self._mark(peer)
            silent = now - peer.last_heard > FORGET_SECONDS
            if not peer.proven and peer.failures >= FORGET_FAILURES and silent:
                self._forget(peer)

    def postpone(self, address: PeerAddress, until: float) -> None:
        """Do not dial a peer before a time, for a reason that is not the peer's."""
        for peers in self._sites.values():
            if address in peers:
                peers[address].retry_at = max(peers[address].retry_at, until)

    def forget(self, address: PeerAddress) -> None:
        """Nobody is to dial this address any more: it is our own."""
        for peers in list(self._sites.values()):
            if address in peers:
                self._forget(peers[address])

    def prune(self, now: float) -> None:
        """Forget whom nobody has spoken of for long."""
        for peer in list(self._all()):
            kept = PROVEN_SECONDS if peer.proven else HEARSAY_SECONDS
            if now - max(peer.last_seen, peer.last_heard) > kept:
                self._forget(peer)

    # Whom to dial.

    def candidates(
        self,
        site: str,
        count: int,
        exclude: Container[PeerAddress],
        rng: random.Random,
        now: float,
        wanted: Callable[[PeerAddress], bool] = lambda address: True,
        ranges: Mapping[str, int] = MappingProxyType({}),
    ) -> list[PeerAddress]:
        """At most `count` peers to dial: those that deliver first, from many ranges, at random.

        exclude: those that are connected already. wanted: a further condition.
        ranges: how many of each range are connected already; such come later.
        """
        ready = [
            peer
            for peer in self._sites.get(site, {}).values()
            if peer.may_be_dialled(now) and peer.address not in exclude and wanted(peer.address)
        ]
        rng.shuffle(ready)
        taken = Counter(ranges)
        order = []
        for peer in sorted(ready, key=_rank):
            range_ = range_of(peer.address.host)
            # The second of a range comes after the first of every other one.
            order.append((taken[range_], peer.address))
            taken[range_] += 1
        order.sort(key=lambda entry: entry[0])
        return [address for _, address in order[:count]]

    def known(self, site: str) -> list[PeerAddress]:
        """Addresses of the site's peers, those connected or heard of last first."""
        peers = self._sites.get(site, {}).values()
        ordered = sorted(peers, key=lambda peer: max(peer.last_seen, peer.last_heard))
        return [peer.address for peer in reversed(ordered)]

    def peers(self, site: str) -> list[Peer]:
        """Everything known of a site's peers, the best first."""
        return sorted(self._sites.get(site, {}).values(), key=Peer.worth, reverse=True)

    def get(self, site: str, address: PeerAddress) -> Peer | None:
        return self._sites.get(site, {}).get(address)

    # What survives.

    def restore(self, peers: Iterable[Peer]) -> None:
        """What an earlier run wrote down."""
        for peer in peers:
            known = self._sites.setdefault(peer.site, {})
            fit = Source.CONFIGURED in peer.sources or any(
                self._fits(peer.address, source) for source in peer.sources
            )
            if peer.address not in known and fit and len(known) < self._site_limit:
                self._add(peer)

    def take_changes(self) -> tuple[list[Peer], list[Key]]:
        """What to write down, and what to strike out, since this was called last."""
        changed, self._changed = self._changed, OrderedDict()
        kept, gone = [], []
        for site, address in changed:
            peer = self.get(site, address)
            if peer is not None:
                kept.append(peer)
            else:
                gone.append((site, address))
        return kept, gone

    # Counting.

    def _all(self) -> Iterator[Peer]:
        for peers in self._sites.values():
            yield from peers.values()

    def _add(self, peer: Peer) -> None:
        self._sites[peer.site][peer.address] = peer
        self._size += 1
        self._hosts[peer.site, peer.address.host] += 1
        self._count(peer, +1)

    def _forget(self, peer: Peer) -> None:
        del self._sites[peer.site][peer.address]
        self._size -= 1
        _add_to(self._hosts, (peer.site, peer.address.host), -1)
        self._count(peer, -1)
        self._mark(peer)

    def _count(self, peer: Peer, change: int) -> None:
        if not peer.proven:
            _add_to(self._ranges, (peer.site, range_of(peer.address.host)), change)
            _add_to(self._tellers, (peer.site, peer.teller), change)

    def _mark(self, peer: Peer) -> None:
        self._changed[peer.site, peer.address] = None
        if len(self._changed) > CHANGES_LIMIT:
            self._changed.popitem(last=False)


def _add_to(counter: Counter[tuple[str, str]], key: tuple[str, str], change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]


def _rank(peer: Peer) -> tuple[int, int]:
    """Smaller is dialled sooner: without failures, and reached before."""
    return (min(peer.failures, 3), 0 if peer.proven else 1)


def _teller(identity: str) -> str:
    """Tellers of one range count as one: they are easily one and the same."""
    try:
        return range_of(PeerAddress(identity, 0).host) if identity else ""
    except ValueError:
        return identity[:100]
