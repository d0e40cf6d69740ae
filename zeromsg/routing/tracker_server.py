"""The `announce` command: this node as a zero:// tracker for others.

An asker is listed under the address its connection is proven to come from,
with the port it says, and under onions whose keys sign a number that this node
made for it. Numbers are new, random and used once, so that a proof given to
another tracker is worth nothing here; ZeroNet's trackers give the time instead.
Addresses that mean nothing to others are neither listed nor told, unless the
network is a private one. Source: ZeroNet peer protocol, section 10.1.
"""

import random
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from zeromsg.crypto.onion import proven_onion, public_of
from zeromsg.errors import BadKey
from zeromsg.interfaces import Answer, Entropy, IPeerLink
from zeromsg.policy.rate import Buckets
from zeromsg.policy.tracker_book import TrackerBook
from zeromsg.wire.announce import AnnounceAnswer, AnnounceRequest
from zeromsg.wire.trackers import PeerKind
from zeromsg.wire.values import PeerAddress

CHALLENGE_SECONDS = 180.0
CHALLENGES_LIMIT = 10_000
"""Numbers that wait to be signed."""

MANY_HASHES = 50
"""Requests for more sites than this get fewer peers of each."""

NEED_OF_MANY = 5

BURST, PER_SECOND = 2000.0, 20.0
"""Sites that one host may announce at once, and in each second; nodes begin with all theirs."""

KINDS: tuple[PeerKind, ...] = ("ipv4", "ipv6", "onion")


class TrackerServer:
    """Answers `announce`.

    allow_private: list and tell loopback and private addresses, in a network of such.
    """

    def __init__(
        self,
        book: TrackerBook,
        clock: IReactorTime,
        rng: random.Random,
        entropy: Entropy,
        allow_private: bool,
    ) -> None:
        self._book = book
        self._clock = clock
        self._rng = rng
        self._entropy = entropy
        self._allow_private = allow_private
        self._rate = Buckets(BURST, PER_SECOND)
        # What was given to whom to sign, and when; oldest first.
        self._challenges: OrderedDict[tuple[str, str], float] = OrderedDict()

    def announce(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        """List the asker, and tell it of others. Raises TheirMistake."""
        now = self._clock.seconds()
        # All that came through Tor have the address of this machine in common.
        asker = link.name if _is_loopback(link) else link.identity
        request = AnnounceRequest.from_wire(params)
        cost = max(1, len(request.hashes))
        if not self._rate.allows(asker, now, cost):
            return {"error": "Too many announces"}
        self._rate.spoke(asker, now, cost)
        self._book.expire(now)
        ourselves = {*self._list_address(link, request, now), *_onions(request)}
        challenge = self._list_onions(asker, request, now)
        answer = AnnounceAnswer(self._peers(request, ourselves), challenge)
        return answer.to_wire(request)

    def status(self) -> Mapping[str, int]:
        """What the operator is shown."""
        self._book.expire(self._clock.seconds())
        return {"sites": self._book.sites, "entries": len(self._book)}

    def _list_address(
        self, link: IPeerLink, request: AnnounceRequest, now: float
    ) -> tuple[PeerAddress, ...]:
        """The asker's own address, listed where it may be."""
        try:
            address = PeerAddress(link.identity, request.port)
        except ValueError:
            return ()  # what is proven of it is no address
        if not self._tellable(address) or not request.may_list(address.kind):
            return (address,)
        for site in request.hashes:
            self._book.announce(site, address, now)
        if request.delete:
            self._book.withdraw(address, set(request.hashes))
        return (address,)

    def _tellable(self, address: PeerAddress) -> bool:
        return address.port > 0 and (self._allow_private or not address.is_private)

    def _list_onions(self, asker: str, request: AnnounceRequest, now: float) -> str:
        """List the onions that are proven; else the number that has to be signed, or ""."""
        if not request.onions or not request.port:
            return ""
        if not self._proven(asker, request, now):
            return self._challenge(asker, now)
        at_sites = zip(request.hashes, _listed_onions(request), strict=True)
        for site, address in at_sites:
            if address is not None:
                self._book.announce(site, address, now)
        return ""

    def _proven(self, asker: str, request: AnnounceRequest, now: float) -> bool:
        """Whether all onions of the request signed the number given for it, and nobody else."""
        given = self._challenges.pop((asker, request.onion_sign_this), None)
        if given is None or now - given > CHALLENGE_SECONDS:
            return False
        message = request.onion_sign_this.encode("ascii")
        signers = {
            proven_onion(public, signature, message)
            for public, signature in request.onion_signs.items()
        }
        return signers == set(request.onions)

    def _challenge(self, asker: str, now: float) -> str:
        number = str(int.from_bytes(self._entropy(16), "big"))
        self._challenges[asker, number] = now
        if len(self._challenges) > CHALLENGES_LIMIT:
            self._challenges.popitem(last=False)
        return number

    def _peers(
        self, request: AnnounceRequest, ourselves: set[PeerAddress]
    ) -> tuple[tuple[PeerAddress, ...], ...]:
        kinds = [kind for kind in KINDS if request.wants(kind)]
        need = request.need_num
        if len(request.hashes) > MANY_HASHES:
            need = min(need, NEED_OF_MANY)
        found = {
            site: self._book.peers(site, kinds, ourselves, need, self._rng)
            for site in dict.fromkeys(request.hashes)
        }
        return tuple(found[site] for site in request.hashes)


def _is_loopback(link: IPeerLink) -> bool:
    try:
        return PeerAddress(link.identity, 0).is_loopback
    except ValueError:
        return False


def _listed_onions(request: AnnounceRequest) -> list[PeerAddress | None]:
    """For each hash the address of its onion; None for what no Tor of today reaches."""
    addresses: dict[str, PeerAddress | None] = {}
    for onion in request.onions:
        if onion not in addresses:
            addresses[onion] = _onion_address(onion, request.port)
    return [addresses[onion] for onion in request.onions]


def _onion_address(onion: str, port: int) -> PeerAddress | None:
    try:
        public_of(onion)
    except BadKey:
        return None
    return PeerAddress(f"{onion}.onion", port)


def _onions(request: AnnounceRequest) -> set[PeerAddress]:
    return {address for address in _listed_onions(request) if address is not None}
