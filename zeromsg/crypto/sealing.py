"""Messages that only some can read: format 1 of `encrypted`.

A fresh ephemeral key for each message; one random content key, wrapped once
for each recipient; one body under it. Who cannot read it sees the size of the
body to its bucket and the number of recipients to a power of two. Bound to the
ciphertext are the site, the signer, the list of recipients and what stays
readable beside it, so that none of them can be exchanged.

    {"encrypted": {"v": 1, "key": B64, "to": [B64, ...], "from": ADDRESS, "body": B64}}

key: 33 bytes, the ephemeral public key.
to: 52 bytes for each recipient: 4 of a hint, by which a reader knows cheaply
    that an entry may be for it, and 48 of the wrapped content key.
from: address that signs the envelope; left out where nobody does.
hidden: true where the hints do not even tell who knows a recipient's public
    key that the message is for it.
body: 32 bytes that commit to the content key, then the ciphertext.

Primitives: ECDH on secp256k1 (libsecp256k1's hash of the point), HKDF-SHA256
(RFC 5869), ChaCha20-Poly1305 (RFC 8439). Written down in docs/encryption.md.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zeromsg.crypto.keys import Entropy, PrivateKey, compressed
from zeromsg.errors import BadKey
from zeromsg.wire import json_text

VERSION = 1

RECIPIENT_LIMIT = 128
"""Most entries of `to`."""

MATCHES_LIMIT = 4
"""Entries with a key's hint that are tried; by chance, not even a second one has it."""

KEY_BYTES = 32
"""Length of every symmetric key, and of an ECDH secret."""

_POINT_BYTES = 33
_HINT_BYTES = 4
_TAG_BYTES = 16
_ENTRY_BYTES = _HINT_BYTES + KEY_BYTES + _TAG_BYTES
_NONCE = bytes(12)
"""Every key encrypts one thing only."""

_LEAST_BUCKET = 128
_EVEN_BUCKET = 4096

_WRAP = b"zeromsg sealing 1 wrap"
_WRAP_SHARED = b"zeromsg sealing 1 wrap shared"
_HINT = b"zeromsg sealing 1 hint"
_HINT_HIDDEN = b"zeromsg sealing 1 hint hidden"
_HINT_SHARED = b"zeromsg sealing 1 hint shared"
_BODY = b"zeromsg sealing 1 body"


class BadSealing(ValueError):
    """An `encrypted` that is none; the text says what is wrong, to anybody."""


class IReader(Protocol):
    """A key that may open a message."""

    def hint(self, point: bytes, hidden: bool) -> bytes:
        """The hint of an entry for this key."""

    def wrapping_key(self, point: bytes) -> bytes:
        """The key that wraps the content key for this key."""


@attrs.frozen
class SharedKey:
    """A key that several hold. secret: 32 bytes; its repr does not show it."""

    secret: bytes = attrs.field(repr=False)

    def hint(self, point: bytes, hidden: bool) -> bytes:
        # Without the secret nobody can tell anything from it, so it needs no hiding.
        return hmac.digest(self.secret, _HINT_SHARED + point, "sha256")[:_HINT_BYTES]

    def wrapping_key(self, point: bytes) -> bytes:
        return _derive(self.secret, point, _WRAP_SHARED, KEY_BYTES)


@attrs.frozen
class OwnKey:
    """The private key of a recipient."""

    key: PrivateKey

    def hint(self, point: bytes, hidden: bool) -> bytes:
        if hidden:
            return _hidden_hint(self.key.agreed_secret(point), point)
        return _open_hint(point, self.key.compressed_public_key)

    def wrapping_key(self, point: bytes) -> bytes:
        secret = self.key.agreed_secret(point)
        return _derive(secret, point + self.key.compressed_public_key, _WRAP, KEY_BYTES)


@attrs.frozen
class Recipient:
    """The public key of a recipient, 33 bytes, checked."""

    public_key: bytes

    @classmethod
    def of(cls, public_key: bytes) -> Self:
        """From either form. Raises BadKey where it is no point of the curve."""
        return cls(compressed(public_key))


