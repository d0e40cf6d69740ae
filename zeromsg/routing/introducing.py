"""Telling peers which sites we hold, so that they tell us of the messages there.

A ZeroNet node sends a site's messages only to those that asked it something
about the site, so each new connection is introduced with a `pex` for every
site, and again every twenty minutes. A zeromsg node does not mind to be asked
for sites that it lacks. A ZeroNet node does: it is asked first about the sites
that it showed to hold, then about those of which it is said to be a peer, then
about those that we have nothing of yet, then about the others; one at a time,
in the way that `policy.asking` allows. Who connected to us has a second to
name sites itself.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import IPeerLink, ISites
from zeromsg.log import leveled
from zeromsg.policy.asking import Asking, Question
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.peer_book import PeerBook
from zeromsg.wire.names import GET_PIECEFIELDS, PEX, UNKNOWN_COMMAND
from zeromsg.wire.values import PeerAddress

INTRODUCTION_SECONDS = 20 * 60.0

GRACE_SECONDS = 1.0
"""What a ZeroNet node that connected to us has to name sites itself."""

BETWEEN_SECONDS = 0.5
"""Between two questions to a ZeroNet node about sites that it may not hold."""


@attrs.define(eq=False)
class _Met:
    """An open link. asked: the sites that it was told of, or is being told of."""

    asked: set[str] = attrs.field(factory=set)
    lock: DeferredLock = attrs.field(factory=DeferredLock)
    round: Deferred[None] | None = None


class Introducing:
    """Introduces this node to its links, site by site.

    takes_part: whether the peer showed that it holds a site.
    params: of a pex about a site to a peer. taken: told the answer.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        book: PeerBook,
        clock: IReactorTime,
        wall: Callable[[], float],
        takes_part: Callable[[str, IPeerLink], bool],
        params: Callable[[str, IPeerLink], dict[str, Any]],
        taken: Callable[[str, Any, IPeerLink], None],
    ) -> None:
        self._sites = sites
        self._book = book
        self._clock = clock
        self._wall = wall
        self._takes_part = takes_part
        self._params = params
        self._taken = taken
        self._asking = Asking()
        self._links: dict[IPeerLink, _Met] = {}
        self._again = LoopingCall(self._all_again)
        self._again.clock = clock

    def start(self) -> None:
        self._again.start(INTRODUCTION_SECONDS, now=False)

    def stop(self) -> None:
        if self._again.running:
            self._again.stop()
        for met in list(self._links.values()):
            if met.round is not None:
                met.round.cancel()

    def __contains__(self, link: IPeerLink) -> bool:
        return link in self._links

    def of_node(self, node: PeerAddress) -> list[IPeerLink]:
        """Open links to a node; there may be two for a moment."""
        return [link for link in self._links if link.declared == node]

    def opened(self, link: IPeerLink) -> None:
        met = self._links[link] = _Met()
        met.round = self._run(link, self._first(link, met))

    def closed(self, link: IPeerLink) -> None:
        met = self._links.pop(link, None)
        if met is not None and met.round is not None:
            met.round.cancel()

    def named(self, site: str, link: IPeerLink) -> None:
        """The peer spoke of a site first; without being asked itself it would tell us nothing."""
        met = self._links.get(link)
        if met is not None and site not in met.asked:
            self._asking.holds(link.declared, site)
            self._run(link, self._pex(link, met, site))

    def meant_for(self, site: str, link: IPeerLink) -> None:
        """The peer was dialled for the sake of a site: that one is asked about now."""
        met = self._links.get(link)
        if met is not None and site not in met.asked:
            self._run(link, self._about(link, met, site))

    def renew(self, site: str, link: IPeerLink) -> None:
        """Introduce us again for a site that the peer holds."""
        met = self._links.get(link)
        if met is not None:
            self._run(link, self._pex(link, met, site))

    def site_added(self, site: str) -> None:
        """Tell every peer of a site that is new here, but those that know."""
        for link, met in list(self._links.items()):
            if speaks_of(link.face, site) and not self._takes_part(site, link):
                self._run(link, self._about(link, met, site, again=True))

    def _all_again(self) -> None:
        for link, met in list(self._links.items()):
            if met.round is None or met.round.called:
                met.round = self._run(link, self._introduce(link, met, renew=True))

    def _run(self, link: IPeerLink, work: Coroutine[Any, Any, Any]) -> Deferred[None]:
        running = Deferred.fromCoroutine(work)
        running.addErrback(self._failed, link)
        return running

    def _failed(self, failure: Failure, link: IPeerLink) -> None:
        if failure.check(TheirMistake):
            link.drop(str(failure.value))
        elif not failure.check(CancelledError):
            self._log.failure("introduction failed", failure)

    # One link.

    async def _first(self, link: IPeerLink, met: _Met) -> None:
        if not link.extension:
            # Who was dialled for a site hears of that one first.
            await deferLater(self._clock, 0.0 if link.dialled else GRACE_SECONDS)
        await self._introduce(link, met, renew=False)

    async def _introduce(self, link: IPeerLink, met: _Met, renew: bool) -> None:
        if link.extension:
            for site in self._spoken_of(link):
                await self._pex(link, met, site)
            return
        for site in self._in_order(link):
            if await self._about(link, met, site, renew=renew):
                await deferLater(self._clock, BETWEEN_SECONDS)

    def _in_order(self, link: IPeerLink) -> list[str]:
        """Our sites, those first of which a ZeroNet node is likelier to be a peer."""

        def rank(site: str) -> int:
            if self._takes_part(site, link):
                return 0
            peer = self._book.get(site, link.declared)
            if peer is not None:
                return 1 if peer.proven else 2
            return 3 if self._is_empty(site) else 4

        return sorted(self._spoken_of(link), key=rank)

    def _spoken_of(self, link: IPeerLink) -> list[str]:
        """Our sites, but for those that are no affair of the onion that a link is for."""
        return [site for site in self._sites.addresses() if speaks_of(link.face, site)]

    def _is_empty(self, site: str) -> bool:
        held = self._sites.get(site)
        return held is not None and held.content is None

    async def _about(
        self, link: IPeerLink, met: _Met, site: str, again: bool = False, renew: bool = False
    ) -> bool:
        """Ask about a site, if that is allowed; whether it was put to who may not hold it.

        again: something changed. renew: say it again to who is known to hold it.
        """
        if link.extension:
            await self._pex(link, met, site)
            return False
        # One at a time: the answer to one says how the next may be put.
        asked: bool = await met.lock.run(
            lambda: Deferred.fromCoroutine(self._carefully(link, met, site, again, renew))
        )
        return asked

    async def _carefully(
        self, link: IPeerLink, met: _Met, site: str, again: bool, renew: bool
    ) -> bool:
        if link not in self._links or self._sites.get(site) is None:
            return False
        if self._takes_part(site, link):
            if renew and not self._asking.was_refused(link.declared, site, self._wall()):
                await self._pex(link, met, site)
            return False
        question = self._question(link, site, again)
        if question is Question.FREE:
            question = await self._freely(link, site, again)
            if question is None:
                return True
        if question is None:
            return False
        await self._pex(link, met, site)
        return True

    def _question(self, link: IPeerLink, site: str, again: bool) -> Question | None:
        known = self._book.get(site, link.declared) is not None
        likely = known or self._is_empty(site)
        return self._asking.question(link.declared, site, self._wall(), likely=likely, again=again)

    async def _freely(self, link: IPeerLink, site: str, again: bool) -> Question | None:
        """Ask without a risk; what to ask next, FREE if it holds the site."""
        try:
            answer = await link.ask(GET_PIECEFIELDS, {"site": site})
        except Unreachable:
            return None
        error, now = answer.get("error"), self._wall()
        if error is None:
            return Question.FREE
        if not str(error).startswith(UNKNOWN_COMMAND):
            self._asking.refused(link.declared, site, Question.FREE, now)
            return None
        self._asking.does_not_know(link.declared, now)
        return self._question(link, site, again)

    async def _pex(self, link: IPeerLink, met: _Met, site: str) -> None:
        met.asked.add(site)
        try:
            answer = await link.ask(PEX, self._params(site, link))
        except Unreachable:
            return
        if "error" not in answer:
            self._taken(site, answer, link)
        elif not link.extension:
            self._asking.refused(link.declared, site, Question.COSTLY, self._wall())
