"""A site's P2P rules: from `p2p.json`, or the older `p2p_*` keys of content.json, to values.

The rules come from strangers. They are compiled once; rules that do not
compile make a site that takes no messages, and the reason is kept.
Source: ZeroNet peer protocol, p2p.json.
"""

from collections.abc import Collection, Mapping
from json import JSONDecodeError
from typing import Any

import attrs

from zeromsg.crypto.keys import compressed
from zeromsg.errors import BadKey
from zeromsg.policy.filters import BadFilter, Filter
from zeromsg.policy.program import BadProgram, Program
from zeromsg.policy.rate import Buckets
from zeromsg.policy.schema import BadSchema, Schema
from zeromsg.wire import json_text
from zeromsg.wire.names import P2P_JSON

OLD_PREFIX = "p2p_"

DEFAULT_VALID_TIMEOUT = 5.0
MAX_VALID_TIMEOUT = 60.0
"""A site may not keep messages waiting in a node's memory longer than this."""

FILE_LIMIT = 64 * 1024
"""Most bytes of a p2p.json."""

HISTORY_COUNT_LIMIT = 1000
HISTORY_SECONDS_LIMIT = 30 * 86400.0
BURST_LIMIT = 1_000_000.0

_LIST_LIMIT = 10_000


class BadRules(ValueError):
    """Rules that cannot be used; the text says which key and why."""


@attrs.frozen
class History:
    """How many messages are kept for newcomers, and for how many seconds."""

    count: int
    seconds: float


@attrs.frozen
class Rules:
    """Compiled rules of one site.

    freq_limit: least seconds between messages of one sender, or None.
    size_limit: most characters of the message as JSON, or None.
    signed_only: True, or who may write, in their order; False lets everybody.
    group: compressed public key of the group that must sign besides, or None.
    cert_signers: provider to the addresses that sign for it.
    valid_timeout: seconds a client has for its verdict; 0 does not wait.
    schema, program: what a message must fit beside the filter, or None.
    per_peer, per_signer: token buckets of proven neighbours and of signers.
    max_age: seconds that a timestamp may differ from now, either way, or None.
    history: what is kept for newcomers, or None.
    """

    filter: Filter
    freq_limit: float | None = None
    size_limit: int | None = None
    signed_only: bool | Collection[str] = False
    group: bytes | None = None
    cert_signers: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    valid_timeout: float = DEFAULT_VALID_TIMEOUT
    schema: Schema | None = None
    program: Program | None = None
    per_peer: Buckets | None = None
    per_signer: Buckets | None = None
    max_age: float | None = None
    history: History | None = None

    def continue_from(self, old: "Rules") -> None:
        """Take over what an older version's rates and counters remember of senders."""
        if self.per_peer is not None and old.per_peer is not None:
            self.per_peer.continue_from(old.per_peer)
        if self.per_signer is not None and old.per_signer is not None:
            self.per_signer.continue_from(old.per_signer)
        if self.program is not None and old.program is not None:
            self.program.continue_from(old.program)


def rules_source(content: Mapping[str, Any], p2p_json: bytes | None) -> Mapping[str, Any] | None:
    """The keys of a site's rules, given its root content.json; None where it has none.

    p2p_json: the file's bytes, or None where the site has no such file.
    Raises BadRules.
    """
    if p2p_json is not None:
        return load_rules(p2p_json)
    old = {
        key.removeprefix(OLD_PREFIX): value
        for key, value in content.items()
        if key.startswith(OLD_PREFIX)
    }
    return old or None


def site_rules(content: Mapping[str, Any], p2p_json: bytes | None) -> Rules | None:
    """The compiled rules of `rules_source`. Raises BadRules."""
    source = rules_source(content, p2p_json)
    return None if source is None else parse_rules(source)


