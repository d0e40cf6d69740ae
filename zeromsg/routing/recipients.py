"""Whom a message is sealed to: from what a client says to keys.

A client names public keys, addresses, user IDs and shared keys. Addresses and
user IDs are those whose signed messages were seen on the site. A user ID that
has shown several addresses names nobody.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any

import attrs

from zeromsg.crypto.keys import is_address
from zeromsg.crypto.sealing import RECIPIENT_LIMIT, Recipient, SharedKey
from zeromsg.errors import BadKey, ClientError
from zeromsg.interfaces import IClient, IUser
from zeromsg.policy.signers import Signers
from zeromsg.routing.secrecy import Secrecy

_OPTIONS = {"to", "key", "fields", "hidden"}
_HEX = re.compile(r"0[23][0-9A-Fa-f]{64}|04[0-9A-Fa-f]{128}")
_BASE64 = re.compile(r"[0-9A-Za-z+/]{44}|[0-9A-Za-z+/]{87}=")
_SHOWN = 100


@attrs.frozen
class Sealing:
    """How a message is to be sealed. fields: None for all of it."""

    readers: Sequence[Recipient | SharedKey]
    fields: Sequence[str] | None
    hidden: bool


class Recipients:
    """Finds the keys of those that clients name."""

    def __init__(self, signers: Signers, secrecy: Secrecy) -> None:
        self._signers = signers
        self._secrecy = secrecy

    def resolve(self, client: IClient, user: IUser, site: str, encrypt: Any) -> Sealing:
        """Read the parameter `encrypt` of a sending command. Raises ClientError."""
        options = encrypt if isinstance(encrypt, dict) else {"to": encrypt}
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ClientError("invalid", f"encrypt has no option {sorted(unknown)[0][:_SHOWN]}")
        named = [] if "to" not in options else _listed(options["to"])
        if "key" in options:
            named = [*named, {"key": options["key"]}]
        if not 0 < len(named) <= RECIPIENT_LIMIT:
            raise ClientError("invalid", f"encrypt names no recipient, or over {RECIPIENT_LIMIT}")
        # Once each, in whatever ways they are named.
        readers = dict.fromkeys(self._reader(client, user, site, each) for each in named)
        hidden = options.get("hidden", False)
        if not isinstance(hidden, bool):
            raise ClientError("invalid", "encrypt.hidden must be true or false")
        return Sealing(tuple(readers), _fields(options.get("fields")), hidden)

    def _reader(self, client: IClient, user: IUser, site: str, named: Any) -> Recipient | SharedKey:
        if isinstance(named, dict) and set(named) == {"key"} and isinstance(named["key"], str):
            return self._secrecy.key_of(client, named["key"], site)
        if not isinstance(named, str):
            raise ClientError("invalid", "a recipient is a text, or a map with the key's name")
        public_key = _public_key(named)
        if public_key is None:
            public_key = None if site != client.site else _own(user, site, named)
        if public_key is None:
            public_key = self._known(site, named)
        try:
            return Recipient.of(public_key)
        except BadKey as problem:
            raise ClientError("invalid", f"{named[:_SHOWN]}: {problem}") from None

    def _known(self, site: str, named: str) -> bytes:
        """The key of an address or user ID that was heard of."""
        address = named
        if "@" in named:
            addresses = self._signers.addresses(site, named)
            if len(addresses) > 1:
                raise ClientError(
                    "denied",
                    f"{named[:_SHOWN]} has shown several keys; name one of {list(addresses)}",
                )
            address = addresses[0] if addresses else ""
        elif not is_address(named):
            raise ClientError("invalid", f"{named[:_SHOWN]!r} is no public key, address or user ID")
        public_key = self._signers.public_key(site, address)
        if public_key is None:
            raise ClientError(
                "invalid", f"no signed message of {named[:_SHOWN]} was seen on this site"
            )
        return public_key


def _own(user: IUser, site: str, named: str) -> bytes | None:
    """The user's own key, if it is named. Not under `as`: it would tell who she is elsewhere."""
    certificate = user.certificate(site)
    mine = {user.auth_address(site), certificate.user_id if certificate is not None else None}
    return user.auth_key(site).public_key if named in mine else None


def _listed(to: Any) -> list[Any]:
    return to if isinstance(to, list) else [to]


def _fields(value: Any) -> Sequence[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ClientError("invalid", "encrypt.fields must be a list of names")
    return value


def _public_key(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        return base64.b64decode(text)
    return None
