"""Many deadlines, few timers.

Deadlines of one length end in the order in which they began, so a deque for
each length and one timer for the earliest of all replace a reactor timer for
every message.
"""

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@attrs.define(eq=False)
class Deadline:
    """One thing that is called when its time comes, unless it was cancelled before."""

    at: float
    action: Callable[[], None] | None

    def cancel(self) -> None:
        self.action = None


class Deadlines:
    """Calls actions after so many seconds; lengths should be few, actions may be many."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._by_length: dict[float, deque[Deadline]] = {}
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def add(self, seconds: float, action: Callable[[], None]) -> Deadline:
        deadline = Deadline(self._clock.seconds() + seconds, action)
        self._by_length.setdefault(seconds, deque()).append(deadline)
        if self._timer is None or deadline.at < self._timer_at:
            self._arm(deadline.at)
        return deadline

    def stop(self) -> None:
        """Forget everything, also what is due at this moment."""
        for waiting in self._by_length.values():
            waiting.clear()
        self._by_length.clear()
        self._disarm()

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._due)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _due(self) -> None:
        self._timer = None
        try:
            self._call_due(self._clock.seconds())
        finally:
            # An action that raised must not keep the others from their time.
            heads = [waiting[0].at for waiting in self._by_length.values() if waiting]
            if heads:
                self._arm(min(heads))

    def _call_due(self, now: float) -> None:
        for length, waiting in list(self._by_length.items()):
            while waiting and (waiting[0].action is None or waiting[0].at <= now):
                action = waiting.popleft().action
                if action is not None:
                    action()
            if not waiting and self._by_length.get(length) is waiting:
                del self._by_length[length]
