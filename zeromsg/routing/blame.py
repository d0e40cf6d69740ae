"""Who pays for what: points, bans, and blame that flows back along the way a message came.

A node whose clients reject a message charges whoever delivered it, and the key
that signed it. A neighbour that could not judge (it has no clients) is told so
by a `peerVerdict` request and charges its own source in turn
(`policy.judges` says how much), and so on towards the author. `peerVerdict` is
a request of its own, not part of the answer to the broadcast, because clients
may take seconds to judge, and that many requests without an answer would fill
a busy connection.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import attrs

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import IPeerLink, Wall
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.faces import is_pseudonym
from zeromsg.policy.hearing import Hearing
from zeromsg.policy.judges import Judges
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.scoring import BAN_POINTS, Scoring
from zeromsg.policy.site_state import Recent
from zeromsg.wire.names import PEER_VERDICT
from zeromsg.wire.peer_messages import text
from zeromsg.wire.values import PeerAddress, is_site_address

INVALID_POINTS = 10
"""What `peerInvalid` of our own clients costs."""

PASSED_LIMIT = 10_000
"""Messages passed on whose verdicts by neighbours are still listened to."""


_KEY = "key:"


def key_identity(address: str) -> str:
    """Under which name a signer's points are kept."""
    return f"{_KEY}{address}"


def spelled_identity(text: str) -> str:
    """What somebody wrote for a host, an onion or a signer, as points and bans have it.

    Raises ValueError with a sentence for what could never be banned.
    """
    if text.startswith(_KEY) and is_site_address(text.removeprefix(_KEY)):
        return text
    try:
        # Any port will do: none belongs to an identity.
        if is_pseudonym(text):
            return PeerAddress(text, 0).host
        return PeerAddress.parse(f"[{text}]:1" if ":" in text else f"{text}:1").host
    except ValueError:
        raise ValueError(
            f"{text[:100]!r} is no IP address, no onion (without a port), "
            "and no key: with the address that signs"
        ) from None


