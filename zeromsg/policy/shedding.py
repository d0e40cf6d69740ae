"""Whom to slow down when the node cannot keep up.

As in GossipSub's random early drop, those with the worst record go first: a
sender whose traffic is mostly duplicates and refusals is not read from for a
while, so that its bytes wait in the network and the others keep their latency.
Nothing is decided while the node keeps up.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import attrs

LAG_SECONDS = 0.03
"""The node is behind when its clock is late by this much."""

PAUSE_SECONDS = 0.25
"""What a sender is not read from; as long as it is the worst it is paused again."""

BAD_SHARE = 0.5
"""From this share of useless messages on a sender may be slowed down."""

LEAST_MESSAGES = 20
"""A sender of fewer messages since the last look is not the cause."""

T = TypeVar("T")


@attrs.define
class Tally:
    """What a sender sent since the last look. useless: duplicates and refusals."""

    messages: int = 0
    useless: int = 0


class Shedding(Generic[T]):
    """Counts each sender's messages between two looks."""

    def __init__(self) -> None:
        self._tallies: dict[T, Tally] = {}

    @property
    def busy(self) -> bool:
        """Whether anything came since the last look."""
        return bool(self._tallies)

    def useful(self, sender: T) -> None:
        self._tally(sender).messages += 1

    def useless(self, sender: T) -> None:
        tally = self._tally(sender)
        tally.messages += 1
        tally.useless += 1

    def _tally(self, sender: T) -> Tally:
        tally = self._tallies.get(sender)
        if tally is None:
            tally = self._tallies[sender] = Tally()
        return tally

    def look(self, late: float) -> list[T]:
        """Senders to slow down now, and begin to count anew.

        late: seconds by which the node's clock is behind.
        """
        tallies, self._tallies = self._tallies, {}
        return worst(tallies) if late > LAG_SECONDS else []


def worst(tallies: Mapping[T, Tally]) -> list[T]:
    """Those with a bad share who sent more useless messages than the average of them."""
    bad = {
        sender: tally.useless
        for sender, tally in tallies.items()
        if tally.messages >= LEAST_MESSAGES and tally.useless >= BAD_SHARE * tally.messages
    }
    if not bad:
        return []
    average = sum(bad.values()) / len(bad)
    return [sender for sender, useless in bad.items() if useless >= average]
