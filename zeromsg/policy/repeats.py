"""Refused messages that come again as they were, from who sent them before.

A ZeroNet node sends its own broadcasts twice, and again where no answer came: a
repeat of the same bytes is no second offence. What is remembered is short and
small; who repeats later, or changes a byte, is judged anew.
"""

import hashlib
from collections import OrderedDict

import attrs

from zeromsg.policy.validation import Rejected
from zeromsg.wire.peer_messages import Envelope

REPEAT_SECONDS = 60.0
REPEATS_LIMIT = 10_000
"""Refusals that are remembered; the oldest are forgotten first."""

LASTING = frozenset(("schema", "group", "signature", "certificate", "signed-only"))
"""Checks that say the same of the same bytes a moment later."""


@attrs.frozen
class _Refusal:
    until: float
    signature: str
    cert: bytes
    rejected: Rejected


class Repeats:
    """The last refusals, by sender and hash."""

    def __init__(self) -> None:
        self._refusals: OrderedDict[tuple[str, bytes], _Refusal] = OrderedDict()

    def get(self, sender: str, envelope: Envelope, now: float) -> Rejected | None:
        """How the same bytes were refused to the same sender a moment ago, or None."""
        if not self._refusals:
            return None
        refusal = self._refusals.get((sender, envelope.digest))
        if refusal is None or refusal.until <= now:
            return None
        if refusal.signature != envelope.signature or refusal.cert != _digest(envelope.cert):
            return None
        return refusal.rejected

    def refused(self, sender: str, envelope: Envelope, rejected: Rejected, now: float) -> None:
        """Remember a refusal."""
        key = (sender, envelope.digest)
        self._refusals[key] = _Refusal(
            now + REPEAT_SECONDS, envelope.signature, _digest(envelope.cert), rejected
        )
        self._refusals.move_to_end(key)
        if len(self._refusals) > REPEATS_LIMIT:
            self._refusals.popitem(last=False)


def _digest(cert: object) -> bytes:
    """Of what may be anything, and large."""
    return b"" if cert is None else hashlib.sha256(repr(cert).encode(errors="replace")).digest()