@attrs.define(eq=False)
class Passed:
    """A message that we passed on.

    judged: whether clients of ours accepted it; then neighbours' opinions of
    it are their own affair.
    heard: what the source had heard of our verdicts when it sent it.
    vouched: whether a neighbour that was asked first accepted it.
    waiting: the neighbours that it went to and that have not judged it.
    """

    site: str
    source: IPeerLink
    signer: str
    judged: bool
    heard: float = 0.0
    vouched: bool = False
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
        self._hearings: WeakKeyDictionary[IPeerLink, Hearing] = WeakKeyDictionary()
        self._judging: WeakSet[IPeerLink] = WeakSet()

    # Points.

    def charge(self, identity: str, points: float, reason: str) -> None:
        """Charge a proven sender; at a hundred points it is banned."""
        now = self._wall()
        before = self._scoring.banned(identity, now)
        if self._scoring.charge(identity, points, now, reason) and not before:
            self._banned(identity)

    def _rejected(self, identity: str, points: float, reason: str) -> None:
        """The same for a message that clients rejected."""
        now = self._wall()
        before = self._scoring.banned(identity, now)
        if self._scoring.rejected(identity, points, now, reason) and not before:
            self._banned(identity)

    def is_banned(self, identity: str) -> bool:
        return self._scoring.banned(identity, self._wall())

    # What neighbours can know.

    def heard_by(self, link: IPeerLink) -> float:
        """What a neighbour has heard of our verdicts by now, for the message that it sends."""
        hearing = self._hearings.get(link)
        return hearing.heard if hearing is not None else 0.0

    def is_behind(self, link: IPeerLink) -> bool:
        """Whether its messages were rejected so fast that it cannot have heard of it yet."""
        hearing = self._hearings.get(link)
        return hearing is not None and hearing.is_behind

    def _bearable(self, link: IPeerLink, points: float, heard: float) -> float:
        """What a neighbour pays for a message; no more than it could have prevented."""
        if not link.extension:
            return points
        hearing = self._hearings.get(link)
        if hearing is None:
            hearing = self._hearings[link] = Hearing()
        return hearing.charge(points, heard)

    # Our own clients' verdicts.

    def judged(
        self,
        link: IPeerLink,
        hash: str,
        signer: str,
        verdict: Verdict | None,
        heard: float,
        carried: bool = False,
    ) -> None:
        """Clients of ours judged a message that this neighbour delivered; None: nobody did.

        heard: `heard_by` the neighbour when the message came.
        carried: the neighbour only handed on what another had for us.
        """
        if verdict is Verdict.ACCEPT:
            # Not before: what passes the rules may still be an attack.
            self._scoring.earn(link.identity, self._wall())
        if verdict is not Verdict.REJECT:
            return
        reason = "its messages are rejected by clients"
        if signer:
            self._rejected(key_identity(signer), INVALID_POINTS, reason)
        if link.extension:
            if carried:
                self.tell(link, hash, verdict, INVALID_POINTS)
                return
            cost = self._bearable(link, INVALID_POINTS, heard)
            self.tell(link, hash, verdict, cost)
            self._rejected(link.identity, cost, reason)
        elif not signer:
            # A ZeroNet node cannot pass blame on; it answers for what nobody signed.
            self._rejected(link.identity, INVALID_POINTS, reason)

    # Neighbours' verdicts.

    def passing(self, hash: str, passed: Passed) -> None:
        """A message is being passed on: listen to what neighbours say of it."""
        self._passed.put(hash, passed)

    def wanted_by(self, passed: Passed, neighbour: IPeerLink) -> bool:
        """Whether a neighbour should get it: not if it objected to its source too often.

        Nor if it blamed us so much already that it might ban us for the next one.
        """
        now, judge = self._wall(), neighbour.identity
        if not self._judges.risks(judge, self.is_doubtful(passed), now):
            return False
        if not self._judges.wants(passed.source.identity, judge, now):
            return False
        return not passed.signer or self._judges.wants(key_identity(passed.signer), judge, now)

    def is_doubtful(self, passed: Passed) -> bool:
        """Whether neighbours objected lately to what comes from there, and we cannot judge it."""
        if passed.judged or passed.vouched:
            return False
        now = self._wall()
        if self._judges.suspects(passed.source.identity, now):
            return True
        return bool(passed.signer) and self._judges.suspects(key_identity(passed.signer), now)

    def who_judges(self, links: Iterable[IPeerLink]) -> list[IPeerLink]:
        """Those of them that said before what their clients think."""
        return [link for link in links if link in self._judging]

    def heard(self, link: IPeerLink, params: Mapping[Any, Any]) -> None:
        """A neighbour's `peerVerdict`. Raises TheirMistake for a malformed one."""
        hash = text(params.get("hash"), "hash", 64)
        verdict, cost = _parse_verdict(params)
        now, judge = self._wall(), link.identity
        if verdict is Verdict.REJECT:
            # Whatever it is for: so much stands against us there.
            self._judges.charged_us(judge, cost, now)
        passed = self._passed.get(hash)
        if passed is None or link not in passed.waiting:
            # Of nothing that we sent it, or a second time.
            return
        if verdict is not None:
            # Who cannot judge may still hear from its own neighbours.
            passed.waiting.discard(link)
            self._judging.add(link)
        self._note(hash, verdict)
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
        if passed.objected:
            # Many may object to one message; it is paid for once.
            return
        source = passed.source.identity
        charge = self._judges.objected(source, judge.identity, cost, now)
        if passed.signer:
            signer = key_identity(passed.signer)
            for_signer = self._judges.objected(signer, judge.identity, cost, now)
            self._rejected(signer, for_signer, "its messages are rejected by neighbours")
        if not charge:
            return
        passed.objected = True
        charge = self._bearable(passed.source, charge, passed.heard)
        if passed.source.extension:
            self.tell(passed.source, hash, Verdict.REJECT, charge)
        self._rejected(source, charge, "its messages are rejected by neighbours' clients")

    def _note(self, hash: str, verdict: Verdict | None) -> None:
        record = self._recorder.get(bytes.fromhex(hash))
        if record is not None:
            name = verdict.value if verdict is not None else "none"
            record.heard[name] = record.heard.get(name, 0) + 1

    def tell(self, link: IPeerLink, hash: str, verdict: Verdict | None, cost: float = 0.0) -> None:
        """Let a neighbour know what was said of a message; None: nobody here could judge."""
        name = verdict.value if verdict is not None else "none"
        told = link.ask(PEER_VERDICT, {"hash": hash, "verdict": name, "cost": cost})
        hearing = self._hearings.get(link)
        if cost and hearing is not None:
            # Who does not answer is taken to know: else silence would be worth something.
            told.addBoth(_then(hearing.hears, cost))
        told.addErrback(lambda failure: failure.trap(Unreachable) and None)


def _then(action: Callable[[float], None], points: float) -> Callable[[Any], Any]:
    def act(result: Any) -> Any:
        action(points)
        return result

    return act


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
