"""Private keys, public keys and addresses on secp256k1.

This is the only module that knows the curve libraries; the others deal in
bytes. Signing, points and its own kind of ECDH are libsecp256k1's. Where a
format wants the plain X coordinate of a lasting secret times a stranger's
point it is OpenSSL, ten times slower, whose time does not depend on the
secret. Formats:
- a private key is WIF, Base58Check of 0x80, 32 bytes and, for a compressed
  key, 0x01; or 64 hex digits where a seed is meant;
- a public key is 04 and 64 bytes (uncompressed, ZeroNet's own habit) or 02/03
  and 32 bytes (compressed);
- an address is Base58Check of 0x00 and the HASH160 of the public key. A key
  has two addresses, one for each form.
Source: ZeroNet peer protocol, section 13; SEC 2 (curve), BIP 178 (WIF).
"""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Self

import attrs
import base58
import coincurve
from Crypto.Hash import RIPEMD160
from cryptography.hazmat.primitives.asymmetric import ec

from zeromsg.errors import BadKey
from zeromsg.wire.values import is_site_address

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Number of points on secp256k1: secrets are 1 to ORDER - 1."""

Entropy = Callable[[int], bytes]
"""Gives as many unpredictable bytes as asked for, as os.urandom does."""

_WIF_VERSION = 0x80
_WIF_COMPRESSED = b"\x01"
_ADDRESS_VERSION = 0x00
_HEADER_BASE = 27
_HEADER_COMPRESSED = 4
_SIGNATURE_BYTES = 65
_PREFIXES = {33: b"\x02\x03", 65: b"\x04"}
"""How a public key of so many bytes begins. libsecp256k1 would take hybrid ones (06, 07) too."""

_ATTEMPTS = 8

_WIF_FORM = re.compile(r"[0-9A-Za-z]{50,53}")
_HEX_FORM = re.compile(r"[0-9A-Fa-f]{64}")


@attrs.frozen
class PrivateKey:
    """A secret and the form of its public key. Its repr shows no secret.

    secret: 32 bytes, big-endian, from 1 to ORDER - 1; BadKey otherwise.
    compressed: which form of the public key signatures and the address use.
    """

    secret: bytes = attrs.field(repr=False)
    compressed: bool = False

    @secret.validator
    def _check_secret(self, _: object, secret: bytes) -> None:
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise BadKey("a private key is a number of 32 bytes within the order of the curve")

    @classmethod
    def from_wif(cls, text: str) -> Self:
        """Read a private key as wallets and users.json write it, or raise BadKey."""
        payload = _from_base58(text) if _WIF_FORM.fullmatch(text) else None
        if payload is None or payload[0] != _WIF_VERSION:
            raise BadKey("this is no private key in WIF: it is mistyped, or something else")
        compressed = len(payload) == 34 and payload.endswith(_WIF_COMPRESSED)
        return cls(payload[1:33] if compressed else payload[1:], compressed)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read 64 hex digits as an uncompressed key, or raise BadKey."""
        if not _HEX_FORM.fullmatch(text):
            raise BadKey("a private key in hex has 64 digits")
        return cls(bytes.fromhex(text))

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Make a new uncompressed key. BadKey if the entropy source is broken."""
        for _ in range(_ATTEMPTS):
            secret = entropy(32)
            if len(secret) == 32 and 0 < int.from_bytes(secret, "big") < ORDER:
                return cls(secret)
        raise BadKey("the source of randomness gives no usable key")

    @functools.cached_property
    def wif(self) -> str:
        """The key as text; treat it as the secret it is."""
        tail = _WIF_COMPRESSED if self.compressed else b""
        return base58.b58encode_check(bytes([_WIF_VERSION]) + self.secret + tail).decode("ascii")

    @functools.cached_property
    def public_key(self) -> bytes:
        """65 bytes, or 33 of a compressed key."""
        return self._curve_key.public_key.format(compressed=self.compressed)

    @functools.cached_property
    def address(self) -> str:
        """The address of the public key in this key's form."""
        return address_of(self.public_key)

    @functools.cached_property
    def compressed_public_key(self) -> bytes:
        """33 bytes, whatever this key's form."""
        return self._curve_key.public_key.format(compressed=True)

    @functools.cached_property
    def _curve_key(self) -> coincurve.PrivateKey:
        return coincurve.PrivateKey(self.secret)

    @functools.cached_property
    def _exchange_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.secret, "big"), ec.SECP256K1())

    def shared_secret(self, public_key: bytes) -> bytes:
        """ECDH: 32 bytes that the owner of the public key can compute too. BadKey for a bad one.

        They are the X coordinate of the product, not hashed.
        """
        _check_point(public_key)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public_key)
        except ValueError:
            raise BadKey("this public key is no point of the curve") from None
        return self._exchange_key.exchange(ec.ECDH(), point)

    def agreed_secret(self, public_key: bytes) -> bytes:
        """ECDH as libsecp256k1 does it: SHA-256 of the common point in its compressed form.

        In constant time as well, and faster; which of the two is used, a format
        decides. BadKey for a bad public key.
        """
        _check_point(public_key)
        try:
            return self._curve_key.ecdh(public_key)
        except ValueError:
            raise BadKey("this public key is no point of the curve") from None

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes: header, r and s, 65 bytes, the same each time (RFC 6979), low s."""
        signed = self._curve_key.sign_recoverable(digest, hasher=None)
        header = _HEADER_BASE + signed[64] + (_HEADER_COMPRESSED if self.compressed else 0)
        return bytes([header]) + signed[:64]


def agree_once(public_key: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """ECDH with a new key that nobody keeps. BadKey for a bad public key.

    Returns its public key, 65 bytes, and what `shared_secret` of the other
    side makes of it.
    """
    point = _point(public_key)
    once = PrivateKey.generate(entropy)
    # One use of the secret: its time tells nobody anything.
    return once.public_key, point.multiply(once.secret).format(compressed=False)[1:33]


def compressed(public_key: bytes) -> bytes:
    """The 33-byte form of a public key. BadKey for a bad one."""
    return _point(public_key).format(compressed=True)


def is_public_key(data: bytes) -> bool:
    """Whether bytes are a public key, compressed or not, on the curve."""
    try:
        _point(data)
    except BadKey:
        return False
    return True


def _check_point(public_key: bytes) -> None:
    """Whether the form is right; BadKey if not. The point may still be off the curve."""
    if not public_key or public_key[0] not in _PREFIXES.get(len(public_key), b""):
        raise BadKey("a public key is 02 or 03 and 32 bytes, or 04 and 64 bytes")


def _point(public_key: bytes) -> coincurve.PublicKey:
    _check_point(public_key)
    try:
        return coincurve.PublicKey(public_key)
    except ValueError:
        raise BadKey("this public key is no point of the curve") from None


def recover_public_key(digest: bytes, signature: bytes) -> bytes | None:
    """The public key whose 65-byte signature of a digest this is; None if there is none.

    The form of the key is the one that the header names. Headers are 27 to 34;
    ZeroNet's default library also takes some higher ones, its other one does not.
    """
    if len(signature) != _SIGNATURE_BYTES:
        return None
    flags = signature[0] - _HEADER_BASE
    if not 0 <= flags <= 7:
        return None
    compact = signature[1:] + bytes([flags & 3])
    try:
        key = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except ValueError:
        return None
    return key.format(compressed=bool(flags & _HEADER_COMPRESSED))


def is_low(signature: bytes) -> bool:
    """Whether a 65-byte signature has the lower of its two possible s (BIP 62)."""
    return int.from_bytes(signature[33:], "big") <= ORDER // 2


def address_of(public_key: bytes) -> str:
    """The address of a public key, in exactly the form given; the point is not checked."""
    payload = bytes([_ADDRESS_VERSION]) + hash160(public_key)
    return base58.b58encode_check(payload).decode("ascii")


def hash160(data: bytes) -> bytes:
    """RIPEMD160 of SHA256: 20 bytes."""
    return _ripemd160(hashlib.sha256(data).digest())


@functools.lru_cache(maxsize=4096)
def decode_address(text: str) -> bytes:
    """The 20-byte HASH160 inside an address; BadKey if version or checksum is wrong.

    Cached, since the same few signers come again and again.
    """
    payload = _from_base58(text) if is_site_address(text) else None
    if payload is None or len(payload) != 21 or payload[0] != _ADDRESS_VERSION:
        raise BadKey(f"{text[:40]!r} is no address: it is mistyped, or something else")
    return payload[1:]


def is_address(text: object) -> bool:
    """Whether something is an address with a right checksum."""
    if not isinstance(text, str):
        return False
    try:
        decode_address(text)
    except BadKey:
        return False
    return True


def _from_base58(text: str) -> bytes | None:
    """Undo Base58Check; the caller has bounded the length, which costs its square."""
    try:
        return base58.b58decode_check(text)
    except ValueError:
        return None


def _ripemd160_openssl(data: bytes) -> bytes:
    return hashlib.new("ripemd160", data, usedforsecurity=False).digest()


def _ripemd160_pycryptodome(data: bytes) -> bytes:
    return RIPEMD160.new(data).digest()


def _choose_ripemd160() -> Callable[[bytes], bytes]:
    """OpenSSL's, unless this build keeps it in the legacy provider: then the slower one."""
    try:
        _ripemd160_openssl(b"")
    except ValueError:
        return _ripemd160_pycryptodome
    return _ripemd160_openssl


_ripemd160 = _choose_ripemd160()
