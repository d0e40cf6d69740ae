"""Certificates: an issuer says that an address belongs to a user name.

On the wire a certificate is `[auth_type, auth_user_name, issuer, cert_sign]`,
for example `["web", "alice", "zeroid.bit", "<base64>"]`. The issuer's key signs
`<address>#<auth_type>/<auth_user_name>`. A site lists the issuers it accepts.
Source: ZeroNet peer protocol, sections 11.1, 11.2 (check 8) and 14.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from zeromsg.crypto.keys import decode_address
from zeromsg.crypto.signing import recover_hash160
from zeromsg.errors import BadKey, TheirMistake

FIELD_LIMIT = 255
"""Most characters of auth_type, auth_user_name and issuer."""

SIGN_LIMIT = 1024
"""Most characters of cert_sign; 88 are needed."""


@attrs.frozen
class Certificate:
    """A claim of an issuer, not yet verified. Raises ValueError when ambiguous or too long.

    auth_type: without `/`, and issuer: without `@`. Otherwise one signature
    would stand for two users: `web` `a/b` and `web/a` `b` have the same text.
    """

    auth_type: str
    auth_user_name: str
    issuer: str
    cert_sign: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if "/" in self.auth_type or "@" in self.issuer:
            raise ValueError("a certificate with / in its type or @ in its issuer is ambiguous")
        if max(map(len, (self.auth_type, self.auth_user_name, self.issuer))) > FIELD_LIMIT:
            raise ValueError(f"a part of a certificate is longer than {FIELD_LIMIT} characters")
        if len(self.cert_sign) > SIGN_LIMIT:
            raise ValueError(f"a certificate's signature is longer than {SIGN_LIMIT} characters")

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Read the list of four that a peer sent, as str or as bytes; TheirMistake otherwise."""
        if not isinstance(value, list | tuple) or len(value) != 4:
            raise TheirMistake("a certificate is a list of four")
        try:
            return cls(*map(_text, value))
        except UnicodeError:
            raise TheirMistake("a part of a certificate is no UTF-8") from None
        except ValueError as error:
            raise TheirMistake(str(error)) from None

    @classmethod
    def from_user_id(cls, auth_type: str, user_id: str, cert_sign: str) -> Self:
        """Build from `name@issuer`, as content.json has it. ValueError without an `@`."""
        name, at, issuer = user_id.rpartition("@")
        if not at:
            raise ValueError("a user ID is name@issuer")
        return cls(auth_type, name, issuer, cert_sign)

    def to_wire(self) -> list[str]:
        """The list of four, as `from_wire` takes it."""
        return [self.auth_type, self.auth_user_name, self.issuer, self.cert_sign]

    @property
    def user_id(self) -> str:
        """What users are shown: `name@issuer`."""
        return f"{self.auth_user_name}@{self.issuer}"

    @property
    def text(self) -> str:
        """What pages and permission rules see: `type/name@issuer`."""
        return f"{self.auth_type}/{self.user_id}"


def _text(item: object) -> str:
    text = item.decode() if isinstance(item, bytes) else item
    if not isinstance(text, str):
        raise ValueError("a part of a certificate is no text")
    text.encode()  # lone surrogates cannot be signed
    return text


def cert_subject(address: str, cert: Certificate) -> str:
    """The text that the issuer signs: `<address>#<type>/<name>`."""
    return f"{address}#{cert.auth_type}/{cert.auth_user_name}"


def verify_cert(
    address: str, cert: Certificate, issuers: Mapping[str, str | Sequence[str]]
) -> bool:
    """Whether an accepted issuer says that this address is this user.

    issuers: the `cert_signers` of a site: domain to an address or several. It
    comes from a stranger's file, so entries of any other type count as none.
    """
    signer = _signer(cert_subject(address, cert), cert.cert_sign)
    if signer is None:
        return False
    return any(_hash160_of(item) == signer for item in _as_list(issuers.get(cert.issuer)))


def _as_list(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list | tuple) else []


def _hash160_of(address: object) -> bytes | None:
    try:
        return decode_address(address) if isinstance(address, str) else None
    except BadKey:
        return None


@functools.lru_cache(maxsize=1024)
def _signer(subject: str, signature: str) -> bytes | None:
    """Cached: an author attaches the same certificate to every message."""
    return recover_hash160(subject, signature)
