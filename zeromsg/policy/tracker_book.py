"""Who announced which site to this node, for those who ask it as a tracker.

Strangers fill this book, so nobody may crowd out the rest. Its entries belong
to *neighbourhoods*: a /16 of IPv4, a /48 of IPv6, all onions together. Where a
bound is reached, the largest neighbourhood loses what it announced longest
ago; and answers draw from the neighbourhoods in turn, so that somebody with
many addresses in one range is one voice among the others. What one host
announces is bounded too, whatever ports it names.
"""

import functools
import ipaddress
import random
from collections import OrderedDict
from collections.abc import Container, Iterable
from typing import TypeVar

import attrs

from zeromsg.wire.trackers import PeerKind
from zeromsg.wire.values import PeerAddress

LIFETIME = 40 * 60.0
"""Seconds after which what was not announced again is forgotten, as in ZeroNet."""

SITES_LIMIT = 10_000
PEERS_LIMIT = 200
"""Entries of one site."""

ENTRIES_LIMIT = 30_000
"""Entries in all: an address at a site; about 1.2 KB of memory each."""

HOST_LIMIT = 500
"""Sites that one host, or one onion, may have announced at a time."""

PORTS_LIMIT = 3
"""Ports of one host at one site: several nodes behind one address are possible, not many."""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@attrs.frozen
class _Entry:
    site: bytes
    address: PeerAddress


class _Neighbourhoods:
    """Entries by neighbourhood, oldest first, and which neighbourhood is the largest."""

    def __init__(self) -> None:
        self._members: dict[str, OrderedDict[_Entry, None]] = {}
        # Neighbourhoods by how many entries they have: the largest is found at once.
        self._by_size: dict[int, dict[str, None]] = {}
        self._most = 0

    def add(self, entry: _Entry) -> None:
        """Add it as the newest, or make it that."""
        name = neighbourhood(entry.address)
        members = self._members.setdefault(name, OrderedDict())
        if entry in members:
            members.move_to_end(entry)
            return
        members[entry] = None
        self._resized(name, len(members) - 1, len(members))

    def remove(self, entry: _Entry) -> None:
        name = neighbourhood(entry.address)
        members = self._members[name]
        del members[entry]
        self._resized(name, len(members) + 1, len(members))
        if not members:
            del self._members[name]

    def oldest_of_largest(self) -> _Entry:
        largest = next(iter(self._by_size[self._most]))
        return next(iter(self._members[largest]))

    def _resized(self, name: str, old: int, new: int) -> None:
        if old:
            names = self._by_size[old]
            del names[name]
            if not names:
                del self._by_size[old]
        if new:
            self._by_size.setdefault(new, {})[name] = None
        # Sizes change by one, so the largest does too.
        if new > self._most or self._most not in self._by_size:
            self._most = new


