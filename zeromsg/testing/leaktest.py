"""Does a node behind Tor alone say or touch anything that it must not?

A node runs as a process of its own, with a Tor that is none (`fake_tor`). A
peer behind an onion, a stranger that comes in through the node's own, and a
client make it do all that it can do, and tempt it: with addresses to dial,
names to look up, ports to check. Then Tor goes away and comes back. What the
node tried to reach is reported by its own watch; what it said, to whomever, is
searched for addresses.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from zeromsg.client import Client, NodeUnreachable, connect
from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import TheirMistake
from zeromsg.protocol.conversation import AnswerArrived, Conversation, RequestArrived
from zeromsg.testing.fake_tor import FakeTor
from zeromsg.testing.sites import make_site
from zeromsg.wire.names import EXTENSION, HANDSHAKE
from zeromsg.wire.packing import pack
from zeromsg.wire.values import PeerAddress, pack_address

LOOPBACK = "127.0.0.1"
PORT = 26552
START_SECONDS = 30.0
STEP_SECONDS = 10.0

BAIT_HOST = "198.51.100.7"
BAIT_NAME = "bait.invalid"
"""What peers name; nobody may ever be asked for it, nor hear of it."""

ASKED_HOST = "198.51.100.8"
"""What a client names: neighbours may be asked to hand something on to it."""

_IPV4 = re.compile(rb"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")
_HARMLESS = re.compile(rb"0\.|127\.|" + re.escape(ASKED_HOST.encode()) + rb"$")
_FRIEND = OnionKey.from_seed(b"the friend behind an onion......")
_UNKNOWN = OnionKey.from_seed(b"an onion that nobody serves.....")


@attrs.define
class Report:
    """What came of it.

    attempts: everything the node tried, as (kind, target, allowed), once each.
    leaks: sentences; none is what one hopes for.
    steps: what was gone through. namespace: whether in a network of its own.
    """

    attempts: list[tuple[str, str, bool]] = attrs.field(factory=list)
    leaks: list[str] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)
    namespace: bool = False

    @property
    def sockets(self) -> list[tuple[str, str, bool]]:
        return [attempt for attempt in self.attempts if attempt[0] != "resolve"]

    @property
    def names(self) -> list[str]:
        return [target for kind, target, _ in self.attempts if kind == "resolve"]

    def to_map(self) -> Mapping[str, Any]:
        return {
            "clean": not self.leaks,
            "namespace": self.namespace,
            "sockets": [
                {"kind": kind, "target": target, "allowed": allowed}
                for kind, target, allowed in self.sockets
            ],
            "names": self.names,
            "leaks": self.leaks,
            "steps": self.steps,
        }


class _Peer(Protocol):
    """A peer of the node; keeps every byte and every message that the node sent."""

    def __init__(self, onion: str, dialling: bool) -> None:
        self._onion = onion
        self._dialling = dialling
        self._conversation = Conversation(100)
        self.said = b""
        self.messages: list[tuple[str, Mapping[Any, Any]]] = []
        self.opened: Deferred[None] = Deferred()

    @property
    def _stream(self) -> Any:
        return self.transport

    def _handshake(self) -> dict[str, Any]:
        return {
            "version": "0.7.2",
            "protocol": "v2",
            "use_bin_type": True,
            "peer_id": "",
            "fileserver_port": PORT,
            "port_opened": None,
            "target_ip": BAIT_HOST,
            "rev": 4555,
            "crypt_supported": [],
            "crypt": None,
            "time": 0,
            "onion": self._onion,
            EXTENSION: {"version": 1, "features": ["carry"]},
        }

    def connectionMade(self) -> None:
        if self._dialling:
            greeting: Deferred[Any] = Deferred()
            greeting.addCallbacks(self._greeted, lambda failure: None)
            self._stream.write(self._conversation.greet(self._handshake(), greeting, 0.0, 60.0))

    def _greeted(self, answer: Mapping[Any, Any]) -> None:
        self.messages.append((HANDSHAKE, answer))
        self.opened.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.said += data
        try:
            for event in self._conversation.receive(data, 0.0):
                if isinstance(event, AnswerArrived):
                    if not event.token.called:
                        event.token.callback(event.body)
                elif event is not None:
                    self._requested(event)
        except TheirMistake:
            self._stream.abortConnection()

    def _requested(self, event: RequestArrived) -> None:
        self.messages.append((event.cmd, event.params))
        body: Mapping[str, Any] = {"ok": "thx"}
        if event.cmd == HANDSHAKE:
            body = self._handshake()
        elif event.cmd == "pex":
            body = baits()
        elif event.cmd == "ping":
            body = {"body": b"Pong!"}
        self._stream.write(self._conversation.answer(event.req_id, body))
        if event.cmd == HANDSHAKE and not self.opened.called:
            self.opened.callback(None)

    def ask(self, cmd: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """The answer, which is kept too."""
        answered: Deferred[Any] = Deferred()
        self._stream.write(self._conversation.request(cmd, pack(params), answered, 0.0, 60.0))

        def keep(answer: Mapping[Any, Any]) -> Mapping[Any, Any]:
            self.messages.append((cmd, answer))
            return answer

        return answered.addCallback(keep)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for waiting in self._conversation.abandoned():
            if not waiting.called:
                waiting.errback(reason)


def baits() -> dict[str, Any]:
    """A pex answer full of what must not be dialled."""
    clear = [PeerAddress(BAIT_HOST, 80), PeerAddress("10.0.0.1", 80), PeerAddress(LOOPBACK, 9)]
    onions = [
        PeerAddress("a" * 16 + ".onion", PORT),
        PeerAddress(f"{_UNKNOWN.onion}.onion", PORT),
    ]
    return {
        "peers": [pack_address(address) for address in clear],
        "peers_ipv6": [pack_address(PeerAddress("2001:db8::7", 80))],
        "peers_onion": [*(pack_address(address) for address in onions), bytes(37)],
    }


class LeakTest:
    """One run.

    command: how to start the node, given configuration and report as further words.
    """

    def __init__(self, reactor: Any, folder: Path, command: Sequence[str] = ()) -> None:
        self._reactor = reactor
        self._folder = folder
        self._command = list(command) or [sys.executable, "-m", "zeromsg.testing.watched_node"]
        self._attempts = folder / "attempts.jsonl"
        self._log = folder / "node.log"
        self._friends: list[_Peer] = []
        self._heard: list[Any] = []
        self._client: Client | None = None
        self._ports: list[Any] = []
        self._tor = FakeTor(route=self._route)
        self.report = Report()

    async def run(self) -> Report:
        """Go through everything. Raises AssertionError where the node does not work at all."""
        node: subprocess.Popen[bytes] | None = None
        try:
            site = make_site(self._folder / "site")
            control = self._listen(self._tor.control_factory())
            socks = self._listen(self._tor.socks_factory())
            self._tor.socks = f'"{LOOPBACK}:{socks}"'
            config = self._configure(site, control)
            with self._log.open("wb") as log:
                words = [*self._command, str(config), str(self._attempts)]
                node = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            url = await self._started(node)
            await self._go_through(site, url)
        finally:
            if node is not None:
                node.terminate()
                await self._until(lambda: node.poll() is not None, "the node ends", fail=False)
                node.kill()
                node.wait()
            for port in self._ports:
                await port.stopListening()
        self._judge()
        return self.report

    # Around the node.

    def _listen(self, factory: Factory, number: int = 0) -> int:
        port = self._reactor.listenTCP(number, factory, interface=LOOPBACK)
        self._ports.append(port)
        used: int = port.getHost().port
        return used

    def _configure(self, site: str, control: int) -> Path:
        config = self._folder / "zeromsg.toml"
        config.write_text(
            f"""
