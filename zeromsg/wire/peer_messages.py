"""What goes inside the messages of the peer protocol: frozen values and their parsers.

Parsers take what `framing` made of a stranger's bytes and return a value or
raise `TheirMistake`. Source: ZeroNet peer protocol, handshake and peer messages.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from zeromsg.errors import TheirMistake
from zeromsg.wire import json_text
from zeromsg.wire.names import EXTENSION, EXTENSION_VERSION, ZERONET_REV, ZERONET_VERSION

RAW_LIMIT = 64 * 1024
"""Most bytes of `raw` that are looked at, unless configured otherwise."""

NONCE_LIMIT = 128
SIGNATURE_LIMIT = 256
TRACE_LIMIT = 32
"""Most addresses a trace may name; later hops are not added."""

PEER_COUNT_LIMIT = 100

FEATURES_LIMIT = 32
FEATURE_LENGTH = 32
"""Features of a neighbour that are looked at, and the characters of one."""

_MESSAGE_KEYS = ("message", "site")


def text(value: object, what: str, limit: int = 1024) -> str:
    """Text as either str or bytes (old peers); refuses what is no UTF-8."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str) or len(value) > limit:
        raise TheirMistake(f"{what} is no text of at most {limit} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TheirMistake(f"{what} is no UTF-8") from None
    return value


def octets(value: object, what: str, limit: int) -> bytes:
    """Bytes as either bin or the raw type of peers older than it."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes) or len(value) > limit:
        raise TheirMistake(f"{what} is no binary of at most {limit} bytes")
    return value


def integer(value: object, what: str, least: int = 0, most: int = 2**53) -> int:
    """A whole number in a range; true and false are none."""
    if type(value) is not int or not least <= value <= most:
        raise TheirMistake(f"{what} is no whole number from {least} to {most}")
    return value


@attrs.frozen
class Handshake:
    """What a node says of itself when a connection starts.

    fileserver_port: the port it listens on; 0 to 65535.
    port_opened: whether that port can be reached; None when it does not know.
    target_ip: the host as which the sender sees the receiver.
    onion: its own onion address without `.onion`, or None; proves nothing.
    extension: version of the zeromsg extension, 0 for other nodes.
    tracker_connection: whether the connection is for announcing, and nothing else.
    features: what the node does beyond that version, as far as names of features go.
    """

    peer_id: str
    fileserver_port: int
    port_opened: bool | None
    target_ip: str
    crypt_supported: tuple[str, ...]
    crypt: str | None
    time: int
    onion: str | None = None
    version: str = ZERONET_VERSION
    rev: int = ZERONET_REV
    extension: int = EXTENSION_VERSION
    tracker_connection: bool = False
    features: frozenset[str] = frozenset()

    def to_wire(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "version": self.version,
            "protocol": "v2",
            "use_bin_type": True,
            "peer_id": self.peer_id,
            "fileserver_port": self.fileserver_port,
            "port_opened": self.port_opened,
            "target_ip": self.target_ip,
            "rev": self.rev,
            "crypt_supported": list(self.crypt_supported),
            "crypt": self.crypt,
            "time": self.time,
            EXTENSION: {"version": self.extension, "features": sorted(self.features)},
        }
        if self.onion is not None:
            params["onion"] = self.onion
        if self.tracker_connection:
            params["tracker_connection"] = True
        return params

    @classmethod
    def from_wire(cls, params: Mapping[Any, Any]) -> "Handshake":
        """Only `fileserver_port` is required; wrong types of the rest count as left out."""
        port = params.get("fileserver_port")
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port[:6])
        opened = params.get("port_opened")
        crypts = params.get("crypt_supported")
        onion = params.get("onion")
        return cls(
            peer_id=_optional_text(params.get("peer_id")),
            fileserver_port=integer(port, "fileserver_port", 0, 65535),
            port_opened=opened if isinstance(opened, bool) else None,
            target_ip=_optional_text(params.get("target_ip")),
            crypt_supported=tuple(_optional_text(crypt) for crypt in crypts[:8])
            if isinstance(crypts, list)
            else (),
            crypt=_optional_text(params.get("crypt")) or None,
            time=_optional_integer(params.get("time")),
            onion=_optional_text(onion) or None,
            version=_optional_text(params.get("version")),
            rev=_optional_integer(params.get("rev")),
            extension=_extension_version(params.get(EXTENSION)),
            tracker_connection=params.get("tracker_connection") is True,
            features=_features(params.get(EXTENSION)),
        )


def _optional_text(value: object) -> str:
    try:
        return text(value, "", 256)
    except TheirMistake:
        return ""


def _optional_integer(value: object) -> int:
    return value if type(value) is int else 0


def _extension_version(value: object) -> int:
    version = value.get("version") if isinstance(value, Mapping) else None
    return version if type(version) is int and version > 0 else 0


def _features(value: object) -> frozenset[str]:
    named = value.get("features") if isinstance(value, Mapping) else None
    if not isinstance(named, list):
        return frozenset()
    short = (name for name in named[:FEATURES_LIMIT] if isinstance(name, str))
    return frozenset(name for name in short if len(name) <= FEATURE_LENGTH)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A peer message as it travels; `raw` stays as it came, because hashes cover it.

    raw: JSON text, ASCII. nonce: ASCII, no comma. signature: `address|base64`, or "".
    cert: the four items as they came, unchecked, or None; None beside no signature,
    where nobody looks at it and it would be relayed unchecked.
    trace: the `ip:port` of earlier hops, or None when the sender wants none.
    digest: SHA-256 of `nonce,raw`; in hex it is the message's hash.
    """

    raw: str
    nonce: str
    signature: str
    cert: Any
    trace: tuple[str, ...] | None
    digest: bytes

    @property
    def hash(self) -> str:
        return self.digest.hex()

    def to_wire(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "raw": self.raw,
            "signature": self.signature,
            "cert": self.cert,
            "nonce": self.nonce,
        }
        if self.trace is not None:
            params["trace"] = list(self.trace)
        return params

    def with_trace(self) -> "Envelope":
        """The same, asking every hop to add the address it came over."""
        return msgspec.structs.replace(self, trace=())

    def traced(self, address: str) -> "Envelope":
        """The same, with one more hop in the trace, where one is kept."""
        if self.trace is None or len(self.trace) >= TRACE_LIMIT:
            return self
        return msgspec.structs.replace(self, trace=(*self.trace, address))


def envelope_digest(nonce: str, raw: str) -> bytes:
    """SHA-256 of `nonce,raw`. Raises UnicodeEncodeError unless both are ASCII."""
    return hashlib.sha256(f"{nonce},{raw}".encode("ascii")).digest()


def parse_envelope(params: Mapping[Any, Any], raw_limit: int = RAW_LIMIT) -> Envelope:
    """The envelope of a peerBroadcast or peerSend request. `raw` is not parsed yet.

    Raises TheirMistake, `ours` where nodes with the plugin take it, and pass it on.
    """
    raw, nonce, signature = params.get("raw"), params.get("nonce"), params.get("signature", "")
    if type(nonce) is int:
        nonce = str(nonce)
    if not isinstance(raw, str):
        raise TheirMistake("raw is no text", ours=isinstance(raw, bytes))
    if len(raw) > raw_limit:
        raise TheirMistake(f"raw is over {raw_limit} bytes", ours=True)
    if not isinstance(nonce, str) or len(nonce) > NONCE_LIMIT:
        raise TheirMistake("nonce is no short text or whole number", ours="nonce" in params)
    if "," in nonce:
        # The hash is of `nonce,raw`: with a piece of raw in the nonce another message
        # would have the same one, and be taken for a copy of it, or the copy for it.
        raise TheirMistake("nonce has a comma", ours=True)
    if signature is None:
        signature = ""
    if not isinstance(signature, str) or len(signature) > SIGNATURE_LIMIT:
        ours = isinstance(signature, str) or not signature
        raise TheirMistake("signature is no short text", ours=ours)
    if not signature.isascii():
        raise TheirMistake("signature is not ASCII")
    try:
        digest = envelope_digest(nonce, raw)
    except UnicodeEncodeError:
        raise TheirMistake("raw and nonce must be ASCII") from None
    trace = parse_trace(params["trace"]) if "trace" in params else None
    cert = params.get("cert") if signature else None
    return Envelope(raw, nonce, signature, cert, trace, digest)


def parse_trace(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TheirMistake("trace is no list")
    try:
        return tuple(text(item, "a hop of trace", 100) for item in value[:TRACE_LIMIT])
    except TheirMistake as mistake:
        raise TheirMistake(str(mistake), ours=True) from None


class Body(msgspec.Struct, frozen=True, gc=False):
    """What `raw` says.

    message_text: the message as Python's default JSON, which rules look at.
    broadcast: what it says of itself, or None; a question must not be broadcast.
    to: hash of the message this one answers, or None.
    signer: address that the sender says signs this, "" for nobody; None where it does not say
    (our own extension).
    """

    message: Any
    message_text: str
    site: str
    broadcast: bool | None
    immediate: bool
    peer_count: int
    timestamp: float | None
    to: str | None
    signer: str | None


def parse_body(raw: str) -> Body:
    """Raises TheirMistake unless `raw` is a JSON map with a message and a site.

    Its `ours` is set where nodes with the plugin take it, and pass it on.
    """
    try:
        values = json_text.load(raw)
        if not isinstance(values, dict) or any(key not in values for key in _MESSAGE_KEYS):
            raise TheirMistake("raw is no JSON map with message and site")
        message = values["message"]
        message_text = json_text.dump(message)
    except json_text.DEPTH_ERRORS:
        raise TheirMistake("raw is no JSON", ours=_is_json_elsewhere(raw)) from None
    site, to, signer = values["site"], values.get("to"), values.get("signer")
    if not isinstance(site, str):
        raise TheirMistake("site is no text")
    if to is not None and not isinstance(to, str):
        raise TheirMistake("to is no text", ours=True)
    peer_count, broadcast = values.get("peer_count"), values.get("broadcast")
    return Body(
        message=message,
        message_text=message_text,
        site=site,
        broadcast=broadcast if isinstance(broadcast, bool) else None,
        immediate=values.get("immediate") is True,
        peer_count=min(max(peer_count, 0), PEER_COUNT_LIMIT) if type(peer_count) is int else 5,
        timestamp=parse_timestamp(values.get("timestamp")),
        to=to,
        signer=signer if isinstance(signer, str) else None,
    )


def _is_json_elsewhere(raw: str) -> bool:
    """Whether a node that decodes by Python's defaults takes it: NaN, infinities, deep nesting."""
    try:
        json.loads(raw)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def parse_timestamp(value: object) -> float | None:
    """Unix seconds, or None for anything that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
