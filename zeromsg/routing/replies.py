"""Which questions of ours wait for a reply, and from whom alone it may come."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs

from zeromsg.errors import ClientError

PENDING_LIMIT = 10_000
"""Questions that may wait at one time."""

Reply = Mapping[str, Any]


@attrs.frozen
class _Question:
    asked: set[str]
    replied: Callable[[str, Reply], None]


class Replies:
    """Open questions by the hash of the message that asked."""

    def __init__(self) -> None:
        self._questions: dict[str, _Question] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def expect(
        self, hash: str, asked: Collection[str], replied: Callable[[str, Reply], None]
    ) -> None:
        """Pass on replies to this hash from these peers, until `forget`.

        asked: names of links. Raises ClientError when too many questions wait.
        """
        if len(self._questions) >= PENDING_LIMIT:
            raise ClientError("too-fast", "too many questions wait for replies")
        self._questions[hash] = _Question(set(asked), replied)

    def expect_from(self, hash: str, name: str) -> None:
        """One more peer that a reply may come from: it carries the question."""
        question = self._questions.get(hash)
        if question is not None:
            question.asked.add(name)

    def forget(self, hash: str) -> None:
        self._questions.pop(hash, None)

    def deliver(self, name: str, to: str, reply: Reply) -> bool:
        """A reply came from this peer; whether it was awaited from it."""
        question = self._questions.get(to)
        if question is None or name not in question.asked:
            return False
        question.replied(name, reply)
        return True
