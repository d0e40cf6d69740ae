"""HTTP trackers over connections in memory: a tracker here is a function from request to bytes."""

import gc
import gzip
import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.client import BrowserLikePolicyForHTTPS

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_http import (
    ANNOUNCE_SECONDS,
    BODY_LIMIT,
    HEAD_LIMIT,
    REDIRECTS_LIMIT,
    HttpAnnouncer,
)
from zeromsg.testing.transports import MemoryEndpoint, Weather
from zeromsg.wire.trackers import Announcement, TrackerRefused, parse_tracker
from zeromsg.wire.values import PeerAddress

SITE, OTHER = "1" * 30, "2" * 30
PEERS = b"d8:intervali1800e5:peers6:\xcb\x00\x71\x09\x1a\xe1e"
PEER = PeerAddress("203.0.113.9", 6881)
HERE = PeerAddress("198.51.100.1", 4000)
MINE = Announcement((SITE,), 15441, frozenset({"ipv4"}), frozenset({"ipv4"}), need=30)


def http(body, code=200, **headers):
    lines = [b"HTTP/1.1 %d words" % code]
    lines += [f"{key.replace('_', '-')}: {value}".encode() for key, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture(autouse=True)
def errors():
    """What strangers send is never an error in our log."""
    caught: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            caught.append(formatEvent(event) + str(event.get("log_failure")))

    globalLogPublisher.addObserver(observe)
    yield
    gc.collect()  # failures that nobody looked at are told then
    globalLogPublisher.removeObserver(observe)
    assert caught == []


class Server(Protocol):
    """Answers a request with what the tracker gives: bytes, or an iterable of chunks."""

    def __init__(self, tracker):
        self.tracker = tracker
        self.request = b""
        self.lost = False

    def dataReceived(self, data):
        self.request += data
        if self.request.endswith(b"\r\n\r\n"):
            self.tracker.requests.append(self.request)
            answer = self.tracker.answer(self.request)
            if answer is None:
                return
            if isinstance(answer, bytes):
                self.transport.write(answer)
                self.transport.loseConnection()
            else:
                self.pour(iter(answer))

    def pour(self, chunks):
        chunk = next(chunks, None)
        if chunk is None or self.lost:
            return
        self.tracker.sent += len(chunk)
        self.transport.write(chunk)
        self.tracker.clock.callLater(0.01, self.pour, chunks)

    def connectionLost(self, reason):
        self.lost = True
        self.tracker.lost += 1


class Tracker:
    """Trackers at every address, and an announcer that asks them."""

    def __init__(self, answer=lambda request: http(PEERS)):
        self.clock = Clock()
        self.rng = random.Random(1)
        self.answer = answer
        self.requests = []
        self.dialled = []
        self.sent = 0
        self.lost = 0
        self.listens = True
        self.announcer = HttpAnnouncer(
            connector=self.connect,
            resolver=Resolver(None, self.clock, False),
            trust=BrowserLikePolicyForHTTPS(),
            clock=self.clock,
            peer_id="-UT3530-pKaCVxmqwC60",
        )

    def connect(self, address):
        self.dialled.append(address)
        weather = Weather(latency=0.001)
        accept = (lambda source: Server(self)) if self.listens else None
        return MemoryEndpoint(self.clock, self.rng, weather, HERE, address, lambda target: accept)

    def ask(self, url="http://203.0.113.1:6969/announce", mine=MINE, seconds=ANNOUNCE_SECONDS + 1):
        work = Deferred.fromCoroutine(self.announcer.announce(parse_tracker(url), mine))
        results = []
        work.addBoth(results.append)
        waited = 0.0
        while not results and waited < seconds:
            self.clock.advance(0.005)
            waited += 0.005
        assert results, "still asking"
        # What was begun is over: nothing is left to happen.
        self.clock.advance(1.0)
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]


