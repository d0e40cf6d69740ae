"""Telling peers of a site that a content.json of it changed.

A few are told at once and the others in waves, each once for each version, and
never those that are known to have it: who told us, who named it in a
`listModified`, who fetched it from us and said thanks. Whoever takes it tells
its own peers, when it has the files. A ZeroNet node charges a point for what it
has already, so where another may have told it, it is asked first, and not by all
its neighbours at the same moment; and it answers a second `update` of a file
within fifteen seconds late or never. Source: ZeroNet peer protocol, sections 7, 8
and 16.
"""

import random
from collections import OrderedDict

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from zeromsg.errors import ContentRefused, FileMissing, Unreachable
from zeromsg.interfaces import Answer, IPeerLink, ISite, ISites
from zeromsg.policy.versions import Versions, parse_modified
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import LIST_MODIFIED, UPDATE
from zeromsg.wire.packing import pack

OWN_AT_ONCE = 5
AT_ONCE = 3
"""Peers told at once, of a site of ours and of one that we joined."""

WAVE = 5
WAVE_SECONDS = 2.0
"""After that, so many about every two seconds."""

GAP_SECONDS = 20.0
"""Between two updates of one file to a ZeroNet node."""

LEAD_SECONDS = 8.0
"""A ZeroNet node is asked within this time after a version came from elsewhere, so that one of
its neighbours has told it before the next one asks."""

OWN_GAP_SECONDS = 1.0
"""The same to a zeromsg node."""

ANSWER_SECONDS = 30.0
"""For the answer: the peer may fetch the file from us before it gives one."""

_TICK_SECONDS = 0.01

BODY_LIMIT = 10 * 1024
"""A content.json of more bytes is not sent along, but fetched by who wants it."""

JOBS_LIMIT = 1000
"""Files that are being told of at one time; the oldest are given up."""

TOLD_LIMIT = 1000
"""Files of which a link's last update is remembered."""


@attrs.define(eq=False)
class _Job:
    """One file, and those who are still to be told of its newest version.

    not_before: for some of them, when their turn is at the earliest.
    """

    site: str
    inner_path: str
    todo: list[IPeerLink] = attrs.field(factory=list)
    not_before: dict[IPeerLink, float] = attrs.field(factory=dict)
    timer: IDelayedCall | None = None


