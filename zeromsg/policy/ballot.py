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
        self._votes = dict.fromkeys(Verdict, 0)

    def vote(self, voter: object, verdict: Verdict) -> Verdict | None:
        """The outcome, once it is settled. Votes of others than the voters do not count."""
        if voter in self._silent:
            self._silent.discard(voter)
            self._votes[verdict] += 1
        return self._settled()

    def leave(self, voter: object) -> Verdict | None:
        """A client that is gone is not waited for; a vote it gave stays."""
        self._silent.discard(voter)
        return self._settled()

    def close(self) -> Verdict:
        """The outcome with the votes there are; nobody's objection is acceptance."""
        return self._outcome(self._votes)

    def _settled(self) -> Verdict | None:
        current = self._outcome(self._votes)
        for verdict in Verdict:
            swayed = dict(self._votes)
            swayed[verdict] += len(self._silent)
            if self._outcome(swayed) is not current:
                return None
        return current

    @staticmethod
    def _outcome(votes: dict[Verdict, int]) -> Verdict:
        judged = sum(votes.values())
        if judged == 0:
            return Verdict.ACCEPT
        if 2 * votes[Verdict.REJECT] > judged:
            return Verdict.REJECT
        if 2 * votes[Verdict.IGNORE] > judged or votes[Verdict.ACCEPT] == 0:
            return Verdict.IGNORE
        return Verdict.ACCEPT
