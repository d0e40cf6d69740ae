"""Onion addresses and the keys behind them: who owns an onion can prove it.

An onion of version 3 is the base32 of an Ed25519 public key (32 bytes), two
bytes of checksum and the version. Tor keeps the private key expanded: 64 bytes,
a scalar and a prefix, which is what comes after the seed of RFC 8032 was
hashed; so it cannot be given to libraries that begin with the seed, and signing
is written out here on the library's curve. Onions of version 2 (80 bits of the
SHA-1 of an RSA key) are only verified: old nodes still prove them to trackers.
Source: Tor rend-spec-v3 (1.2, 6; appendix A.2), RFC 8032 (5.1); ZeroNet peer
protocol, section 10.1 (onion proof).
"""

import base64
import hashlib

import attrs
from Crypto.PublicKey.ECC import EccPoint  # type: ignore[attr-defined]  # documented there
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from zeromsg.errors import BadKey

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Number of points in the subgroup that Ed25519 works in."""

KEY_BYTES = 64
"""An expanded private key: scalar, little-endian, and prefix."""

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64

_VERSION = b"\x03"
_TOR_PREFIX = "ED25519-V3:"
_RSA_BITS = range(1024, 4097)
_BASE = EccPoint(
    x=15112221349535400772501151409588531511454012693041857206046113283949847762202,
    y=46316835694926478169428394003475163141307993866256225615783033603165251855960,
    curve="Ed25519",
)


@attrs.frozen
class OnionKey:
    """The private key of an onion of version 3. Its repr shows no secret.

    expanded: 64 bytes as Tor keeps them; BadKey for anything else.
    """

    expanded: bytes = attrs.field(repr=False)

    @expanded.validator
    def _check(self, _: object, expanded: bytes) -> None:
        # The clamping of RFC 8032: without it the key would not be Tor's own.
        if len(expanded) != KEY_BYTES or expanded[0] & 7 or expanded[31] & 0xC0 != 0x40:
            raise BadKey("an onion's key has 64 bytes, of which three are partly fixed")

    @classmethod
    def from_seed(cls, seed: bytes) -> "OnionKey":
        """The key of a seed of 32 random bytes, as Tor and RFC 8032 expand it."""
        if len(seed) != 32:
            raise BadKey("a seed has 32 bytes")
        digest = bytearray(hashlib.sha512(seed).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        return cls(bytes(digest))

    @classmethod
    def from_tor(cls, text: str) -> "OnionKey":
        """Read the base64 that Tor gives and takes, with or without `ED25519-V3:`."""
        try:
            return cls(base64.b64decode(text.removeprefix(_TOR_PREFIX), validate=True))
        except ValueError:
            raise BadKey("an onion's key is base64 of 64 bytes") from None

    def to_tor(self) -> str:
        """What ADD_ONION takes."""
        return _TOR_PREFIX + base64.b64encode(self.expanded).decode("ascii")

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return _compress(_BASE * self._scalar)

    @property
    def onion(self) -> str:
        """56 characters, without `.onion`."""
        return onion_of(self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes: an ordinary Ed25519 signature."""
        public = self.public
        nonce = _number(self.expanded[32:], message)
        point = _compress(_BASE * nonce)
        challenge = _number(point, public, message)
        proof = (nonce + challenge * self._scalar) % ORDER
        return point + proof.to_bytes(32, "little")

    @property
    def _scalar(self) -> int:
        return int.from_bytes(self.expanded[:32], "little")


def _number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def _compress(point: EccPoint) -> bytes:
    """32 bytes of a point: y, little-endian, and the lowest bit of x on top."""
    x, y = int(point.x), int(point.y)
    return (y | (x & 1) << 255).to_bytes(PUBLIC_BYTES, "little")


def onion_of(public: bytes) -> str:
    """The onion of version 3, without `.onion`, that 32 bytes of public key have."""
    if len(public) != PUBLIC_BYTES:
        raise BadKey("an onion's public key has 32 bytes")
    digest = hashlib.sha3_256(b".onion checksum" + public + _VERSION).digest()
    return base64.b32encode(public + digest[:2] + _VERSION).decode("ascii").lower()


def public_of(onion: str) -> bytes:
    """The public key in an onion of version 3, with or without `.onion`.

    Raises BadKey for a wrong length, alphabet, checksum or version.
    """
    name = onion.removesuffix(".onion")
    try:
        public = base64.b32decode(name.upper().encode("ascii"))[:PUBLIC_BYTES]
    except ValueError:
        raise BadKey("that is no onion") from None
    if len(name) != 56 or onion_of(public) != name:
        raise BadKey("that is no onion of version 3: is it mistyped?")
    return public


def proven_onion(public: bytes, signature: bytes, message: bytes) -> str | None:
    """The onion, without `.onion`, whose key signed; None if the signature is not good.

    public: 32 bytes of Ed25519, or an RSA key of 1024 to 4096 bits as PKCS#1
    DER for version 2, which is signed for by PKCS#1 v1.5 with SHA-256.
    Bad input is answered with None, never raised.
    """
    if len(public) == PUBLIC_BYTES:
        return onion_of(public) if _ed25519_holds(public, signature, message) else None
    if not _rsa_holds(public, signature, message):
        return None
    digest = hashlib.sha1(public, usedforsecurity=False).digest()
    return base64.b32encode(digest[:10]).decode("ascii").lower()


def _ed25519_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _rsa_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        key = load_der_public_key(public)
        if not isinstance(key, RSAPublicKey) or key.key_size not in _RSA_BITS:
            return False
        key.verify(signature, message, PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True