def test_peers_are_found():
    tracker = Tracker()
    found = tracker.ask()
    assert found.peers == {SITE: (PEER,)}
    assert found.interval == 1800.0
    assert tracker.dialled == [PeerAddress("203.0.113.1", 6969)]
    request = tracker.requests[0].lower()
    assert b"get /announce?info_hash=" in request
    assert b"port=15441&" in request
    assert b"numwant=30" in request
    assert b"host: 203.0.113.1:6969" in request
    assert b"accept-encoding: identity" in request


def test_each_site_is_asked_for_by_itself():
    tracker = Tracker()
    mine = Announcement((SITE, OTHER), 1234, frozenset(), frozenset({"ipv4"}))
    found = tracker.ask(mine=mine)
    assert set(found.peers) == {SITE, OTHER}
    assert len(tracker.requests) == 2
    # Nobody can connect to us: that is what port 1 says.
    assert all(b"&port=1&" in request for request in tracker.requests)


def test_over_ipv6():
    tracker = Tracker()
    assert tracker.ask("http://[2001:db8::1]/announce").peers == {SITE: (PEER,)}
    assert tracker.dialled == [PeerAddress("2001:db8::1", 80)]


WHOLE = http(PEERS, Content_Length=len(PEERS))
CHUNKED = b"5\r\n" + PEERS[:5] + b"\r\n%x\r\n" % (len(PEERS) - 5) + PEERS[5:] + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        http(CHUNKED, Transfer_Encoding="chunked"),
        http(PEERS, Content_Encoding="identity"),
        [WHOLE[number : number + 1] for number in range(len(WHOLE))],
    ],
    ids=["length", "chunked", "until the end", "byte by byte"],
)
def test_answers_come_in_many_forms(answer):
    assert Tracker(lambda request: answer).ask().peers == {SITE: (PEER,)}


def test_nobody_listens():
    tracker = Tracker()
    tracker.listens = False
    with pytest.raises(Unreachable, match="ConnectionRefusedError"):
        tracker.ask()


def test_a_name_that_cannot_be_looked_up():
    with pytest.raises(Unreachable, match="not looked up"):
        Tracker().ask("http://tracker.example/announce")


def test_an_address_that_this_node_has_no_way_to():
    tracker = Tracker()

    def connector(address):
        raise Unreachable("this node has no Tor")

    tracker.announcer._connector = connector
    with pytest.raises(Unreachable, match="no Tor"):
        tracker.ask()


def test_a_tracker_that_hangs():
    tracker = Tracker(lambda request: None)
    with pytest.raises(Unreachable, match="no answer in time"):
        tracker.ask()
    assert tracker.lost == 1


def test_a_tracker_that_dribbles():
    def answer(request):
        yield http(b"", Content_Length=1000)
        while True:
            yield b"x" if tracker.clock.seconds() % 1 < 0.005 else b""

    tracker = Tracker(answer)
    with pytest.raises(Unreachable, match="no answer in time"):
        tracker.ask()
    assert tracker.lost == 1


def test_a_connection_that_never_opens_is_given_up():
    tracker = Tracker()
    cancelled = []

    class Endpoint:
        def connect(self, factory):
            return Deferred(cancelled.append)

    tracker.announcer._connector = lambda address: Endpoint()
    with pytest.raises(Unreachable):
        tracker.ask()
    assert len(cancelled) == 1


