"""Trackers as configuration names them, and what an announcement asks and brings.

A tracker is `zero://host:port` (a ZeroNet node that answers `announce`),
`http://host[:port]/path`, `https://...`, or `udp://host:port` (BitTorrent
trackers). Text comes from the operator and is refused with `ValueError`.
Source: ZeroNet peer protocol, section 10 (tracker strings).
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal

import attrs

from zeromsg.errors import Unreachable
from zeromsg.wire.values import PeerAddress

TrackerKind = Literal["zero", "http", "https", "udp"]
PeerKind = Literal["ipv4", "ipv6", "onion"]

REASON_LIMIT = 200
"""Characters of a tracker's own words that are kept."""

_TEXT_LIMIT = 512
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORM = re.compile(r"(zero|https?|udp)://([^/?#]+)([/?].*)?", re.IGNORECASE)
_PORT_FORM = re.compile(r"[1-9][0-9]{0,4}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_-]+)*")
_PATH_FORM = re.compile(r"[A-Za-z0-9/.?&=%~_+:@!$'()*,;-]*")


class TrackerRefused(Unreachable):
    """A tracker understood what it was asked and does not want to.

    retry: seconds after which it may be asked again, None if it did not say.
    """

    def __init__(self, text: str, retry: float | None = None) -> None:
        super().__init__(text)
        self.retry = retry


@attrs.frozen
class Tracker:
    """One tracker.

    host: an IP address without brackets, an onion or a host name, in lower case.
    port: 1 to 65535. path: what follows host and port, with its query; "" unless HTTP.
    """

    kind: TrackerKind
    host: str
    port: int
    path: str = ""

    @property
    def name(self) -> str:
        """`kind://host:port`, for people: without the path, which may hold a passkey."""
        return f"{self.kind}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as URLs write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> PeerAddress | None:
        """The host as an address; None for a name that would have to be looked up."""
        try:
            return PeerAddress(self.host, self.port)
        except ValueError:
            return None

    def __str__(self) -> str:
        return self.name + self.path


def parse_tracker(text: str) -> Tracker:
    """Read a tracker's address. Raises ValueError with a sentence."""
    if len(text) > _TEXT_LIMIT or not text.isascii():
        raise ValueError(f"{text[:80]!r} is too long or too foreign for a tracker")
    if "#" in text:
        # A pin that nobody compares would promise what is not kept.
        raise ValueError(f"{text!r} pins a certificate, which this node does not check")
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no tracker such as zero://192.0.2.1:26552")
    kind, authority, path = match[1].lower(), match[2], match[3] or ""
    host, port = _host_and_port(text, kind, authority)
    if not kind.startswith("http"):
        if path.strip("/") not in ("", "announce"):
            raise ValueError(f"{text!r} has a path, which {kind} trackers do not")
        path = ""
    elif not _PATH_FORM.fullmatch(path):
        raise ValueError(f"{text!r} has characters in its path that must be percent-encoded")
    if kind == "udp" and host.endswith(".onion"):
        raise ValueError(f"{text!r} is UDP to an onion, which Tor does not carry")
    return Tracker(kind, host, port, path)  # type: ignore[arg-type]


def _host_and_port(text: str, kind: str, authority: str) -> tuple[str, int]:
    default = _DEFAULT_PORTS.get(kind)
    if authority.startswith("["):
        host, closed, rest = authority[1:].partition("]")
        if not closed or ":" not in host or rest[:1] not in ("", ":"):
            raise ValueError(f"{text!r} has brackets around something that is no IPv6 address")
        port = rest[1:] if rest else ""
    elif default is not None and authority.count(":") > 1:
        raise ValueError(f"{text!r} needs brackets around its IPv6 address")
    else:
        # ZeroNet writes IPv6 without brackets, and always with a port.
        host, colon, port = authority.rpartition(":")
        host = host if colon else authority
        port = port if colon else ""
    if port == "" and default is not None and not authority.endswith(":"):
        return _checked_host(text, host), default
    if not _PORT_FORM.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"{text!r} does not name a port from 1 to 65535")
    return _checked_host(text, host), int(port)


def _checked_host(text: str, host: str) -> str:
    host = host.lower()
    if ":" in host:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ValueError(f"{text!r} has no IPv6 address where one was expected") from None
    if host.endswith(".onion") or ":" in host or host.replace(".", "").isdigit():
        try:
            address = PeerAddress.parse(f"[{host}]:1" if ":" in host else f"{host}:1")
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from None
        return address.host
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{text!r} does not name a host")
    return host


@attrs.frozen
class Announcement:
    """What is said to a tracker, whatever its kind.

    sites: addresses of sites; BitTorrent trackers are asked about each by itself.
    port: where this node listens; 0 when nobody can connect to it.
    listed: the families under which the tracker may list this node's address.
    wanted: the families that this node can dial.
    onions: for each site, the onion (without `.onion`) under which it may be
        found; sites that are missing here are announced without.
    complete: whether `sites` is all there is, so that the rest may be forgotten.
    """

    sites: tuple[str, ...]
    port: int
    listed: frozenset[PeerKind]
    wanted: frozenset[PeerKind]
    need: int = 20
    onions: Mapping[str, str] = attrs.field(factory=dict)
    complete: bool = False


@attrs.frozen
class Found:
    """What a tracker answered.

    peers: addresses for each site, as the tracker says: unchecked, private ones too.
    interval: seconds after which it wants to be asked again; None if it did not say.
    """

    peers: Mapping[str, tuple[PeerAddress, ...]]
    interval: float | None = None


def plain_words(words: bytes | str) -> str:
    """A tracker's own words, fit for a log line: printable, short."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return "".join(char if char.isprintable() else " " for char in text[:REASON_LIMIT]).strip()
