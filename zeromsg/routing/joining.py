"""Fetching a site from peers: content.json, the files it lists, and later versions.

Everything is verified before it replaces what was there; a refusal keeps the
old state, says why in the log, and costs the peer that sent it points.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import ContentRefused, Unreachable
from zeromsg.interfaces import IPeerLink, ISite, ISites
from zeromsg.log import leveled
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.versions import Versions, parse_modified
from zeromsg.routing.fetching import NotThere, fetch
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import CONTENT_JSON, LIST_MODIFIED

RETRY_SECONDS = 30.0
REST_FIRST = 20.0
REST_MOST = 600.0
"""How long a peer is not asked for files of a site after one was not as it should be.

It doubles. A ZeroNet node has a new content.json before it has the files, so
that it is not the peer's fault every time.
"""


class Joining:
    """Completes the sites that this node joins by address.

    versions: what links hold; only those that hold our version have its files.
    changed: told of each site with new content. completed: of each that is whole.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        sites: ISites,
        site_peers: SitePeers,
        versions: Versions[IPeerLink],
        clock: IReactorTime,
        *,
        charge: Callable[[str, float, str], None],
        changed: Callable[[str], None],
        completed: Callable[[str], None],
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._versions = versions
        self._clock = clock
        self._charge = charge
        self._changed = changed
        self._completed = completed
        # The sites that each link refused.
        self._links: dict[IPeerLink, set[str]] = {}
        # For each of them and a site: until when it is left alone, and for how long next time.
        self._resting: dict[IPeerLink, dict[str, tuple[float, float]]] = {}
        # Who brought the newest content.json, and so has its files.
        self._first: dict[str, IPeerLink] = {}
        self._busy: dict[str, Deferred[None]] = {}
        # Sites to try once more when what is going on is over.
        self._again: set[str] = set()
        self._retry = LoopingCall(self.try_all)
        self._retry.clock = clock
        site_peers.watch(self._peer_joined)

    def start(self) -> None:
        self._retry.start(RETRY_SECONDS, now=False)

    def stop(self) -> None:
        if self._retry.running:
            self._retry.stop()
        self._again.clear()
        for work in list(self._busy.values()):
            work.cancel()

    def opened(self, link: IPeerLink) -> None:
        self._links[link] = set()
        self.try_all()

    def closed(self, link: IPeerLink) -> None:
        self._links.pop(link, None)
        self._resting.pop(link, None)
        for address in [address for address, first in self._first.items() if first is link]:
            del self._first[address]

    def try_all(self) -> None:
        """Start fetching whatever is incomplete and not being fetched."""
        for address in self._sites.addresses():
            site = self._sites.get(address)
            # What differs in the operator's own directory is their work in progress.
            if site is None or site.own or complete(site):
                continue
            if address in self._busy:
                self._again.add(address)
            else:
                self._work(address, self._complete(site))

    def _peer_joined(self, address: str) -> None:
        """A source more for what is incomplete."""
        site = self._sites.get(address)
        if site is None or site.own or complete(site):
            return
        if address in self._busy:
            self._again.add(address)
        else:
            self._work(address, self._complete(site))

    def newer(self, link: IPeerLink, site: ISite) -> None:
        """A peer brought a changed content.json, which was stored: fetch what it lists."""
        self._first[site.address] = link
        self._resting.get(link, {}).pop(site.address, None)
        if site.address in self._busy:
            self._again.add(site.address)
        else:
            self._work(site.address, self._complete(site))

    def fetch_file(self, site: ISite, inner_path: str) -> Deferred[None]:
        """Fetch one listed file from whoever has it; fires when all were asked. Never fails."""
        running = Deferred.fromCoroutine(self._fetch_one(site, inner_path))
        running.addErrback(self._failed, site.address)
        return running

    async def _fetch_one(self, site: ISite, inner_path: str) -> None:
        for link in self._sources(site.address):
            size = site.size_of(inner_path)
            if size is None:
                return
            try:
                site.store_file(inner_path, await self._fetch(link, site, inner_path, size))
            except Unreachable:
                continue
            except ContentRefused as refused:
                self._log.debug("refused {path}: {why}", path=inner_path, why=str(refused))
                self._charge(link.identity, refused.points, "a file that was not what it should be")
                continue
            self._changed(site.address)
            return

    def forget(self, address: str) -> None:
        """Stop fetching a site that is held no more."""
        self._again.discard(address)
        work = self._busy.get(address)
        if work is not None:
            work.cancel()

    def _work(self, address: str, work: Any) -> None:
        running = Deferred.fromCoroutine(work)
        self._busy[address] = running
        running.addErrback(self._failed, address)
        running.addBoth(self._over, address)

    def _over(self, _: object, address: str) -> None:
        self._busy.pop(address, None)
        if address in self._again:
            # Somebody came who may have what was missing.
            self._again.discard(address)
            site = self._sites.get(address)
            if site is not None and complete(site):
                self._completed(address)
            self.try_all()

    def _failed(self, failure: Failure, address: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("fetching {site} failed", failure, site=address)

    async def _complete(self, site: ISite) -> None:
        if complete(site):
            self._completed(site.address)
            return
        for link in self._sources(site.address):
            try:
                await self._fetch_site(link, site)
            except Unreachable as problem:
                self._log.debug(
                    "{peer} has nothing of {site}: {problem}",
                    peer=link.name,
                    site=site.address,
                    problem=str(problem),
                )
                if site.content is not None:
                    self._rest(link, site.address)
            except ContentRefused as refused:
                self._log.warn(
                    "refused a file of {site}: {reason}", site=site.address, reason=str(refused)
                )
                self._log.debug("it came from {peer}", peer=link.name)
                self._charge(link.identity, refused.points, "a file that was not what it should be")
                self._rest(link, site.address)
            if complete(site):
                self._log.info("{site} is complete", site=site.address)
                self._completed(site.address)
                return

    def _rest(self, link: IPeerLink, address: str) -> None:
        if link in self._links:
            resting = self._resting.setdefault(link, {})
            _, seconds = resting.get(address, (0.0, REST_FIRST))
            resting[address] = (self._clock.seconds() + seconds, min(2 * seconds, REST_MOST))

    def _sources(self, address: str) -> list[IPeerLink]:
        """Peers of the site first; of the others, those that did not refuse it yet.

        ZeroNet nodes charge points for a site that they lack: of them only peers of it.
        """
        members = [link for link in self._links if self._site_peers.takes_part(address, link)]
        others = [
            link
            for link, refused in self._links.items()
            if link.extension
            and link not in members
            and address not in refused
            # An onion of ours is asked about its own site alone.
            and speaks_of(link.face, address)
        ]
        now, first = self._clock.seconds(), self._first.get(address)
        found = [link for link in members + others if self._rested(link, address, now)]
        return sorted(found, key=lambda link: link is not first)

    def _rested(self, link: IPeerLink, address: str, now: float) -> bool:
        return self._resting.get(link, {}).get(address, (0.0, 0.0))[0] <= now

    async def _fetch_site(self, link: IPeerLink, site: ISite) -> None:
        if site.content is None:
            site.store_content(CONTENT_JSON, await self._fetch(link, site, CONTENT_JSON, None))
            self._holds(link, site, CONTENT_JSON)
            self._site_peers.joined(site.address, link)
            # Who fetched the site while we did refused us then, and we them.
            self._site_peers.introduce(site.address)
            self._changed(site.address)
        await self._ask_versions(link, site)
        for inner_path in list(site.missing_contents()):
            if self._has_ours(link, site, CONTENT_JSON):
                data = await self._fetch(link, site, inner_path, None)
                site.store_content(inner_path, data)
                self._holds(link, site, inner_path)
        for inner_path, size in list(site.missing()):
            await self._fetch_file(link, site, inner_path, size)

    async def _fetch_file(self, link: IPeerLink, site: ISite, inner_path: str, size: int) -> None:
        try:
            source = site.listed_in(inner_path)
        except KeyError:
            return  # a newer version does not have it
        version = site.version(source)
        if not self._has_ours(link, site, source):
            return
        data = await self._fetch(link, site, inner_path, size)
        if site.version(source) == version:
            # Else it may be what was listed before, and nobody's fault.
            site.store_file(inner_path, data)
            self._changed(site.address)

    async def _ask_versions(self, link: IPeerLink, site: ISite) -> None:
        """Find out whether the peer has our versions of what is missing, or others."""
        sources = {site.listed_in(inner_path) for inner_path, _ in site.missing()}
        if any(site.missing_contents()):
            sources.add(CONTENT_JSON)
        unknown = [source for source in sources if not self._has_ours(link, site, source)]
        if not unknown:
            return
        since = min(site.version(source) or 0 for source in unknown) - 1
        answer = await link.ask(LIST_MODIFIED, {"site": site.address, "since": since})
        said = parse_modified(answer)
        if said is None:
            self._links.get(link, set()).add(site.address)
            raise NotThere("it does not say which versions it has")
        for inner_path, modified in said.items():
            self._versions.learn(link, site.address, inner_path, modified)

    def _holds(self, link: IPeerLink, site: ISite, inner_path: str) -> None:
        self._versions.learn(link, site.address, inner_path, site.version(inner_path))

    def _has_ours(self, link: IPeerLink, site: ISite, inner_path: str) -> bool:
        return self._versions.of(link, site.address, inner_path) == site.version(inner_path)

    async def _fetch(
        self, link: IPeerLink, site: ISite, inner_path: str, size: int | None
    ) -> bytes:
        try:
            return await fetch(link, site.address, inner_path, size, self._clock)
        except NotThere:
            self._links.get(link, set()).add(site.address)
            raise


def complete(site: ISite) -> bool:
    """Whether all required files are there."""
    return site.content is not None and not any(site.missing()) and not any(site.missing_contents())
