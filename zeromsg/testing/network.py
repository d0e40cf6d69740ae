"""A network of whole nodes in memory, on a fake clock.

    with Network(nodes=3, seed=1) as net:
        site = net.site()
        net.connect_all()
        sender, reader = net.client(0, site), net.client(2, site)
        sender.call("peerBroadcast", {"message": "hello"})
        net.advance(1)
        assert reader.messages == ["hello"]

Everything but sockets is what a real node runs: the peer protocol, routing,
rules, SQLite. One seed gives one course of events.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.task import Clock

from zeromsg.crypto.keys import PrivateKey
from zeromsg.net.dialer import CONNECT_SECONDS
from zeromsg.policy.faces import SHARED
from zeromsg.protocol.session import Session
from zeromsg.service.config import PeerSettings, Settings, SiteSettings, TorSettings
from zeromsg.service.node import RELOAD_SECONDS, Edges, Node
from zeromsg.service.site_making import new_site, sign_site
from zeromsg.store.database import Database
from zeromsg.store.onion_keys import OnionKeys
from zeromsg.store.sites import SIZE_LIMIT
from zeromsg.store.users import Users
from zeromsg.testing.transports import Accept, MemoryEndpoint, SilentEndpoint, Weather
from zeromsg.wire import client_messages
from zeromsg.wire.client_messages import Answer
from zeromsg.wire.json_text import dump
from zeromsg.wire.names import P2P_JSON, PEER_RECEIVE, PROMPT, SELF
from zeromsg.wire.values import PeerAddress

EPOCH = 1_800_000_000.0
"""Unix time at which every network begins."""

PEER_PORT = 26552
SETTLE_SECONDS = 2.0
"""Enough for handshakes and introductions over ordinary links."""

DEFAULT_RULES: Mapping[str, Any] = {"filter": ".*"}


class MemoryClient:
    """A ZeroFrame client without a socket (`interfaces.IClient`).

    events: everything the node sent but responses, as (cmd, params).
    answers: messages that it replies to, with the reply.
    """

    def __init__(
        self, node: Node, site: str, verdict: str | None, user: str = "", trusted: bool = False
    ) -> None:
        self._node = node
        self._site = site
        self._user = user
        self._trusted = trusted
        self._session = Session()
        self._verdict = verdict
        self._last_id = 0
        self._waiting: dict[Any, Deferred[Any]] = {}
        self.events: list[tuple[str, Any]] = []
        self.answers: dict[Any, Any] = {}

    # What the node uses.

    @property
    def site(self) -> str:
        return self._site

    @property
    def user(self) -> str:
        return self._user

    @property
    def trusted(self) -> bool:
        return self._trusted

    def listens(self, channel: str) -> bool:
        return channel in self._session.channels

    def join(self, channels: object) -> None:
        self._session.join(channels)

    @property
    def ready(self) -> bool:
        return True

    def when_ready(self, action: Callable[[], None]) -> None:
        action()

    def push(self, head: str) -> None:
        self._take(self._session.payload(head))

    def respond(self, call_id: Any, result: Any) -> None:
        self._take(self._session.response(call_id, result))

    def _take(self, payload: bytes) -> None:
        message = json.loads(payload)
        if message["cmd"] == "response":
            waiting = self._waiting.pop(message["to"], None)
            if waiting is not None:
                waiting.callback(message["result"])
            return
        self.events.append((message["cmd"], message["params"]))
        params = message["params"]
        if message["cmd"] == PEER_RECEIVE and params["ip"] != SELF:
            for question, reply in self.answers.items():
                if params["message"] == question:
                    self.call("peerReply", {"hash": params["hash"], "message": reply})
            if self._verdict is not None:
                self.call(self._verdict, [params["hash"]])

    # What a test uses.

    def call(self, cmd: str, params: Any = None) -> Deferred[Any]:
        """Run a command; fires with its result, errors included."""
        self._last_id += 1
        answered: Deferred[Any] = Deferred()
        self._waiting[self._last_id] = answered
        text = json.dumps({"cmd": cmd, "params": params, "id": self._last_id})
        call = client_messages.parse(text)
        assert not isinstance(call, Answer)
        self._node.commands.called(self, call)
        return answered

    def ask(self, cmd: str, params: Any = None) -> Any:
        """The result of a command that is answered at once."""
        results: list[Any] = []
        self.call(cmd, params).addCallback(results.append)
        assert results, f"{cmd} was not answered at once"
        return results[0]

    def respond_to(self, to: Any, result: Any) -> None:
        """Answer something that the node asked; `to` is the number or id of it."""
        text = json.dumps({"cmd": "response", "to": to, "result": result, "id": 1})
        answer = client_messages.parse(text)
        assert isinstance(answer, Answer)
        self._node.commands.answered(self, answer)

    def prompts(self) -> list[dict[str, Any]]:
        """What the person was asked through this page, oldest first."""
        return [params for cmd, params in self.events if cmd == PROMPT]

    def received(self) -> list[dict[str, Any]]:
        """`peerReceive` events from others."""
        return [
            params for cmd, params in self.events if cmd == PEER_RECEIVE and params["ip"] != SELF
        ]

    @property
    def messages(self) -> list[Any]:
        """Messages that came from others, in order."""
        return [params["message"] for params in self.received()]

    def close(self) -> None:
        self._node.commands.client_closed(self)


class MemoryTor:
    """A Tor without circuits (`interfaces.ITor`); its onions can be reached at once.

    used: the faces and onions of every dial.
    """

    port = PEER_PORT

    def __init__(self, network: "Network", address: PeerAddress, folder: Path) -> None:
        self._network = network
        self._address = address
        self._keys = OnionKeys(folder / "onions", network.rng.randbytes)
        self._faces: dict[str, str] = {}
        self.node: Node
        self.used: list[tuple[str, PeerAddress]] = []

    def endpoint(self, address: PeerAddress, face: str) -> IStreamClientEndpoint:
        self.used.append((face, address))
        return self._network.onion_endpoint(self._address, address)

    def onion(self, face: str) -> str:
        if face not in self._faces:
            self._faces[face] = self._keys.get(face).onion
            address = PeerAddress(f"{self._faces[face]}.onion", self.port)
            self._network.onions[address] = (self.node, face)
        return self._faces[face]

    def withdraw(self, face: str) -> None:
        onion = self._faces.pop(face, None)
        if onion is not None:
            del self._network.onions[PeerAddress(f"{onion}.onion", self.port)]

    def is_ours(self, host: str) -> bool:
        return host.removesuffix(".onion") in self._faces.values()

    def sign(self, onion: str, message: bytes) -> tuple[bytes, bytes]:
        face = next(face for face, ours in self._faces.items() if ours == onion)
        key = self._keys.get(face)
        return key.public, key.sign(message)

    def status(self) -> Mapping[str, Any]:
        return {"problem": "", "connected": True}


@attrs.define(eq=False)
class NetworkNode:
    """One node of a network, with what survives its restart."""

    number: int
    address: PeerAddress
    folder: Path
    database: Database
    users: Users
    node: Node
    running: bool = True

    @property
    def name(self) -> str:
        """As clients of other nodes see it."""
        return str(self.address)


class Network:
    """Nodes on a fake clock.

    nodes: how many. seed: of all chance. latency: seconds one way.
    loss: share of writes that vanish. peers: the `[peers]` settings of all
    nodes; unless told otherwise they dial nobody by themselves, so that the
    network has the form that the test gives it. closed: nodes that nobody can
    connect to, and that know it. filtered: nodes that listen behind a firewall, so that
    whoever dials them waits in vain. tor: the mode of nodes that have Tor, and further
    `[tor]` settings of all.
    """

    def __init__(
        self,
        nodes: int = 2,
        seed: int = 0,
        latency: float = 0.01,
        loss: float = 0.0,
        peers: PeerSettings | None = None,
        closed: Collection[int] = (),
        filtered: Collection[int] = (),
        tor: Mapping[int, Literal["on", "only"]] = MappingProxyType({}),
        tor_settings: TorSettings | None = None,
    ) -> None:
        self._tor = tor
        self._tor_settings = tor_settings if tor_settings is not None else TorSettings()
        self.onions: dict[PeerAddress, tuple[Node, str]] = {}
        self._closed = closed
        self._filtered = filtered
        self.peers = peers if peers is not None else PeerSettings(outgoing=0)
        self.clock = Clock()
        self.rng = random.Random(seed)
        self.weather = Weather(latency, loss)
        self._folder = Path(tempfile.mkdtemp(prefix="zeromsg-network-"))
        self._by_address: dict[PeerAddress, NetworkNode] = {}
        self._keys: dict[str, PrivateKey] = {}
        self._site_folders: dict[str, Path] = {}
        self.nodes = [self._make(number) for number in range(nodes)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for member in self.nodes:
            if member.running:
                member.node.stop()
            member.database.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def wall(self) -> float:
        return EPOCH + self.clock.seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.clock.seconds() + seconds
        while True:
            due = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not due or min(due) > end:
                break
            self.clock.advance(max(0.0, min(due) - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    # Nodes.

    def _make(self, number: int) -> NetworkNode:
        address = PeerAddress(f"198.18.{number // 250}.{number % 250 + 1}", PEER_PORT)
        folder = self._folder / f"node{number}"
        folder.mkdir()
        database = Database(":memory:")
        users = Users(folder / "users.json", self.rng.randbytes)
        listens = number not in self._closed and self._tor.get(number) != "only"
        node = self._start(address, folder, database, users, (), listens)
        made = NetworkNode(number, address, folder, database, users, node)
        self._by_address[address] = made
        return made

    def _start(
        self,
        address: PeerAddress,
        folder: Path,
        database: Database,
        users: Users,
        sites: Iterable[SiteSettings],
        listens: bool,
    ) -> Node:
        number = int(folder.name.removeprefix("node"))
        mode: Literal["off", "on", "only"] = self._tor.get(number, "off")
        settings = Settings(
            data_dir=folder,
            peers=self.peers,
            tor=attrs.evolve(self._tor_settings, mode=mode),
            sites=tuple(sites),
        )
        tor = MemoryTor(self, address, folder) if mode != "off" else None
        edges = Edges(
            clock=self.clock,
            wall=self.wall,
            rng=random.Random(self.rng.random()),
            entropy=self.rng.randbytes,
            connector=lambda target: self._endpoint(address, target),
            heavy=lambda work: succeed(work()),
        )
        if tor is not None:
            kinds = ("onion",) if mode == "only" else ("ipv4", "ipv6", "onion")
            edges = attrs.evolve(edges, tor=tor, kinds=kinds)
        node = Node(settings, edges, database, users)
        if tor is not None:
            tor.node = node
        node.peer_port = PEER_PORT if listens else 0
        node.load()
        node.start()
        return node

    def _endpoint(self, source: PeerAddress, target: PeerAddress) -> IStreamClientEndpoint:
        port = self.rng.randrange(32768, 61000)
        member = self._by_address.get(target)
        if isinstance(member, NetworkNode) and member.number in self._filtered:
            silent: IStreamClientEndpoint = SilentEndpoint(self.clock, CONNECT_SECONDS)
            return silent
        endpoint: IStreamClientEndpoint = MemoryEndpoint(
            self.clock,
            self.rng,
            self.weather,
            PeerAddress(source.host, port),
            target,
            self._listener,
        )
        return endpoint

    def onion_endpoint(self, source: PeerAddress, target: PeerAddress) -> IStreamClientEndpoint:
        """Through Tor: the other end does not hear where it comes from."""
        nobody = PeerAddress("127.0.0.1", self.rng.randrange(32768, 61000))
        endpoint: IStreamClientEndpoint = MemoryEndpoint(
            self.clock, self.rng, self.weather, nobody, target, self._onion_listener
        )
        return endpoint

    def _onion_listener(self, target: PeerAddress) -> Accept | None:
        found = self.onions.get(target)
        if found is None:
            return None
        node, face = found

        def accept(source: PeerAddress) -> IProtocol | None:
            protocol: Any = node.pool.accept_stranger(face)
            return protocol

        return accept

    def onion(self, number: int, site: str) -> PeerAddress:
        """Where a node is reached for a site."""
        node = self.nodes[number].node
        return next(
            address
            for address, (held, face) in self.onions.items()
            if held is node and face in (site, SHARED)
        )

    def connect_onion(self, first: int, second: int, site: str) -> None:
        """Let one node dial another's onion for a site."""
        dialled = self.nodes[first].node.pool.link_to(self.onion(second, site), site)
        dialled.addErrback(lambda failure: None)

    def _listener(self, target: PeerAddress) -> Accept | None:
        member = self._by_address.get(target)
        if member is None or not member.running:
            return None
        if isinstance(member, NetworkNode) and not member.node.peer_port:
            return None

        def accept(source: PeerAddress) -> IProtocol | None:
            protocol: Any = member.node.pool.accept(source)
            return protocol

        return accept

    def stop(self, number: int) -> None:
        """Stop a node, as SIGTERM would."""
        member = self.nodes[number]
        member.node.stop()
        member.running = False

    def restart(self, number: int) -> None:
        """Start a node again with what it had kept; its links and clients are gone."""
        member = self.nodes[number]
        if member.running:
            self.stop(number)
        held = [
            SiteSettings(address=site.address, path=site.path if site.own else None)
            for site in member.node.sites.all()
        ]
        member.node = self._start(
            member.address,
            member.folder,
            member.database,
            member.users,
            held,
            number not in self._closed and self._tor.get(number) != "only",
        )
        member.running = True

    def connect(self, first: int, second: int) -> None:
        """Let one node dial another."""
        dialled = self.nodes[first].node.pool.link_to(self.nodes[second].address)
        dialled.addErrback(lambda failure: None)

    def connect_all(self) -> None:
        """Every node to every other one, and time for introductions."""
        for first in range(len(self.nodes)):
            for second in range(first):
                self.connect(first, second)
        self.advance(SETTLE_SECONDS)

    def connect_line(self) -> None:
        """Each node to the next one only."""
        for number in range(len(self.nodes) - 1):
            self.connect(number, number + 1)
        self.advance(SETTLE_SECONDS)

    # Sites and clients.

    def site(
        self,
        rules: Mapping[str, Any] | None = DEFAULT_RULES,
        holders: Iterable[int] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """A new site with these rules (None: no p2p.json); returns its address.

        holders: nodes that serve it, all by default; others may `join` it.
        """
        folder = self._folder / f"site{len(self._keys)}"
        folder.mkdir()
        for name, data in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        if rules is not None:
            (folder / P2P_JSON).write_text(dump(rules))
        key = new_site(folder, "", self.rng.randbytes, self.wall)
        if rules is None:
            (folder / P2P_JSON).unlink()
            sign_site(folder, key, self.wall)
        self._keys[key.address] = key
        self._site_folders[key.address] = folder
        for number in range(len(self.nodes)) if holders is None else holders:
            member = self.nodes[number]
            member.users.default.set_site_key(key.address, key)
            member.node.add_site(key.address, folder, SIZE_LIMIT)
        return key.address

    def set_rules(self, site: str, rules: Mapping[str, Any]) -> None:
        """Publish other rules of a site; nodes that serve it take them over."""
        folder = self._site_folders[site]
        self.advance(SETTLE_SECONDS)  # a new version has a later time
        (folder / P2P_JSON).write_text(dump(rules))
        sign_site(folder, self._keys[site], self.wall)
        self.advance(RELOAD_SECONDS + SETTLE_SECONDS)

    def site_key(self, site: str) -> PrivateKey:
        return self._keys[site]

    def join(self, number: int, site: str) -> None:
        """Let a node fetch a site from the peers that it is connected to."""
        node = self.nodes[number].node
        node.add_site(site, None, SIZE_LIMIT)
        node.site_peers.introduce(site)
        node.joining.try_all()
        self.advance(SETTLE_SECONDS)

    def client(
        self,
        number: int,
        site: str,
        verdict: str | None = "peerValid",
        user: str = "",
        trusted: bool = False,
    ) -> MemoryClient:
        """A client of a node.

        verdict: what it says of each message, or None for nothing.
        user: master address of the user it acts for, the default one if "".
        trusted: whether it is the node's own page, where the person is.
        """
        node = self.nodes[number].node
        client = MemoryClient(node, site, verdict, user, trusted)
        node.commands.client_opened(client)
        return client
