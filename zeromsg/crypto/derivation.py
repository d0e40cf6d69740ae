"""All keys of a user from one seed: one step of BIP 32, not hardened.

The seed is 64 hex digits. Its digits themselves, not the 32 bytes they stand
for, are the input of the first HMAC; that is how ZeroNet does it, so it stays.
Source: ZeroNet peer protocol, section 13 (keys of a user); ZeroFrame API, CryptMessage.
"""

import functools
import hashlib
import hmac

from zeromsg.crypto.keys import ORDER, Entropy, PrivateKey
from zeromsg.errors import BadKey

CHILDREN = 100_000_000
"""Child numbers are taken modulo this."""

ENCRYPTION_KEYS = 1001
"""Encryption keys of a user on a site: index 0 to 1000."""

_FIRST_ENCRYPTION_KEY = 1000
"""How far they are from the auth key."""

_USERS = 1024
"""Whose keys are remembered: the keys of all users of a node may be tried on one message."""


def new_seed(entropy: Entropy) -> str:
    """A fresh master seed: 64 lower-case hex digits."""
    return PrivateKey.generate(entropy).secret.hex()


@functools.lru_cache(maxsize=64)
def master_address(seed: str) -> str:
    """The address a user is filed under. BadKey for a bad seed."""
    return PrivateKey.from_hex(seed).address


@functools.lru_cache(maxsize=4 * _USERS)
def child_key(seed: str, index: int) -> PrivateKey:
    """Child key number `index` (modulo CHILDREN), uncompressed. BadKey for a bad seed."""
    parent, chain, public_key = _parent(seed)
    number = (index % CHILDREN).to_bytes(4, "big")
    step = hmac.digest(chain, public_key + number, "sha512")[:32]
    child = (parent + int.from_bytes(step, "big")) % ORDER
    return PrivateKey(child.to_bytes(32, "big"))


def auth_key(seed: str, site_address: str) -> PrivateKey:
    """The key a user signs with on a site, unless a certificate is selected there."""
    return child_key(seed, text_index(site_address) % CHILDREN)


def encryption_key(seed: str, site_address: str, domain: str, index: int) -> PrivateKey:
    """The key a user decrypts with on a site: another one for each index and certificate.

    domain: issuer of the certificate that is selected there, or "".
    Raises ValueError for an index out of ENCRYPTION_KEYS.
    """
    if not 0 <= index < ENCRYPTION_KEYS:
        raise ValueError(f"a user has encryption keys 0 to {ENCRYPTION_KEYS - 1} on a site")
    child = text_index(site_address) + _FIRST_ENCRYPTION_KEY + index + text_index(domain)
    return child_key(seed, child % CHILDREN)


def text_index(text: str) -> int:
    """Text as a child number: its bytes, read as one big-endian integer."""
    return int.from_bytes(text.encode(), "big")


@functools.lru_cache(maxsize=_USERS)
def _parent(seed: str) -> tuple[int, bytes, bytes]:
    """Secret, chain code and compressed public key above the children."""
    PrivateKey.from_hex(seed)  # says BadKey
    extended = hmac.new(b"Bitcoin seed", seed.encode("ascii"), hashlib.sha512).digest()
    secret, chain = extended[:32], extended[32:]
    try:
        public_key = PrivateKey(secret, compressed=True).public_key
    except BadKey:
        raise BadKey("this seed has no children; make another one") from None
    return int.from_bytes(secret, "big"), chain, public_key
