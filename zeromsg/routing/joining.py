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
from zeromsg.protocol.conversation import STREAM_LIMIT
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import CONTENT_JSON, STREAM_FILE

CHUNK = 512 * 1024
FILE_SECONDS = 10.0
RETRY_SECONDS = 30.0
CONTENT_LIMIT = 10_000_000
"""Most bytes of a content.json whose size nobody has told us yet."""

_LEAST = 16 * 1024
"""Fewer bytes, before the end of a file, could make one fetch last for ever."""

assert CHUNK <= STREAM_LIMIT


class Joining:
    """Completes the sites that this node joins by address."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        sites: ISites,
        site_peers: SitePeers,
        clock: IReactorTime,
        charge: Callable[[str, float, str], None],
        changed: Callable[[str], None],
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._charge = charge
        self._changed = changed
        self._links: dict[IPeerLink, set[str]] = {}
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
        """A peer told us of a changed content.json, which was stored: fetch what it lists."""
        if site.address not in self._busy:
            self._work(site.address, self._complete(site))

    def fetch_file(self, site: ISite, inner_path: str) -> Deferred[None]:
        """Fetch one listed file from whoever has it; fires when all were asked. Never fails."""
        running = Deferred.fromCoroutine(self._fetch_file(site, inner_path))
        running.addErrback(self._failed, site.address)
        return running

    async def _fetch_file(self, site: ISite, inner_path: str) -> None:
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
            self.try_all()

    def _failed(self, failure: Failure, address: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("fetching {site} failed", failure, site=address)

    async def _complete(self, site: ISite) -> None:
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
            except ContentRefused as refused:
                self._log.warn(
                    "refused a file of {site}: {reason}", site=site.address, reason=str(refused)
                )
                self._log.debug("it came from {peer}", peer=link.name)
                self._charge(link.identity, refused.points, "a file that was not what it should be")
            if complete(site):
                self._log.info("{site} is complete", site=site.address)
                return

    def _sources(self, address: str) -> list[IPeerLink]:
        """Peers of the site first; of the others, those that did not refuse it yet.

        ZeroNet nodes charge points for a site that they lack: of them only peers of it.
        """
        members = [link for link in self._links if self._site_peers.takes_part(address, link)]
        others = [
            link
            for link, refused in self._links.items()
            if link.extension and link not in members and address not in refused
        ]
        return members + others

    async def _fetch_site(self, link: IPeerLink, site: ISite) -> None:
        if site.content is None:
            data = await self._fetch(link, site, CONTENT_JSON, None)
            site.store_content(CONTENT_JSON, data)
            self._site_peers.joined(site.address, link)
            # Who fetched the site while we did refused us then, and we them.
            self._site_peers.introduce(site.address)
            self._changed(site.address)
        for inner_path in list(site.missing_contents()):
            site.store_content(inner_path, await self._fetch(link, site, inner_path, None))
        for inner_path, size in list(site.missing()):
            site.store_file(inner_path, await self._fetch(link, site, inner_path, size))
            self._changed(site.address)

    async def _fetch(
        self, link: IPeerLink, site: ISite, inner_path: str, size: int | None
    ) -> bytes:
        """A whole file. size: what it must have, None when unknown. Raises Unreachable."""
        limit = CONTENT_LIMIT if size is None else size
        data = bytearray()
        while True:
            answer = await link.ask(
                STREAM_FILE,
                {
                    "site": site.address,
                    "inner_path": inner_path,
                    "location": len(data),
                    "read_bytes": CHUNK,
                    "file_size": size,
                },
                FILE_SECONDS,
            )
            if "error" in answer:
                self._links.get(link, set()).add(site.address)
                raise Unreachable(f"{inner_path}: {str(answer['error'])[:200]}")
            body, total = answer.get("body"), answer.get("size")
            if not isinstance(body, bytes) or type(total) is not int:
                raise ContentRefused(f"{inner_path}: an answer without a body")
            if total > limit or len(data) + len(body) > limit:
                raise ContentRefused(f"{inner_path}: larger than the {limit} bytes declared")
            data += body
            if len(data) >= total:
                return bytes(data)
            if len(body) < _LEAST:
                raise ContentRefused(f"{inner_path}: it ends early, or comes in crumbs")


def complete(site: ISite) -> bool:
    """Whether all required files are there."""
    return site.content is not None and not any(site.missing()) and not any(site.missing_contents())
