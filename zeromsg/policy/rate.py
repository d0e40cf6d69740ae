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


class Buckets:
    """Token buckets, one for each sender: so many at once, so many a second after that.

    burst: messages that may come at once. per_second: how fast the right to
    send comes back.
    """

    def __init__(self, burst: float, per_second: float, capacity: int = SENDER_LIMIT) -> None:
        self._burst = burst
        self._per_second = per_second
        self._capacity = capacity
        # Tokens left, and when that was true.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, sender: str, now: float, tokens: float = 1.0) -> bool:
        """Whether the sender has a whole token, or as many. Changes nothing."""
        return self._tokens(sender, now) >= tokens

    def spoke(self, sender: str, now: float, tokens: float = 1.0) -> None:
        """The sender's message was let through: it costs a token, or as many."""
        self._buckets[sender] = (self._tokens(sender, now) - tokens, now)
        self._buckets.move_to_end(sender)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)

    def wait(self, sender: str, now: float) -> float:
        """Seconds until the sender owes no token, where it was let through all the same."""
        tokens = self._tokens(sender, now)
        return 0.0 if tokens >= 0.0 else -tokens / self._per_second

    def continue_from(self, old: "Buckets") -> None:
        """Take over what senders have left in buckets of other sizes."""
        for sender in old._buckets:
            self._buckets[sender] = old._buckets[sender]

    def _tokens(self, sender: str, now: float) -> float:
        tokens, at = self._buckets.get(sender, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._per_second)
