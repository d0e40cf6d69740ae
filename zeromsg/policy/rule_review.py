"""What is wrong with rules before they are published.

`review` looks at a p2p.json alone, `replay` at messages of a recording. Findings
are sentences for the author of a site; an `error` means that nodes would take
no messages, or none that anybody can send.
"""

import difflib
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from zeromsg.crypto.keys import is_address
from zeromsg.policy.program import Facts
from zeromsg.policy.rules import BadRules, Rules, load_rules, parse_rules
from zeromsg.policy.validation import Subject, check_message
from zeromsg.wire.json_text import DEPTH_ERRORS, dump
from zeromsg.wire.peer_messages import RAW_LIMIT, parse_timestamp

PLUGIN_PATTERN_LIMIT = 255
SLOW_SECONDS = 0.002
"""A check that takes longer than this on a large message costs too much."""

KEYS = (
    "filter",
    "schema",
    "program",
    "size_limit",
    "freq_limit",
    "rate",
    "signed_only",
    "cert_signers",
    "valid_timeout",
    "max_age",
    "history",
)

_UNSAFE_REPEAT = re.compile(r"[^.][*+{]")
_WIDE_REPEAT = re.compile(r"\.[*+{]")
_COUNTER = re.compile(r"""\bcounters\s*(?:\.\s*|\[\s*["'])([A-Za-z_]\w*)""")
_WORD = re.compile(r"[a-z_]+")


_TOO_COSTLY = {
    "filter": "large messages are matched by a slower engine within some milliseconds;"
    " one that takes longer is refused",
    "schema": "it could take too long on large messages, which are refused then",
    "program": "it could take too long on large messages, which are refused then",
}

_Check = Callable[[Any, str], Any]


@attrs.frozen
class Finding:
    """One thing to say. key: of the rules, or "" for the file."""

    level: Literal["error", "warning"]
    key: str
    text: str


@attrs.frozen
class Refusal:
    """A message of a recording that the rules would refuse. line: counted from 1."""

    line: int
    check: str
    text: str


def review(data: bytes) -> tuple[Rules | None, list[Finding]]:
    """The compiled rules, if they compile, and everything there is to say of them."""
    try:
        values = load_rules(data)
    except BadRules as problem:
        return None, [Finding("error", "", str(problem))]
    findings = list(_unknown_keys(values))
    try:
        rules = parse_rules(values)
    except BadRules as problem:
        return None, [Finding("error", _key_of(str(problem)), str(problem)), *findings]
    findings += _filter_findings(rules)
    findings += _unreachable(values, rules)
    findings += _costs(rules)
    return rules, findings


def _key_of(problem: str) -> str:
    """Which key a sentence about bad rules is about; counters are part of the program."""
    return next((word for word in _WORD.findall(problem) if word in KEYS), "program")


def _unknown_keys(values: Mapping[str, Any]) -> Iterator[Finding]:
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Finding("warning", key[:64], f"no node knows this key{hint}")


def plugin_refuses(pattern: str) -> str:
    """Why nodes with the PeerMessage plugin refuse a filter, or "".

    Source: ZeroNet peer protocol, p2p.json.
    """
    if len(pattern) > PLUGIN_PATTERN_LIMIT:
        return f"it is longer than {PLUGIN_PATTERN_LIMIT} characters"
    found = _UNSAFE_REPEAT.search(pattern)
    if found:
        return f"{found[0][1]!r} follows {found[0][0]!r}, and may follow a dot only"
    if len(_WIDE_REPEAT.findall(pattern)) >= 10:
        return "it has ten or more of .* .+ .{"
    return ""


def _filter_findings(rules: Rules) -> Iterator[Finding]:
    pattern = rules.filter.pattern
    if not rules.filter.linear:
        yield Finding(
            "warning",
            "filter",
            "it needs look-around, back-references or the like, which are matched by a slower"
            " engine within some milliseconds; a message that takes longer is refused",
        )
    reason = plugin_refuses(pattern)
    if reason:
        yield Finding("warning", "filter", f"nodes with the plugin drop every message: {reason}")


def _unreachable(values: Mapping[str, Any], rules: Rules) -> Iterator[Finding]:
    """Rules that nothing can pass, or that no message ever reaches."""
    if not isinstance(rules.signed_only, bool):
        yield from _writer_findings(rules.signed_only)
    if rules.group is not None:
        yield Finding(
            "warning", "signed_only", "nodes with the plugin know no groups and may refuse all"
        )
    if rules.size_limit == 0:
        yield Finding("error", "size_limit", "no message has so few characters")
    if values.get("schema") is False:
        yield Finding("error", "schema", "it is false, so no message passes")
    program = values.get("program")
    if program is not None:
        yield from _program_findings(program)
    if rules.per_signer is not None and rules.signed_only is False:
        yield Finding(
            "warning", "rate", "per_signer does not bound unsigned messages, which are allowed"
        )
    for provider, signers in rules.cert_signers.items():
        if not any(map(is_address, signers)):
            yield Finding(
                "warning", "cert_signers", f"{provider[:64]} has no address, so none of its passes"
            )
            continue
        for text in _no_addresses(signers):
            yield Finding("warning", "cert_signers", f"{provider[:64]}: {text}")


