"""Announcing to HTTP trackers: one request for each site, within bounds.

A tracker is a stranger. All bytes of an answer are counted before anything
looks at them; compressed answers are refused rather than unpacked; redirects
are followed three times, and only to the same host; the whole takes half a
minute at most. Connections begin at the node's one door, `connector`.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.net.dialer import DIAL_ERRORS
from zeromsg.net.resolving import Resolver
from zeromsg.wire.tracker_http import BittorrentAnswer, announce_url, parse_answer
from zeromsg.wire.trackers import Announcement, Found, Tracker, TrackerRefused
from zeromsg.wire.values import PeerAddress, site_sha1

BODY_LIMIT = 1024 * 1024
HEAD_LIMIT = 64 * 1024
"""Bytes beside the body: status, headers, chunk lengths."""

REDIRECTS_LIMIT = 3
ANNOUNCE_SECONDS = 30.0

_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    # Trackers turn some programs away by name; ZeroNet nodes call themselves a browser too.
    b"User-Agent": [b"Mozilla/5.0"],
    b"Accept-Encoding": [b"identity"],
    b"Connection": [b"close"],
}


class HttpAnnouncer:
    """Asks HTTP and HTTPS trackers (one part of `interfaces.ITrackers`).

    connector: how to connect to an address. trust: whose certificates count.
    """

    def __init__(
        self,
        *,
        connector: Callable[[PeerAddress], IStreamClientEndpoint],
        resolver: Resolver,
        trust: IPolicyForHTTPS,
        clock: IReactorTime,
        peer_id: str,
    ) -> None:
        self._connector = connector
        self._resolver = resolver
        self._trust = trust
        self._clock = clock
        self._peer_id = peer_id

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        """Each site by itself. Raises Unreachable, TheirMistake."""
        peers: dict[str, tuple[PeerAddress, ...]] = {}
        interval = None
        for site in announcement.sites:
            answer = await self._announce_one(tracker, site, announcement)
            peers[site] = answer.peers
            interval = answer.interval
        return Found(peers, interval)

    async def _announce_one(
        self, tracker: Tracker, site: str, announcement: Announcement
    ) -> BittorrentAnswer:
        port = announcement.port if announcement.listed else 0
        url = announce_url(tracker, site_sha1(site), self._peer_id, port, announcement.need)
        door = _Door(self._connector, self._resolver, self._trust)
        asking = Deferred.fromCoroutine(self._get(url, door))
        asking.addTimeout(ANNOUNCE_SECONDS, self._clock, _too_late)
        try:
            return parse_answer(await asking)
        finally:
            door.close()

    async def _get(self, url: bytes, door: "_Door") -> bytes:
        """The body of a good answer, wherever redirects lead."""
        agent = Agent.usingEndpointFactory(self._clock, door)
        for _ in range(REDIRECTS_LIMIT + 1):
            try:
                response = await agent.request(b"GET", url, Headers(_HEADERS))
                if response.code not in _REDIRECTS:
                    return await _body(response)
            except (ResponseFailed, *DIAL_ERRORS) as problem:
                if door.overflowed:
                    raise TheirMistake("the answer is too long") from None
                raise Unreachable(f"cannot ask: {_name(problem)}") from None
            url = _redirected(url, response)
            door.close()
        raise TheirMistake(f"more than {REDIRECTS_LIMIT} redirects")


def _too_late(result: Any, seconds: float) -> Any:
    # What was cancelled may have failed in its own way.
    raise Unreachable("no answer in time")


def _name(problem: Exception) -> str:
    """The name of what went wrong, found inside Twisted's envelope."""
    for reason in getattr(problem, "reasons", ()):
        return type(reason.value).__name__
    return type(problem).__name__


def _redirected(url: bytes, response: IResponse) -> bytes:
    """Where a redirect leads. Raises TheirMistake unless it stays on the host."""
    location = (response.headers.getRawHeaders(b"location") or [b""])[0]
    try:
        target = urljoin(url.decode("ascii"), location.decode("ascii"))
        old, new = urlsplit(url.decode("ascii")), urlsplit(target)
        # To read the port is to check it.
        stays = new.hostname == old.hostname and new.port != 0 and new.username is None
    except ValueError:
        raise TheirMistake("the redirect leads nowhere") from None
    if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
        raise TheirMistake("the redirect leads to another protocol")
    if not location or not stays:
        raise TheirMistake("the redirect leads to another host")
    return target.partition("#")[0].encode("ascii")


async def _body(response: IResponse) -> bytes:
    if response.code != 200:
        raise TrackerRefused(f"the tracker answers HTTP {response.code}")
    encodings = response.headers.getRawHeaders(b"content-encoding") or []
    if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
        raise TheirMistake("the answer is compressed, which was not asked for")
    if isinstance(response.length, int) and response.length > BODY_LIMIT:
        raise TheirMistake("the answer is too long")
    collector = _Collector()
    response.deliverBody(collector)
    return await collector.body


class _Collector(Protocol):
    """Gathers a body; the connection itself is bounded, and this is too."""

    def __init__(self) -> None:
        self.body: Deferred[bytes] = Deferred()
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= BODY_LIMIT:
            self._parts.append(data)
        elif not self.body.called:
            self._parts.clear()
            self.body.errback(TheirMistake("the answer is too long"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.body.called:
            return
        # Without a length the end of the connection is that of the body.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.body.callback(b"".join(self._parts))
        else:
            self.body.errback(reason)


@implementer(IAgentEndpointFactory)
class _Door:
    """Endpoints of one announce, their connections, and whether one brought too much."""

    def __init__(
        self,
        connector: Callable[[PeerAddress], IStreamClientEndpoint],
        resolver: Resolver,
        trust: IPolicyForHTTPS,
    ) -> None:
        self.connector = connector
        self.resolver = resolver
        self.trust = trust
        self.overflowed = False
        self._open: list[_Bounded] = []

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return _Endpoint(self, uri)

    def opened(self, connection: "_Bounded") -> None:
        self._open.append(connection)

    def close(self) -> None:
        """Whatever is still open has had its time."""
        for connection in self._open:
            connection.abort()
        self._open.clear()


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects to the host of a URL: looked up, connected, encrypted, counted."""

    def __init__(self, door: _Door, uri: URI) -> None:
        self._door = door
        self._uri = uri

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host = self._uri.host.strip(b"[]")
        problem: Exception = Unreachable("no address")
        for address in await self._door.resolver.addresses(host.decode("ascii"), self._uri.port):
            bounded = _BoundedFactory(factory, self._door)
            outer: IProtocolFactory = bounded
            if self._uri.scheme == b"https":
                creator = self._door.trust.creatorForNetloc(host, self._uri.port)
                outer = TLSMemoryBIOFactory(creator, True, bounded)
            try:
                await self._door.connector(address).connect(outer)
            except DIAL_ERRORS as error:
                problem = error
                continue
            assert bounded.inner is not None
            return bounded.inner
        raise problem


class _Bounded(ProtocolWrapper):
    """A connection that may bring so many bytes and no more."""

    factory: "_BoundedFactory"

    def makeConnection(self, transport: Any) -> None:
        self._received = 0
        self.factory.door.opened(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > BODY_LIMIT + HEAD_LIMIT:
            self.factory.door.overflowed = True
            self.abort()
        else:
            super().dataReceived(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]


class _BoundedFactory(WrappingFactory[_Bounded]):
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, door: _Door) -> None:
        super().__init__(wrapped)
        self.door = door
        self.inner: IProtocol | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.inner = self.wrappedFactory.buildProtocol(addr)
        return None if self.inner is None else _Bounded(self, self.inner)
