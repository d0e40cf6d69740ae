"""How much of what is nobody's proven fault a neighbour may bring.

A ZeroNet node passes on what its plugin takes, and knows nothing of the rules
that this node checks besides: it pays no points for that. So that nobody hides
behind this, the messages refused in this way are counted by sender, with the
time that they took; who brings too many is not read from for a while, and its
bytes wait in the network. Nobody is banned for it.
"""

from zeromsg.policy.rate import Buckets

BURST = 200.0
PER_SECOND = 20.0
"""Refusals forgiven at once, and after that."""

SECONDS_EACH = 0.001
"""Time spent on checks that counts as one refusal more."""

LONGEST_PAUSE = 5.0
"""Requests in either direction are still answered within ten seconds."""


class Lenience:
    """Refusals that were forgiven, by proven sender."""

    def __init__(self) -> None:
        self._buckets = Buckets(BURST, PER_SECOND)

    def forgiven(self, sender: str, took: float, now: float) -> float:
        """Note a refusal; seconds for which the sender should not be read from, 0 for none.

        took: seconds that its checks took.
        """
        self._buckets.spoke(sender, now, 1.0 + took / SECONDS_EACH)
        return min(self._buckets.wait(sender, now), LONGEST_PAUSE)
