"""Datagrams by which nodes of one network find each other.

Each is one msgpack map `{"cmd", "params", "sender"}`:

    discoverRequest   broadcast: who is there?
    discoverResponse  sites_changed: a number that changes with the sender's sites
    siteListRequest   (without params) which sites do you have?
    siteListResponse  sites_changed, and the SHA-256 of up to 100 addresses of sites

Answers go to the sender's address and its `broadcast_port`. Anybody can send
such a datagram, in anybody's name: what it says is worth an attempt to
connect, and no more. Source: ZeroNet peer protocol, section 10.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgpack

from zeromsg.errors import TheirMistake
from zeromsg.wire.names import ZERONET_REV
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import integer, octets, text

DISCOVER_REQUEST = "discoverRequest"
DISCOVER_RESPONSE = "discoverResponse"
SITE_LIST_REQUEST = "siteListRequest"
SITE_LIST_RESPONSE = "siteListResponse"

SITES_LIMIT = 100
"""Sites in one datagram."""

DATAGRAM_LIMIT = 8 * 1024
"""Bytes of a datagram that is looked at; the longest real ones have half."""

_SERVICE = "zeronet"
_HASH_BYTES = 32


@attrs.frozen
class Sender:
    """Who sent a datagram, as it says.

    port: where it takes connections, 0 for nowhere. broadcast_port: where it
    wants answers.
    """

    peer_id: str
    port: int
    broadcast_port: int
    rev: int = ZERONET_REV


@attrs.frozen
class Datagram:
    """cmd: one of the four, or something unknown. sites_changed: None where none is given."""

    cmd: str
    sender: Sender
    sites_changed: int | None = None
    sites: tuple[bytes, ...] = ()

    def to_wire(self) -> bytes:
        message: dict[str, Any] = {"cmd": self.cmd}
        if self.cmd != SITE_LIST_REQUEST:
            params: dict[str, Any] = {}
            if self.sites_changed is not None:
                params["sites_changed"] = self.sites_changed
            if self.cmd == SITE_LIST_RESPONSE:
                params["sites"] = list(self.sites)
            message["params"] = params
        message["sender"] = {
            "service": _SERVICE,
            "peer_id": self.sender.peer_id,
            "port": self.sender.port,
            "broadcast_port": self.sender.broadcast_port,
            "rev": self.sender.rev,
        }
        return pack(message)

    @classmethod
    def from_wire(cls, data: bytes) -> "Datagram":
        """Raises TheirMistake for what is none, also for those of other services."""
        message = _unpack(data)
        sender = _map(message.get("sender"), "sender")
        if sender.get("service") != _SERVICE:
            raise TheirMistake("the datagram is of another service")
        params = _map(message.get("params", {}), "params")
        changed = params.get("sites_changed")
        sites = params.get("sites", [])
        if not isinstance(sites, list):
            raise TheirMistake("sites is no list")
        return cls(
            cmd=text(message.get("cmd"), "cmd", 64),
            sender=Sender(
                peer_id=text(sender.get("peer_id"), "peer_id", 64),
                port=integer(sender.get("port"), "port", 0, 65535),
                broadcast_port=integer(sender.get("broadcast_port"), "broadcast_port", 1, 65535),
                rev=integer(sender.get("rev", ZERONET_REV), "rev"),
            ),
            sites_changed=None if changed is None else integer(changed, "sites_changed"),
            sites=tuple(_site_hash(item) for item in sites[:SITES_LIMIT]),
        )


def site_lists(sender: Sender, sites_changed: int, hashes: Sequence[bytes]) -> Iterator[Datagram]:
    """Answers that name all sites, a hundred in each; one even if there are none."""
    for start in range(0, max(len(hashes), 1), SITES_LIMIT):
        part = tuple(hashes[start : start + SITES_LIMIT])
        yield Datagram(SITE_LIST_RESPONSE, sender, sites_changed, part)


def _unpack(data: bytes) -> Mapping[Any, Any]:
    if len(data) > DATAGRAM_LIMIT:
        raise TheirMistake("the datagram is too long")
    try:
        message = msgpack.unpackb(
            data,
            raw=False,
            unicode_errors="surrogateescape",
            strict_map_key=False,
            max_array_len=1024,
            max_map_len=64,
            max_ext_len=0,
        )
    except (ValueError, RecursionError, TypeError):
        # TypeError: a list or map as the key of a map.
        raise TheirMistake("the datagram is no msgpack") from None
    return _map(message, "the datagram")


def _map(value: object, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise TheirMistake(f"{what} is no map")
    return value


def _site_hash(value: object) -> bytes:
    digest = octets(value, "the hash of a site", _HASH_BYTES)
    if len(digest) != _HASH_BYTES:
        raise TheirMistake(f"the hash of a site has not {_HASH_BYTES} bytes")
    return digest
