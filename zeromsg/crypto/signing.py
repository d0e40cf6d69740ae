"""Signatures of text, and the hash that names a peer message.

A signature is base64 of 65 bytes from which the signer's public key can be
recovered, so verifying means recovering and comparing addresses. Signatures
can be rewritten without the key (high s): never use one as an identifier.
`verify` is the hot path of a node, so addresses are compared as their 20
bytes, without encoding Base58.
Source: ZeroNet peer protocol, sections 11.1 (messages) and 13 (signatures).
"""

import binascii
import hashlib
from collections.abc import Iterable

from zeromsg.crypto import keys
from zeromsg.crypto.keys import PrivateKey, decode_address, hash160
from zeromsg.errors import BadKey

SIGNATURE_LIMIT = 1024
"""Most characters of base64 that are looked at; 88 are needed."""

_PREFIX = b"\x18Bitcoin Signed Message:\n"


def digest(text: str) -> bytes:
    """The 32 bytes that are signed for a text. ValueError for lone surrogates."""
    data = text.encode()
    inner = hashlib.sha256(_PREFIX + _varint(len(data)) + data)
    return hashlib.sha256(inner.digest()).digest()


def _varint(number: int) -> bytes:
    """Bitcoin's variable-length integer."""
    if number < 0xFD:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    if number <= 0xFFFFFFFF:
        return b"\xfe" + number.to_bytes(4, "little")
    return b"\xff" + number.to_bytes(8, "little")


def sign(text: str, key: PrivateKey) -> str:
    """Sign a text: 88 characters of base64, the same each time.

    ValueError for lone surrogates, which have no UTF-8.
    """
    return binascii.b2a_base64(key.sign_digest(digest(text)), newline=False).decode("ascii")


def recover_public_key(text: str, signature: str) -> bytes | None:
    """The public key that made a signature; None for whatever is no signature.

    Base64 is read as leniently as other nodes read it: foreign characters are
    skipped, but the padding must be right.
    """
    if not signature or len(signature) > SIGNATURE_LIMIT:
        return None
    try:
        return keys.recover_public_key(digest(text), binascii.a2b_base64(signature))
    except ValueError:
        return None


def recover_hash160(text: str, signature: str) -> bytes | None:
    """The 20 bytes of the signer's address, as `decode_address` gives them; None if none.

    Never raises, whatever the text and the signature are.
    """
    public_key = recover_public_key(text, signature)
    return None if public_key is None else hash160(public_key)


def verify(text: str, address: str, signature: str) -> bool:
    """Whether the key of an address signed a text. Never raises."""
    return verified_key(text, address, signature) is not None


def verified_key(text: str, address: str, signature: str) -> bytes | None:
    """The public key of an address, if it signed a text; None otherwise. Never raises."""
    try:
        wanted = decode_address(address)
    except BadKey:
        return None
    public_key = recover_public_key(text, signature)
    return public_key if public_key is not None and hash160(public_key) == wanted else None


def verify_any(text: str, addresses: Iterable[str], signature: str) -> str | None:
    """Which of some addresses signed a text; None if none of them did.

    Addresses that are none are passed over.
    """
    signer = recover_hash160(text, signature)
    if signer is None:
        return None
    return next((address for address in addresses if _is_at(address, signer)), None)


def _is_at(address: str, signer: bytes) -> bool:
    try:
        return decode_address(address) == signer
    except BadKey:
        return False


def message_hash(nonce: str, raw: str) -> str:
    """The ID of a peer message: 64 hex digits over nonce and raw. ValueError if not ASCII."""
    return hashlib.sha256(f"{nonce},{raw}".encode("ascii")).hexdigest()


def message_text(address: str, message_hash: str, raw: str) -> str:
    """The text that the author of a peer message signs."""
    return f"{address}|{message_hash}|{raw}"
