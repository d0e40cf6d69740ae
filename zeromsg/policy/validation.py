"""Whether a message may enter its site: checks in order, each with a name, the outcome a value.

Cheapest first. The hash was looked up and the site found before; what remains
needs the site's rules. Texts and points are those of the PeerMessage plugin
where it has them, so that people and programs recognise them; a client of ours
is told the reason after that. Source: ZeroNet peer protocol, what a receiver
checks.
"""

from itertools import islice
from typing import Any

import attrs

from zeromsg.crypto.cert import Certificate, verify_cert
from zeromsg.crypto.shared_keys import is_group_signed
from zeromsg.crypto.signing import message_text as signed_text
from zeromsg.crypto.signing import verified_key
from zeromsg.errors import ClientError, TheirMistake
from zeromsg.policy.program import Facts
from zeromsg.policy.rate import Frequency
from zeromsg.policy.recorder import Stopwatch
from zeromsg.policy.rules import Rules
from zeromsg.wire.peer_messages import Body, Envelope

_ECHO_LIMIT = 200
"""Most characters of a refused message that its refusal repeats."""

_NAMES_LIMIT = 10
"""Most of the allowed signers that a refusal names."""

_CODES = {
    "rules": "unsupported",
    "size": "too-big",
    "rate": "too-fast",
    "signer-rate": "too-fast",
    "group": "unsigned",
    "signed-only": "unsigned",
}
"""Codes for clients by check; all others are `invalid`."""


@attrs.frozen
class Accepted:
    """The message may enter.

    signed_by: verified address, or "" for an unsigned message.
    public_key: of that address, as its signature shows it; b"" where none was verified.
    """

    signed_by: str
    cert: Certificate | None
    public_key: bytes = attrs.field(default=b"", eq=False)


@attrs.frozen
class Rejected:
    """The message may not enter.

    check: name of the check that refused it.
    points: ban points for whoever sent it.
    text: what the sender is told.
    final: the reason lies in `raw` itself, so every copy would be refused alike.
    ours: nodes with the PeerMessage plugin do not check this, or count otherwise, so
        one that passed the message on has done no wrong.
    signer: the address that signed it, where that was verified before.
    """

    check: str
    points: int
    text: str
    final: bool
    ours: bool = False
    signer: str = attrs.field(default="", eq=False)

    def to_client(self) -> ClientError:
        return ClientError(_CODES.get(self.check, "invalid"), self.text)


def no_rules(site: str) -> Rejected:
    """What is said of a site without usable rules."""
    return Rejected("rules", 5, f"Site {site} doesn't support P2P messages", final=False)


@attrs.frozen
class Subject:
    """A message as its site's rules look at it, whoever sent it.

    sender: under which name unsigned messages are rated: the proven identity
    of a neighbour, or "self".
    ours: what a client of this node wants to send.
    """

    site: str
    message: Any
    text: str
    timestamp: float | None
    sender: str
    ours: bool = False


def validate(
    envelope: Envelope,
    body: Body,
    rules: Rules,
    frequency: Frequency,
    neighbour: str,
    now: float,
    wall: float = 0.0,
    watch: Stopwatch | None = None,
) -> Accepted | Rejected:
    """Decide whether a peer's message may enter its site.

    neighbour: proven identity of the peer that sent it. Unsigned messages are
    rated by it, signed ones by their signer.
    now: seconds of the clock that rates are kept with.
    wall: Unix seconds, for `max_age` and programs.
    watch: told of each check.
    Bad input is rejected, never raised.
    """
    subject = Subject(body.site, body.message, body.message_text, body.timestamp, neighbour)
    signed = bool(envelope.signature)
    passed = _Passed(watch)
    rejected = (
        passed("size", _check_size(subject, rules))
        or passed("rate", _check_peer_rate(subject, rules, frequency, signed, now))
        or passed("age", _check_age(subject, rules, wall))
        or passed("filter", _check_filter(subject, rules))
        or passed("schema", _check_schema(subject, rules))
        or (None if rules.group is None else passed("group", _check_group(envelope, rules.group)))
    )
    if rejected is not None:
        return rejected
    verified = _check_signature(envelope, body)
    if isinstance(verified, Rejected):
        return passed("signature", verified) or verified
    passed("signature", None)
    signer, public_key = verified
    cert = _check_certificate(envelope, signer, rules)
    if isinstance(cert, Rejected):
        return passed("certificate", cert) or cert
    passed("certificate", None)
    accepted = Accepted(signer, cert, public_key)
    facts = _facts(subject, accepted, wall)
    rejected = (
        passed("signed-only", _check_signed_only(rules, signer))
        or passed("signer-rate", _check_signer_rate(subject, rules, frequency, signer, now))
        or passed("program", _check_program(subject, rules, facts))
    )
    if rejected is not None:
        return rejected
    _let_through(subject, rules, frequency, facts, now)
    return accepted


