"""The peer book and the memory of capability, to and from the database."""

from collections.abc import Iterator

from zeromsg.policy.capability import Capabilities, Evidence, Known
from zeromsg.policy.faces import is_pseudonym
from zeromsg.policy.peer_book import Peer, PeerBook, Source
from zeromsg.store.database import CapabilityRow, Database, PeerRow
from zeromsg.store.writing import Writing
from zeromsg.wire.values import PeerAddress


def restore_peers(database: Database, book: PeerBook, site: str) -> None:
    """What an earlier run knew of a site's peers."""
    book.restore(_peers(database.peers(site)))


def restore_capabilities(database: Database, capabilities: Capabilities, now: float) -> None:
    """What an earlier run knew of nodes. now: Unix time."""
    known = []
    for row in database.capabilities():
        how = Evidence(row.how)
        known.append((PeerAddress.parse(row.node), Known(how is not Evidence.UNKNOWN, how, row.at)))
    capabilities.restore(known, now)


def save(store: Writing, book: PeerBook, capabilities: Capabilities) -> None:
    """Write down what changed since the last time; nothing where nothing did."""
    kept, gone = book.take_changes()
    if kept or gone:
        store.save_peers(
            [_row(peer) for peer in kept], [(site, str(address)) for site, address in gone]
        )
    learnt, forgotten = capabilities.take_changes()
    # A pseudonym is gone with its connection.
    known = [(node, what) for node, what in learnt if not is_pseudonym(node.host)]
    if known or forgotten:
        store.save_capabilities(
            [CapabilityRow(str(node), what.how, what.at) for node, what in known],
            [str(node) for node in forgotten],
        )


def _row(peer: Peer) -> PeerRow:
    return PeerRow(
        site=peer.site,
        address=str(peer.address),
        teller=peer.teller,
        sources={source.value: times for source, times in peer.sources.items()},
        successes=peer.successes,
        failures=peer.failures,
        last_seen=peer.last_seen,
        retry_at=peer.retry_at,
    )


def _peers(rows: list[PeerRow]) -> Iterator[Peer]:
    for row in rows:
        yield Peer(
            site=row.site,
            address=PeerAddress.parse(row.address),
            teller=row.teller,
            sources={Source(name): times for name, times in row.sources.items()},
            successes=row.successes,
            failures=row.failures,
            last_seen=row.last_seen,
            retry_at=row.retry_at,
        )
