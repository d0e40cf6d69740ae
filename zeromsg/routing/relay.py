"""Handing a broadcast to the peers of its site."""

import random
from collections.abc import Container

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Answer, IPeerLink, IPeers
from zeromsg.policy.fanout import choose
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import PEER_BROADCAST
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Envelope
from zeromsg.wire.values import PeerAddress


class Relay:
    """Sends envelopes on; the parameters are packed once for all peers."""

    def __init__(self, site_peers: SitePeers, peers: IPeers, rng: random.Random) -> None:
        self._site_peers = site_peers
        self._peers = peers
        self._rng = rng

    def spread(self, site: str, envelope: Envelope, holders: Container[IPeerLink]) -> int:
        """To every connected peer of the site but those that have it; returns how many."""
        links = [link for link in self._site_peers.members(site) if link not in holders]
        if links:
            packed = pack(envelope.to_wire())
            for link in links:
                self._send(link, packed)
        return len(links)

    def reach_further(self, site: str, envelope: Envelope, count: int) -> None:
        """Dial up to `count` peers of the site that are not connected, and send it to them."""
        packed = pack(envelope.to_wire())
        for address in self.unconnected(site, count):
            dialled = self._peers.link_to(address)
            dialled.addCallbacks(self._send, _unreachable, callbackArgs=(packed,))

    def unconnected(self, site: str, count: int) -> list[PeerAddress]:
        """At most `count` known peers of the site that have no link, at random."""
        connected = {link.address for link in self._peers.links}
        return choose(self._site_peers.known(site), connected, count, self._rng)

    def _send(self, link: IPeerLink, packed: bytes) -> None:
        answered: Deferred[Answer] = link.ask_packed(PEER_BROADCAST, packed)
        answered.addCallbacks(lambda answer: self._site_peers.heard(link, answer), _unreachable)


def _unreachable(failure: Failure) -> None:
    # A broadcast is not repeated: other peers carry it.
    failure.trap(Unreachable)
