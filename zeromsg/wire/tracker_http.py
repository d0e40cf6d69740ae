"""HTTP trackers of BitTorrent: the URL that announces, and what comes back.

A site's info_hash is the SHA-1 of its address. Answers are bencoded; peers are
compact (6 or 18 bytes each, ports big-endian, unlike packed addresses of the
peer protocol) or a list of maps. Port 1 is how ZeroNet nodes say that nobody
can connect to them; such peers are left out.
Source: BEP 3, BEP 7 (`peers6`), BEP 23 (compact), BEP 31 (`retry in`); ZeroNet
peer protocol, section 10.2.
"""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import attrs

from zeromsg.errors import TheirMistake
from zeromsg.wire.bencode import decode
from zeromsg.wire.trackers import Tracker, TrackerRefused, plain_words
from zeromsg.wire.values import IPV4_BYTES, IPV6_BYTES, PeerAddress

LEFT = 431102370
"""Bytes that every ZeroNet node claims to lack, so that trackers count it as a downloader."""

CLOSED_PORT = 1
"""What HTTP trackers are told by, and of, those who cannot be connected to."""

PEERS_LIMIT = 1000
"""Addresses taken from one answer."""

_INTERVAL_LIMIT = 7 * 86400


@attrs.frozen
class BittorrentAnswer:
    """Addresses, each with a port; and seconds until the tracker wants to be asked again."""

    peers: tuple[PeerAddress, ...]
    interval: float | None


def announce_url(tracker: Tracker, info_hash: bytes, peer_id: str, port: int, want: int) -> bytes:
    """The URL of a GET request.

    info_hash: 20 bytes. port: 0 when nobody can connect. want: most addresses
    that should come back.
    """
    query = (
        f"info_hash={quote(info_hash, safe='')}&peer_id={quote(peer_id, safe='')}"
        f"&port={port or CLOSED_PORT}&uploaded=0&downloaded=0&left={LEFT}"
        f"&compact=1&numwant={want}&event=started"
    )
    # A path may end in a passkey: ?key=...
    joint = "&" if "?" in tracker.path else "?"
    path = tracker.path if tracker.path.startswith("/") else "/" + tracker.path
    return f"{tracker.kind}://{tracker.authority}{path}{joint}{query}".encode("ascii")


def parse_answer(body: bytes) -> BittorrentAnswer:
    """Read the body of an answer.

    Raises TrackerRefused with the tracker's reason, TheirMistake for what is no answer.
    """
    answer = decode(body)
    if not isinstance(answer, dict):
        raise TheirMistake("the answer is no bencoded map")
    reason = answer.get(b"failure reason")
    if reason is not None:
        words = plain_words(reason) if isinstance(reason, bytes) else ""
        raise TrackerRefused(f"the tracker refuses: {words or 'no reason'}", _retry(answer))
    return BittorrentAnswer(tuple(_peers(answer))[:PEERS_LIMIT], _interval(answer))


def _interval(answer: dict[bytes, Any]) -> float | None:
    given = [answer.get(key) for key in (b"interval", b"min interval")]
    seconds = [value for value in given if type(value) is int and value > 0]
    return float(min(max(seconds), _INTERVAL_LIMIT)) if seconds else None


def _retry(answer: dict[bytes, Any]) -> float | None:
    """Seconds out of `retry in`, which has minutes or the word never."""
    value = answer.get(b"retry in")
    if value == b"never":
        return float(_INTERVAL_LIMIT)
    if isinstance(value, bytes) and value.isdigit():
        value = int(value[:6])
    if type(value) is not int or value <= 0:
        return None
    return float(min(value * 60, _INTERVAL_LIMIT))


def _peers(answer: dict[bytes, Any]) -> Iterator[PeerAddress]:
    peers, peers6 = answer.get(b"peers", b""), answer.get(b"peers6", b"")
    if isinstance(peers, list):
        yield from _listed_peers(peers)
    else:
        yield from compact_peers(peers, IPV4_BYTES)
    yield from compact_peers(peers6, IPV6_BYTES)


def compact_peers(packed: object, size: int) -> list[PeerAddress]:
    """Addresses out of 6 or 18 bytes each, ports big-endian. Raises TheirMistake.

    Ports 0 and 1 are left out: nobody listens there.
    """
    if not isinstance(packed, bytes) or len(packed) % size:
        raise TheirMistake(f"compact peers are no multiple of {size} bytes")
    family: Callable[[bytes], ipaddress.IPv4Address | ipaddress.IPv6Address] = (
        ipaddress.IPv4Address if size == IPV4_BYTES else ipaddress.IPv6Address
    )
    found = []
    for start in range(0, min(len(packed), size * PEERS_LIMIT), size):
        port = int.from_bytes(packed[start + size - 2 : start + size], "big")
        if port > CLOSED_PORT:
            ip = family(packed[start : start + size - 2])
            found.append(_address(ip, port))
    return found


def _listed_peers(peers: list[Any]) -> Iterator[PeerAddress]:
    """Out of maps with `ip` and `port`. An `ip` may be a name: those are not looked up."""
    for peer in peers[:PEERS_LIMIT]:
        if not isinstance(peer, dict):
            raise TheirMistake("a peer in the list is no map")
        host, port = peer.get(b"ip"), peer.get(b"port")
        if not isinstance(host, bytes) or type(port) is not int:
            raise TheirMistake("a peer in the list has no ip and port")
        try:
            ip = ipaddress.ip_address(host[:64].decode("ascii"))
        except ValueError:
            continue
        if CLOSED_PORT < port <= 65535 and not getattr(ip, "scope_id", None):
            yield _address(ip, port)


def _address(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> PeerAddress:
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        # Whoever is named so is reached over IPv4.
        ip = ip.ipv4_mapped
    return PeerAddress(str(ip), port)
