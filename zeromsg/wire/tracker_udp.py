"""UDP trackers of BitTorrent: the packets of connecting and announcing.

    connect   ->  0x41727101980 (8 bytes), action 0, transaction
              <-  action 0, transaction, connection (8 bytes)
    announce  ->  connection, action 1, transaction, info_hash (20), peer_id (20),
                  downloaded, left, uploaded (8 each), event, ip, key, num_want, port (2)
              <-  action 1, transaction, interval, leechers, seeders, peers
    error     <-  action 3, transaction, text

Numbers are big-endian, 4 bytes where nothing else is said. Peers have 6 bytes,
or 18 where the tracker was asked over IPv6. The transaction is a number that
nobody else can know: whoever answers with another is not the tracker.
Source: BEP 15; ZeroNet peer protocol, section 10.2.
"""

import struct

from zeromsg.errors import TheirMistake
from zeromsg.wire.tracker_http import LEFT, BittorrentAnswer, compact_peers
from zeromsg.wire.trackers import TrackerRefused, plain_words
from zeromsg.wire.values import IPV4_BYTES, IPV6_BYTES

PACKET_LIMIT = 64 * 1024
"""A datagram has no more bytes."""

_PROTOCOL = 0x41727101980
_CONNECT, _ANNOUNCE, _ERROR = 0, 1, 3
_HEAD = struct.Struct(">II")
_CONNECT_REQUEST = struct.Struct(">QII")
_CONNECT_ANSWER = struct.Struct(">IIQ")
_ANNOUNCE_REQUEST = struct.Struct(">QII20s20sQQQIIIiH")
_ANNOUNCE_ANSWER = struct.Struct(">IIIII")


def connect_request(transaction: int) -> bytes:
    """16 bytes that ask for a connection. transaction: 32 random bits."""
    return _CONNECT_REQUEST.pack(_PROTOCOL, _CONNECT, transaction)


def announce_request(
    connection: int, transaction: int, info_hash: bytes, peer_id: bytes, port: int, want: int
) -> bytes:
    """98 bytes that announce a site and ask for its peers.

    connection: what the tracker gave, good for a minute. info_hash, peer_id:
    20 bytes. port: 0 when nobody can connect.
    """
    return _ANNOUNCE_REQUEST.pack(
        connection,
        _ANNOUNCE,
        transaction,
        info_hash,
        peer_id,
        0,
        LEFT,
        0,
        0,  # event: none, as ZeroNet nodes say
        0,  # the address is that of the packet
        0,
        want,
        port,
    )


def transaction_of(packet: bytes) -> int | None:
    """The transaction that a packet claims to answer; None if it is too short."""
    return _HEAD.unpack_from(packet)[1] if len(packet) >= _HEAD.size else None


def parse_connect(packet: bytes, transaction: int) -> int:
    """The connection's number. Raises TrackerRefused, TheirMistake."""
    _check(packet, transaction, _CONNECT, _CONNECT_ANSWER.size)
    connection: int = _CONNECT_ANSWER.unpack_from(packet)[2]
    return connection


def parse_announce(packet: bytes, transaction: int, ipv6: bool) -> BittorrentAnswer:
    """Peers and interval. Raises TrackerRefused, TheirMistake.

    ipv6: whether the tracker was asked over IPv6; it then answers with such peers.
    """
    _check(packet, transaction, _ANNOUNCE, _ANNOUNCE_ANSWER.size)
    interval = _ANNOUNCE_ANSWER.unpack_from(packet)[2]
    size = IPV6_BYTES if ipv6 else IPV4_BYTES
    peers = compact_peers(packet[_ANNOUNCE_ANSWER.size :], size)
    return BittorrentAnswer(tuple(peers), float(interval) if interval else None)


def _check(packet: bytes, transaction: int, action: int, size: int) -> None:
    if len(packet) < _HEAD.size or len(packet) > PACKET_LIMIT:
        raise TheirMistake("the answer is too short or too long")
    given, answered = _HEAD.unpack_from(packet)
    if answered != transaction:
        raise TheirMistake("the answer is to another question")
    if given == _ERROR:
        words = plain_words(packet[_HEAD.size :])
        raise TrackerRefused(f"the tracker refuses: {words or 'no reason'}")
    if given != action or len(packet) < size:
        raise TheirMistake("the answer does not fit the question")
