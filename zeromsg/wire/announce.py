"""`announce` of zero:// trackers: the request, the answer, both ways.

Sites are named by the SHA-256 of their address. The tracker lists the asker
under the address the connection came from, and under onions that it proves to
own: the tracker gives a text to sign, the asker repeats its request with
signatures. Parsers take what a stranger sent and raise `TheirMistake`.
Source: ZeroNet peer protocol, section 10.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from zeromsg.errors import TheirMistake
from zeromsg.wire.peer_messages import integer, octets, text
from zeromsg.wire.trackers import PeerKind, TrackerRefused, plain_words
from zeromsg.wire.values import PeerAddress, pack_address, unpack_address, unpack_onion

HASH_BYTES = 32
HASHES_LIMIT = 500
"""Sites of one request that are looked at; an answer may be shorter than the question."""

ONIONS_LIMIT = 20
"""Different onions in one request; ZeroNet nodes have ten."""

PEERS_LIMIT = 100
"""Addresses of each kind that are taken for one site from one answer."""

NEED_LIMIT = 30
"""Most peers of a site that an answer holds."""

CHALLENGE_LIMIT = 40
"""Characters of the text to be signed, which are digits."""

_KEY_LIMIT, _SIGNATURE_LIMIT = 512, 512
_OLD_IPV4 = "ip4"
_ONION_V3_HOST = 56 + len(".onion")


@attrs.frozen
class AnnounceRequest:
    """What is asked of a tracker.

    hashes: 32 bytes for each site. onions: for each site the onion without
    `.onion`, in the same order, or empty. need_types: as spelt on the wire.
    add: the families under which the connection's own address may be listed.
    onion_signs: public key to signature of `onion_sign_this`, one for each onion.
    """

    hashes: tuple[bytes, ...]
    port: int
    need_types: tuple[str, ...]
    need_num: int
    add: tuple[str, ...]
    onions: tuple[str, ...] = ()
    delete: bool = False
    onion_sign_this: str = ""
    onion_signs: Mapping[bytes, bytes] = attrs.field(factory=dict)

    def to_wire(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "hashes": list(self.hashes),
            "onions": list(self.onions),
            "port": self.port,
            "need_types": list(self.need_types),
            "need_num": self.need_num,
            "add": list(self.add),
        }
        if self.delete:
            params["delete"] = True
        if self.onion_sign_this:
            params["onion_sign_this"] = self.onion_sign_this
            params["onion_signs"] = dict(self.onion_signs)
        return params

    def proven(self, challenge: str, signs: Mapping[bytes, bytes]) -> "AnnounceRequest":
        """The same, with the proof that the tracker asked for; it need not name peers again."""
        return attrs.evolve(self, need_num=0, onion_sign_this=challenge, onion_signs=signs)

    @classmethod
    def from_wire(cls, params: Mapping[Any, Any]) -> "AnnounceRequest":
        hashes = _items(params.get("hashes"), "hashes")[:HASHES_LIMIT]
        onions = _items(params.get("onions", []), "onions")[:HASHES_LIMIT]
        if onions and len(onions) != len(hashes):
            raise TheirMistake("there are not as many onions as hashes")
        named = tuple(text(onion, "an onion", 62).removesuffix(".onion") for onion in onions)
        if len(set(named)) > ONIONS_LIMIT:
            raise TheirMistake(f"there are more than {ONIONS_LIMIT} different onions")
        challenge = params.get("onion_sign_this")
        signs = params.get("onion_signs")
        return cls(
            hashes=tuple(_site_hash(item) for item in hashes),
            port=integer(params.get("port"), "port", 0, 65535),
            need_types=_words(params.get("need_types"), "need_types"),
            need_num=min(integer(params.get("need_num"), "need_num"), NEED_LIMIT),
            add=_words(params.get("add"), "add"),
            onions=named,
            delete=params.get("delete") is True,
            onion_sign_this="" if challenge is None else _challenge(challenge),
            onion_signs={} if signs is None else _signs(signs),
        )

    def wants(self, kind: PeerKind) -> bool:
        return kind in self.need_types or (kind == "ipv4" and _OLD_IPV4 in self.need_types)

    def may_list(self, kind: PeerKind) -> bool:
        return kind in self.add or (kind == "ipv4" and _OLD_IPV4 in self.add)

    def answer_key(self, kind: PeerKind) -> str:
        """How an answer names a kind: who asked for the old `ip4` gets that."""
        return _OLD_IPV4 if kind == "ipv4" and _OLD_IPV4 in self.need_types else kind


@attrs.frozen
class AnnounceAnswer:
    """What a tracker knows.

    peers: for each hash of the request, in order, those that were found; there
    may be fewer lists than hashes. onion_sign_this: text to sign, or "".
    """

    peers: tuple[tuple[PeerAddress, ...], ...]
    onion_sign_this: str = ""

    def to_wire(self, request: AnnounceRequest) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if self.onion_sign_this:
            answer["onion_sign_this"] = self.onion_sign_this
        answer["peers"] = [_lists(found, request) for found in self.peers]
        return answer

    @classmethod
    def from_wire(cls, body: Mapping[Any, Any], hashes: int) -> "AnnounceAnswer":
        """Read an answer to so many hashes. Raises TheirMistake, TrackerRefused."""
        error = body.get("error")
        if error is not None:
            words = plain_words(error) if isinstance(error, str | bytes) else ""
            raise TrackerRefused(f"the tracker refuses: {words or 'no reason'}")
        challenge = body.get("onion_sign_this")
        return cls(
            tuple(_found(item) for item in _items(body.get("peers"), "peers")[:hashes]),
            "" if challenge is None else _challenge(challenge),
        )


def _items(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise TheirMistake(f"{what} is no list")
    return value


def _words(value: object, what: str) -> tuple[str, ...]:
    return tuple(text(item, what, 16) for item in _items(value, what)[:8])


def _site_hash(value: object) -> bytes:
    digest = octets(value, "a hash", HASH_BYTES)
    if len(digest) != HASH_BYTES:
        raise TheirMistake(f"a hash has not {HASH_BYTES} bytes")
    return digest


def _challenge(value: object) -> str:
    """Digits only: an onion's key must not sign what could mean something elsewhere."""
    challenge = text(value, "onion_sign_this", CHALLENGE_LIMIT)
    if not challenge.isascii() or not challenge.isdigit():
        raise TheirMistake("onion_sign_this is no decimal number")
    return challenge


