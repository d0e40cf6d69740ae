"""The database as a running node writes to it: a disk that is full for a while loses nothing.

What peers and clients cause to be written, and nobody waits for, is written at
once, or waits here while the disk refuses: `settle`, called every second, tries
again. Messages that wait for a client are bounded by the queues that they stand
in, other writes by `WRITES_LIMIT`, of which the oldest fall off.

Where somebody does wait for the result, `CannotStore` is raised, as it is by all
that reads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.logger import Logger

from zeromsg.errors import CannotStore
from zeromsg.log import leveled
from zeromsg.policy.signers import Changes
from zeromsg.store.database import Ban, CapabilityRow, Database, PeerRow, QueuedMessage

WRITES_LIMIT = 100_000
"""Writes that wait beside queued messages: bans, open pages, what users were shown."""


@attrs.frozen
class _Held:
    """A queued message that is not on disk yet."""

    site: str
    hash: str
    event: str
    wall: float
    shown: frozenset[str]


class Writing:
    """Writes now or, where the disk refuses, later (`interfaces.IStore` and the node's own).

    Messages that are not on disk yet have numbers below zero, which stay good
    for `queue_show` and `queue_delete` when they are written.
    """

    _log = Logger(observer=leveled)

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Callable[[], None]] = deque(maxlen=WRITES_LIMIT)
        self._held: dict[int, _Held] = {}
        self._rows: dict[int, int] = {}
        self._last = 0
        self.problem = ""
        """Why nothing can be written at present, or ""."""

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return len(self._waiting) + len(self._held)

    def settle(self) -> bool:
        """Try again what waits; whether all is written."""
        if not self.problem:
            return True
        count = self.waiting
        try:
            for id in list(self._held):
                held = self._held[id]
                self._rows[id] = self._database.queue_put(*attrs.astuple(held, recurse=False))
                del self._held[id]
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except CannotStore as problem:
            self.problem = str(problem)
            return False
        self.problem = ""
        self._log.info(
            "the database can be written to again, and has what waited: {count} writes",
            count=count,
        )
        return True

    def close(self) -> None:
        """A last try; to be called when the node stops."""
        if not self.settle():
            self._log.error(
                "lost {count} writes: {problem}", count=self.waiting, problem=self.problem
            )

    def _write(self, write: Callable[[], None]) -> None:
        """Write something now or later, after what waits already."""
        if self.problem:
            self._waiting.append(write)
            return
        try:
            write()
        except CannotStore as problem:
            self._waiting.append(write)
            self._refused(problem)

    def _refused(self, problem: CannotStore) -> None:
        self.problem = str(problem)
        self._log.warn(
            "{problem}. What is to be kept waits in memory, and is tried again every second",
            problem=self.problem,
        )

    # Messages that wait for a client

    def queue_put(
        self, site: str, hash: str, event: str, wall: float, shown: Iterable[str] = ()
    ) -> int:
        held = _Held(site, hash, event, wall, frozenset(shown))
        if not self.problem:
            try:
                return self._database.queue_put(site, hash, event, wall, held.shown)
            except CannotStore as problem:
                self._refused(problem)
        self._last -= 1
        self._held[self._last] = held
        return self._last

    def queue_load(self, site: str) -> list[QueuedMessage]:
        """The messages of a site, in the order they were put; those on no disk yet come last."""
        held = (
            QueuedMessage(id, each.hash, each.event, each.wall, each.shown)
            for id, each in self._held.items()
            if each.site == site
        )
        return [*self._database.queue_load(site), *held]

    def queue_show(self, ids: Iterable[int], user: str) -> None:
        written = []
        for id in ids:
            held = self._held.get(id)
            if held is None:
                written.append(self._rows.get(id, id))
            else:
                self._held[id] = attrs.evolve(held, shown=held.shown | {user})
        if written:
            self._write(lambda: self._database.queue_show(written, user))

    def queue_delete(self, ids: Iterable[int]) -> None:
        written = [self._rows.pop(id, id) for id in ids if self._held.pop(id, None) is None]
        if written:
            self._write(lambda: self._database.queue_delete(written))

    # What the node notes by the way

    def add_seen(self, rows: Sequence[tuple[bytes, int, float]]) -> None:
        self._write(lambda: self._database.add_seen(rows))

    def change_signers(self, changes: Changes) -> None:
        self._write(lambda: self._database.change_signers(changes))

    def save_peers(self, kept: Sequence[PeerRow], gone: Sequence[tuple[str, str]]) -> None:
        self._write(lambda: self._database.save_peers(kept, gone))

    def save_capabilities(self, kept: Sequence[CapabilityRow], gone: Sequence[str]) -> None:
        self._write(lambda: self._database.save_capabilities(kept, gone))

    def put_ban(self, ban: Ban) -> None:
        self._write(lambda: self._database.put_ban(ban))

    def remove_ban(self, identity: str) -> None:
        self._write(lambda: self._database.remove_ban(identity))

    def put_page(self, digest: bytes, site: str, user: str, until: float) -> None:
        self._write(lambda: self._database.put_page(digest, site, user, until))

    def client_key(self, site: str, user: str, entropy: Callable[[int], bytes]) -> str:
        """As the database gives it; one that cannot be kept yet holds while the node runs."""
        fresh: list[bytes] = []

        def once(count: int) -> bytes:
            if not fresh:
                fresh.append(entropy(count))
            return fresh[0]

        try:
            return self._database.client_key(site, user, once)
        except CannotStore as problem:
            if not fresh:
                raise  # it cannot even be read
            if not self.problem:
                self._refused(problem)
            self._waiting.append(lambda: _done(self._database.client_key(site, user, once)))
            return fresh[0].hex()

    # What somebody waits for

    def user_settings(self, site: str, user: str) -> Mapping[str, Any]:
        return self._database.user_settings(site, user)

    def set_user_settings(self, site: str, user: str, settings: Mapping[str, Any]) -> None:
        self._database.set_user_settings(site, user, settings)

    def permissions(self) -> list[tuple[str, str]]:
        return self._database.permissions()

    def set_permission(self, site: str, permission: str, held: bool) -> None:
        self._database.set_permission(site, permission, held)

    def set_joined(self, site: str, size_limit: int | None) -> None:
        self._database.set_joined(site, size_limit)


def _done(result: object) -> None:
    """Drops a result."""
