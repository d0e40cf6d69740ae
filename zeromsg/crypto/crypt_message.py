"""Encryption as ZeroNet's CryptMessage plugin does it: to a public key, or with a shared key.

To a public key (ECIES), `box`, in bytes:

    16   IV
    2    curve, 714 for secp256k1
    2    length of X, X       the public key of a key used only here
    2    length of Y, Y
    n    the text in UTF-8, PKCS#7, AES-256-CBC
    32   HMAC-SHA256 of everything before

SHA512 of the shared secret is the AES key and the MAC key, 32 bytes each.
Numbers are big-endian. X and Y have 32 bytes; older writers leave out leading
zeros. What was changed does not open, and nothing tells why.

With a shared key there is an IV and AES-256-CBC alone: whoever changes the IV
changes the text's first 16 bytes unseen.
Source: ZeroFrame API, CryptMessage.
"""

import hashlib
import hmac

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from zeromsg.crypto.keys import Entropy, PrivateKey, agree_once
from zeromsg.errors import BadKey

TEXT_LIMIT = 1024 * 1024
"""Most bytes of a text in UTF-8."""

KEY_BYTES = 32
"""Of a shared key."""

_BLOCK = 16
_CURVE = 714
_COORDINATE = 32
_MAC = 32
_CIPHERTEXT_LIMIT = TEXT_LIMIT + _BLOCK
_HEAD_LIMIT = _BLOCK + 2 + 2 * (2 + _COORDINATE)

BOX_LIMIT = _HEAD_LIMIT + _CIPHERTEXT_LIMIT + _MAC
"""Most bytes of a box: what a text of TEXT_LIMIT makes."""


@attrs.frozen
class Sealed:
    """A text for the owner of a public key, and the AES key inside, for whom it may concern."""

    box: bytes
    aes_key: bytes = attrs.field(repr=False)


@attrs.frozen
class _Parts:
    """A box taken apart. signed: what the MAC is about."""

    iv: bytes
    public_key: bytes
    ciphertext: bytes
    signed: bytes
    mac: bytes


def seal(text: str, public_key: bytes, entropy: Entropy) -> Sealed:
    """Encrypt to a public key, compressed or not.

    Raises BadKey for what is none, and ValueError for lone surrogates and a
    text over TEXT_LIMIT.
    """
    plain = _encode(text)
    ours, secret = agree_once(public_key, entropy)
    aes_key, mac_key = _keys_of(secret)
    iv = entropy(_BLOCK)
    size = _COORDINATE.to_bytes(2, "big")
    x, y = ours[1:33], ours[33:]
    signed = iv + _CURVE.to_bytes(2, "big") + size + x + size + y + _encrypt(plain, aes_key, iv)
    return Sealed(signed + hmac.digest(mac_key, signed, "sha256"), aes_key)


def open_sealed(box: bytes, key: PrivateKey) -> str | None:
    """The text in a box, None for whatever this key does not open. Never raises."""
    parts = _take_apart(box)
    if parts is None:
        return None
    try:
        aes_key, mac_key = _keys_of(key.shared_secret(parts.public_key))
    except BadKey:
        return None
    if not hmac.compare_digest(hmac.digest(mac_key, parts.signed, "sha256"), parts.mac):
        return None
    return _decrypt(parts.ciphertext, aes_key, parts.iv)


def aes_encrypt(text: str, key: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """IV and ciphertext of a text under a shared key; both are empty for an empty text.

    Raises BadKey unless the key has KEY_BYTES, and ValueError as `seal` does.
    """
    if len(key) != KEY_BYTES:
        raise BadKey(f"a shared key has {KEY_BYTES} bytes")
    plain = _encode(text)
    if not plain:
        return b"", b""
    iv = entropy(_BLOCK)
    return iv, _encrypt(plain, key, iv)


def aes_decrypt(iv: bytes, ciphertext: bytes, key: bytes) -> str | None:
    """The text under a shared key, None if there is none, or an empty one. Never raises.

    Nothing tells a wrong key's text apart, should it once in a great while give one.
    """
    if len(key) != KEY_BYTES or len(iv) != _BLOCK:
        return None
    return _decrypt(ciphertext, key, iv) or None


def _take_apart(box: bytes) -> _Parts | None:
    if len(box) > BOX_LIMIT:
        return None
    signed, mac = box[:-_MAC], box[-_MAC:]
    iv, curve, rest = signed[:_BLOCK], signed[_BLOCK : _BLOCK + 2], signed[_BLOCK + 2 :]
    if int.from_bytes(curve, "big") != _CURVE:
        return None
    coordinates = []
    for _ in "xy":
        size = int.from_bytes(rest[:2], "big")
        if size > _COORDINATE or len(rest) < 2 + size:
            return None
        coordinates.append(rest[2 : 2 + size].rjust(_COORDINATE, b"\0"))
        rest = rest[2 + size :]
    return _Parts(iv, b"\x04" + b"".join(coordinates), rest, signed, mac)


def _keys_of(secret: bytes) -> tuple[bytes, bytes]:
    """The AES key and the MAC key that follow from a shared secret."""
    both = hashlib.sha512(secret).digest()
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _encode(text: str) -> bytes:
    plain = text.encode()
    if len(plain) > TEXT_LIMIT:
        raise ValueError(f"a text of over {TEXT_LIMIT} bytes is not encrypted")
    return plain


def _encrypt(plain: bytes, key: bytes, iv: bytes) -> bytes:
    padder = PKCS7(8 * _BLOCK).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()


def _decrypt(ciphertext: bytes, key: bytes, iv: bytes) -> str | None:
    if len(ciphertext) % _BLOCK or not 0 < len(ciphertext) <= _CIPHERTEXT_LIMIT:
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(8 * _BLOCK).unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    try:
        return (unpadder.update(padded) + unpadder.finalize()).decode()
    except ValueError:
        return None
