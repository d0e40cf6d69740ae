"""Strangers at the peer port of real nodes: garbage, half-open connections, silence, odd TLS.

Two honest nodes run throughout; after each test a broadcast must still cross
them, and no exception may stand in their logs. Strangers come from addresses of
their own, because whoever misbehaves is banned.
"""

import itertools
import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest

from zeromsg.testing.plain_peer import PlainPeer, envelope, handshake, pack, tls_context
from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

TARGET, OTHER = "127.0.0.63", "127.0.0.64"

UNSENT_LIMIT = 1_000_000
BIG_FILE = 2_000_000
MESSAGE_LIMIT = 5 * 1024 * 1024

FLOOD_CHUNKS = 1_000_000
GROWTH_LIMIT = 100 * 1024
"""KiB by which the node's memory may have grown after all of it."""

_texts = (f"marker {number}" for number in itertools.count(1))
_sources = (f"127.0.{2 + number // 250}.{number % 250 + 1}" for number in range(2000))


@attrs.frozen
class Honest:
    """Two nodes and their programs; strangers trouble the target.

    strict: another site of the target, whose rules take only the text "yes".
    """

    site: str
    strict: str
    target: RunningNode
    other: RunningNode
    sender: ZeroFrameProgram
    receiver: ZeroFrameProgram

    def assert_message_crosses(self) -> None:
        text = next(_texts)
        answer = self.sender.ask("peerBroadcast", {"message": text}, 20)
        assert answer.get("sent") is True, answer
        self.receiver.wait_for_message(text, 20)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Honest]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "site").mkdir()
    (folder / "site" / "big.bin").write_bytes(random.Random(1).randbytes(BIG_FILE))
    site = make_site(folder / "site")
    strict = make_site(folder / "strict", {"filter": '"yes"$'})
    with ExitStack() as stack:
        target = RunningNode(
            folder / "target",
            TARGET,
            sites={site: folder / "site", strict: folder / "strict"},
            settings={"peers.unsent_limit": UNSENT_LIMIT},
            program="twistd",
        )
        stack.enter_context(target).start()
        other = RunningNode(
            folder / "other", OTHER, sites={site: None}, connect=[target.peer], program="twistd"
        )
        stack.enter_context(other).start()
        wait_for(lambda: target.site(site)["peers"] == 1, 20, "the nodes know each other")
        wait_for(lambda: other.site(site)["complete"], 20, "the site is complete")
        sender = stack.enter_context(ZeroFrameProgram(OTHER, other.ui_port, site))
        receiver = stack.enter_context(
            ZeroFrameProgram(TARGET, target.ui_port, site, verdict="peerValid")
        )
        yield Honest(site, strict, target, other, sender, receiver)


@pytest.fixture
def honest(nodes: Honest) -> Iterator[Honest]:
    starts = len(nodes.target.log), len(nodes.other.log)
    yield nodes
    for node, start in zip((nodes.target, nodes.other), starts, strict=True):
        print(f"--- log of {node.host} ---\n{node.log[start:]}")
    nodes.assert_message_crosses()
    for node, start in zip((nodes.target, nodes.other), starts, strict=True):
        assert "Traceback" not in node.log[start:]
        assert "Unhandled" not in node.log[start:]


@pytest.fixture
def source() -> str:
    """An address that nobody was blamed for yet."""
    return next(_sources)


# Floods


