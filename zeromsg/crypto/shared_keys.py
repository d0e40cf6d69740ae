"""Keys that several people hold: from text, and what a group signs with.

A shared key is 32 random bytes as hex or base64, or else a passphrase, which
is stretched with scrypt (RFC 7914) and a salt of the site, so that one list of
guesses does not serve against all sites. From the key of a group follows the
key pair with which its members sign, so that who does not know the secret can
still tell, by the public key in the site's rules, what members sent.
"""

import base64
import binascii
import hashlib
import re

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from zeromsg.crypto.keys import ORDER, Entropy, PrivateKey, is_low
from zeromsg.crypto.sealing import KEY_BYTES, SharedKey
from zeromsg.crypto.signing import recover_public_key, sign
from zeromsg.errors import BadKey

TEXT_LIMIT = 1024
"""Most characters of a key or passphrase."""

PASSPHRASE_LEAST = 8
"""Shorter ones are guessed whatever is done to them."""

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_BASE64 = re.compile(r"[0-9A-Za-z+/]{43}=")
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
"""32 MiB and about a tenth of a second."""

_GROUP = b"zeromsg group 1 sign"
_SIGNED = "zeromsg group 1"
_MEMBER = ', "group": "'
_SIGNATURE = re.compile(r"[0-9A-Za-z+/]{87}=")
_TAIL = len(_MEMBER) + 88 + len('"}')


def random_key(entropy: Entropy) -> str:
    """A fresh key as text: 44 characters of base64."""
    return base64.b64encode(entropy(KEY_BYTES)).decode("ascii")


def is_random_key(text: str) -> bool:
    """Whether a text is a key itself, and no passphrase."""
    return bool(_HEX.fullmatch(text) or _BASE64.fullmatch(text))


def shared_key(text: str, site: str) -> SharedKey:
    """The key that a text stands for on a site; takes a tenth of a second for a passphrase.

    Raises BadKey.
    """
    if _HEX.fullmatch(text):
        return SharedKey(bytes.fromhex(text))
    if _BASE64.fullmatch(text):
        return SharedKey(binascii.a2b_base64(text))
    check_text(text)
    salt = hashlib.sha256(f"zeromsg shared key 1 {site}".encode()).digest()
    return SharedKey(Scrypt(salt=salt, length=KEY_BYTES, **_SCRYPT).derive(text.encode()))


def check_text(text: str) -> None:
    """Whether a key or passphrase can be used, without the work. Raises BadKey."""
    if len(text) > TEXT_LIMIT:
        raise BadKey(f"a passphrase has at most {TEXT_LIMIT} characters")
    if len(text) < PASSPHRASE_LEAST:
        raise BadKey(f"a passphrase has at least {PASSPHRASE_LEAST} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadKey("a passphrase must be Unicode text") from None


# Groups


def group_key(shared: SharedKey, site: str) -> PrivateKey:
    """What members of a group sign with on a site."""
    # 16 bytes more than the order has, so that the remainder is even to 2^-128.
    made = HKDF(hashes.SHA256(), 48, site.encode(), _GROUP).derive(shared.secret)
    secret = int.from_bytes(made, "big") % (ORDER - 1) + 1
    return PrivateKey(secret.to_bytes(32, "big"), compressed=True)


def group_signed(raw: str, nonce: str, key: PrivateKey) -> str:
    """`raw`, a JSON map, with the group's signature as its last member.

    It covers the nonce too: otherwise an outsider could send a member's message
    again and again under other hashes.
    """
    signature = sign(f"{_SIGNED}|{nonce}|{raw}", key)
    return f'{raw[:-1]}{_MEMBER}{signature}"}}'


def is_group_signed(raw: str, nonce: str, public_key: bytes) -> bool:
    """Whether `raw` ends with the group's signature. public_key: 33 bytes. Never raises.

    It lies in `raw`, so of the many ways to write one signature only the way
    that members write it counts: an outsider's rewriting would be a message anew.
    """
    tail = raw[-_TAIL:]
    signature = tail[len(_MEMBER) : -2]
    if not (tail.startswith(_MEMBER) and tail.endswith('"}') and _SIGNATURE.fullmatch(signature)):
        return False
    data = base64.b64decode(signature)
    if base64.b64encode(data).decode("ascii") != signature or not is_low(data):
        return False
    text = f"{_SIGNED}|{nonce}|{raw[:-_TAIL]}}}"
    return recover_public_key(text, signature) == public_key