def _signs(value: object) -> dict[bytes, bytes]:
    if not isinstance(value, dict) or len(value) > ONIONS_LIMIT:
        raise TheirMistake(f"onion_signs is no map of at most {ONIONS_LIMIT} entries")
    return {
        octets(key, "a public key", _KEY_LIMIT): octets(sign, "a signature", _SIGNATURE_LIMIT)
        for key, sign in value.items()
    }


def _lists(found: Sequence[PeerAddress], request: AnnounceRequest) -> dict[str, list[bytes]]:
    # All three are always there; the old name takes its place at the end, as in ZeroNet.
    kinds: tuple[PeerKind, ...] = ("ipv4", "ipv6", "onion")
    keys = sorted((request.answer_key(kind) for kind in kinds), key=_OLD_IPV4.__eq__)
    lists: dict[str, list[bytes]] = {key: [] for key in keys}
    for address in found:
        lists[request.answer_key(address.kind)].append(pack_address(address))
    return lists


def _found(lists: object) -> tuple[PeerAddress, ...]:
    if not isinstance(lists, Mapping):
        raise TheirMistake("the peers of a site are no map")
    addresses: dict[PeerAddress, None] = {}
    for key in ("ip4", "ipv4", "ipv6"):
        for packed in _items(lists.get(key, []), key)[:PEERS_LIMIT]:
            addresses[unpack_address(octets(packed, key, 64))] = None
    for packed in _items(lists.get("onion", []), "onion")[:PEERS_LIMIT]:
        try:
            address = unpack_onion(octets(packed, "onion", 64))
        except TheirMistake as mistake:
            if mistake.points:
                raise
            continue  # a wrong checksum: trackers pass on what they were told
        if len(address.host) == _ONION_V3_HOST:
            addresses[address] = None  # no Tor reaches version 2
    return tuple(address for address in addresses if address.port)
