"""Whether a message may enter its site: checks in order, each with a name, the outcome a value.

Cheapest first. The hash was looked up and the site found before; what remains
needs the site's rules. Texts and points are those of the PeerMessage plugin
where it has them, so that people and programs recognise them. Source: ZeroNet
peer protocol, what a receiver checks.
"""

from itertools import islice
from typing import Any

import attrs

from zeromsg.crypto.cert import Certificate, verify_cert
from zeromsg.crypto.signing import message_text as signed_text
from zeromsg.crypto.signing import verify
from zeromsg.errors import ClientError, TheirMistake
from zeromsg.policy.rate import Frequency
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
    "signed-only": "unsigned",
}
"""Codes for clients by check; all others are `invalid`."""


@attrs.frozen
class Accepted:
    """The message may enter. signed_by: verified address, or "" for an unsigned message."""

    signed_by: str
    cert: Certificate | None


@attrs.frozen
class Rejected:
    """The message may not enter.

    check: name of the check that refused it.
    points: ban points for whoever sent it.
    text: what the sender is told.
    final: the reason lies in `raw` itself, so every copy would be refused alike.
    """

    check: str
    points: int
    text: str
    final: bool

    def to_client(self) -> ClientError:
        return ClientError(_CODES.get(self.check, "invalid"), self.text)


def no_rules(site: str) -> Rejected:
    """What is said of a site without usable rules."""
    return Rejected("rules", 5, f"Site {site} doesn't support P2P messages", final=False)


def validate(
    envelope: Envelope, body: Body, rules: Rules, frequency: Frequency, neighbour: str, now: float
) -> Accepted | Rejected:
    """Decide whether a peer's message may enter its site.

    neighbour: proven identity of the peer that sent it; unsigned messages are
    rated by it, signed ones by their signer.
    now: seconds of the clock that `frequency` is kept with.
    Bad input is rejected, never raised.
    """
    site = body.site
    rejected = _check_size(rules, body.message_text, f"Too big message from {site}")
    if rejected is None and not envelope.signature:
        rejected = _check_rate(rules, frequency, neighbour, now, _too_fast(site))
    if rejected is None:
        rejected = _check_filter(rules, site, body.message, body.message_text)
    if rejected is not None:
        return rejected
    sender = _check_sender(envelope, body, rules)
    if isinstance(sender, Rejected):
        return sender
    if sender.signed_by:
        rejected = _check_rate(rules, frequency, sender.signed_by, now, _too_fast(site))
        if rejected is not None:
            return rejected
    frequency.spoke(sender.signed_by or neighbour, now)
    return sender


def validate_own(
    message: Any,
    message_text: str,
    signed_by: str,
    site: str,
    rules: Rules,
    frequency: Frequency,
    sender: str,
    now: float,
) -> Rejected | None:
    """The same rules for what a client of ours wants to send, before it is signed.

    signed_by: the address that will sign, or "".
    sender: under which name its rate is kept when unsigned.
    """
    rejected = (
        _check_size(rules, message_text, "Too big message")
        or _check_rate(rules, frequency, signed_by or sender, now, "Too fast messages")
        or _check_filter(rules, site, message, message_text)
        or _check_signed_only(rules, signed_by)
    )
    if rejected is None:
        frequency.spoke(signed_by or sender, now)
    return rejected


def _too_fast(site: str) -> str:
    return f"Too fast messages from {site}"


def _check_size(rules: Rules, message_text: str, text: str) -> Rejected | None:
    if rules.size_limit is None or len(message_text) <= rules.size_limit:
        return None
    return Rejected("size", 7, text, final=True)


def _check_rate(
    rules: Rules, frequency: Frequency, sender: str, now: float, text: str
) -> Rejected | None:
    if rules.freq_limit is None or frequency.allows(sender, rules.freq_limit, now):
        return None
    return Rejected("rate", 2, text, final=False)


def _check_filter(rules: Rules, site: str, message: Any, message_text: str) -> Rejected | None:
    if rules.filter.passes(message_text):
        return None
    # JSON can spell lone surrogates, which the answer could not carry.
    echo = str(message)[:_ECHO_LIMIT].encode(errors="replace").decode()
    return Rejected("filter", 5, f"Invalid message for site {site}: {echo}", final=True)


def _check_sender(envelope: Envelope, body: Body, rules: Rules) -> Accepted | Rejected:
    """Signature, certificate, signed-only: nothing of these lies in `raw`."""
    signed_by, _, signature = envelope.signature.partition("|")
    if not envelope.signature:
        # A node of ours names the signer inside raw, so this copy was stripped.
        if body.signer is not None:
            return _bad_signature()
        return _check_signed_only(rules, "") or Accepted("", None)
    if body.signer is not None and body.signer != signed_by:
        return _bad_signature()
    if not verify(signed_text(signed_by, envelope.hash, envelope.raw), signed_by, signature):
        return _bad_signature()
    cert = None
    if envelope.cert is not None:
        cert = _verified_cert(envelope.cert, signed_by, rules)
        if cert is None:
            return Rejected("certificate", 7, "Invalid signature certificate", final=False)
    return _check_signed_only(rules, signed_by) or Accepted(signed_by, cert)


def _bad_signature() -> Rejected:
    return Rejected("signature", 7, "Invalid signature", final=False)


def _verified_cert(value: object, address: str, rules: Rules) -> Certificate | None:
    try:
        cert = Certificate.from_wire(value)
    except TheirMistake:
        return None
    return cert if verify_cert(address, cert, rules.cert_signers) else None


def _check_signed_only(rules: Rules, signed_by: str) -> Rejected | None:
    allowed = rules.signed_only
    if isinstance(allowed, bool):
        if signed_by or not allowed:
            return None
        return Rejected("signed-only", 5, "Not signed message", final=False)
    if signed_by and signed_by in allowed:
        return None
    shown = list(islice(allowed, _NAMES_LIMIT))
    text = f"Message signature is invalid: {signed_by} not in {shown}"
    return Rejected("signed-only", 5, text, final=False)
