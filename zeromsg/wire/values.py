"""Peer addresses and site addresses: text, bytes and what they say about themselves.

Text comes from configuration and pages and is refused with `ValueError`; bytes
come from strangers and are refused with `TheirMistake`. Nothing here touches
the network, so nothing here resolves a name.
Source: ZeroNet peer protocol, section 9 (packed addresses) and section 10
(site hashes); Tor rend-spec-v3, section 6 (onion addresses).
"""

import base64
import functools
import hashlib
import ipaddress
import re
from typing import Literal, Self

import attrs

from zeromsg.errors import TheirMistake

IPV4_BYTES = 6
IPV6_BYTES = 18
ONION_V2_BYTES = 12
ONION_V3_BYTES = 37

_PORT_MAX = 65535
_TEXT_LIMIT = 80
"""More than the longest address, an onion with its port: 68 characters."""

_SITE_FORM = re.compile(r"[0-9A-Za-z]{26,35}")
_PORT_FORM = re.compile(r"0|[1-9][0-9]{0,4}")
_ONION_FORM = re.compile(r"(?:[a-z2-7]{16}|[a-z2-7]{56})\.onion")
_ONION_V3_CHARACTERS = 62
_ONION_VERSION = b"\x03"

_LOOPBACK = [ipaddress.ip_network(net) for net in ("127.0.0.0/8", "::1/128")]
# What section 8 (pex) names, and two kinds it forgot: "this host", which a
# dial turns into loopback, and IPv6 unique local addresses.
_PRIVATE = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]