@pytest.mark.parametrize(
    "start",
    [
        http(b""),
        http(b"", Content_Length=100_000_000),
        http(b"", Transfer_Encoding="chunked"),
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"",
    ],
    ids=["plain", "length", "chunked", "headers", "continue", "no status"],
)
def test_a_hundred_megabytes_are_not_read(start):
    def answer(request):
        yield start
        for _ in range(100_000_000 // 16384):
            if start.startswith(b"HTTP/1.1 100"):
                yield start * 500
            elif start and not start.endswith(b"\r\n\r\n"):
                yield b"X-Header: %s\r\n" % (b"y" * 8000) * 2
            elif b"chunked" in start:
                yield b"2000\r\n%s\r\n" % (b"z" * 8192)
            else:
                yield b"z" * 16384

    tracker = Tracker(answer)
    with pytest.raises((TheirMistake, Unreachable)):
        tracker.ask()
    assert tracker.lost == 1
    assert tracker.sent < BODY_LIMIT + HEAD_LIMIT + 100_000


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-gzip, deflate"])
def test_a_compressed_bomb_is_not_unpacked(encoding):
    bomb = gzip.compress(bytes(10_000_000))
    tracker = Tracker(
        lambda request: http(bomb, Content_Encoding=encoding, Content_Length=len(bomb))
    )
    with pytest.raises(TheirMistake, match="compressed"):
        tracker.ask()


def test_a_redirect_on_the_same_host_is_followed():
    def answer(request):
        if b"/new?" in request:
            return http(PEERS)
        return http(b"", 302, Location="http://203.0.113.1:7000/new?x=1")

    tracker = Tracker(answer)
    assert tracker.ask().peers == {SITE: (PEER,)}
    assert tracker.dialled[1] == PeerAddress("203.0.113.1", 7000)


def test_a_relative_redirect_is_followed():
    def answer(request):
        return http(PEERS) if b"GET /b?" in request else http(b"", 301, Location="/b?c#d")

    tracker = Tracker(answer)
    assert tracker.ask().peers == {SITE: (PEER,)}


def test_a_tracker_that_redirects_for_ever():
    tracker = Tracker(lambda request: http(b"", 302, Location="/again"))
    with pytest.raises(TheirMistake, match="redirects"):
        tracker.ask()
    assert len(tracker.requests) == REDIRECTS_LIMIT + 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:43110/",
        "http://192.168.0.1/setup?reboot=1",
        "http://203.0.113.1@127.0.0.1/",
        "http://127.0.0.1@203.0.113.1/",
        "//10.0.0.1/",
        "ftp://203.0.113.1/",
        "file:///etc/passwd",
        "http://[::1/",
        "http://203.0.113.1:99999/",
        "",
    ],
)
def test_a_redirect_that_leads_elsewhere_is_not_followed(location):
    tracker = Tracker(lambda request: http(b"", 302, Location=location))
    with pytest.raises(TheirMistake, match="redirect"):
        tracker.ask()
    assert len(tracker.dialled) == 1


def test_a_redirect_to_nowhere():
    with pytest.raises(TheirMistake, match="redirect"):
        Tracker(lambda request: http(b"", 302)).ask()


@pytest.mark.parametrize("code", [204, 400, 403, 404, 500, 503, 304])
def test_other_answers_are_refusals(code):
    with pytest.raises(TrackerRefused, match=f"HTTP {code}"):
        Tracker(lambda request: http(b"", code)).ask()


def test_a_tracker_s_reason_is_told():
    with pytest.raises(TrackerRefused, match="not authorized"):
        Tracker(lambda request: http(b"d14:failure reason14:not authorizede")).ask()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nx: y\r\n\r\n",
        http(b"", Content_Length=-5),
        http(b"", Content_Length="many"),
        http(b"zz\r\n", Transfer_Encoding="chunked"),
        http(PEERS[:-3], Content_Length=len(PEERS)),
        http(PEERS, Transfer_Encoding="gzip"),
        http(b"<html>"),
        http(b"d5:peers5:12345e"),
        http(PEERS + b"trailing"),
        bytes(range(256)) * 50,
    ],
)
def test_absurd_answers(answer):
    with pytest.raises((TheirMistake, Unreachable)):
        Tracker(lambda request: answer).ask()


def test_the_network_s_own_errors_are_told():
    tracker = Tracker()

    class Endpoint:
        def connect(self, factory):
            raise ConnectionRefusedError

    tracker.announcer._connector = lambda address: Endpoint()
    with pytest.raises(Unreachable):
        tracker.ask()