def load_rules(data: bytes) -> Mapping[str, Any]:
    """The keys of a p2p.json. Raises BadRules."""
    if len(data) > FILE_LIMIT:
        raise BadRules(f"{P2P_JSON} is over {FILE_LIMIT} bytes")
    try:
        values = json_text.load(data.decode())
    except JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise BadRules(f"{P2P_JSON} is no JSON: {place}: {problem.msg}") from None
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise BadRules(f"{P2P_JSON} is no JSON: line {line} is no UTF-8") from None
    except ValueError as problem:
        raise BadRules(f"{P2P_JSON} is no JSON: {problem}"[:200]) from None
    if not isinstance(values, dict):
        raise BadRules(f"{P2P_JSON} is no JSON map")
    return values


def parse_rules(values: Mapping[str, Any]) -> Rules:
    """Raises BadRules on the first key that cannot be used. Unknown keys are left alone."""
    if values.get("filter") is None:
        raise BadRules("there is no filter, so the site takes no messages")
    try:
        compiled = Filter(values["filter"])
        schema = None if values.get("schema") is None else Schema(values["schema"])
        program = None if values.get("program") is None else Program(values["program"])
    except (BadFilter, BadSchema, BadProgram) as problem:
        raise BadRules(str(problem)) from None
    size_limit = _number(values, "size_limit", 2**31)
    timeout = _number(values, "valid_timeout", MAX_VALID_TIMEOUT)
    per_peer, per_signer = _rate(values.get("rate"))
    group = _group(values.get("signed_only"))
    return Rules(
        filter=compiled,
        freq_limit=_number(values, "freq_limit", 10**9),
        size_limit=None if size_limit is None else int(size_limit),
        signed_only=False if group is not None else _signed_only(values.get("signed_only")),
        group=group,
        cert_signers=_cert_signers(values.get("cert_signers")),
        valid_timeout=DEFAULT_VALID_TIMEOUT if timeout is None else timeout,
        schema=schema,
        program=program,
        per_peer=per_peer,
        per_signer=per_signer,
        max_age=_number(values, "max_age", 10**9),
        history=_history(values.get("history")),
    )


def _rate(value: object) -> tuple[Buckets | None, Buckets | None]:
    if value is None:
        return None, None
    if not isinstance(value, dict) or set(value) - {"per_peer", "per_signer"}:
        raise BadRules("rate must be a map with per_peer, per_signer or both")
    return _buckets(value, "per_peer"), _buckets(value, "per_signer")


def _buckets(rate: Mapping[str, Any], key: str) -> Buckets | None:
    value = rate.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise BadRules(f"rate.{key} must be [burst, per_second]")
    numbers = dict(zip((f"rate.{key}'s burst", f"rate.{key}'s per_second"), value, strict=True))
    burst, per_second = (_number(numbers, name, BURST_LIMIT) for name in numbers)
    if burst is None or per_second is None or burst < 1:
        raise BadRules(f"rate.{key} must be [burst, per_second], the burst at least 1")
    return Buckets(burst, per_second)


def _history(value: object) -> History | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRules("history must be a map with count and seconds")
    count = _number(value, "count", HISTORY_COUNT_LIMIT, "history.")
    seconds = _number(value, "seconds", HISTORY_SECONDS_LIMIT, "history.")
    return History(
        HISTORY_COUNT_LIMIT if count is None else int(count),
        HISTORY_SECONDS_LIMIT if seconds is None else seconds,
    )


def _number(values: Mapping[str, Any], key: str, most: float, within: str = "") -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadRules(f"{within}{key} must be a number from 0 to {most:.16g}")
    return float(value)


def _signed_only(value: object) -> bool | Collection[str]:
    if value is None or isinstance(value, bool):
        return bool(value)
    # A set that keeps the order, in which refusals name them.
    return dict.fromkeys(_addresses("signed_only", value)).keys()


def _group(signed_only: object) -> bytes | None:
    """The public key of `{"group": <66 hex digits>}`, None for the other forms."""
    if not isinstance(signed_only, dict):
        return None
    public_key = signed_only.get("group")
    if set(signed_only) != {"group"} or not isinstance(public_key, str):
        raise BadRules(
            'signed_only must be an address or a list of addresses, or {"group": public key}'
        )
    try:
        return compressed(bytes.fromhex(public_key))
    except (ValueError, BadKey):
        raise BadRules("signed_only.group is no public key in hex") from None


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