@attrs.frozen
class Encrypted:
    """An `encrypted` that was read, and not opened.

    point: the ephemeral public key, checked. entries: of `to`.
    sender: address, "" where nobody is said to sign.
    """

    point: bytes
    entries: tuple[bytes, ...]
    sender: str
    hidden: bool
    body: bytes
    values: Mapping[str, Any] = attrs.field(repr=False)


@attrs.frozen
class Opened:
    """What was inside: any JSON value."""

    value: Any


# Sealing


def seal(
    inner: Any,
    clear: Mapping[str, Any],
    readers: Sequence[Recipient | SharedKey],
    *,
    site: str,
    sender: str,
    entropy: Entropy,
    hidden: bool = False,
) -> dict[str, Any]:
    """The value of `encrypted` for a message.

    inner: what is hidden, any JSON. clear: what stays readable beside it.
    sender: address that will sign the envelope, "" for none.
    Raises ValueError for what is no JSON, or for more than RECIPIENT_LIMIT readers.
    """
    if not 0 < len(readers) <= RECIPIENT_LIMIT:
        raise ValueError(f"there must be 1 to {RECIPIENT_LIMIT} recipients")
    ephemeral = PrivateKey.generate(entropy)
    point = ephemeral.compressed_public_key
    content_key = entropy(KEY_BYTES)
    entries = [_entry(reader, ephemeral, point, content_key, hidden) for reader in readers]
    entries += [entropy(_ENTRY_BYTES) for _ in range(_padded_count(len(entries)) - len(entries))]
    # In the order of their bytes, so that their order says nothing.
    values: dict[str, Any] = {
        "v": VERSION,
        "key": _encode(point),
        "to": [_encode(entry) for entry in sorted(entries)],
    }
    if sender:
        values["from"] = sender
    if hidden:
        values["hidden"] = True
    body_key, commitment = _body_keys(content_key, point)
    text = json_text.dump_compact(inner).encode("ascii")
    # JSON readers skip spaces, so the padding needs no length.
    padded = text.ljust(_bucket(len(text)))
    sealed = ChaCha20Poly1305(body_key).encrypt(_NONCE, padded, _bound(values, clear, site))
    return {**values, "body": _encode(commitment + sealed)}


def _entry(
    reader: Recipient | SharedKey,
    ephemeral: PrivateKey,
    point: bytes,
    content_key: bytes,
    hidden: bool,
) -> bytes:
    if isinstance(reader, SharedKey):
        hint, key = reader.hint(point, hidden), reader.wrapping_key(point)
    else:
        public_key = reader.public_key
        secret = ephemeral.agreed_secret(public_key)
        hint = _hidden_hint(secret, point) if hidden else _open_hint(point, public_key)
        key = _derive(secret, point + public_key, _WRAP, KEY_BYTES)
    return hint + ChaCha20Poly1305(key).encrypt(_NONCE, content_key, None)


