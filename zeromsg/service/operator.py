"""What the operator of a running node can ask of it, beside its status."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from zeromsg.crypto.cert import FIELD_LIMIT
from zeromsg.errors import ClientError, ConfigError
from zeromsg.policy.scoring import BAN_SECONDS, LONGEST_BAN
from zeromsg.routing.blame import spelled_identity
from zeromsg.service.node import Node
from zeromsg.service.peer_report import report
from zeromsg.service.user_admin import administer, text_or_none, user_named
from zeromsg.wire.values import is_site_address

_HASH_FORM = re.compile("[0-9a-f]{8,64}")
_UNKNOWN_MESSAGE = "this node knows nothing of that message, or no more"
_IDENTITY_LIMIT = 100
_LIMITS = {"reason": 200, "id": 2 * FIELD_LIMIT + 1}
"""Of other texts: a user ID is name@domain."""


def operate(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run one command; its result as a JSON map. Raises ClientError.

    why: `hash`, whole or the first digits of it. bans: nothing.
    peers: `site`, or nothing for all of them.
    ban: `identity`, `seconds`, `reason`. pardon: `identity`.
    site_join, site_leave: `address`.
    prompts: nothing. prompt_answer: `id` and `answer`, which may be left out where
    there is one choice only, or `no` (true).
    identities: `site`. identity_keep: `site`, `id`, `address`.
    user_key: `site`, `user`. Users and certificates: see `user_admin.administer`.
    """
    try:
        return _operate(node, cmd, params)
    except ConfigError as problem:  # a file or the database, which cannot be written
        raise ClientError("internal", str(problem)) from None


def _operate(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _users(node, cmd, params)
    if found is not None:
        return found
    if cmd == "site_join":
        return {"joined": _address(params), "new": node.join(_address(params))}
    if cmd == "site_leave":
        node.leave(_address(params))
        return {"left": _address(params)}
    if cmd == "prompts":
        return {"prompts": node.prompts.waiting()}
    if cmd == "prompt_answer":
        id, answer = _text(params, "id"), text_or_none(params, "answer")
        if params.get("no") is True:
            node.prompts.answer(id, None)
        else:
            node.prompts.answer(id, node.prompts.only_choice(id) if answer is None else answer)
        return {"answered": id}
    if cmd in ("identities", "identity_keep"):
        return _identities(node, cmd, params)
    return _messages(node, cmd, params)


def _identities(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What user IDs have shown on a site, and which address one of them means."""
    site = _text(params, "site")
    if cmd == "identities":
        return {
            "identities": [
                {"id": named.user_id, "address": named.address, "first": named.first}
                for named in node.signers.users(site)
            ]
        }
    user_id, address = _text(params, "id"), _text(params, "address")
    if not node.signers.keep_only(site, user_id, address):
        raise ClientError("invalid", "that user ID has not shown several addresses, or not this")
    return {"kept": address}


def _users(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A command about users, None for others."""
    if cmd == "user_key":
        user = user_named(node.users, text_or_none(params, "user"))
        key = node.key_of(_text(params, "site"), node.user_of(user.master_address) or "")
        if key is None:
            raise ClientError("unsupported", "this node does not hold that site")
        return {"key": key, "master_address": user.master_address}
    result = administer(node.users, cmd, params)
    if cmd == "cert_select" and result is not None:
        user = user_named(node.users, text_or_none(params, "user"))
        node.cert_commands.changed(user, params["site"], result["selected"])
    return result


def _messages(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A command about messages and who sends them."""
    if cmd == "why":
        hash = _hash(node, params)
        found = node.why(hash)
        if found is None:
            raise ClientError("invalid", _UNKNOWN_MESSAGE)
        return {"hash": hash, **found}
    if cmd == "bans":
        return {
            "bans": [
                {
                    "identity": ban.identity,
                    "until": ban.until,
                    "strikes": ban.strikes,
                    "reason": ban.reason,
                }
                for ban in node.bans()
            ]
        }
    if cmd == "peers":
        return {"peers": report(node, _sites(node, params), node.now())}
    if cmd == "ban":
        try:
            identity = spelled_identity(_text(params, "identity"))
        except ValueError as problem:
            raise ClientError("invalid", f"identity: {problem}") from None
        node.ban(identity, _seconds(params), _text(params, "reason", "by hand"))
        return {"banned": identity}
    if cmd == "pardon":
        identity = _text(params, "identity")
        with suppress(ValueError):  # an old ban may be of anything
            identity = spelled_identity(identity)
        return {"pardoned": node.pardon(identity)}
    raise ClientError("unsupported", "the operator has no such command")


def _hash(node: Node, params: Mapping[str, Any]) -> str:
    """The whole hash of a message, of which a beginning may be given."""
    text = _text(params, "hash").lower()
    if not _HASH_FORM.fullmatch(text):
        raise ClientError("invalid", "hash must be 64 hex digits, or at least the first 8 of them")
    found = node.recorder.hashes(text)
    if not found:
        raise ClientError("invalid", _UNKNOWN_MESSAGE)
    if len(found) > 1:
        raise ClientError("invalid", "several messages begin like that: give more of the hash")
    return found[0]


def _sites(node: Node, params: Mapping[str, Any]) -> Sequence[str]:
    if "site" not in params:
        return node.sites.addresses()
    site = _text(params, "site")
    if node.sites.get(site) is None:
        raise ClientError("unsupported", f"this node does not hold the site {site}")
    return [site]


def _text(params: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = params.get(name, default)
    limit = _LIMITS.get(name, _IDENTITY_LIMIT)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise ClientError("invalid", f"{name} must be a text of at most {limit} characters")
    return value


def _address(params: Mapping[str, Any]) -> str:
    address = _text(params, "address")
    if not is_site_address(address):
        raise ClientError("invalid", "address must be the address of a site")
    return address


def _seconds(params: Mapping[str, Any]) -> float:
    value = params.get("seconds", BAN_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ClientError("invalid", "seconds must be a number above 0")
    # In this order: a whole number may be too large for a float.
    return float(min(value, LONGEST_BAN))
