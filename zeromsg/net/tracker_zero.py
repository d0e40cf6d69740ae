"""Announcing to zero:// trackers: ZeroNet nodes and zeromsg nodes that answer `announce`.

All sites go in one request, but what is announced under an onion goes by
itself, over a link of that onion's own: a tracker must not learn which onions
belong together. Source: ZeroNet peer protocol, section 10.1.
"""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from zeromsg.interfaces import IPeerLink
from zeromsg.net.resolving import Resolver
from zeromsg.wire.announce import HASHES_LIMIT, AnnounceAnswer, AnnounceRequest
from zeromsg.wire.names import ANNOUNCE
from zeromsg.wire.trackers import Announcement, Found, PeerKind, Tracker
from zeromsg.wire.values import PeerAddress, site_sha256

LinkTo = Callable[[PeerAddress, str], Deferred[IPeerLink]]
"""A link to an address, and the onion in whose name it is used, "" for none."""

SignOnion = Callable[[str, bytes], tuple[bytes, bytes]]
"""Public key and signature of one of our onions (without `.onion`) over a message."""

_KINDS: tuple[PeerKind, ...] = ("ipv4", "ipv6", "onion")


class ZeroAnnouncer:
    """Asks zero:// trackers (one part of `interfaces.ITrackers`)."""

    def __init__(self, *, link_to: LinkTo, resolver: Resolver, sign_onion: SignOnion) -> None:
        self._link_to = link_to
        self._resolver = resolver
        self._sign_onion = sign_onion

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        """All sites. Raises Unreachable, TheirMistake."""
        address = (await self._resolver.addresses(tracker.host, tracker.port))[0]
        peers: dict[str, tuple[PeerAddress, ...]] = {}
        by_onion: dict[str, list[str]] = {}
        for site in announcement.sites:
            by_onion.setdefault(announcement.onions.get(site, ""), []).append(site)
        for onion, sites in by_onion.items():
            for start in range(0, len(sites), HASHES_LIMIT):
                part = sites[start : start + HASHES_LIMIT]
                # `delete` would take back what the other parts said.
                whole = announcement.complete and len(part) == len(announcement.sites)
                peers.update(await self._ask(address, onion, part, announcement, whole))
        return Found(peers)

    async def _ask(
        self,
        address: PeerAddress,
        onion: str,
        sites: Sequence[str],
        announcement: Announcement,
        whole: bool,
    ) -> dict[str, tuple[PeerAddress, ...]]:
        link = await self._link_to(address, onion)
        # Whoever is to be found under an onion is not to be found under an address too.
        listed = {"onion"} if onion else announcement.listed - {"onion"}
        request = AnnounceRequest(
            hashes=tuple(site_sha256(site) for site in sites),
            port=announcement.port,
            need_types=tuple(kind for kind in _KINDS if kind in announcement.wanted),
            need_num=announcement.need,
            add=tuple(kind for kind in _KINDS if kind in listed),
            onions=(onion,) * len(sites) if onion else (),
            delete=whole,
        )
        answer = await self._send(link, request)
        if onion and answer.onion_sign_this:
            public, signature = self._sign_onion(onion, answer.onion_sign_this.encode("ascii"))
            await self._send(link, request.proven(answer.onion_sign_this, {public: signature}))
        return dict(zip(sites, answer.peers, strict=False))

    @staticmethod
    async def _send(link: IPeerLink, request: AnnounceRequest) -> AnnounceAnswer:
        body: Any = await link.ask(ANNOUNCE, request.to_wire())
        return AnnounceAnswer.from_wire(body, len(request.hashes))