def _padded_count(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _bucket(size: int) -> int:
    """The size that a text is padded to: powers of two, then steps of 4 KiB."""
    if size <= _EVEN_BUCKET:
        return max(_LEAST_BUCKET, _padded_count(size)) if size else _LEAST_BUCKET
    return -(-size // _EVEN_BUCKET) * _EVEN_BUCKET


# Opening


def read(encrypted: object) -> Encrypted:
    """Look at an `encrypted` without opening it. Raises BadSealing."""
    if not isinstance(encrypted, dict):
        raise BadSealing("encrypted is no map")
    if encrypted.get("v") != VERSION or isinstance(encrypted["v"], bool):
        raise BadSealing("encrypted is of an unknown version")
    to = encrypted.get("to")
    if not isinstance(to, list) or not 0 < len(to) <= RECIPIENT_LIMIT:
        raise BadSealing(f"encrypted.to is no list of 1 to {RECIPIENT_LIMIT}")
    entries = tuple(_decode(entry, "to") for entry in to)
    if any(len(entry) != _ENTRY_BYTES for entry in entries):
        raise BadSealing(f"an entry of encrypted.to has not {_ENTRY_BYTES} bytes")
    sender, hidden = encrypted.get("from", ""), encrypted.get("hidden", False)
    if not isinstance(sender, str) or not isinstance(hidden, bool):
        raise BadSealing("encrypted.from is no text, or encrypted.hidden neither true nor false")
    body = _decode(encrypted.get("body"), "body")
    if len(body) < KEY_BYTES + _TAG_BYTES:
        raise BadSealing("encrypted.body is too short")
    return Encrypted(_point(encrypted.get("key")), entries, sender, hidden, body, encrypted)


def _point(value: object) -> bytes:
    point = _decode(value, "key")
    if len(point) == _POINT_BYTES:
        try:
            return compressed(point)
        except BadKey:
            pass
    raise BadSealing("encrypted.key is no public key of 33 bytes")


def open_with(
    reader: IReader,
    encrypted: Encrypted,
    clear: Mapping[str, Any],
    *,
    site: str,
    allowed: Callable[[], bool] = lambda: True,
) -> Opened | None:
    """What is inside, if it is for this key and nothing was changed; None otherwise.

    allowed: asked before anything is decrypted, for whoever bounds how often.
    Never says why.
    """
    hint = reader.hint(encrypted.point, encrypted.hidden)
    matching = [entry for entry in encrypted.entries if entry.startswith(hint)][:MATCHES_LIMIT]
    if not matching or not allowed():
        return None
    key = ChaCha20Poly1305(reader.wrapping_key(encrypted.point))
    for entry in matching:
        try:
            content_key = key.decrypt(_NONCE, entry[_HINT_BYTES:], None)
        except InvalidTag:
            continue
        return _open_body(content_key, encrypted, clear, site)
    return None


def may_be_for(reader: IReader, encrypted: Encrypted) -> bool:
    """Whether an entry has the hint of this key, as by chance none has. Decrypts nothing."""
    hint = reader.hint(encrypted.point, encrypted.hidden)
    return any(entry.startswith(hint) for entry in encrypted.entries)


def _open_body(
    content_key: bytes, encrypted: Encrypted, clear: Mapping[str, Any], site: str
) -> Opened | None:
    body_key, commitment = _body_keys(content_key, encrypted.point)
    # Of one body no two content keys may give two texts.
    if not hmac.compare_digest(commitment, encrypted.body[:KEY_BYTES]):
        return None
    values = {name: value for name, value in encrypted.values.items() if name != "body"}
    try:
        bound = _bound(values, clear, site)
        text = ChaCha20Poly1305(body_key).decrypt(_NONCE, encrypted.body[KEY_BYTES:], bound)
        return Opened(json_text.load(text.decode("ascii")))
    except (InvalidTag, *json_text.DEPTH_ERRORS):
        return None


# What both do


def _open_hint(point: bytes, public_key: bytes) -> bytes:
    return hashlib.sha256(_HINT + point + public_key).digest()[:_HINT_BYTES]


def _hidden_hint(secret: bytes, point: bytes) -> bytes:
    return _derive(secret, point, _HINT_HIDDEN, _HINT_BYTES)


def _body_keys(content_key: bytes, point: bytes) -> tuple[bytes, bytes]:
    """The body's key, and what commits to it."""
    both = _derive(content_key, point, _BODY, 2 * KEY_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def _bound(values: Mapping[str, Any], clear: Mapping[str, Any], site: str) -> bytes:
    """The associated data of the body. Raises ValueError, RecursionError."""
    return canonical({"site": site, "encrypted": values, "clear": clear})


def canonical(value: Any) -> bytes:
    """JSON in one form: sorted keys, no spaces, ASCII, whole floats as whole numbers.

    Pages that hand a message back have no other numbers than floats.
    Raises ValueError, RecursionError.
    """
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
        "ascii"
    )


_EXACT = 2.0**53


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(value: object, what: str) -> bytes:
    try:
        if isinstance(value, str):
            return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        pass
    raise BadSealing(f"encrypted.{what} is no base64")