class Flood:
    """Random chunks for the peer port, over many connections; each write that succeeds counts.

    Most connections are closed for their first bytes: they get a burst. Some
    began a message that may have five megabytes: they are written to in turn
    until that is too much. No stranger errs so often that he is banned, because
    nothing of what he sends would be read then.
    """

    CLOSED_SOON = {
        "noise": b"",
        "a map": b"\x83",
        "a request": b"\x83\xa3cmd\xa4ping\xa6req_id\x01\xa6params",
        "a TLS record": b"\x16\x03\x01",
    }
    ENDLESS = b"\x81\xa6params\xc6\x00\x60\x00\x00"
    """A map that holds six megabytes of binary."""

    BURST = 20
    BURST_SHARE = 0.005
    STREAMS = 6
    OFFENCES = 10

    def __init__(self, node: RunningNode, seed: int) -> None:
        self._node = node
        self._random = random.Random(seed)
        self._noise = memoryview(self._random.randbytes(1 << 20))
        self._strangers = (
            f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            for number in itertools.count(1 << 16)
            for _offence in range(self.OFFENCES)
        )
        self._streams: dict[int, PlainPeer] = {}
        self.chunks = 0
        self.connections = 0

    def run(self, chunks: int) -> None:
        """Go on until so many were written in all."""
        choice = self._random
        while self.chunks < chunks:
            if choice.random() < self.BURST_SHARE:
                self._burst(choice.choice(list(self.CLOSED_SOON.values())))
            else:
                self._stream(choice.randrange(self.STREAMS))

    def close(self) -> None:
        for peer in self._streams.values():
            peer.socket.close()

    def _connect(self, *, tls: bool, greets: bool) -> PlainPeer:
        self.connections += 1
        peer = PlainPeer(self._node.peer, next(self._strangers), tls=tls_context() if tls else None)
        if greets:
            peer.greet()
        return peer

    def _burst(self, opening: bytes) -> None:
        kind = self._random.randrange(4)
        with suppress(OSError), self._connect(tls=kind == 0, greets=kind == 1) as peer:
            peer.socket.sendall(opening + bytes(self._chunk()))
            self.chunks += 1
            for _more in range(self.BURST - 1):
                peer.socket.sendall(self._chunk())
                self.chunks += 1

    def _stream(self, number: int) -> None:
        peer = self._streams.get(number)
        if peer is None:
            peer = self._streams[number] = self._connect(tls=number == 0, greets=number < 3)
            peer.socket.sendall(self.ENDLESS)
        try:
            peer.socket.sendall(self._chunk())
        except OSError:
            self._streams.pop(number).socket.close()
        else:
            self.chunks += 1

    def _chunk(self) -> memoryview:
        below = self._random.randrange
        length = below(1, 4096) if below(10) == 0 else below(1, 300)
        start = below(len(self._noise) - length)
        return self._noise[start : start + length]


