"""What a node knows of peers, for its operator: from where, since when, and who is capable."""

from collections.abc import Iterable
from typing import Any

from zeromsg.interfaces import IPeerLink
from zeromsg.policy.capability import Capabilities, Evidence, Known
from zeromsg.policy.peer_book import Peer, Source
from zeromsg.service.node import Node


def report(node: Node, sites: Iterable[str], now: float) -> list[dict[str, Any]]:
    """The peers of these sites, those connected first. now: Unix time.

    Each is a map of `site`, `peer`, `connected`, `capable` (null where unknown),
    `how` that is known (or null), `sources` (how it came to be known, with the
    first and last Unix time), `since`, `last_seen` (Unix time or null),
    `told_by` (a range of hosts, or null), `successes`, `failures` in a row and
    `retry_at` (Unix time, or null).
    """
    return [entry for site in sites for entry in _of_site(node, site, now)]


def _of_site(node: Node, site: str, now: float) -> list[dict[str, Any]]:
    links = {link.name: link for link in node.site_peers.participants(site)}
    peers = {str(peer.address): peer for peer in node.book.peers(site)}
    # Kept connected for every site; the book has none that was not reached for this one.
    configured = {str(peer) for peer in node.settings.peers.connect if peer.kind == "onion"}
    entries = []
    for name in dict.fromkeys((*links, *peers, *sorted(configured))):
        link, peer = links.get(name), peers.get(name)
        known = _known(node.capabilities, link, peer, now)
        entries.append(
            {
                "site": site,
                "peer": name,
                "connected": link is not None,
                "capable": known.capable if known is not None else None,
                "how": known.how.value if known is not None else None,
                **(_booked(peer) if peer is not None else _UNBOOKED),
                **(
                    {"sources": {Source.CONFIGURED.value: [now, now]}}
                    if peer is None and name in configured
                    else {}
                ),
                **({"last_seen": now} if link is not None else {}),
            }
        )
    return entries


def _known(
    capabilities: Capabilities, link: IPeerLink | None, peer: Peer | None, now: float
) -> Known | None:
    if link is not None and link.extension:
        return Known(True, Evidence.HANDSHAKE, now)
    node = link.declared if link is not None else peer.address if peer is not None else None
    return capabilities.of(node, now) if node is not None else None


def _booked(peer: Peer) -> dict[str, Any]:
    return {
        "sources": {source.value: list(times) for source, times in peer.sources.items()},
        "since": peer.first_heard,
        "last_seen": peer.last_seen or None,
        "told_by": peer.teller or None,
        "successes": peer.successes,
        "failures": peer.failures,
        "retry_at": peer.retry_at or None,
    }


_UNBOOKED: dict[str, Any] = {
    # A peer with a closed port: nobody can dial it, so no book has it.
    "sources": {},
    "since": None,
    "last_seen": None,
    "told_by": None,
    "successes": 0,
    "failures": 0,
    "retry_at": None,
}
