"""Long work for clients, done in slices between everything else."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, TaskFinished

SLICE_SECONDS = 0.005
"""How long is worked before others have their turn."""


class Slices:
    """Works off what is given as steps, all of it by turns."""

    def __init__(self, clock: IReactorTime) -> None:
        def slice_end() -> Any:
            end = clock.seconds() + SLICE_SECONDS
            return lambda: clock.seconds() >= end

        self._slice_end = slice_end
        self._cooperator = Cooperator(slice_end, lambda step: clock.callLater(0, step))

    def begin(self, steps: Iterator[object]) -> bool:
        """Work for one slice; whether that was all."""
        is_over = self._slice_end()
        return all(not is_over() for _ in steps)

    async def work_off(self, steps: Iterator[object]) -> None:
        """Take all steps. What a step raises is raised here."""
        work = self._cooperator.cooperate(steps)
        try:
            await work.whenDone()
        finally:
            # Not finished if the client has gone.
            with suppress(TaskFinished):
                work.stop()
