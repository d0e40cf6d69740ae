"""Who pays for what: points, bans, and blame that flows back along the way a message came.

A node whose clients reject a message charges whoever delivered it, and the key
that signed it. A neighbour that could not judge (it has no clients) is told so
by a `peerVerdict` request and charges its own source in turn
(`policy.judges` says how much), and so on towards the author. `peerVerdict` is
a request of its own, not part of the answer to the broadcast, because clients
may take seconds to judge, and that many requests without an answer would fill
a busy connection.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import IPeerLink, Wall
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.judges import Judges
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.scoring import BAN_POINTS, Scoring
from zeromsg.policy.site_state import Recent
from zeromsg.wire.names import PEER_VERDICT
from zeromsg.wire.peer_messages import text

INVALID_POINTS = 10
"""What `peerInvalid` of our own clients costs."""

PASSED_LIMIT = 10_000
"""Messages passed on whose verdicts by neighbours are still listened to."""


def key_identity(address: str) -> str:
    """Under which name a signer's points are kept."""
    return f"key:{address}"


@attrs.define(eq=False)
class Passed:
    """A message that we passed on.

    judged: whether clients of ours accepted it; then neighbours' opinions of
    it are their own affair.
    waiting: the neighbours that it went to and that have not judged it.
    """

    site: str
    source: IPeerLink
    signer: str
    judged: bool
    waiting: set[IPeerLink] = attrs.field(factory=set)
    objected: bool = False
    answered: Callable[[Verdict | None], None] | None = None


class Blame:
    """Charges senders, bans them, and carries verdicts between neighbours."""

    def __init__(
        self,
        *,
        scoring: Scoring,
        recorder: Recorder,
        wall: Wall,
        banned: Callable[[str], None],
    ) -> None:
        self._scoring = scoring
        self._recorder = recorder
        self._wall = wall
        self._banned = banned
        self._judges = Judges()
        self._passed: Recent[Passed] = Recent(PASSED_LIMIT)

    # Points.

    def charge(self, identity: str, points: float, reason: str) -> None:
        """Charge a proven sender; at a hundred points it is banned."""
        now = self._wall()
        before = self._scoring.banned(identity, now)
        if self._scoring.charge(identity, points, now, reason) and not before:
            self._banned(identity)

    def is_banned(self, identity: str) -> bool:
        return self._scoring.banned(identity, self._wall())

    # Our own clients' verdicts.

    def judged(
        self,
        link: IPeerLink,
        hash: str,
        signer: str,
        verdict: Verdict | None,
        carried: bool = False,
    ) -> None:
        """Clients of ours judged a message that this neighbour delivered; None: nobody did.

        carried: the neighbour only handed on what another had for us.
        """
        if verdict is Verdict.ACCEPT:
            # Not before: what passes the rules may still be an attack.
            self._scoring.earn(link.identity, self._wall())
        if verdict is not Verdict.REJECT:
            return
        reason = "its messages are rejected by clients"
        if signer:
            self.charge(key_identity(signer), INVALID_POINTS, reason)
        if link.extension:
            self.tell(link, hash, verdict, INVALID_POINTS)
            if not carried:
                self.charge(link.identity, INVALID_POINTS, reason)
        elif not signer:
            # A ZeroNet node cannot pass blame on; it answers for what nobody signed.
            self.charge(link.identity, INVALID_POINTS, reason)

    # Neighbours' verdicts.

    def passing(self, hash: str, passed: Passed) -> None:
        """A message is being passed on: listen to what neighbours say of it."""
        self._passed.put(hash, passed)

    def wanted_by(self, passed: Passed, neighbour: IPeerLink) -> bool:
        """Whether a neighbour should get it: not if it objected to its source too often.

        Nor if it would blame us too much for what we cannot judge ourselves.
        """
        now, judge = self._wall(), neighbour.identity
        if not passed.judged and not self._judges.risks(
            judge, self.suspects(passed.source, passed.signer), now
        ):
            return False
        if not self._judges.wants(passed.source.identity, judge, now):
            return False
        return not passed.signer or self._judges.wants(key_identity(passed.signer), judge, now)

    def suspects(self, source: IPeerLink, signer: str) -> bool:
        """Whether neighbours objected lately to what comes from there."""
        now = self._wall()
        if self._judges.suspects(source.identity, now):
            return True
        return bool(signer) and self._judges.suspects(key_identity(signer), now)

    def heard(self, link: IPeerLink, params: Mapping[Any, Any]) -> None:
        """A neighbour's `peerVerdict`. Raises TheirMistake for a malformed one."""
        hash = text(params.get("hash"), "hash", 64)
        verdict, cost = _parse_verdict(params)
        passed = self._passed.get(hash)
        if passed is None or link not in passed.waiting:
            # Of nothing that we sent it, or a second time.
            return
        if verdict is not None:
            # Who cannot judge may still hear from its own neighbours.
            passed.waiting.discard(link)
        self._note(hash, verdict)
        now, judge = self._wall(), link.identity
        if verdict is Verdict.REJECT:
            self._judges.charged_us(judge, cost, now)
        if verdict is Verdict.ACCEPT:
            self._judges.approved(passed.source.identity, judge, now)
        elif verdict is Verdict.REJECT and not passed.judged:
            self._objected(hash, passed, link, cost, now)
        if passed.answered is not None:
            answered, passed.answered = passed.answered, None
            answered(verdict)

    def _objected(
        self, hash: str, passed: Passed, judge: IPeerLink, cost: float, now: float
    ) -> None:
        source = passed.source.identity
        charge = self._judges.objected(source, judge.identity, cost, now)
        if passed.signer:
            signer = key_identity(passed.signer)
            for_signer = self._judges.objected(signer, judge.identity, cost, now)
            if not passed.objected:
                self.charge(signer, for_signer, "its messages are rejected by neighbours")
        if passed.objected or not charge:
            # Many may object to one message; it is paid for once.
            return
        passed.objected = True
        if passed.source.extension:
            self.tell(passed.source, hash, Verdict.REJECT, charge)
        self.charge(source, charge, "its messages are rejected by neighbours' clients")

    def _note(self, hash: str, verdict: Verdict | None) -> None:
        record = self._recorder.get(bytes.fromhex(hash))
        if record is not None:
            name = verdict.value if verdict is not None else "none"
            record.heard[name] = record.heard.get(name, 0) + 1

    @staticmethod
    def tell(link: IPeerLink, hash: str, verdict: Verdict | None, cost: float = 0.0) -> None:
        """Let a neighbour know what was said of a message; None: nobody here could judge."""
        name = verdict.value if verdict is not None else "none"
        told = link.ask(PEER_VERDICT, {"hash": hash, "verdict": name, "cost": cost})
        told.addErrback(lambda failure: failure.trap(Unreachable) and None)


def _parse_verdict(params: Mapping[Any, Any]) -> tuple[Verdict | None, float]:
    name, cost = params.get("verdict"), params.get("cost", 0.0)
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= BAN_POINTS:
        raise TheirMistake("cost is no number of points")
    if name == "none":
        return None, float(cost)
    try:
        return Verdict(name), float(cost)
    except ValueError:
        raise TheirMistake("verdict is none that we know") from None