@attrs.frozen
class PeerAddress:
    """Where a peer listens: a canonical host and a port.

    host: dotted IPv4, compressed lower-case IPv6 without brackets, or
    `<16 or 56 characters>.onion` in lower case. The constructor raises
    ValueError for anything else, so equal addresses are equal values; `parse`
    also takes other spellings.
    port: 0 to 65535; 0 says that the peer cannot be dialled.
    """

    host: str = attrs.field()
    port: int = attrs.field()

    @host.validator
    def _check_host(self, _: object, host: str) -> None:
        if _canonical_host(host) != host:
            raise ValueError(f"{host!r} is not written canonically")

    @port.validator
    def _check_port(self, _: object, port: int) -> None:
        if type(port) is not int or not 0 <= port <= _PORT_MAX:
            raise ValueError(f"port {port!r} is not between 0 and {_PORT_MAX}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1.2.3.4:80`, `[2001:db8::1]:80` or `<56 characters>.onion:80`.

        Onions of version 2 are refused: no Tor of today reaches them.
        Raises ValueError with a sentence.
        """
        if len(text) > _TEXT_LIMIT or not text.isascii():
            raise ValueError(f"{text[:_TEXT_LIMIT]!r} is too long or too foreign for an address")
        host, _, port = text.rpartition(":")
        if not _PORT_FORM.fullmatch(port):
            raise ValueError(f"{text!r} does not end in a port such as :26552")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed != (":" in host):
            raise ValueError(f"{text!r} needs brackets around an IPv6 address, and only there")
        host = _canonical_host(host[1:-1] if bracketed else host.lower())
        if host.endswith(".onion") and len(host) != _ONION_V3_CHARACTERS:
            raise ValueError(f"{text!r} is an onion of version 2, which Tor no longer serves")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def kind(self) -> Literal["ipv4", "ipv6", "onion"]:
        """Which family the host belongs to."""
        if self.host.endswith(".onion"):
            return "onion"
        return "ipv6" if ":" in self.host else "ipv4"

    @property
    def is_private(self) -> bool:
        """True for hosts that mean nothing to others: loopback, private, link-local."""
        return _within(self.host, private=True)

    @property
    def is_loopback(self) -> bool:
        """True for this machine itself."""
        return _within(self.host, private=False)


@functools.lru_cache(maxsize=4096)
def _canonical_host(host: str) -> str:
    if host.endswith(".onion"):
        _check_onion(host)
        return host
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is neither an IP address nor an onion") from None
    if "%" in host:
        raise ValueError(f"{host!r} has a zone, which means something on one machine only")
    return _ip_text(ip)


def _ip_text(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # Python before 3.13 writes mapped addresses in hex, other nodes do not (RFC 5952, 5).
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return f"::ffff:{ip.ipv4_mapped}"
    return str(ip)


def _check_onion(host: str) -> None:
    if not _ONION_FORM.fullmatch(host):
        raise ValueError(f"{host!r} is no onion: 56 characters from a-z and 2-7 were expected")
    if len(host) == _ONION_V3_CHARACTERS and not _onion_v3_holds(_onion_bytes(host)):
        raise ValueError(f"{host!r} has a wrong checksum or version: is it mistyped?")


def _onion_bytes(host: str) -> bytes:
    return base64.b32decode(host.removesuffix(".onion").upper())


def _onion_v3_holds(name: bytes) -> bool:
    """Whether 35 bytes are public key, checksum and version as Tor makes them."""
    key, checksum, version = name[:32], name[32:34], name[34:]
    digest = hashlib.sha3_256(b".onion checksum" + key + version).digest()
    return version == _ONION_VERSION and checksum == digest[:2]


@functools.lru_cache(maxsize=4096)
def _within(host: str, private: bool) -> bool:
    if host.endswith(".onion"):
        return False
    ip = ipaddress.ip_address(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # or ::ffff:127.0.0.1 would pass for a public host
    return any(ip in net for net in (_PRIVATE if private else _LOOPBACK))


def pack_address(address: PeerAddress) -> bytes:
    """The bytes of an address: 6 for IPv4, 18 for IPv6, 12 or 37 for onions.

    The host in network order (an onion base32-decoded), then the port as two
    bytes, little-endian. Source: section 9.
    """
    port = address.port.to_bytes(2, "little")
    if address.kind == "onion":
        return _onion_bytes(address.host) + port
    return ipaddress.ip_address(address.host).packed + port


def unpack_address(packed: object) -> PeerAddress:
    """Read 6 bytes of IPv4 or 18 of IPv6; anything else is a TheirMistake."""
    if not isinstance(packed, bytes) or len(packed) not in (IPV4_BYTES, IPV6_BYTES):
        raise TheirMistake("a packed address has 6 or 18 bytes")
    return PeerAddress(_ip_text(ipaddress.ip_address(packed[:-2])), _port(packed))


def unpack_onion(packed: object) -> PeerAddress:
    """Read 12 bytes (version 2) or 37 bytes (version 3) of an onion and its port.

    Version 2 is let through, so that the caller sees what to drop. Anything
    else is a TheirMistake: ZeroNet takes other lengths too, which no Tor knows.
    A wrong checksum costs no points, since nodes pass onions on unchecked.
    """
    if not isinstance(packed, bytes) or len(packed) not in (ONION_V2_BYTES, ONION_V3_BYTES):
        raise TheirMistake("a packed onion has 12 or 37 bytes")
    host = base64.b32encode(packed[:-2]).decode("ascii").lower() + ".onion"
    try:
        return PeerAddress(host, _port(packed))
    except ValueError as error:
        raise TheirMistake(str(error), points=0) from None


def _port(packed: bytes) -> int:
    return int.from_bytes(packed[-2:], "little")


def is_site_address(text: object) -> bool:
    """Whether something has the form of a site address: 26 to 35 ASCII letters and digits.

    Cheap, and without the checksum: `crypto.keys.is_address` looks at that.
    """
    return isinstance(text, str) and _SITE_FORM.fullmatch(text) is not None


def site_sha256(address: str) -> bytes:
    """What zero:// trackers and local discovery know a site by: 32 bytes."""
    return hashlib.sha256(address.encode("ascii")).digest()


def site_sha1(address: str) -> bytes:
    """What BitTorrent trackers know a site by: 20 bytes."""
    return hashlib.sha1(address.encode("ascii"), usedforsecurity=False).digest()
