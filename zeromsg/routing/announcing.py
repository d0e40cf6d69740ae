"""When each tracker is told of our sites and asked for their peers.

Every tracker goes its own way: soon after the start, then every twenty minutes,
sooner while a site lacks peers and the tracker is a zero:// one, later when a
BitTorrent tracker says so, and with growing pauses while it fails. All pauses
are drawn a little longer, so that nodes that started together do not stay
together. Zero:// trackers hear of all sites at once, the others of
one after the other. Source: ZeroNet peer protocol, section 10.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import ITrackers, Wall
from zeromsg.log import leveled
from zeromsg.wire.trackers import Announcement, Found, PeerKind, Tracker, TrackerRefused
from zeromsg.wire.values import PeerAddress

ROUND_SECONDS = 20 * 60.0
START_SECONDS = 2.0
"""Within which the first announce to each tracker begins."""

HUNGRY_SECONDS = 5.0
"""Pause before a zero:// tracker is asked again for sites that lack peers; then it doubles."""

BACKOFF_FIRST = 5.0
BACKOFF_MOST = 3600.0
INTERVAL_MOST = 2 * 3600.0
"""The longest that a tracker can make us wait after it answered."""

IN_FLIGHT = 4
"""Announces at one time."""

ANNOUNCE_SECONDS = 120.0
"""For one announce; each kind of tracker has shorter limits of its own."""

REFUSALS_LIMIT = 3
"""Sites that a tracker may refuse in a row before it is left alone."""

FOUND_LIMIT = 200
"""Addresses taken for one site from one answer."""

NEED = 30


@attrs.frozen
class Presence:
    """How this node can be found, and whom it can dial.

    port: where it listens; listed: the families under which it may be listed
    with that port, empty when nobody can connect. wanted: families it can dial.
    onions: for each site its onion, without `.onion`.
    """

    port: int
    listed: frozenset[PeerKind]
    wanted: frozenset[PeerKind]
    onions: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class TrackerStatus:
    """What the operator is shown of a tracker; times are Unix seconds.

    state: `refused` by configuration, `waiting` for its first answer, `ok`, or
    `failing`. found: addresses that the last answers brought.
    """

    tracker: str
    state: Literal["refused", "waiting", "ok", "failing"]
    last_success: float | None
    last_error: str
    failures: int
    next_at: float | None
    found: int

    def to_map(self) -> Mapping[str, Any]:
        return attrs.asdict(self)


@attrs.define(eq=False)
class _Tracked:
    """One tracker's schedule.

    round_at: when all sites are due. fresh: sites that came since, which do not
    wait for that. hunger: rounds in a row after which a site lacked peers.
    """

    tracker: Tracker
    refusal: str
    round_at: float = 0.0
    fresh: dict[str, None] = attrs.field(factory=dict)
    timer: IDelayedCall | None = None
    work: Deferred[None] | None = None
    failures: int = 0
    hunger: int = 0
    last_success: float | None = None
    last_error: str = ""
    found: int = 0