def validate_own(
    subject: Subject,
    signer: Accepted,
    rules: Rules,
    frequency: Frequency,
    now: float,
    wall: float,
) -> Rejected | None:
    """The same rules for what a client of ours wants to send, before it is numbered and signed.

    signer: who will sign it.
    """
    facts = _facts(subject, signer, wall)
    signed_by = signer.signed_by
    rejected = (
        _check_size(subject, rules)
        or _check_peer_rate(subject, rules, frequency, bool(signed_by), now)
        or check_message(subject, facts, rules)
        or _check_signer_rate(subject, rules, frequency, signed_by, now)
    )
    if rejected is None:
        _let_through(subject, rules, frequency, facts, now)
    return rejected


def check_message(subject: Subject, facts: Facts, rules: Rules) -> Rejected | None:
    """The checks that need neither time nor memory of the sender."""
    return (
        _check_size(subject, rules)
        or _check_filter(subject, rules)
        or _check_schema(subject, rules)
        or _check_signed_only(rules, facts.signer, subject.ours)
        or _check_program(subject, rules, facts)
    )


class _Passed:
    """Notes each check as it ends, and hands on what it found."""

    def __init__(self, watch: Stopwatch | None) -> None:
        self._watch = watch

    def __call__(self, name: str, rejected: Rejected | None) -> Rejected | None:
        if self._watch is not None:
            self._watch.check(name, rejected is None)
        return rejected


def _facts(subject: Subject, accepted: Accepted, wall: float) -> Facts:
    return Facts(
        message=subject.message,
        size=len(subject.text),
        signer=accepted.signed_by,
        cert=accepted.cert.text if accepted.cert is not None else "",
        now=wall,
    )


def _let_through(
    subject: Subject, rules: Rules, frequency: Frequency, facts: Facts, now: float
) -> None:
    """What an accepted message leaves behind: used rates, a program's counters."""
    if rules.freq_limit is not None:
        frequency.spoke(facts.signer or subject.sender, now)
    if rules.per_peer is not None:
        rules.per_peer.spoke(subject.sender, now)
    if rules.per_signer is not None and facts.signer:
        rules.per_signer.spoke(facts.signer, now)
    if rules.program is not None:
        rules.program.accepted(facts)


def _check_size(subject: Subject, rules: Rules) -> Rejected | None:
    if rules.size_limit is None or len(subject.text) <= rules.size_limit:
        return None
    reason = f"{len(subject.text)} characters as JSON, over the size_limit {rules.size_limit}"
    return Rejected("size", 7, _text("Too big message", subject, reason), final=True)


def _check_peer_rate(
    subject: Subject, rules: Rules, frequency: Frequency, signed: bool, now: float
) -> Rejected | None:
    if rules.per_peer is not None and not rules.per_peer.allows(subject.sender, now):
        return _too_fast("rate", subject, "rate.per_peer")
    if signed or rules.freq_limit is None:
        return None
    if frequency.allows(subject.sender, rules.freq_limit, now):
        return None
    return _too_fast("rate", subject, _FREQUENCY)


def _check_signer_rate(
    subject: Subject, rules: Rules, frequency: Frequency, signer: str, now: float
) -> Rejected | None:
    if not signer:
        return None
    if rules.per_signer is not None and not rules.per_signer.allows(signer, now):
        return _too_fast("signer-rate", subject, "rate.per_signer")
    if rules.freq_limit is not None and not frequency.allows(signer, rules.freq_limit, now):
        return _too_fast("signer-rate", subject, _FREQUENCY)
    return None


_FREQUENCY = "freq_limit"


def _too_fast(check: str, subject: Subject, limit: str) -> Rejected:
    text = _text("Too fast messages", subject, f"more than the site's {limit} lets through")
    # Who passes on messages of many cannot keep to the rate for all of them; and how
    # fast they arrive here is not the doing of who signed them.
    return Rejected(check, 2, text, final=False, ours=True)


def _text(plugins: str, subject: Subject, reason: str) -> str:
    """The plugin's text as a peer gets it, and as a client of ours does, with the reason."""
    return f"{plugins}: {reason}" if subject.ours else f"{plugins} from {subject.site}"


