"""A document under a passphrase, as JSON.

    {"zeromsg_sealed": 1,
     "kdf": {"name": "scrypt", "n": 65536, "r": 8, "p": 1, "salt": "<32 hex digits>"},
     "cipher": "chacha20-poly1305",
     "nonce": "<24 hex digits>",
     "data": "<base64>"}

The key is scrypt (RFC 7914) of the passphrase in Unicode's form C, as UTF-8;
`data` is ChaCha20-Poly1305 (RFC 8439) of the document, with everything but
`data` as associated data: the members `zeromsg_sealed`, `kdf`, `cipher` and
`nonce` as JSON without spaces and with sorted keys.

What a file says of its own cost is bounded before any of it is spent. Whether
the passphrase is wrong or the file was changed cannot be told, nor is it.
"""

import base64
import unicodedata
from typing import Any, Final, Self

import attrs
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from zeromsg.crypto.keys import Entropy
from zeromsg.errors import ZeromsgError
from zeromsg.wire.json_text import load

MARK: Final = "zeromsg_sealed"
"""The member that tells a container from any other JSON; its value is the version."""

VERSION: Final = 1
COST: Final = 1 << 16
"""scrypt's N for new containers: 64 MiB and about 0.2 seconds with r = 8 and p = 1."""

PASSPHRASE_LIMIT: Final = 1024
"""Most characters of a passphrase."""

_COSTS = (1 << 10, 1 << 18)
_R = (1, 16)
_P = (1, 4)
_MEMORY_LIMIT = 256 * 1024 * 1024
_SALT_BYTES = 16
_SALTS = (16, 64)
_NONCE_BYTES = 12
_KEY_BYTES = 32
_CIPHER = "chacha20-poly1305"


class BadContainer(ZeromsgError):
    """What is wrong with a container, before any passphrase is tried."""


class WrongPassphrase(ZeromsgError):
    """The passphrase does not open the container, or it was changed since it was made."""

    def __init__(self) -> None:
        super().__init__("the passphrase is wrong, or the file was damaged")


class _Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    n: int
    r: int
    p: int
    salt: str


class _Container(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zeromsg_sealed: int
    kdf: _Kdf
    cipher: str
    nonce: str
    data: str


@attrs.frozen
class ContainerKey:
    """A key made from a passphrase, good for one document over its life.

    salt, n, r, p: how scrypt made it. Every sealing draws its own nonce.
    """

    salt: bytes
    n: int
    r: int
    p: int
    key: bytes = attrs.field(repr=False)

    @classmethod
    def new(cls, passphrase: str, entropy: Entropy, cost: int = COST) -> Self:
        """With a fresh salt. Takes the time and memory of `COST`."""
        return cls.derive(passphrase, entropy(_SALT_BYTES), cost, 8, 1)

    @classmethod
    def derive(cls, passphrase: str, salt: bytes, n: int, r: int, p: int) -> Self:
        key = Scrypt(salt=salt, length=_KEY_BYTES, n=n, r=r, p=p).derive(_secret(passphrase))
        return cls(salt, n, r, p, key)

    def opens_with(self, passphrase: str) -> bool:
        """Whether it was made from this passphrase; costs as much as making it."""
        try:
            other = self.derive(passphrase, self.salt, self.n, self.r, self.p)
        except WrongPassphrase:
            return False
        return other.key == self.key

    def seal(self, document: bytes, entropy: Entropy) -> str:
        """The container of a document, as JSON text in ASCII."""
        nonce = entropy(_NONCE_BYTES)
        head = {
            MARK: VERSION,
            "kdf": {
                "name": "scrypt",
                "n": self.n,
                "r": self.r,
                "p": self.p,
                "salt": self.salt.hex(),
            },
            "cipher": _CIPHER,
            "nonce": nonce.hex(),
        }
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce, document, _bound(head))
        return msgspec.json.encode({**head, "data": base64.b64encode(sealed).decode()}).decode()


def is_container(value: object) -> bool:
    """Whether decoded JSON is, or says it is, a container of whatever version."""
    return isinstance(value, dict) and MARK in value


def unseal(text: str, passphrase: str) -> tuple[bytes, ContainerKey]:
    """The document, and the key to seal later versions of it with.

    Raises BadContainer, WrongPassphrase.
    """
    container = _read(text)
    kdf = container.kdf
    key = ContainerKey.derive(passphrase, _hex(kdf.salt), kdf.n, kdf.r, kdf.p)
    try:
        sealed = base64.b64decode(container.data, validate=True)
    except ValueError:
        raise BadContainer("its data is no base64") from None
    head = msgspec.to_builtins(container)
    del head["data"]
    try:
        plain = ChaCha20Poly1305(key.key).decrypt(_hex(container.nonce), sealed, _bound(head))
    except InvalidTag:
        raise WrongPassphrase from None
    return plain, key


def _read(text: str) -> _Container:
    try:
        value = load(text)
    except ValueError as problem:
        raise BadContainer(f"this is no JSON: {problem}") from None
    version = value.get(MARK) if isinstance(value, dict) else None
    if type(version) is int and version != VERSION:
        raise BadContainer(f"it has version {version}, and this zeromsg knows {VERSION}")
    try:
        container = msgspec.convert(value, _Container, strict=True)
    except msgspec.ValidationError as problem:
        raise BadContainer(f"it is not as it should be: {problem}") from None
    _check(container)
    return container


def _check(container: _Container) -> None:
    kdf = container.kdf
    if kdf.name != "scrypt" or container.cipher != _CIPHER:
        raise BadContainer("it names a key derivation or a cipher that this zeromsg does not know")
    if kdf.n & (kdf.n - 1):
        raise BadContainer("kdf.n is no power of two")
    for name, value, (least, most) in (
        ("n", kdf.n, _COSTS),
        ("r", kdf.r, _R),
        ("p", kdf.p, _P),
        ("salt", len(_hex(kdf.salt)), _SALTS),
    ):
        if not least <= value <= most:
            raise BadContainer(f"kdf.{name} is not between {least} and {most}")
    if 128 * kdf.n * kdf.r > _MEMORY_LIMIT:
        raise BadContainer(f"its kdf would take over {_MEMORY_LIMIT} bytes")
    if len(_hex(container.nonce)) != _NONCE_BYTES:
        raise BadContainer(f"its nonce has not {_NONCE_BYTES} bytes")


def _hex(digits: str) -> bytes:
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise BadContainer("its salt or nonce is no hex") from None
    if value.hex() != digits:
        raise BadContainer("its salt or nonce is not in lower-case hex")
    return value


def _bound(head: dict[str, Any]) -> bytes:
    return msgspec.json.encode(head, order="sorted")


def _secret(passphrase: str) -> bytes:
    """Raises WrongPassphrase for what can be none: so it is no right one either."""
    if not 0 < len(passphrase) <= PASSPHRASE_LIMIT:
        raise WrongPassphrase
    try:
        return unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise WrongPassphrase from None
