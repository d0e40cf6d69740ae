"""A site's P2P rules: from `p2p.json`, or the older `p2p_*` keys of content.json, to values.

The rules come from strangers. They are compiled once; rules that do not
compile make a site that takes no messages, and the reason is kept.
Source: ZeroNet peer protocol, p2p.json.
"""

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from zeromsg.policy.filters import BadFilter, Filter
from zeromsg.wire import json_text
from zeromsg.wire.names import P2P_JSON

OLD_PREFIX = "p2p_"

DEFAULT_VALID_TIMEOUT = 5.0
MAX_VALID_TIMEOUT = 60.0
"""A site may not keep messages waiting in a node's memory longer than this."""

FILE_LIMIT = 64 * 1024
"""Most bytes of a p2p.json."""

_LIST_LIMIT = 10_000


class BadRules(ValueError):
    """Rules that cannot be used; the text says which key and why."""


@attrs.frozen
class Rules:
    """Compiled rules of one site.

    freq_limit: least seconds between messages of one sender, or None.
    size_limit: most characters of the message as JSON, or None.
    signed_only: True, or who may write, in their order; False lets everybody.
    cert_signers: provider to the addresses that sign for it.
    valid_timeout: seconds a client has for its verdict; 0 does not wait.
    """

    filter: Filter
    freq_limit: float | None = None
    size_limit: int | None = None
    signed_only: bool | Collection[str] = False
    cert_signers: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    valid_timeout: float = DEFAULT_VALID_TIMEOUT


def site_rules(content: Mapping[str, Any], p2p_json: bytes | None) -> Rules | None:
    """The rules of a site with this root content.json; None where it has none.

    p2p_json: the file's bytes, or None where the site has no such file.
    Raises BadRules.
    """
    if p2p_json is not None:
        return parse_rules(_load(p2p_json))
    old = {
        key.removeprefix(OLD_PREFIX): value
        for key, value in content.items()
        if key.startswith(OLD_PREFIX)
    }
    return parse_rules(old) if old else None


def _load(data: bytes) -> Mapping[str, Any]:
    if len(data) > FILE_LIMIT:
        raise BadRules(f"{P2P_JSON} is over {FILE_LIMIT} bytes")
    try:
        values = json_text.load(data.decode())
    except ValueError:
        raise BadRules(f"{P2P_JSON} is no JSON") from None
    if not isinstance(values, dict):
        raise BadRules(f"{P2P_JSON} is no JSON map")
    return values


def parse_rules(values: Mapping[str, Any]) -> Rules:
    """Raises BadRules on the first key that cannot be used. Unknown keys are left alone."""
    if values.get("filter") is None:
        raise BadRules("there is no filter, so the site takes no messages")
    try:
        compiled = Filter(values["filter"])
    except BadFilter as problem:
        raise BadRules(str(problem)) from None
    size_limit = _number(values, "size_limit", 2**31)
    timeout = _number(values, "valid_timeout", MAX_VALID_TIMEOUT)
    return Rules(
        filter=compiled,
        freq_limit=_number(values, "freq_limit", 10**9),
        size_limit=None if size_limit is None else int(size_limit),
        signed_only=_signed_only(values.get("signed_only")),
        cert_signers=_cert_signers(values.get("cert_signers")),
        valid_timeout=DEFAULT_VALID_TIMEOUT if timeout is None else timeout,
    )


def _number(values: Mapping[str, Any], key: str, most: float) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadRules(f"{key} must be a number from 0 to {most:g}")
    return float(value)


def _signed_only(value: object) -> bool | Collection[str]:
    if value is None or isinstance(value, bool):
        return bool(value)
    # A set that keeps the order, in which refusals name them.
    return dict.fromkeys(_addresses("signed_only", value)).keys()


def _addresses(key: str, value: object) -> tuple[str, ...]:
    addresses = [value] if isinstance(value, str) else value
    if (
        not isinstance(addresses, list)
        or len(addresses) > _LIST_LIMIT
        or not all(isinstance(address, str) for address in addresses)
    ):
        raise BadRules(f"{key} must be an address or a list of addresses")
    return tuple(addresses)


def _cert_signers(value: object) -> Mapping[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _LIST_LIMIT:
        raise BadRules("cert_signers must be a map from provider to addresses")
    return {provider: _addresses("cert_signers", signers) for provider, signers in value.items()}
