"""Refusing a message: the answer, and who pays for it.

Points go to what is proven. A zeromsg neighbour checks what we check, so it
answers for what it passes on, but for what it cannot foresee. A ZeroNet node
checks what its plugin knows: for anything else it pays nothing, nor for saying
the same again, and is answered with a warning, because it counts errors. It is
only slowed down when it brings too much of that (`policy.lenience`).
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from zeromsg.errors import TheirMistake
from zeromsg.interfaces import IPeerLink
from zeromsg.log import debugging, leveled
from zeromsg.policy.lenience import Lenience
from zeromsg.policy.recorder import Stopwatch
from zeromsg.policy.repeats import LASTING, Repeats
from zeromsg.policy.shedding import Shedding
from zeromsg.policy.validation import Rejected
from zeromsg.routing.blame import Blame, key_identity
from zeromsg.wire.peer_messages import Envelope

_NOT_THEIR_FAULT = ("age", "banned", "unheard")
"""Checks whose refusals no sender can foresee."""

_RATES = ("rate", "signer-rate")
"""Checks that a neighbour pays nothing for: each of those whose messages it passes on
may keep to the rate, and their messages together still be too many for one sender."""


class Refusing:
    """Answers what does not pass, and charges who is proven to have done wrong.

    counts: refused messages by check.
    """

    _log = Logger(observer=leveled)

    def __init__(self, blame: Blame, shedding: Shedding[IPeerLink], clock: IReactorTime) -> None:
        self._blame = blame
        self._shedding = shedding
        self._clock = clock
        self._repeats = Repeats()
        self._lenience = Lenience()
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    def repeated(self, link: IPeerLink, envelope: Envelope) -> Rejected | None:
        """What was said of the same bytes a moment ago, if it would be said again."""
        if link.extension:
            return None
        before = self._repeats.get(link.identity, envelope, self._clock.seconds())
        return before if before is not None and before.check in LASTING else None

    @staticmethod
    def is_ours(link: IPeerLink, rejected: Rejected) -> bool:
        """Whether the neighbour is a ZeroNet node, and its plugin takes the message."""
        return rejected.ours and not link.extension

    def refuse(
        self,
        link: IPeerLink,
        req_id: Any,
        rejected: Rejected,
        watch: Stopwatch,
        envelope: Envelope | None = None,
    ) -> None:
        """Answer a refused request.

        envelope: where there was one that could be read.
        """
        check = rejected.check
        self._counts[check] = self._counts.get(check, 0) + 1
        self._shedding.useless(link)
        if debugging():
            self._log.debug("{peer} refused by {check}", peer=link.name, check=check)
        excused = check in _NOT_THEIR_FAULT or self._is_excused(link, rejected, envelope)
        # ZeroNet nodes count errors; what is not the sender's fault is none.
        link.respond(req_id, {"warning" if excused else "error": rejected.text})
        if not excused and check not in _RATES:
            self._blame.charge(link.identity, rejected.points, f"refused by {check}")
        elif not link.extension:
            self._slow_down(link, watch)

    def _is_excused(self, link: IPeerLink, rejected: Rejected, envelope: Envelope | None) -> bool:
        """Whether a ZeroNet node pays nothing: its plugin takes that, or it just says it again."""
        if link.extension:
            return False
        now, again = self._clock.seconds(), False
        if envelope is not None:
            again = self._repeats.get(link.identity, envelope, now) is not None
            if not again:
                self._repeats.refused(link.identity, envelope, rejected, now)
        if rejected.ours and rejected.signer and not again:
            # The plugin node could not know; who signed it could.
            key = key_identity(rejected.signer)
            self._blame.charge(key, rejected.points, f"refused by {rejected.check}")
        return rejected.ours or again

    def _slow_down(self, link: IPeerLink, watch: Stopwatch) -> None:
        """Nobody is banned for what costs nothing; but who brings much of it has to wait."""
        pause = self._lenience.forgiven(link.identity, watch.seconds, self._clock.seconds())
        if pause:
            link.rest(pause)


def broken(check: str, mistake: TheirMistake) -> Rejected:
    """The refusal of what is no message, at least here. What lies in `raw` is in every copy."""
    return Rejected(check, mistake.points, str(mistake), check == "raw", ours=mistake.ours)