def _check_age(subject: Subject, rules: Rules, wall: float) -> Rejected | None:
    """Stale messages cost nothing: whoever relays them may just be slow."""
    if rules.max_age is None or subject.timestamp is None:
        return None
    age = wall - subject.timestamp
    if abs(age) <= rules.max_age:
        return None
    # One from the future may be good later.
    return Rejected(
        "age", 0, "The message is too old, or from the future", final=age > 0, ours=True
    )


def _check_filter(subject: Subject, rules: Rules) -> Rejected | None:
    if rules.filter.passes(subject.text):
        return None
    if subject.ours:
        echo = f"{_shortened(subject.text)} (the filter does not match it)"
    else:
        # JSON can spell lone surrogates, which the answer could not carry.
        echo = str(subject.message)[:_ECHO_LIMIT].encode(errors="replace").decode()
    return Rejected("filter", 5, f"Invalid message for site {subject.site}: {echo}", final=True)


def _shortened(text: str) -> str:
    return text if len(text) <= _ECHO_LIMIT else f"{text[:_ECHO_LIMIT]}…"


def _check_schema(subject: Subject, rules: Rules) -> Rejected | None:
    if rules.schema is None or rules.schema.passes(subject.message, len(subject.text)):
        return None
    text = f"Invalid message for site {subject.site}: it does not fit the schema"
    return Rejected("schema", 5, text, final=True, ours=True)


def _check_program(subject: Subject, rules: Rules, facts: Facts) -> Rejected | None:
    if rules.program is None or rules.program.passes(facts):
        return None
    text = f"Invalid message for site {subject.site}: its program refuses it"
    # A program may look at the signer, the time and its counters. To who passed it on,
    # the message may have been good: it came there before a later one, as to us after it.
    points = 0 if rules.program.depends_on_the_past else 5
    return Rejected("program", points, text, final=False, ours=True, signer=facts.signer)


def _check_group(envelope: Envelope, group: bytes) -> Rejected | None:
    """Whether a member of the group sent it: outsiders' garbage ends here.

    The signature lies in `raw` and covers the nonce, so the hash decides.
    """
    if is_group_signed(envelope.raw, envelope.nonce, group):
        return None
    return NOT_OF_THE_GROUP


NOT_OF_THE_GROUP = Rejected(
    "group", 5, "Not signed with the key of the group", final=True, ours=True
)


def _check_signature(envelope: Envelope, body: Body) -> tuple[str, bytes] | Rejected:
    """The address that signed and its public key, empty for none. Nothing of it lies in `raw`."""
    signed_by, _, signature = envelope.signature.partition("|")
    # A node of ours names the signer inside raw, "" for none, so a copy without its
    # signature was stripped, and one signed by another was signed anew.
    if body.signer is not None and body.signer != signed_by:
        return _SPOILT_SIGNATURE
    if not envelope.signature:
        return "", b""
    text = signed_text(signed_by, envelope.hash, envelope.raw)
    public_key = verified_key(text, signed_by, signature)
    return _BAD_SIGNATURE if public_key is None else (signed_by, public_key)


_BAD_SIGNATURE = Rejected("signature", 7, "Invalid signature", final=False)
_SPOILT_SIGNATURE = Rejected("signature", 7, "Invalid signature", final=False, ours=True)


def _check_certificate(
    envelope: Envelope, signer: str, rules: Rules
) -> Certificate | Rejected | None:
    if not signer or envelope.cert is None:
        return None
    try:
        cert = Certificate.from_wire(envelope.cert)
    except TheirMistake:
        return BAD_CERTIFICATE
    return cert if verify_cert(signer, cert, rules.cert_signers) else BAD_CERTIFICATE


BAD_CERTIFICATE = Rejected("certificate", 7, "Invalid signature certificate", final=False)


def _check_signed_only(rules: Rules, signed_by: str, ours: bool = False) -> Rejected | None:
    allowed = rules.signed_only
    if isinstance(allowed, bool):
        if signed_by or not allowed:
            return None
        reason = ": the site's signed_only asks for a signature" if ours else ""
        return Rejected("signed-only", 5, f"Not signed message{reason}", final=False)
    if signed_by and signed_by in allowed:
        return None
    shown = list(islice(allowed, _NAMES_LIMIT))
    text = f"Message signature is invalid: {signed_by} not in {shown}"
    if ours and not signed_by:
        text = f"{text}: it is not signed"
    return Rejected("signed-only", 5, text, final=False)
