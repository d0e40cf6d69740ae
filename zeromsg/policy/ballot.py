"""The verdicts of a site's clients on one message.

Reject needs more than half of those that judged; ignore too, or that nobody
accepted; otherwise the message is accepted. The ballot ends as soon as the
clients that are still silent cannot change it.
"""

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


class Ballot:
    """Votes of the clients that were shown a message; each counts once, its first."""

    def __init__(self, voters: Iterable[object]) -> None:
        self._silent = set(voters)
        self._accepts = self._ignores = self._rejects = 0

    @property
    def judged(self) -> bool:
        """Whether anybody judged at all."""
        return self._accepts + self._ignores + self._rejects > 0

    def vote(self, voter: object, verdict: Verdict) -> Verdict | None:
        """The outcome, once it is settled. Votes of others than the voters do not count."""
        if voter in self._silent:
            self._silent.discard(voter)
            if verdict is Verdict.ACCEPT:
                self._accepts += 1
            elif verdict is Verdict.IGNORE:
                self._ignores += 1
            else:
                self._rejects += 1
        return self._settled()

    def leave(self, voter: object) -> Verdict | None:
        """A client that is gone is not waited for; a vote it gave stays."""
        self._silent.discard(voter)
        return self._settled()

    def close(self) -> Verdict:
        """The outcome with the votes there are; nobody's objection is acceptance."""
        return _outcome(self._accepts, self._ignores, self._rejects)

    def _settled(self) -> Verdict | None:
        """The outcome if not even all silent voters together could turn it."""
        current = self.close()
        accepts, ignores, rejects = self._accepts, self._ignores, self._rejects
        silent = len(self._silent)
        if silent and (
            _outcome(accepts + silent, ignores, rejects) is not current
            or _outcome(accepts, ignores + silent, rejects) is not current
            or _outcome(accepts, ignores, rejects + silent) is not current
        ):
            return None
        return current


def _outcome(accepts: int, ignores: int, rejects: int) -> Verdict:
    judged = accepts + ignores + rejects
    if judged == 0:
        return Verdict.ACCEPT
    if 2 * rejects > judged:
        return Verdict.REJECT
    if 2 * ignores > judged or accepts == 0:
        return Verdict.IGNORE
    return Verdict.ACCEPT
