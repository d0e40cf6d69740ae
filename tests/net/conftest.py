"""What the tests of the network share: TCP in memory that can turn to TLS, and a clean log."""

import datetime
import random
from typing import Any

import msgpack
import pytest
from twisted.internet._newtls import _BypassTLS
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from zeromsg.net import tls as net_tls
from zeromsg.net.peer_protocol import Limits, PeerProtocol
from zeromsg.net.pool import Pool
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

TCP_BUFFER = 65536

OURS = "-UT3530-ours00000000"
THEIRS = "-UT3530-theirs000000"


class _Plain:
    """What lies under TLS: bytes that arrive at the other end a turn later."""

    def write(self: Any, data: bytes) -> None:
        if not self.connected or self.disconnecting:
            return
        self.writes.append((self.clock.seconds(), data))
        self.buffer += data
        if not self.stuck:
            self.clock.callLater(0, self.flush)
        elif len(self.buffer) > TCP_BUFFER and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self: Any, data: Any) -> None:
        _Plain.write(self, b"".join(data))

    def loseConnection(self: Any) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self.stuck:
                self.clock.callLater(0, self.finish)

    def registerProducer(self: Any, producer: Any, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer, self.streamingProducer = producer, streaming

    def unregisterProducer(self: Any) -> None:
        self.producer = self.streamingProducer = None


class End(_Plain):
    """One end of a connection. stuck: its peer does not read. reading: whether this end does."""

    TLS = False

    def __init__(self, clock: Clock, host: PeerAddress, peer: PeerAddress, client: bool) -> None:
        self.clock = clock
        self._host, self._peer = host, peer
        self._client = client
        self.protocol: Any = None
        self.other: End
        self.producer: Any = None
        self.streamingProducer: Any = None
        self.connected = True
        self.disconnecting = False
        self.stuck = False
        self.reading = True
        self.aborted = False
        self.buffer = bytearray()
        self.writes: list[tuple[float, bytes]] = []

    def _layer(self) -> Any:
        return self.protocol if self.TLS else super()

    def write(self, data: bytes) -> None:
        self._layer().write(data)

    def writeSequence(self, data: Any) -> None:
        self._layer().writeSequence(data)

    def loseConnection(self) -> None:
        self._layer().loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._layer().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._layer().unregisterProducer()

    def startTLS(self, options: Any, normal: bool = True) -> None:
        """As Twisted's TCP does it, on our own clock."""
        producer = self.producer
        self.unregisterProducer()
        factory = TLSMemoryBIOFactory(options, normal == self._client, None, self.clock)
        self.protocol = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.TLS = True
        self.protocol.makeConnection(_BypassTLS(_Plain, self))
        self.registerProducer(producer, True)

    def abortConnection(self) -> None:
        self.aborted = True
        self.clock.callLater(0, self.end, ConnectionAborted())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no TCP."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._peer.host, self._peer.port)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._host.host, self._host.port)

    # The wire.

    def flush(self) -> None:
        data, self.buffer = bytes(self.buffer), bytearray()
        if data and self.other.connected:
            self.other.protocol.dataReceived(data)

    def unstick(self) -> None:
        self.stuck = False
        self.flush()
        if self.producer is not None:
            self.producer.resumeProducing()
        if self.disconnecting:
            self.finish()

    def finish(self) -> None:
        self.flush()
        self.end(ConnectionDone())

    def end(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason))
            self.clock.callLater(0, self.other.end, ConnectionDone())


def pipe(
    clock: Clock, source: PeerAddress, target: PeerAddress, near: Any, far: Any
) -> tuple[End, End]:
    """Connect two protocols; the near one dialled."""
    first, second = End(clock, source, target, True), End(clock, target, source, False)
    first.other, second.other = second, first
    first.protocol, second.protocol = near, far
    far.makeConnection(second)
    near.makeConnection(first)
    return first, second