data_dir = "{self._folder}/data"
[ui]
endpoint = "tcp:0:interface={LOOPBACK}"
[peers]
endpoint = ""
connect = ["{_FRIEND.onion}.onion:{PORT}"]
[tor]
mode = "only"
control = "tcp:{LOOPBACK}:{control}"
[log]
level = "debug"
[[site]]
address = "{site}"
path = "{self._folder}/site"
"""
        )
        return config

    async def _started(self, node: "subprocess.Popen[bytes]") -> str:
        up = re.compile(rb"zeromsg is up: clients at (\S+):([0-9]+)")

        def look() -> bool:
            return node.poll() is not None or up.search(self._log.read_bytes()) is not None

        await self._until(look, "the node starts", START_SECONDS)
        found = up.search(self._log.read_bytes())
        assert found, f"the node did not start: {self._log.read_text(errors='replace')[-1000:]}"
        return f"http://{LOOPBACK}:{int(found[2])}"

    async def _until(
        self,
        condition: Callable[[], object],
        what: str,
        seconds: float = STEP_SECONDS,
        fail: bool = True,
    ) -> None:
        end = self._reactor.seconds() + seconds
        while not condition():
            if self._reactor.seconds() > end:
                assert not fail, f"not within {seconds:g} s: {what}"
                return
            await deferLater(self._reactor, 0.05)

    def _route(self, host: str, port: int, user: str) -> Any:
        if host == f"{_FRIEND.onion}.onion":
            friend = _Peer(_FRIEND.onion, dialling=False)
            self._friends.append(friend)
            return friend
        return 0xF0

    # What it is made to do.

    async def _go_through(self, site: str, url: str) -> None:
        await self._until(lambda: self._friends, "the node dials its peer through Tor")
        friend = self._friends[0]
        await friend.opened
        self._step("dialled through Tor")
        client = await connect(self._reactor, url, site, self._event)
        self._client = client
        await client.call("channelJoin", {"channels": ["peerReceive", "serverChanged"]})
        await self._tempt(friend, site)
        self._step("tempted by a peer")
        await self._until(lambda: self._tor.served, "the node has an onion")
        stranger = await self._stranger()
        await self._tempt(stranger, site)
        self._step("tempted by a stranger")
        # What the stranger sent is passed on to the peer, with a trace.
        await self._until(
            lambda: any(cmd == "peerBroadcast" and "raw" in m for cmd, m in friend.messages),
            "a message is passed on",
        )
        await self._ask(client, site)
        self._step("asked by a client")
        await self._lose_tor()
        self._step("Tor went and came back")
        await client.call("ping")
        client.close()

    def _event(self, cmd: str, params: Any) -> None:
        self._heard.append((cmd, params))
        if cmd == "peerReceive" and self._client is not None and params.get("ip") != "self":
            judged = self._client.call("peerValid", [params["hash"]])
            judged.addErrback(lambda failure: failure.trap(NodeUnreachable) and None)

    def _step(self, name: str) -> None:
        self.report.steps.append(name)

    async def _stranger(self) -> _Peer:
        """Through the node's own onion, as Tor leads connections on."""
        target = next(iter(self._tor.served.values())).partition(",")[2]
        stranger = _Peer(_UNKNOWN.onion, dialling=True)
        self._friends.append(stranger)

        where = TCP4ClientEndpoint(self._reactor, LOOPBACK, int(target.rpartition(":")[2]))
        await connectProtocol(where, stranger)
        await stranger.opened
        return stranger

    async def _tempt(self, peer: _Peer, site: str) -> None:
        raw = {"site": site, "message": "hello", "immediate": False, "peer_count": 5}
        message: dict[str, Any] = {"signature": "", "cert": None, "trace": []}
        number = str(self._reactor.seconds())
        broadcast = json.dumps({**raw, "broadcast": True})
        question = json.dumps({**raw, "broadcast": False})
        requests: list[tuple[str, Mapping[str, Any]]] = [
            ("ping", {}),
            ("pex", {"site": site, "need": 50, **baits()}),
            ("listModified", {"site": site, "since": 0}),
            ("getFile", {"site": site, "inner_path": "content.json", "location": 0}),
            ("getHashfield", {"site": site}),
            ("findHashIds", {"site": site, "hash_ids": [1]}),
            ("getTrackers", {}),
            ("checkport", {"port": 80}),
            ("update", {"site": site, "inner_path": "content.json", "body": b"{}"}),
            ("peerBroadcast", {"raw": broadcast, "nonce": f"{number}1", **message}),
            ("peerSend", {"raw": question, "nonce": f"{number}2", **message}),
            ("peerCarry", {"to": "nobody:80", "raw": question, "nonce": f"{number}3"}),
            ("announce", {"hashes": [], "onions": [], "port": 1, "need_types": ["ipv4"],
                          "need_num": 20, "add": ["ipv4"]}),
            ("unheardOf", {"host": BAIT_NAME}),
        ]  # fmt: skip
        for cmd, params in requests:
            answered = peer.ask(cmd, params)
            answered.addTimeout(STEP_SECONDS, self._reactor)
            await answered

    async def _ask(self, client: Client, site: str) -> None:
        calls: list[tuple[str, Any]] = [
            ("serverInfo", None),
            ("siteInfo", None),
            ("peerList", None),
            ("peerBroadcast", {"message": "mine", "trace": True}),
            ("peerBroadcast", {"message": "all", "broadcast": False, "timeout": 1}),
            ("announcerInfo", None),
        ]
        for cmd, params in calls:
            self._heard.append(await _result(client, cmd, params))
        for ip in (f"{ASKED_HOST}:80", f"{BAIT_NAME}:80"):
            # The answer may repeat what the client itself said.
            await _result(client, "peerSend", {"ip": ip, "message": "hi", "timeout": 1})

    async def _lose_tor(self) -> None:
        ports = [port.getHost().port for port in self._ports]
        factories = [self._tor.control_factory(), self._tor.socks_factory()]
        for port in self._ports:
            await port.stopListening()
        self._ports.clear()
        before = len(self._tor.commands)
        self._tor.drop_controls()
        for friend in self._friends:
            if friend.transport is not None:
                friend.transport.abortConnection()  # type: ignore[attr-defined]
        await deferLater(self._reactor, 1.5)
        dialled = len(self._friends)
        for number, factory in zip(ports, factories, strict=True):
            self._listen(factory, number)
        await self._until(
            lambda: any(line.startswith("ADD_ONION") for line in self._tor.commands[before:]),
            "the onion is served again",
            20.0,
        )
        await self._until(
            lambda: len(self._friends) > dialled, "the peer is dialled again through Tor", 60.0
        )

    # Judgement.

    def _judge(self) -> None:
        lines = self._attempts.read_bytes().splitlines()
        entries = [json.loads(line) for line in lines]
        seen = dict.fromkeys((e["kind"], e["target"], e["allowed"]) for e in entries)
        report = self.report
        report.attempts = list(seen)
        report.leaks += [
            f"tried to {kind}: {target}" for kind, target, allowed in seen if not allowed
        ]
        own = own_addresses()
        for friend in self._friends:
            report.leaks += _addresses_in("said to a peer", friend.said, own)
            for cmd, answer in friend.messages:
                for key in ("peers", "peers_ipv6"):
                    if answer.get(key) and cmd == "pex":
                        report.leaks.append(f"a clear-net address in pex, among {key}")
        report.leaks += _addresses_in("said to a client", json.dumps(self._heard).encode(), own)
        log = self._log.read_bytes()
        report.leaks += _addresses_in("in the log", log, own)
        if b"Traceback" in log or b"Unhandled" in log:
            report.leaks.append("an error in the log, with what it may tell")
        report.leaks = list(dict.fromkeys(report.leaks))


async def _result(client: Client, cmd: str, params: Any) -> Any:
    try:
        return await client.call(cmd, params)
    except NodeUnreachable:
        raise
    except Exception as refused:
        return str(refused)


def own_addresses() -> set[bytes]:
    """What this machine is called and where it is, but for loopback."""
    found = {socket.gethostname().encode()} - {b"localhost", b""}
    try:
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
            if address != "::1":
                found.add(address.encode())
    except OSError:
        pass  # no IPv6 here
    return found


def _addresses_in(where: str, data: bytes, own: set[bytes]) -> list[str]:
    """IPv4 addresses but for loopback, and whatever names this machine."""
    found = [text for text in _IPV4.findall(data) if not _HARMLESS.match(text)]
    found += [name for name in own if len(name) > 3 and name in data]
    return [f"an address {where}: {text.decode(errors='replace')}" for text in dict.fromkeys(found)]