class Announcing:
    """Announces the node's sites.

    sites: their addresses, as they are now. presence: what to say of this node.
    enough: whether a site has as many peers as it needs.
    found: told the site, addresses, and the name of the tracker.
    allow_private: hand loopback and private addresses on too.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        trackers: Sequence[Tracker],
        asker: ITrackers,
        sites: Callable[[], Sequence[str]],
        presence: Callable[[], Presence],
        enough: Callable[[str], bool],
        found: Callable[[str, Sequence[PeerAddress], str], None],
        allow_private: bool,
        clock: IReactorTime,
        wall: Wall,
        rng: random.Random,
    ) -> None:
        self._asker = asker
        self._sites = sites
        self._presence = presence
        self._enough = enough
        self._found = found
        self._allow_private = allow_private
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._slots = DeferredSemaphore(IN_FLIGHT)
        self._running = False
        self._tracked = [
            _Tracked(tracker, asker.refusal(tracker)) for tracker in dict.fromkeys(trackers)
        ]

    # Life.

    def start(self) -> None:
        self._running = True
        for tracked in self._tracked:
            if tracked.refusal:
                self._log.warn(
                    "{tracker}: {why}", tracker=tracked.tracker.name, why=tracked.refusal
                )
            else:
                self._schedule(tracked, self._rng.uniform(0.0, START_SECONDS))

    def stop(self) -> None:
        self._running = False
        for tracked in self._tracked:
            if tracked.timer is not None and tracked.timer.active():
                tracked.timer.cancel()
            tracked.timer = None
            if tracked.work is not None:
                tracked.work.cancel()

    def site_added(self, site: str) -> None:
        """Announce a new site soon, without waiting for the next round."""
        for tracked in self._tracked:
            if tracked.refusal:
                continue
            tracked.fresh[site] = None
            # A tracker that fails hears of it with the rest, in its own time.
            if self._running and tracked.work is None and not tracked.failures:
                self._schedule_fresh(tracked)

    def status(self) -> list[TrackerStatus]:
        return [self._status_of(tracked) for tracked in self._tracked]

    def _status_of(self, tracked: _Tracked) -> TrackerStatus:
        timer = tracked.timer
        next_at = None
        if timer is not None and timer.active():
            next_at = self._wall() + max(0.0, timer.getTime() - self._clock.seconds())
        state: Literal["refused", "waiting", "ok", "failing"] = "ok"
        if tracked.refusal:
            state = "refused"
        elif tracked.failures:
            state = "failing"
        elif tracked.last_success is None:
            state = "waiting"
        return TrackerStatus(
            tracker=tracked.tracker.name,
            state=state,
            last_success=tracked.last_success,
            last_error=tracked.refusal or tracked.last_error,
            failures=tracked.failures,
            next_at=next_at,
            found=tracked.found,
        )

    # The schedule.

    def _schedule(self, tracked: _Tracked, seconds: float) -> None:
        if tracked.timer is not None and tracked.timer.active():
            tracked.timer.cancel()
        tracked.timer = self._clock.callLater(seconds, self._due, tracked)

    def _schedule_fresh(self, tracked: _Tracked) -> None:
        soon = self._rng.uniform(0.0, START_SECONDS)
        left = max(0.0, tracked.round_at - self._clock.seconds())
        self._schedule(tracked, min(soon, left))

    def _due(self, tracked: _Tracked) -> None:
        tracked.timer = None
        tracked.work = work = Deferred.fromCoroutine(self._work(tracked))
        work.addErrback(self._broke)
        work.addBoth(self._ended, tracked)

    def _broke(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("announcing failed", failure)

    def _ended(self, result: Any, tracked: _Tracked) -> None:
        tracked.work = None
        if not self._running:
            return
        if tracked.fresh and not tracked.failures:
            self._schedule_fresh(tracked)
        else:
            self._schedule(tracked, max(0.0, tracked.round_at - self._clock.seconds()))

    async def _work(self, tracked: _Tracked) -> None:
        """Announce what is due, and say when all is due again."""
        now = self._clock.seconds()
        known = list(self._sites())
        whole = tracked.round_at <= now
        sites = known if whole else [site for site in known if site in tracked.fresh]
        tracked.fresh.clear()
        # Until it is known better: whatever goes wrong, the round is not begun anew at once.
        if whole:
            tracked.round_at = now + self._about(ROUND_SECONDS)
        tracked.found = 0
        outcome = await self._announce_all(tracked, sites, whole) if sites else None
        if isinstance(outcome, Exception):
            self._failed(tracked, outcome)
        elif whole:
            self._succeeded(tracked, sites, outcome)
        elif sites:
            tracked.last_success = self._wall()

    def _about(self, seconds: float) -> float:
        # Never shorter: it may be what the tracker asked for.
        return seconds * self._rng.uniform(1.0, 1.2)

    def _succeeded(self, tracked: _Tracked, sites: Sequence[str], interval: float | None) -> None:
        tracked.failures = 0
        tracked.last_error = ""
        if sites:
            tracked.last_success = self._wall()
        pause = max(ROUND_SECONDS, min(interval or 0.0, INTERVAL_MOST))
        if all(self._enough(site) for site in sites):
            tracked.hunger = 0
        elif tracked.tracker.kind == "zero":
            pause = min(pause, HUNGRY_SECONDS * 2.0**tracked.hunger)
            tracked.hunger = min(tracked.hunger + 1, 20)
        tracked.round_at = self._clock.seconds() + self._about(pause)

    def _failed(self, tracked: _Tracked, problem: Exception) -> None:
        pause = min(BACKOFF_FIRST * 2.0 ** min(tracked.failures, 20), BACKOFF_MOST)
        if isinstance(problem, TrackerRefused) and problem.retry is not None:
            pause = max(pause, min(problem.retry, 24 * BACKOFF_MOST))
        tracked.failures += 1
        tracked.last_error = str(problem)
        tracked.round_at = self._clock.seconds() + self._about(pause)
        self._log.debug(
            "{tracker} fails: {problem}", tracker=tracked.tracker.name, problem=str(problem)
        )

    # Announces.

    async def _announce_all(
        self, tracked: _Tracked, sites: list[str], whole: bool
    ) -> float | Exception | None:
        """The interval that the tracker wants, or why it is to be left alone for a while."""
        if tracked.tracker.kind == "zero":
            parts = [tuple(sites)]
        else:
            # In another order each time: no site stands behind a slow tracker for ever.
            parts = [(site,) for site in self._rng.sample(sites, len(sites))]
        ends_at = self._clock.seconds() + ROUND_SECONDS / 2
        interval: float | None = None
        refusals = 0
        for part in parts:
            try:
                found = await self._announce(tracked.tracker, part, whole and len(parts) == 1)
            except TrackerRefused as refused:
                # Perhaps of this site only.
                refusals += 1
                tracked.last_error = str(refused)
                if refusals >= min(REFUSALS_LIMIT, len(parts)):
                    return refused
                continue
            except (Unreachable, TheirMistake) as problem:
                return problem
            refusals = 0
            interval = found.interval
            self._take(tracked, part, found)
            if self._clock.seconds() > ends_at:
                return interval
        return interval

    async def _announce(self, tracker: Tracker, sites: tuple[str, ...], complete: bool) -> Found:
        presence = self._presence()
        announcement = Announcement(
            sites=sites,
            port=presence.port,
            listed=presence.listed,
            wanted=presence.wanted,
            need=NEED,
            onions=presence.onions,
            complete=complete,
        )
        await self._slots.acquire()
        try:
            asking = Deferred.fromCoroutine(self._asker.announce(tracker, announcement))
            asking.addTimeout(ANNOUNCE_SECONDS, self._clock, _too_late)
            return await asking
        finally:
            self._slots.release()

    def _take(self, tracked: _Tracked, sites: tuple[str, ...], found: Found) -> None:
        for site in sites:
            addresses = [
                address
                for address in dict.fromkeys(found.peers.get(site, ()))
                if address.port and (self._allow_private or not address.is_private)
            ][:FOUND_LIMIT]
            tracked.found += len(addresses)
            if addresses:
                self._found(site, addresses, tracked.tracker.name)


def _too_late(result: Any, seconds: float) -> Any:
    # What was cancelled may have failed in its own way.
    raise Unreachable("no answer in time")
