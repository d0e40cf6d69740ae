"""What the routing tests share: networks, a peer that speaks by hand, and a clean log."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from twisted.internet.protocol import Protocol
from twisted.logger import LogLevel, globalLogPublisher

from zeromsg.crypto.signing import sign
from zeromsg.testing import Network
from zeromsg.testing.transports import MemoryTransport, Weather
from zeromsg.wire.values import PeerAddress

STRANGER_HOST = "203.0.113.9"
"""Of a net that nobody has, and that is not private."""

EPHEMERAL = 40000


class Stranger(Protocol):
    """A peer written with msgpack alone: what it sends and sees is the wire itself.

    chunks: every write of the node, with its time.
    requests: what the node asked. answers: what it answered, by request number.
    respond: makes the stranger's answer to a request; None stays silent.
    unanswered: numbers of the requests that it stayed silent to.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.chunks: list[tuple[float, bytes]] = []
        self.requests: list[tuple[str, dict[Any, Any]]] = []
        self.answers: dict[Any, dict[Any, Any]] = {}
        self.respond: Callable[[str, dict[Any, Any]], dict[str, Any] | None] = polite
        self.unanswered: list[Any] = []
        self.lost = False
        self.greeted_by: dict[Any, Any] | None = None
        self.hello: dict[str, Any] = {}
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self._last_id = 0

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append((self.net.clock.seconds(), data))
        self._unpacker.feed(data)
        for message in self._unpacker:
            if "stream_bytes" in message:
                message["body"] = self._unpacker.read_bytes(message["stream_bytes"])
            if message["cmd"] == "response":
                self.answers[message["to"]] = message
            else:
                self._asked(message)

    def _asked(self, message: dict[Any, Any]) -> None:
        if message["cmd"] == "handshake":
            self.greeted_by = message["params"]
            self.send({"cmd": "response", "to": 0, **self.hello})
            return
        self.requests.append((message["cmd"], message["params"]))
        answer = self.respond(message["cmd"], message["params"])
        if answer is None:
            self.unanswered.append(message["req_id"])
        else:
            body = answer.pop("body", None) if "stream_bytes" in answer else None
            self.send({"cmd": "response", "to": message["req_id"], **answer}, body or b"")

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    def send(self, message: dict[Any, Any], tail: bytes = b"") -> None:
        self.write(msgpack.packb(message, unicode_errors="surrogateescape") + tail)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def request(self, cmd: Any, params: Any, **more: Any) -> int:
        """Send a request and return its number."""
        self._last_id += 1
        self.send({"cmd": cmd, "req_id": self._last_id, "params": params, **more})
        return self._last_id

    def ask(self, cmd: Any, params: Any, seconds: float = 0.3) -> dict[str, Any] | None:
        """Send a request, let time pass, and return the answer without its envelope."""
        req_id = self.request(cmd, params)
        self.net.advance(seconds)
        answer = self.answers.get(req_id)
        if answer is None:
            return None
        return {key: value for key, value in answer.items() if key not in ("cmd", "to")}

    def broadcasts(self) -> list[Any]:
        """The messages of the broadcasts that the node sent here."""
        return [
            json.loads(params["raw"])["message"]
            for cmd, params in self.requests
            if cmd == "peerBroadcast"
        ]

    def asked(self, cmd: str) -> list[dict[Any, Any]]:
        return [params for asked, params in self.requests if asked == cmd]

    def close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    @staticmethod
    def envelope(
        site: str, message: Any, *, nonce: str = "1", key: Any = None, **body: Any
    ) -> dict[str, Any]:
        """The parameters of a peer message, as a node with the plugin makes them.

        body: further keys of `raw`; None leaves one out.
        """
        values = {
            "message": message,
            "site": site,
            "immediate": False,
            "peer_count": 5,
            "broadcast": True,
            **body,
        }
        left_out = [name for name in body if body[name] is None]
        raw = json.dumps({name: values[name] for name in values if name not in left_out})
        params = {"raw": raw, "nonce": nonce, "signature": "", "cert": None}
        if key is not None:
            text = f"{key.address}|{Stranger.hash(params)}|{raw}"
            params["signature"] = f"{key.address}|{sign(text, key)}"
        return params

    @staticmethod
    def hash(params: dict[str, Any]) -> str:
        return hashlib.sha256(f"{params['nonce']},{params['raw']}".encode()).hexdigest()