def _writer_findings(signed_only: Collection[str]) -> Iterator[Finding]:
    """Nodes take any text there, the plugin too: it is only that nobody can sign as it."""
    if not signed_only:
        yield Finding("error", "signed_only", "the list is empty, so nobody may write")
    elif not any(map(is_address, signed_only)):
        yield Finding(
            "error",
            "signed_only",
            f"{next(_no_addresses(signed_only))}, so nobody may write;"
            " true lets everybody write who signs",
        )
    else:
        for text in _no_addresses(signed_only):
            yield Finding("warning", "signed_only", text)


def _no_addresses(texts: Collection[str]) -> Iterator[str]:
    return (f"{text[:64]!r} is no address" for text in texts if not is_address(text))


def _program_findings(program: Any) -> Iterator[Finding]:
    parts = program if isinstance(program, dict) else {"accept": program}
    declared = parts.get("counters", {})
    texts = [parts.get("accept", ""), *declared.values()]
    used = {name for text in texts for name in _COUNTER.findall(str(text))}
    for name in sorted(used - set(declared)):
        yield Finding(
            "error", "program", f"counters.{name} is used, and no counter of that name kept"
        )
    for name in sorted(set(declared) - used):
        yield Finding("warning", "program", f"counters.{name} is kept and never looked at")


def _costs(rules: Rules) -> Iterator[Finding]:
    """Time each check on large messages of different shapes."""
    size = min(rules.size_limit or 10_000, RAW_LIMIT)
    shapes: tuple[Any, ...] = (
        "a" * size,
        ["a"] * (size // 5),
        {f"k{number}": number for number in range(size // 16)},
        {"text": "ab" * (size // 2)},
    )
    checks: list[tuple[str, _Check, _Check]] = [
        (
            "filter",
            lambda message, text: rules.filter.passes(text),
            lambda message, text: not rules.filter.linear or len(text) <= rules.filter.longest,
        )
    ]
    schema, program = rules.schema, rules.program
    if schema is not None:
        checks.append(
            (
                "schema",
                lambda message, text: schema.passes(message, len(text)),
                lambda message, text: schema.can_afford(message, len(text)),
            )
        )
    if program is not None:
        checks.append(
            (
                "program",
                lambda message, text: program.passes(Facts(message, len(text), "", "", 0.0)),
                lambda message, text: program.can_afford(Facts(message, len(text), "", "", 0.0)),
            )
        )
    for key, check, can_afford in checks:
        slowest = max(_seconds(check, shape) for shape in shapes)
        if slowest > SLOW_SECONDS:
            yield Finding(
                "warning",
                key,
                f"it takes {slowest * 1000:.1f} ms on a message of {size} characters",
            )
        if not all(can_afford(shape, dump(shape)) for shape in shapes):
            yield Finding("warning", key, f"{_TOO_COSTLY[key]} (tried with {size} characters)")


def _seconds(check: _Check, message: Any) -> float:
    """What a check takes; the least of three times, as a busy machine makes single ones long."""
    text = dump(message)
    least = math.inf
    for _ in range(3):
        begin = time.perf_counter()
        check(message, text)
        least = min(least, time.perf_counter() - begin)
        if least <= SLOW_SECONDS:
            break
    return least


def replay(rules: Rules, lines: Iterable[Mapping[str, Any]]) -> Iterator[Refusal]:
    """Which messages of a recording the rules refuse, in order.

    lines: events as `zeromsg listen --record` writes them. Signatures were
    verified when they were recorded; rates are not replayed. `now` is the
    message's own time, or 0.
    """
    for number, event in enumerate(lines, 1):
        message = event.get("message")
        signer, cert = (_text_of(event.get(key)) for key in ("signed_by", "cert"))
        try:
            text = dump(message)
        except DEPTH_ERRORS:
            yield Refusal(number, "message", "it is no JSON")
            continue
        facts = Facts(
            message, len(text), signer, cert, parse_timestamp(event.get("timestamp")) or 0.0
        )
        # Who tries rules on a recording wants the reasons that a sender gets.
        site = str(event.get("site", ""))
        subject = Subject(site, message, text, None, signer, ours=True)
        rejected = check_message(subject, facts, rules)
        if rejected is not None:
            yield Refusal(number, rejected.check, rejected.text)
        elif rules.program is not None:
            rules.program.accepted(facts)


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else ""