class Owner:
    """Notes what a link tells its pool (`peer_protocol.ILinkOwner`)."""

    def __init__(self) -> None:
        self.opened: list[PeerProtocol] = []
        self.lost: list[tuple[PeerProtocol, bool]] = []
        self.requests: list[tuple[Any, str, Any]] = []
        self.mistakes: list[str] = []
        self.held: list[int] = []
        self.respond: Any = None

    def link_opened(self, link: PeerProtocol) -> None:
        self.opened.append(link)

    def link_lost(self, link: PeerProtocol, opened: bool) -> None:
        self.lost.append((link, opened))

    def link_requested(self, link: PeerProtocol, req_id: Any, cmd: str, params: Any) -> None:
        self.requests.append((req_id, cmd, params))
        if self.respond is not None:
            link.respond(req_id, self.respond(cmd, params))

    def link_erred(self, link: PeerProtocol, mistake: Exception) -> None:
        self.mistakes.append(str(mistake))

    def link_holds(self, link: PeerProtocol, size: int) -> None:
        self.held.append(size)


def handshake(peer_id: str = OURS, port: int = 26552, **more: Any) -> Handshake:
    values: dict[str, Any] = {
        "port_opened": None,
        "target_ip": "",
        "crypt_supported": (),
        "crypt": None,
        "time": 1_800_000_000,
        **more,
    }
    return Handshake(peer_id=peer_id, fileserver_port=port, **values)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def pem():
    """A certificate; making one takes a moment."""
    return net_tls.make_certificate(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


@pytest.fixture
def link(clock):
    """Makes links on an end of a connection whose other end is the test."""

    def make(
        dialled: bool = False,
        remote: str = "203.0.113.9:40000",
        limits: Limits | None = None,
        tls: Any = None,
        tls_first: bool = False,
        peer_id: str = OURS,
    ) -> tuple[PeerProtocol, Owner, "Other"]:
        owner = Owner()
        crypts = ("tls-rsa",) if tls is not None else ()
        made = PeerProtocol(
            owner,
            PeerAddress.parse(remote),
            lambda address: handshake(peer_id, target_ip=address.host, crypt_supported=crypts),
            clock,
            limits or Limits(),
            dialled=dialled,
            tls=tls,
            tls_first=tls_first,
        )
        # Nobody waits for it in these tests.
        made.ready.addErrback(lambda failure: None)
        other = Other(clock)
        here = PeerAddress("198.18.0.1", 26552)
        if dialled:
            other.wire, _ = pipe(clock, here, made.remote, made, other)
        else:
            _, other.wire = pipe(clock, made.remote, here, other, made)
        other.link = made
        return made, owner, other

    return make


class Other:
    """The far end, by hand: whole messages as they came, with their times.

    wire: the link's own end, where its writes can be looked at.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.wire: End
        self.link: PeerProtocol
        self.transport: Any = None
        self.messages: list[tuple[float, dict[Any, Any]]] = []
        self.raw = bytearray()
        self.lost = False
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.raw += data
        if data[0] in (0x14, 0x15, 0x16, 0x17):
            return  # TLS, which this end does not speak
        self._unpacker.feed(data)
        for message in self._unpacker:
            if "stream_bytes" in message:
                message["body"] = self._unpacker.read_bytes(message["stream_bytes"])
            self.messages.append((self.clock.seconds(), message))

    def connectionLost(self, reason: Any) -> None:
        self.lost = True

    def send(self, *messages: Any) -> None:
        """All in one chunk."""
        self.transport.write(b"".join(msgpack.packb(message) for message in messages))
        pump(self.clock)

    def greet(self, **more: Any) -> None:
        """A handshake: the request where the link listens, the response where it dialled."""
        values = handshake(THEIRS, 15441).to_wire() | more
        if self.link.dialled:
            self.send({"cmd": "response", "to": 0, **values})
        else:
            self.send({"cmd": "handshake", "req_id": 0, "params": values})

    def commands(self) -> list[str]:
        return [message["cmd"] for _, message in self.messages]


def pump(clock: Clock, turns: int = 30) -> None:
    """Let everything happen that needs no time."""
    for _ in range(turns):
        clock.advance(0)


@pytest.fixture(autouse=True)
def errors():
    """Nothing in these tests may reach the log as an error; tests may look at it early."""
    caught: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            caught.append(event)

    globalLogPublisher.addObserver(observe)
    yield caught
    globalLogPublisher.removeObserver(observe)
    tracebacks = [
        event["log_failure"].getTraceback() if "log_failure" in event else event["log_format"]
        for event in caught
    ]
    assert tracebacks == []


class Requests:
    """Routing, as a pool sees it (`interfaces.IRequests`)."""

    def __init__(self) -> None:
        self.links: list[Any] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.bans: set[str] = set()

    def opened(self, link: Any) -> None:
        self.links.append(link)

    def closed(self, link: Any) -> None:
        self.links.remove(link)

    def requested(self, link: Any, req_id: Any, cmd: str, params: Any) -> None:
        self.requests.append((link.name, cmd, params))
        link.respond(req_id, {"body": b"Pong!"} if cmd == "ping" else {"ok": cmd})

    def banned(self, identity: str) -> bool:
        return identity in self.bans


class World:
    """Pools that can reach one another, and addresses where other things happen.

    deaf: addresses where nobody answers a connection attempt.
    pipes: every connection that was made, dialler's end first.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pools: dict[PeerAddress, Pool] = {}
        self.requests: dict[PeerAddress, Requests] = {}
        self.charges: list[tuple[str, int]] = []
        self.used: set[str] = set()
        self.deaf: set[PeerAddress] = set()
        self.attempts: list[PeerAddress] = []
        self.pending: list[Deferred[Any]] = []
        self.pipes: list[tuple[End, End]] = []
        self.accepts: dict[PeerAddress, Any] = {}
        self._port = 40000

    def pool(self, number: int, tls: Any = None, keep: Any = (), **more: Any) -> Pool:
        """The pool of a node at 203.0.113.<number>."""
        address = PeerAddress(f"203.0.113.{number}", 26552)
        peer_id = more.pop("peer_id", f"-UT3530-{number:012}")
        crypts = ("tls-rsa",) if tls is not None else ()
        made = Pool(
            connector=lambda target, face: self._endpoint(address, target),
            ours=lambda remote, face: handshake(
                peer_id, target_ip=remote.host, crypt_supported=crypts
            ),
            peer_id=peer_id,
            tls=tls,
            clock=self.clock,
            rng=random.Random(number),
            entropy=random.Random(number).randbytes,
            limits=more.pop("limits", Limits()),
            max_connections=more.pop("max_connections", 500),
            charge=lambda identity, points, *why: self.charges.append((identity, points)),
            used=lambda link: link.identity in self.used,
        )
        self.pools[address] = made
        self.requests[address] = Requests()
        made.start(self.requests[address], keep)
        return made

    def address(self, pool: Pool) -> PeerAddress:
        return next(address for address, known in self.pools.items() if known is pool)

    def _endpoint(self, source: PeerAddress, target: PeerAddress) -> Any:
        world = self

        class Endpoint:
            def connect(self, factory: Any) -> Deferred[Any]:
                return world.connect(source, target, factory)

        return Endpoint()

    def connect(self, source: PeerAddress, target: PeerAddress, factory: Any) -> Deferred[Any]:
        self.attempts.append(target)
        if target in self.deaf:
            self.pending.append(Deferred())
            return self.pending[-1]
        self._port += 1
        accept = self.accepts.get(target)
        if accept is None and target in self.pools:
            accept = self.pools[target].accept
        far = accept(PeerAddress(source.host, self._port)) if accept is not None else None
        if far is None:
            return fail(ConnectionRefusedError())
        near = factory.buildProtocol(None)
        self.pipes.append(pipe(self.clock, PeerAddress(source.host, self._port), target, near, far))
        return succeed(near)

    def settle(self, seconds: float = 0.5) -> None:
        pump(self.clock)
        self.clock.advance(seconds)
        pump(self.clock)

    def run(self, seconds: float) -> None:
        """Second by second, so that everything due between is done in time."""
        for _ in range(int(seconds)):
            self.settle(1.0)


@pytest.fixture
def world(clock):
    return World(clock)