class TrackerBook:
    """The book. Times are seconds of one clock that never goes back."""

    def __init__(
        self,
        sites_limit: int = SITES_LIMIT,
        entries_limit: int = ENTRIES_LIMIT,
        peers_limit: int = PEERS_LIMIT,
        host_limit: int = HOST_LIMIT,
    ) -> None:
        self._sites_limit = sites_limit
        self._entries_limit = entries_limit
        self._peers_limit = peers_limit
        self._host_limit = host_limit
        # Small, so plain dicts hold their order with less memory; the newest last.
        self._sites: dict[bytes, dict[PeerAddress, None]] = {}
        self._hosts: dict[str, dict[_Entry, None]] = {}
        self._times: OrderedDict[_Entry, float] = OrderedDict()
        self._neighbourhoods = _Neighbourhoods()

    def __len__(self) -> int:
        """Entries."""
        return len(self._times)

    @property
    def sites(self) -> int:
        """Sites that anybody announced."""
        return len(self._sites)

    def announce(self, site: bytes, address: PeerAddress, now: float) -> None:
        """Somebody who is proven to be at this host takes part in a site.

        site: its SHA-256. address: with a port that others can dial.
        """
        entry = _Entry(site, address)
        new = entry not in self._times
        self._times[entry] = now
        self._times.move_to_end(entry)
        self._neighbourhoods.add(entry)
        _newest(self._sites, site, address)
        _newest(self._hosts, address.host, entry)
        if new:
            self._make_room(entry)

    def withdraw(self, address: PeerAddress, but: Container[bytes]) -> None:
        """Forget this address at all sites but these: it said that these are all."""
        for entry in list(self._hosts.get(address.host, ())):
            if entry.address == address and entry.site not in but:
                self._remove(entry)

    def expire(self, now: float) -> None:
        """Forget what was not announced again in time."""
        while self._times:
            entry, at = next(iter(self._times.items()))
            if now - at < LIFETIME:
                return
            self._remove(entry)

    def peers(
        self,
        site: bytes,
        kinds: Container[PeerKind],
        but: Container[PeerAddress],
        need: int,
        rng: random.Random,
    ) -> tuple[PeerAddress, ...]:
        """Up to `need` addresses of a site, drawn from all neighbourhoods in turn.

        kinds: the families wanted. but: addresses left out, those of the asker.
        """
        known = self._sites.get(site)
        if not known or need <= 0:
            return ()
        fitting = [address for address in known if address.kind in kinds and address not in but]
        if len(fitting) <= need:
            return tuple(reversed(fitting))  # the newest first, as ZeroNet trackers have them
        groups: dict[str, list[PeerAddress]] = {}
        for address in rng.sample(fitting, len(fitting)):
            groups.setdefault(neighbourhood(address), []).append(address)
        drawn: list[PeerAddress] = []
        while len(drawn) < need:
            drawn += (group.pop() for group in groups.values())
            groups = {name: group for name, group in groups.items() if group}
        return tuple(drawn[:need])

    def _make_room(self, entry: _Entry) -> None:
        """Hold the bounds again; whoever takes most room makes it."""
        of_host, at_site = self._hosts[entry.address.host], self._sites[entry.site]
        ports = [address for address in at_site if address.host == entry.address.host]
        if len(ports) > PORTS_LIMIT:
            self._remove(_Entry(entry.site, ports[0]))
        elif len(of_host) > self._host_limit:
            self._remove(next(iter(of_host)))
        if len(at_site) > self._peers_limit:
            self._remove(_Entry(entry.site, _crowding(at_site)))
        while len(self._times) > self._entries_limit or len(self._sites) > self._sites_limit:
            self._remove(self._neighbourhoods.oldest_of_largest())

    def _remove(self, entry: _Entry) -> None:
        del self._times[entry]
        self._neighbourhoods.remove(entry)
        _without(self._sites, entry.site, entry.address)
        _without(self._hosts, entry.address.host, entry)


@functools.lru_cache(maxsize=16_384)
def neighbourhood(address: PeerAddress) -> str:
    """Whose room an address takes up: its /16, its /48, or that of the onions."""
    if address.kind == "onion":
        return "onion"
    if address.kind == "ipv4":
        first, second, _ = address.host.split(".", 2)
        return f"{first}.{second}"
    return ipaddress.IPv6Address(address.host).packed[:6].hex()


def _crowding(addresses: Iterable[PeerAddress]) -> PeerAddress:
    """The oldest address of the neighbourhood that has most; addresses come oldest first."""
    groups: dict[str, list[PeerAddress]] = {}
    for address in addresses:
        groups.setdefault(neighbourhood(address), []).append(address)
    return max(groups.values(), key=len)[0]


def _newest(index: dict[_Key, dict[_Value, None]], key: _Key, value: _Value) -> None:
    values = index.setdefault(key, {})
    values.pop(value, None)
    values[value] = None


def _without(index: dict[_Key, dict[_Value, None]], key: _Key, value: _Value) -> None:
    values = index[key]
    del values[value]
    if not values:
        del index[key]
