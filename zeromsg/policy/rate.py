"""How often a sender may speak."""

from collections import OrderedDict

SENDER_LIMIT = 10_000
"""Senders remembered for each site; the ones silent longest are forgotten first."""


class Frequency:
    """`freq_limit`: least seconds between two messages of one sender."""

    def __init__(self, capacity: int = SENDER_LIMIT) -> None:
        self._capacity = capacity
        self._last: OrderedDict[str, float] = OrderedDict()

    def allows(self, sender: str, seconds: float, now: float) -> bool:
        """Whether the sender may speak now. Changes nothing."""
        last = self._last.get(sender)
        return last is None or now - last >= seconds

    def spoke(self, sender: str, now: float) -> None:
        """The sender's message was let through: its time starts anew."""
        self._last[sender] = now
        self._last.move_to_end(sender)
        if len(self._last) > self._capacity:
            self._last.popitem(last=False)
