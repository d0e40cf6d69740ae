"""Shares out the node's time among its peers, and among its clients.

One chunk of a connection can hold thousands of requests. What all peers sent
is handled for so long in one turn of the event loop and no longer, so that
clients have theirs, and the other way round; what is left waits in a queue, and
whose it is is not read from meanwhile. In the queue each has a small share at a
time, however much it sent.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

TURN_SECONDS = 0.04
"""What all together have of one turn."""

SHARE_SECONDS = 0.005
"""What one of them has of it while others wait."""


class Turns:
    """One for all connections. Times are the clock's, as on a test's nothing takes any."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        # When the turn is over that is under way; it has begun with the first who asked.
        self._ends = 0.0
        self._under_way = False

    def begin(self) -> float:
        """Somebody begins; what `is_over` is to be asked with."""
        now = self._clock.seconds()
        if not self._under_way:
            self._begin(now)
        return now

    def is_over(self, began: float) -> bool:
        """Whether who began then should let others have their turn."""
        now = self._clock.seconds()
        return now > self._ends or (bool(self._waiting) and now - began > SHARE_SECONDS)

    def wait(self, action: Callable[[], None]) -> None:
        """Go on with this when it is one's turn."""
        self._waiting.append(action)

    def _begin(self, now: float) -> None:
        self._under_way = True
        self._ends = now + TURN_SECONDS
        self._clock.callLater(0, self._next)

    def _next(self) -> None:
        """The event loop came round: those that wait go first."""
        self._under_way = False
        if not self._waiting:
            return
        self._begin(self._clock.seconds())
        while self._waiting and self._clock.seconds() <= self._ends:
            self._waiting.popleft()()