def polite(cmd: str, params: dict[Any, Any]) -> dict[str, Any] | None:
    """What an ordinary node says."""
    if cmd == "ping":
        return {"body": b"Pong!"}
    if cmd in ("peerBroadcast", "peerSend"):
        return {"ok": "thx"}
    if cmd == "pex":
        return {"peers": []}
    if cmd == "getPiecefields":
        return {"piecefields_packed": {}}
    return {"error": f"Unknown command: {cmd}"}


def greeting(port: int, **more: Any) -> dict[str, Any]:
    return {
        "version": "0.7.2",
        "protocol": "v2",
        "use_bin_type": True,
        "peer_id": "-UT3530-stranger0000",
        "fileserver_port": port,
        "port_opened": bool(port),
        "target_ip": "198.18.0.1",
        "rev": 4555,
        "crypt_supported": [],
        "crypt": None,
        "time": 1_800_000_000,
        **more,
    }


def holds_nothing(cmd: str, params: dict[Any, Any]) -> dict[str, Any] | None:
    """What a node of other sites says."""
    return {"error": "Unknown site"} if "site" in params else polite(cmd, params)


@pytest.fixture
def network():
    """Makes networks that are closed when the test is over."""
    opened = []

    def make(nodes: int = 2, **weather: Any) -> Network:
        net = Network(nodes, **{"seed": 1, **weather})
        opened.append(net)
        return net

    yield make
    for net in opened:
        net.close()


@pytest.fixture
def stranger():
    """Connects strangers to a node: stranger(net, 0). None when the node refuses.

    As they answer its introductions politely, they take part in its sites.
    """

    def connect(
        net: Network,
        number: int = 0,
        host: str = STRANGER_HOST,
        port: int = 0,
        greet: bool = True,
        source_port: int = EPHEMERAL,
        respond: Callable[[str, dict[Any, Any]], dict[str, Any] | None] = polite,
        **hello: Any,
    ) -> Stranger | None:
        source = PeerAddress(host, source_port)
        accepted = net.nodes[number].node.pool.accept(source)
        if accepted is None:
            return None
        made = Stranger(net)
        made.hello = greeting(port, **hello)
        made.respond = respond
        near = MemoryTransport(net.clock, net.rng, Weather(), source, net.nodes[number].address)
        far = MemoryTransport(net.clock, net.rng, Weather(), net.nodes[number].address, source)
        near.join(far)
        near.protocol, far.protocol = made, accepted
        accepted.makeConnection(far)
        made.makeConnection(near)
        if greet:
            made.send({"cmd": "handshake", "req_id": 0, "params": made.hello})
            # A ZeroNet node has a second to name sites itself, before it is asked about some.
            net.advance(0.5 if "zeromsg" in hello else 2.5)
        return made

    return connect


@pytest.fixture
def host_for():
    """Lets nodes dial an address: host_for(net, address) gives the strangers that were dialled."""

    class _Accepting:
        def __init__(self, net: Network, port: int, hello: dict[str, Any]) -> None:
            self.net = net
            self.hello = greeting(port, **hello)
            self.running = True
            self.strangers: list[Stranger] = []
            self.respond = polite
            # What `Network` asks of a member.
            self.node = self
            self.pool = self

        def accept(self, source: PeerAddress) -> Stranger:
            made = Stranger(self.net)
            made.hello = self.hello
            made.respond = self.respond
            self.strangers.append(made)
            return made

    def listen(net: Network, address: PeerAddress, **hello: Any) -> _Accepting:
        accepting = _Accepting(net, address.port, hello)
        net._by_address[address] = accepting  # type: ignore[assignment]
        return accepting

    return listen


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
    assert [describe(event) for event in caught] == []


def describe(event: Any) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if failure is not None else str(event.get("log_format"))