class Spreading:
    """Sends `update`."""

    def __init__(
        self,
        sites: ISites,
        site_peers: SitePeers,
        versions: Versions[IPeerLink],
        clock: IReactorTime,
        rng: random.Random,
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._versions = versions
        self._clock = clock
        self._rng = rng
        # Files whose new version is here and told of when all it lists is here too.
        self._pending: dict[str, dict[str, None]] = {}
        self._jobs: OrderedDict[tuple[str, str], _Job] = OrderedDict()
        # When each link was told of a file, and which version.
        self._told: dict[IPeerLink, OrderedDict[tuple[str, str], tuple[float, float]]] = {}

    def stop(self) -> None:
        for job in self._jobs.values():
            _cancel(job)
        self._jobs.clear()
        self._pending.clear()

    def closed(self, link: IPeerLink) -> None:
        self._told.pop(link, None)

    def changed(self, site: str, inner_path: str) -> None:
        """A content.json came from a peer; peers are told once the site is `completed`."""
        self._pending.setdefault(site, {})[inner_path] = None

    def completed(self, site: str) -> None:
        """All files that the site lists are here."""
        for inner_path in self._pending.pop(site, ()):
            self.publish(site, inner_path)

    def publish(self, site: str, inner_path: str) -> None:
        """Tell all peers of the site that may not have this version.

        Of a site that is ours nobody has it yet, at first.
        """
        held = self._sites.get(site)
        if held is None:
            return
        job = self._job(site, inner_path)
        job.todo = self._site_peers.participants(site)
        self._rng.shuffle(job.todo)
        if not held.own:
            now = self._clock.seconds()
            job.not_before = {
                link: now + LEAD_SECONDS * self._rng.random()
                for link in job.todo
                if not link.extension
            }
        self._run(job, held, OWN_AT_ONCE if held.own else AT_ONCE, careful=not held.own)

    def tell(self, link: IPeerLink, site: str, inner_path: str) -> None:
        """Tell one peer, which was found to have an older version."""
        held = self._sites.get(site)
        job = self._job(site, inner_path)
        if held is not None and link not in job.todo:
            job.todo.append(link)
            if job.timer is None:
                self._run(job, held, AT_ONCE, careful=False)

    def _job(self, site: str, inner_path: str) -> _Job:
        job = self._jobs.get((site, inner_path))
        if job is None:
            job = self._jobs[site, inner_path] = _Job(site, inner_path)
            if len(self._jobs) > JOBS_LIMIT:
                _cancel(self._jobs.popitem(last=False)[1])
        return job

    def _go_on(self, job: _Job) -> None:
        job.timer = None
        held = self._sites.get(job.site)
        if held is not None:
            self._run(job, held, WAVE, careful=True)

    def _run(self, job: _Job, held: ISite, count: int, careful: bool) -> None:
        """Tell `count` of those who are left, and see to it that the others have their turn.

        careful: others may have told them already, so ask ZeroNet nodes first.
        """
        _cancel(job)
        version, now = held.version(job.inner_path), self._clock.seconds()
        waiting: list[IPeerLink] = []
        chosen: list[IPeerLink] = []
        later: list[tuple[IPeerLink, float]] = []
        if version is not None:
            for link in job.todo:
                pause = self._pause(link, job, version, now)
                if pause is None:
                    continue
                if pause > 0:
                    later.append((link, pause))
                elif len(chosen) < count:
                    chosen.append(link)
                else:
                    waiting.append(link)
            for link in chosen:
                self._remember(link, job, version)
            asked = [link for link in chosen if careful and not link.extension]
            for link in asked:
                self._ask_first(link, held, job.inner_path, version)
            at_once = [link for link in chosen if link not in asked]
            if at_once:
                self._send(at_once, held, job.inner_path, version)
        job.todo = [*waiting, *(link for link, _ in later)]
        if waiting:
            wait = WAVE_SECONDS * (0.5 + self._rng.random())
            job.timer = self._clock.callLater(wait, self._go_on, job)
        elif later:
            job.timer = self._clock.callLater(min(pause for _, pause in later), self._go_on, job)
        else:
            self._jobs.pop((job.site, job.inner_path), None)

    def _pause(self, link: IPeerLink, job: _Job, version: float, now: float) -> float | None:
        """Seconds until a link may be told; None where there is nothing to tell it."""
        if not self._site_peers.takes_part(job.site, link):
            return None
        has = self._versions.of(link, job.site, job.inner_path)
        if has is not None and has >= version:
            return None
        turn = job.not_before.get(link, now)
        told = self._told.get(link)
        last = told.get((job.site, job.inner_path)) if told is not None else None
        if last is not None:
            at, told_version = last
            if told_version == version:
                return None
            turn = max(turn, at + (OWN_GAP_SECONDS if link.extension else GAP_SECONDS))
        pause = turn - now
        # What is as good as nothing might be too little for the clock to notice.
        return pause if pause > _TICK_SECONDS else 0.0

    def _remember(self, link: IPeerLink, job: _Job, version: float) -> None:
        told = self._told.setdefault(link, OrderedDict())
        told[job.site, job.inner_path] = (self._clock.seconds(), version)
        told.move_to_end((job.site, job.inner_path))
        if len(told) > TOLD_LIMIT:
            told.popitem(last=False)

    def _ask_first(self, link: IPeerLink, held: ISite, inner_path: str, version: float) -> None:
        """Tell a ZeroNet node, unless it has the file: to ask it costs nothing."""
        asked = link.ask(LIST_MODIFIED, {"site": held.address, "since": version - 1})
        asked.addCallback(self._said, link, held, inner_path, version)
        asked.addErrback(_unreachable)

    def _said(
        self, answer: Answer, link: IPeerLink, held: ISite, inner_path: str, version: float
    ) -> None:
        if "error" in answer or held.version(inner_path) != version:
            return  # it does not hold the site any more; or a newer version is told by itself
        try:
            has = (parse_modified(answer) or {}).get(inner_path)
        except ContentRefused:
            return
        self._versions.learn(link, held.address, inner_path, has)
        if has is None or has < version:
            self._send([link], held, inner_path, version)

    def _send(self, links: list[IPeerLink], held: ISite, inner_path: str, version: float) -> None:
        try:
            body, size = held.read(inner_path, 0, BODY_LIMIT)
        except FileMissing:
            return
        params = {
            "site": held.address,
            "inner_path": inner_path,
            "body": body if size <= BODY_LIMIT else b"",
            "modified": version,
            "diffs": {},
        }
        packed = pack(params)
        for link in links:
            sent: Deferred[Answer] = link.ask_packed(UPDATE, packed, ANSWER_SECONDS)
            sent.addCallbacks(
                self._answered, _unreachable, (link, held.address, inner_path, version)
            )

    def _answered(
        self, answer: Answer, link: IPeerLink, site: str, inner_path: str, version: float
    ) -> None:
        has = self._versions.of(link, site, inner_path)
        if "ok" in answer and (has is None or has < version):
            self._versions.learn(link, site, inner_path, version)


def _cancel(job: _Job) -> None:
    if job.timer is not None and job.timer.active():
        job.timer.cancel()
    job.timer = None


def _unreachable(failure: Failure) -> None:
    # It asks for what is newer when it is back.
    failure.trap(Unreachable)