def memory(node: RunningNode) -> int:
    """KiB of memory that the process has."""
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_a_million_random_chunks_leave_the_node_serving(honest: Honest) -> None:
    before = memory(honest.target)
    with closing(Flood(honest.target, seed=1)) as flood:
        for part in range(1, 11):
            flood.run(FLOOD_CHUNKS * part // 10)
            honest.assert_message_crosses()
            assert memory(honest.target) - before < GROWTH_LIMIT
        assert flood.chunks >= FLOOD_CHUNKS
        print(f"{flood.chunks} chunks over {flood.connections} connections")
    wait_for(lambda: len(honest.target.status()["links"]) == 1, 15, "strangers are gone")
    print(f"memory grew by {memory(honest.target) - before} KiB")
    assert memory(honest.target) - before < GROWTH_LIMIT


def test_who_sends_garbage_again_and_again_is_banned(honest: Honest, source: str) -> None:
    def refused() -> bool:
        with PlainPeer(honest.target.peer, source) as stranger:
            try:
                stranger.greet()
            except (ConnectionError, OSError):
                return True
            with suppress(OSError):
                stranger.socket.sendall(b"\x00" * 100)
            assert stranger.closed_within(5)
            return False

    for _attempt in range(30):
        if refused():
            return
    pytest.fail("thirty times garbage, and still welcome")


COMMANDS = (
    "ping", "getFile", "streamFile", "pex", "listModified", "update", "getHashfield",
    "setHashfield", "findHashIds", "getPiecefields", "setPiecefields", "getTrackers", "checkport",
    "peerBroadcast", "peerSend", "announce", "handshake", "response", "siteReload", "\x00", "Ping",
)  # fmt: skip

KEYS = (
    "site", "inner_path", "location", "read_bytes", "file_size", "peers", "peers_ipv6",
    "peers_onion", "need", "since", "body", "modified", "diffs", "hash_ids", "hashfield_raw",
    "piecefields_packed", "port", "raw", "nonce", "signature", "cert", "trace", "to", "cmd",
    "fileserver_port", "crypt", "crypt_supported", "peer_id", "zeromsg", "stream_bytes", "error",
)  # fmt: skip


_JSON = (None, True, 0, -1, 1.5, 10**40, "", "text", "\ud800", [], [[]], {}, {"a": None})


class Shapes:
    """Messages that look right from afar, with anything inside."""

    def __init__(self, site: str, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)

    def message(self) -> dict[Any, Any]:
        choice = self._random
        message: dict[Any, Any] = {
            "cmd": choice.choice(COMMANDS),
            "req_id": choice.randrange(1000),
            "params": self._params(),
        }
        if choice.random() < 0.1:
            message[choice.choice(("cmd", "req_id", "params", "to"))] = self._value(3)
        if choice.random() < 0.05:
            del message[choice.choice(list(message))]
        return message

    def _params(self) -> dict[Any, Any]:
        choice = self._random
        params: dict[Any, Any] = {
            choice.choice(KEYS): self._value(2) for _ in range(choice.randrange(8))
        }
        if choice.random() < 0.7:
            params["site"] = self._site
        if choice.random() < 0.3:
            params["inner_path"] = choice.choice(
                ("p2p.json", "content.json", "../x", "/", "a/../b")
            )
        if choice.random() < 0.2:
            params |= envelope(self._site, "x", **{choice.choice(KEYS[1:]): choice.choice(_JSON)})
        if choice.random() < 0.1:
            params[choice.choice(("raw", "nonce", "signature", "cert", "trace"))] = self._value(2)
        return params

    def _value(self, depth: int) -> Any:
        choice = self._random
        kind = choice.randrange(14 if depth else 11)
        if kind >= 11:
            items = [self._value(depth - 1) for _ in range(choice.randrange(5))]
            return items if kind < 13 else {str(index): item for index, item in enumerate(items)}
        return (
            None, True, False, 0, -1, 2**63, 1.5, float("nan"), "", "text\u2028", b"\xff\x00\xfe",
        )[kind]  # fmt: skip


def test_garbage_of_the_right_shape(honest: Honest) -> None:
    shapes = Shapes(honest.site, seed=2)
    for number in range(1000):
        source = f"127.0.{10 + number // 250}.{number % 250 + 1}"
        with PlainPeer(honest.target.peer, source) as stranger:
            if number % 3:
                stranger.greet()
            with suppress(OSError):
                for _message in range(30):
                    stranger.send(shapes.message())
                # What is answered, is answered before this is.
                stranger.ask("ping", {})
    wait_for(lambda: len(honest.target.status()["links"]) == 1, 15, "strangers are gone")


def test_extension_types_and_odd_keys(honest: Honest) -> None:
    odd = [
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb({"cmd": "ping", "req_id": 1, "params": {"x": msgpack.ExtType(5, b"x")}}),
        msgpack.packb({"cmd": "ping", "req_id": 1, "params": {"t": msgpack.Timestamp(1, 2)}}),
        b"\x82\x90\x01\x80\x02",  # a list and a map as keys
        b"\x81\xc1\xc1",  # a byte that msgpack never uses
        b"\x81" * 100_000,  # maps in maps
        b"\x91" * 100_000,
        b"\xde\x00\x00",
        pack({"cmd": "ping", "req_id": 1, "params": {}, "stream_bytes": 10}),
        pack({"cmd": "response", "to": 1, "stream_bytes": 10}) + b"x" * 10,
        pack({"cmd": "handshake", "req_id": 0, "params": {}}),
        pack({"cmd": "handshake", "req_id": 0, "params": handshake(fileserver_port=99999)}),
        pack({"cmd": "handshake", "req_id": 0, "params": handshake(fileserver_port=True)}),
        pack({"cmd": "ping", "req_id": "1", "params": {}}),
        pack({"cmd": "ping", "req_id": 1, "params": []}),
        pack([1, 2, 3]),
    ]
    for number, data in enumerate(odd):
        with PlainPeer(honest.target.peer, f"127.0.4.{number + 1}") as stranger:
            stranger.socket.sendall(data)
            assert stranger.closed_within(5), data[:40]


def test_a_second_handshake_ends_it(honest: Honest, source: str) -> None:
    with PlainPeer(honest.target.peer, source) as stranger:
        stranger.greet()
        stranger.send({"cmd": "handshake", "req_id": 0, "params": handshake()})
        assert stranger.closed_within(5)


# Connections that do nothing


def test_half_open_and_half_sent_connections_are_closed_in_time(honest: Honest) -> None:
    with ExitStack() as stack:
        silent, partial, greeted, drip = (
            stack.enter_context(PlainPeer(honest.target.peer, next(_sources))) for _ in range(4)
        )
        began = time.monotonic()
        partial.socket.sendall(pack({"cmd": "ping", "req_id": 1, "params": {}})[:-1])
        greeted.greet(fileserver_port=9)
        greeted.socket.sendall(pack({"cmd": "ping", "req_id": 1, "params": {}})[:-1])
        drip.socket.sendall(b"\x83")
        giants = [stack.enter_context(PlainPeer(honest.target.peer, next(_sources))) for _ in "12"]
        giants[0].socket.sendall(b"\xdf\xff\xff\xff\xff")  # a map of four billion entries
        giants[1].socket.sendall(b"\x81\xa1x" + b"\xdc\x20\x00" * 1000)  # lists in lists
        one_sided = stack.enter_context(PlainPeer(honest.target.peer, next(_sources)))
        one_sided.socket.shutdown(socket.SHUT_WR)
        assert one_sided.closed_within(5)
        for stranger in (silent, partial, drip, greeted, *giants):
            assert stranger.closed_within(14 - (time.monotonic() - began))
        assert time.monotonic() - began > 9


def test_hundred_connections_that_end_at_once(honest: Honest) -> None:
    for number in range(100):
        with PlainPeer(honest.target.peer, next(_sources)) as stranger:
            if number % 2:
                stranger.send({"cmd": "handshake", "req_id": 0, "params": handshake()})
            # A reset instead of an orderly end.
            stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_peer_that_never_reads_is_dropped(honest: Honest, source: str) -> None:
    file = {"site": honest.site, "inner_path": "big.bin", "location": 0, "read_bytes": 524288}
    before = memory(honest.target)
    with PlainPeer(honest.target.peer, source, receive_buffer=4096) as greedy:
        greedy.greet()
        wait_for(lambda: linked(honest, source), 5, "the stranger is connected")
        with suppress(OSError):
            for _request in range(100):
                greedy.request("getFile", file)
        wait_for(lambda: not linked(honest, source), 10, "it is dropped")
    assert memory(honest.target) - before < 30 * 1024


def linked(honest: Honest, source: str) -> bool:
    return any(link["peer"].startswith(f"{source}:") for link in honest.target.status()["links"])


def test_a_peer_that_reads_slowly_gets_everything(honest: Honest, source: str) -> None:
    size, got = 262144, b""
    with PlainPeer(honest.target.peer, source, receive_buffer=4096) as slow:
        slow.greet()
        while len(got) < BIG_FILE:
            answer = slow.ask(
                "getFile",
                {
                    "site": honest.site,
                    "inner_path": "big.bin",
                    "location": len(got),
                    "read_bytes": size,
                },
            )
            got += answer["body"]
    assert got == random.Random(1).randbytes(BIG_FILE)


# Sizes


def test_a_message_over_five_mebibytes_closes_the_connection(honest: Honest) -> None:
    for size, closes in ((MESSAGE_LIMIT - 1000, False), (MESSAGE_LIMIT + 1000, True)):
        with PlainPeer(honest.target.peer, next(_sources)) as stranger:
            stranger.greet()
            message = {"cmd": "ping", "req_id": 1, "params": {"padding": bytes(size)}}
            with suppress(OSError):
                stranger.send(message)
            if closes:
                assert stranger.closed_within(5)
            else:
                assert stranger.ask("ping", {})["body"] == b"Pong!"


def test_a_raw_over_the_limit_is_refused_and_the_connection_stays(
    honest: Honest, source: str
) -> None:
    with PlainPeer(honest.target.peer, source) as stranger:
        stranger.greet()
        # It seems to be a ZeroNet node, whose plugin has no such bound: it is told, not charged.
        answer = stranger.broadcast(honest.site, "x" * 70_000)
        assert answer["warning"] == "raw is over 65536 bytes"
        assert stranger.broadcast(honest.site, "x")["ok"] == "thx"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_raw_of_every_depth_is_answered(honest: Honest, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for depth in (10, *range(50, 80), 300, 500, *range(850, 1010), 5000):
        nested = opening * depth + "1" + closing * depth
        # Without a handshake, after which answers would wait a moment.
        with PlainPeer(honest.target.peer, next(_sources)) as stranger:
            for site in (honest.site, honest.strict):
                params = envelope(site, "?")
                params["raw"] = params["raw"].replace('"?"', nested)
                answer = stranger.ask("peerBroadcast", params)
                assert len({"ok", "error", "warning"} & answer.keys()) == 1


@pytest.mark.parametrize("message", ["9" * 4299, "9" * 4301, "1e308", "1e309", "NaN", '"\\ud800"'])
def test_numbers_and_texts_at_the_edges_are_answered(
    honest: Honest, source: str, message: str
) -> None:
    with PlainPeer(honest.target.peer, source) as stranger:
        stranger.greet()
        for site in (honest.site, honest.strict):
            params = envelope(site, "?")
            params["raw"] = params["raw"].replace('"?"', message)
            answer = stranger.ask("peerBroadcast", params)
            assert len({"ok", "error", "warning"} & answer.keys()) == 1


# TLS and handshakes


def test_garbage_after_the_first_byte_of_tls(honest: Honest) -> None:
    noise = random.Random(3)
    for length in (1, 2, 5, 20, 100, 2000, 70000):
        with PlainPeer(honest.target.peer, next(_sources)) as stranger:
            with suppress(OSError):
                stranger.socket.sendall(b"\x16" + noise.randbytes(length))
                # As much as a record may have, so that the node need not wait for more.
                stranger.socket.sendall(noise.randbytes(70000))
            assert stranger.closed_within(5)


def test_tls_as_zeronet_nodes_do_it(honest: Honest, source: str) -> None:
    context = tls_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with PlainPeer(honest.target.peer, source, tls=context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert peer.socket.selected_alpn_protocol() == "h2"
        response = peer.greet(crypt="tls-rsa", crypt_supported=["tls-rsa"])
        assert response["crypt"] == "tls-rsa"
        assert peer.ask("ping", {})["body"] == b"Pong!"
        assert peer.broadcast(honest.site, "over TLS")["ok"] == "thx"


def test_tls_1_2_with_an_rsa_suite(honest: Honest, source: str) -> None:
    context = tls_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with PlainPeer(honest.target.peer, source, tls=context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert peer.socket.cipher()[0] == "ECDHE-RSA-AES128-GCM-SHA256"
        peer.greet(crypt="tls-rsa", crypt_supported=["tls-rsa"])
        assert peer.ask("ping", {})["body"] == b"Pong!"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_plain_handshake_is_upgraded(honest: Honest, source: str, version: ssl.TLSVersion) -> None:
    context = tls_context()
    context.maximum_version = version
    with PlainPeer(honest.target.peer, source) as peer:
        response = peer.greet(crypt_supported=["tls-rsa"])
        assert response["crypt"] == "tls-rsa"
        peer.start_tls(context)
        assert peer.ask("ping", {})["body"] == b"Pong!"
        assert (
            peer.ask("pex", {"site": honest.site, "peers": [], "need": 5}).get("peers") is not None
        )
        # The node asks over the same connection.
        assert peer.wait_for_request("pex")["site"] == honest.site


def test_who_offers_tls_and_stays_plain_loses_only_the_connection(
    honest: Honest, source: str
) -> None:
    with PlainPeer(honest.target.peer, source) as peer:
        assert peer.greet(crypt_supported=["tls-rsa"])["crypt"] == "tls-rsa"
        with suppress(OSError):
            peer.send({"cmd": "ping", "req_id": 1, "params": {}})
            peer.socket.sendall(bytes(70000))
        peer.polite = False
        wait_for(lambda: not linked(honest, source), 15, "it is closed")
    with PlainPeer(honest.target.peer, source) as peer:
        assert peer.greet(crypt_supported=[])["crypt"] is None
        assert peer.ask("ping", {})["body"] == b"Pong!"


def test_handshake_response_travels_alone(honest: Honest) -> None:
    pex = {"cmd": "pex", "req_id": 1, "params": {"site": honest.site, "peers": [], "need": 5}}

    def pause() -> float:
        """Seconds between the response and what came next; a late reader sees less."""
        with PlainPeer(honest.target.peer, next(_sources)) as peer:
            hello = {"cmd": "handshake", "req_id": 0, "params": handshake(fileserver_port=9)}
            peer.send(hello, pex)
            first = peer.socket.recv(65536)
            at = time.monotonic()
            (message,) = unpacked(first)
            assert (message["cmd"], message["to"]) == ("response", 0)
            rest: list[Any] = []
            waited = 0.0
            while not any(message.get("to") == 1 for message in rest):
                rest += unpacked(peer.socket.recv(65536))
                waited = waited or time.monotonic() - at
            return waited

    assert max(pause() for _attempt in range(5)) > 0.08


def unpacked(data: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)


def test_bans_do_not_touch_others_at_the_same_node(honest: Honest, source: str) -> None:
    with PlainPeer(honest.target.peer, next(_sources)) as witness:
        witness.greet()
        for _attempt in range(20):
            with suppress(OSError), PlainPeer(honest.target.peer, source) as stranger:
                stranger.socket.sendall(b"\x00")
                stranger.closed_within(5)
        with suppress(OSError), PlainPeer(honest.target.peer, source) as stranger:
            assert stranger.closed_within(5)
        assert witness.ask("ping", {})["body"] == b"Pong!"
