"""Announcing over real sockets: trackers of every kind, written here with Twisted, on loopback."""

import datetime
import gc
import gzip
import ipaddress
import itertools
import random
import secrets
import struct
import time
from typing import Any

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.net import tracker_http
from zeromsg.net.dialer import Dialer
from zeromsg.net.local_announcer import LocalAnnouncer
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.pool import PeerFactory, Pool
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_http import HttpAnnouncer
from zeromsg.net.tracker_links import TrackerLinks
from zeromsg.net.tracker_udp import UdpAnnouncer
from zeromsg.net.tracker_zero import ZeroAnnouncer
from zeromsg.net.trackers import Trackers, all_trackers
from zeromsg.policy.tracker_book import TrackerBook
from zeromsg.routing.announcing import Announcing, Presence
from zeromsg.routing.tracker_server import TrackerServer
from zeromsg.wire.names import ANNOUNCE
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.trackers import Announcement, Tracker, parse_tracker
from zeromsg.wire.values import PeerAddress, site_sha1

pytestmark = pytest.mark.integration

HERE = "127.0.0.1"
SITE, OTHER = "1" * 30, "2" * 30
PEER_ID = "-UT3530-pKaCVxmqwC60"
ALL = frozenset({"ipv4", "ipv6", "onion"})
MINE = Announcement((SITE,), 15441, frozenset({"ipv4"}), ALL, need=30)
FOREIGN = PeerAddress("203.0.113.9", 6881)
PACKED = b"\xcb\x00\x71\x09\x1a\xe1"
BENCODED = b"d8:intervali1800e5:peers6:" + PACKED + b"e"
MEGABYTE = 1024 * 1024


def soon(work: Any, seconds: float = 20) -> Deferred[Any]:
    """What is awaited must not take for ever."""
    return Deferred.fromCoroutine(work).addTimeout(seconds, reactor)


async def until(condition: Any, seconds: float = 20) -> None:
    """Wait for something that comes about by itself."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.02, pause.callback, None)
        await pause


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


@pytest.fixture
def ports():
    """Opens ports that are closed when the test ends: `ports(reactor.listenTCP(...))`."""
    opened = []

    def keep(port):
        opened.append(port)
        return port

    yield keep
    closing = [port.stopListening() for port in opened]
    pytest_twisted.blockon(gatherResults([one for one in closing if one is not None]))


@pytest.fixture
def direct():
    """All kinds of trackers, as a node on the open network asks them."""
    return all_trackers(
        reactor=reactor,
        clock=reactor,
        connector=Dialer(reactor, None).endpoint_for,
        link_to=None,
        sign_onion=None,
        peer_id=PEER_ID,
        entropy=secrets.token_bytes,
        interface="",
        allow_private=True,
        direct=True,
    )


# HTTP


class HttpTracker(Resource):
    """A tracker that knows one peer of every site; other paths show its bad sides."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[bytes, list[bytes]]] = []
        self.written = 0
        self.hanging: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        self.asked.append(request.args)
        what = request.path.decode().strip("/")
        return getattr(self, f"say_{what}")(request)

    def say_announce(self, request: Any) -> bytes:
        return BENCODED

    def say_moved(self, request: Any) -> bytes:
        request.redirect(b"/announce?" + request.uri.partition(b"?")[2])
        return b""

    def say_loop(self, request: Any) -> bytes:
        request.redirect(b"/loop")
        return b""

    def say_elsewhere(self, request: Any) -> bytes:
        request.redirect(b"http://127.0.0.2:%d/announce" % request.getHost().port)
        return b""

    def say_bomb(self, request: Any) -> bytes:
        request.setHeader(b"content-encoding", b"gzip")
        return gzip.compress(bytes(50 * MEGABYTE))

    def say_hang(self, request: Any) -> Any:
        self.hanging.append(request.notifyFinish().addErrback(lambda failure: "gone"))
        return NOT_DONE_YET

    def say_flood(self, request: Any) -> Any:
        gone = request.notifyFinish()
        gone.addErrback(lambda failure: None)

        def pour() -> None:
            if not gone.called and self.written < 100 * MEGABYTE:
                self.written += 65536
                request.write(bytes(65536))
                reactor.callLater(0, pour)

        pour()
        return NOT_DONE_YET

    def say_no(self, request: Any) -> bytes:
        return b"d14:failure reason14:not registerede"


@pytest.fixture
def http(ports):
    tracker = HttpTracker()
    port = ports(reactor.listenTCP(0, Site(tracker), interface=HERE))
    tracker.url = f"http://{HERE}:{port.getHost().port}"
    return tracker


@pytest_twisted.ensureDeferred
async def test_an_http_tracker(http, direct):
    found = await soon(direct.announce(parse_tracker(http.url + "/announce"), MINE))
    assert found.peers == {SITE: (FOREIGN,)}
    assert found.interval == 1800.0
    [asked] = http.asked
    assert asked[b"info_hash"] == [site_sha1(SITE)]
    assert asked[b"port"] == [b"15441"]
    assert asked[b"peer_id"] == [PEER_ID.encode()]


@pytest_twisted.ensureDeferred
async def test_an_http_tracker_that_moved(http, direct):
    found = await soon(direct.announce(parse_tracker(http.url + "/moved"), MINE))
    assert found.peers == {SITE: (FOREIGN,)}
    assert http.asked[1][b"info_hash"] == [site_sha1(SITE)]


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("loop", TheirMistake, "redirects"),
        ("elsewhere", TheirMistake, "another host"),
        ("bomb", TheirMistake, "compressed"),
        ("flood", TheirMistake, "too long"),
        ("no", Unreachable, "not registered"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_http_trackers_that_misbehave(http, direct, path, error, reason):
    with pytest.raises(error, match=reason):
        await soon(direct.announce(parse_tracker(f"{http.url}/{path}"), MINE))
    # The socket takes some megabytes that nobody reads.
    assert http.written < 20 * MEGABYTE


@pytest_twisted.ensureDeferred
async def test_an_http_tracker_that_hangs(http, direct, monkeypatch):
    monkeypatch.setattr(tracker_http, "ANNOUNCE_SECONDS", 0.3)
    with pytest.raises(Unreachable, match="no answer in time"):
        await soon(direct.announce(parse_tracker(http.url + "/hang"), MINE))
    # It is not left waiting either.
    assert await http.hanging[0].addTimeout(10, reactor) == "gone"


@pytest_twisted.ensureDeferred
async def test_nobody_listens(ports, direct):
    port = reactor.listenTCP(0, Factory(), interface=HERE)
    number = port.getHost().port
    await port.stopListening()
    for kind in ("http", "https", "udp"):
        with pytest.raises(Unreachable):
            await soon(direct.announce(parse_tracker(f"{kind}://{HERE}:{number}"), MINE))


class HeaderFlood(Protocol):
    """An HTTP server whose headers have no end."""

    lost = False
    written = 0

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n")
        self.pour()

    def pour(self) -> None:
        if not self.lost and self.written < 100 * MEGABYTE:
            self.written += 64_000
            self.transport.write(b"X-Flood: %s\r\n" % (b"x" * 6_400) * 10)
            reactor.callLater(0, self.pour)

    def connectionLost(self, reason: Any) -> None:
        self.lost = True


@pytest_twisted.ensureDeferred
async def test_headers_without_end(ports, direct):
    servers = []

    class Flooding(Factory):
        def buildProtocol(self, addr: Any) -> HeaderFlood:
            servers.append(HeaderFlood())
            return servers[0]

    port = ports(reactor.listenTCP(0, Flooding(), interface=HERE))
    tracker = parse_tracker(f"http://{HERE}:{port.getHost().port}/")
    with pytest.raises(TheirMistake, match="too long"):
        await soon(direct.announce(tracker, MINE))
    await until(lambda: servers[0].lost)
    assert servers[0].written < 20 * MEGABYTE


# HTTPS


def certificate_for(host: str) -> PrivateCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tracker")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return PrivateCertificate.loadPEM(pem)


@implementer(IPolicyForHTTPS)
@attrs.frozen
class Trusting:
    """Trusts one certificate."""

    certificate: Certificate

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(
            hostname.decode("ascii"), trustRootFromCertificates([self.certificate])
        )


def https_announcer(trust: Any) -> HttpAnnouncer:
    return HttpAnnouncer(
        connector=Dialer(reactor, None).endpoint_for,
        resolver=Resolver(None, reactor, True),
        trust=trust,
        clock=reactor,
        peer_id=PEER_ID,
    )


@pytest_twisted.ensureDeferred
async def test_an_https_tracker(ports):
    certificate = certificate_for(HERE)
    site = Site(HttpTracker())
    port = ports(reactor.listenSSL(0, site, certificate.options(), interface=HERE))
    tracker = parse_tracker(f"https://{HERE}:{port.getHost().port}/announce")
    found = await soon(https_announcer(Trusting(certificate)).announce(tracker, MINE))
    assert found.peers == {SITE: (FOREIGN,)}
    flood = attrs.evolve(tracker, path="/flood")
    with pytest.raises(TheirMistake, match="too long"):
        await soon(https_announcer(Trusting(certificate)).announce(flood, MINE))
    with pytest.raises(Unreachable):
        await soon(https_announcer(BrowserLikePolicyForHTTPS()).announce(tracker, MINE))


# UDP


class UdpTracker(DatagramProtocol):
    """A tracker that knows one peer of every site.

    deaf: how many packets it loses first. liar: it answers each question wrongly
    before it answers right.
    """

    def __init__(self, deaf: int = 0, liar: bool = False) -> None:
        self.deaf = deaf
        self.liar = liar
        self.announced: list[bytes] = []

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        if self.deaf:
            self.deaf -= 1
            return
        transaction = struct.unpack_from(">I", data, 12)[0]
        if self.liar:
            self.transport.write(b"x", addr)
            self.transport.write(struct.pack(">II", 3, transaction ^ 1) + b"no", addr)
        if len(data) == 16:
            self.transport.write(struct.pack(">IIQ", 0, transaction, 4711), addr)
        elif struct.unpack_from(">Q", data)[0] == 4711:
            self.announced.append(data)
            answer = struct.pack(">IIIII", 1, transaction, 1800, 0, 1)
            self.transport.write(answer + PACKED, addr)


def udp(ports: Any, tracker: UdpTracker, host: str = HERE) -> Tracker:
    port = ports(reactor.listenUDP(0, tracker, interface=host))
    return Tracker("udp", host, port.getHost().port)


@pytest.mark.parametrize("liar", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_udp_tracker(ports, direct, liar):
    server = UdpTracker(liar=liar)
    found = await soon(direct.announce(udp(ports, server), MINE))
    assert found.peers == {SITE: (FOREIGN,)}
    [packet] = server.announced
    assert packet[16:36] == site_sha1(SITE)
    assert packet[36:56] == PEER_ID.encode()


@pytest_twisted.ensureDeferred
async def test_a_udp_tracker_that_loses_packets(ports, monkeypatch, direct):
    monkeypatch.setattr("zeromsg.net.tracker_udp.FIRST_SECONDS", 0.1)
    found = await soon(direct.announce(udp(ports, UdpTracker(deaf=1)), MINE))
    assert found.peers == {SITE: (FOREIGN,)}


@pytest_twisted.ensureDeferred
async def test_answers_from_another_socket_are_not_heard(ports, monkeypatch):
    """An impostor sees the question and answers it with the right number, but from elsewhere."""
    monkeypatch.setattr("zeromsg.net.tracker_udp.ANNOUNCE_SECONDS", 1.0)
    impostor = UdpTracker()
    ports(reactor.listenUDP(0, impostor, interface=HERE))
    heard = []

    class Silent(DatagramProtocol):
        def datagramReceived(self, data: bytes, addr: Any) -> None:
            heard.append(data)
            impostor.datagramReceived(data, addr)

    announcer = UdpAnnouncer(
        reactor=reactor,
        resolver=Resolver(None, reactor, True),
        clock=reactor,
        peer_id=PEER_ID,
        entropy=secrets.token_bytes,
    )
    with pytest.raises(Unreachable, match="no answer in time"):
        await soon(announcer.announce(udp(ports, Silent()), MINE))
    assert heard


@pytest_twisted.ensureDeferred
async def test_a_udp_tracker_over_ipv6(ports, direct):
    class V6(UdpTracker):
        def datagramReceived(self, data: bytes, addr: Any) -> None:
            transaction = struct.unpack_from(">I", data, 12)[0]
            if len(data) == 16:
                self.transport.write(struct.pack(">IIQ", 0, transaction, 4711), addr)
                return
            answer = struct.pack(">IIIII", 1, transaction, 1800, 0, 1)
            packed = ipaddress.IPv6Address("2001:db8::9").packed
            self.transport.write(answer + packed + b"\x1a\xe1", addr)

    try:
        tracker = udp(ports, V6(), "::1")
    except Exception as problem:
        pytest.skip(f"no IPv6 here: {problem}")
    found = await soon(direct.announce(tracker, MINE))
    assert found.peers == {SITE: (PeerAddress("2001:db8::9", 6881),)}


# zero://


class Node:
    """Links over real sockets, the tracker's side, and the schedule that asks a tracker."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.server = TrackerServer(
            TrackerBook(), reactor, random.Random(1), secrets.token_bytes, allow_private=True
        )
        self.found: list[tuple[str, list[PeerAddress]]] = []
        self.port = 0
        peer_id = f"-UT3530-{secrets.token_hex(6)}"
        self.connect = Dialer(reactor, host).endpoint_for
        self.ours = lambda remote: Handshake(
            peer_id=peer_id,
            fileserver_port=self.port,
            port_opened=True,
            target_ip=remote.host,
            crypt_supported=(),
            crypt=None,
            time=0,
        )
        self.links: TrackerLinks | None = None
        self.pool = Pool(
            connector=lambda address, face: self.connect(address),
            ours=lambda remote, face: self.ours(remote),
            peer_id=peer_id,
            tls=None,
            clock=reactor,
            rng=random.Random(1),
            entropy=random.Random(1).randbytes,
            limits=Limits(),
            max_connections=50,
            charge=lambda identity, points, reason: None,
            used=lambda link: True,
        )
        self.pool.start(self, [])

    # IRequests.

    def opened(self, link: Any) -> None:
        pass

    def closed(self, link: Any) -> None:
        pass

    def banned(self, identity: str) -> bool:
        return False

    def requested(self, link: Any, req_id: Any, cmd: str, params: Any) -> None:
        if cmd == ANNOUNCE:
            link.respond(req_id, self.server.announce(link, params))

    def announcing(self, tracker: str) -> Announcing:
        self.links = TrackerLinks(
            connector=lambda address, onion: self.connect(address),
            ours=self.ours,
            known=lambda address: None,
            requests=self,
            tls=None,
            clock=reactor,
            limits=Limits(),
            charge=lambda identity, points, reason: None,
        )
        zero = ZeroAnnouncer(
            link_to=self.links.link_to,
            resolver=Resolver(None, reactor, True),
            sign_onion=None,  # type: ignore[arg-type]
        )
        return Announcing(
            trackers=[parse_tracker(tracker)],
            asker=Trackers({"zero": zero}, ""),
            sites=lambda: [SITE, OTHER],
            presence=lambda: Presence(self.port, frozenset({"ipv4"}), frozenset({"ipv4"})),
            enough=lambda site: bool(self.found),
            found=lambda site, peers, source: self.found.append((site, list(peers))),
            allow_private=True,
            clock=reactor,
            wall=time.time,
            rng=random.Random(self.host),
        )


@pytest_twisted.ensureDeferred
async def test_nodes_find_each_other_through_a_zero_tracker(ports):
    hosts = [f"127.0.0.{number}" for number in (190, 191, 192)]
    nodes = [Node(host) for host in hosts]
    try:
        for node in nodes:
            port = ports(reactor.listenTCP(0, PeerFactory(node.pool), interface=node.host))
            node.port = port.getHost().port
        tracker = f"zero://{nodes[0].host}:{nodes[0].port}"
        schedules = [node.announcing(tracker) for node in nodes[1:]]
        for schedule in schedules:
            schedule.start()
        await until(lambda: all(node.found for node in nodes[1:]), 30)
        for schedule in schedules:
            schedule.stop()
        for one, other in itertools.permutations(nodes[1:]):
            assert one.found[0][1] == [PeerAddress(other.host, other.port)]
        assert nodes[0].server.status() == {"sites": 2, "entries": 4}
        assert schedules[0].status()[0].state == "ok"
    finally:
        for node in nodes:
            if node.links is not None:
                node.links.stop()
            node.pool.stop()
        await until(lambda: not any(node.pool.links for node in nodes))


# The local network


@pytest_twisted.ensureDeferred
async def test_nodes_find_each_other_on_the_local_network(ports):
    found: dict[str, list[tuple[str, PeerAddress]]] = {}
    hosts = ["127.0.0.193", "127.0.0.194"]
    spare = reactor.listenUDP(0, DatagramProtocol(), interface=hosts[0])
    number = spare.getHost().port
    await spare.stopListening()
    announcers = []
    try:
        for host, sites in zip(hosts, ([SITE, OTHER], [OTHER]), strict=True):
            found[host] = []
            announcer = LocalAnnouncer(
                reactor=reactor,
                clock=reactor,
                rng=random.Random(host),
                interface=host,
                port=number,
                # Loopback carries no broadcasts.
                broadcast_to=[(other, number) for other in hosts],
                node=lambda host=host: (f"-UT3530-{host:>12}", 15441),
                sites=lambda sites=sites: sites,
                found=lambda site, address, host=host: found[host].append((site, address)),
            )
            announcer.start()
            announcers.append(announcer)
        await until(lambda: all(found.values()))
    finally:
        for announcer in announcers:
            await announcer.stop()
    assert found[hosts[0]] == [(OTHER, PeerAddress(hosts[1], 15441))]
    assert found[hosts[1]] == [(OTHER, PeerAddress(hosts[0], 15441))]
