"""What a node keeps when it ends, however it ends; and how it ends."""

import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from zeromsg.testing.plain_client import PlainClient, wrapper_key
from zeromsg.testing.plain_peer import PlainPeer, envelope, envelope_hash
from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

PEER = "127.0.2.200"

Program = Literal["zeromsg", "twistd"]

STOP_SECONDS = 2.0
UNDER_WAY = 20
"""Requests that a peer sends before it waits for an answer."""

NewNode = Callable[..., RunningNode]


@pytest.fixture
def site(tmp_path: Path) -> str:
    return make_site(tmp_path / "site")


@pytest.fixture
def serving(tmp_path: Path, site: str, new_node: NewNode) -> Callable[..., RunningNode]:
    """Makes nodes that serve the site, not started yet."""

    def make(**arguments: Any) -> RunningNode:
        return new_node(sites={site: tmp_path / "site"}, **arguments)

    return make


@pytest.fixture
def node(serving: Callable[..., RunningNode]) -> Iterator[RunningNode]:
    made = serving(program="twistd").start()
    yield made
    assert "Traceback" not in made.log
    assert "Unhandled" not in made.log


def first_messages(node: RunningNode, site: str) -> list[Any]:
    """What a client gets that is the first to come."""
    with PlainClient(node.host, node.ui_port, wrapper_key(node.host, node.ui_port, site)) as client:
        # A long queue is given as fast as the client reads.
        wait_for(lambda: client.ask("ping") == "pong" and not node.site(site)["queued"], 20, "all")
        assert client.ask("ping") == "pong"
        return [
            event["params"]["message"] for event in client.events if event["cmd"] == "peerReceive"
        ]


# What was acknowledged


def acknowledged_until_killed(node: RunningNode, site: str, kill_after: int) -> list[int]:
    """Messages that the node said it has, in their order; it is killed with others under way."""
    accepted: list[int] = []
    sent = 0
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        while len(accepted) < kill_after:
            while sent - len(accepted) < UNDER_WAY:
                sent = peer.request("peerBroadcast", envelope(site, sent, immediate=True))
            accepted += numbers_of([peer.receive()])
        node.kill()
        # Answers that it gave before.
        accepted += numbers_of(iter(peer.receive, None))
    return accepted


def numbers_of(answers: Iterable[dict[Any, Any] | None]) -> list[int]:
    """Which messages were taken; requests are numbered from one, messages from zero."""
    return [answer["to"] - 1 for answer in answers if answer and answer.get("ok") == "thx"]


def test_kill_loses_nothing_that_was_acknowledged(node: RunningNode, site: str) -> None:
    for kill_after in (1, 50, 400):
        accepted = acknowledged_until_killed(node, site, kill_after)
        assert accepted == list(range(len(accepted)))
        assert len(accepted) >= kill_after
        node.start()
        queued = node.site(site)["queued"]
        print(f"{len(accepted)} messages were acknowledged and {queued} stored")
        assert len(accepted) <= queued <= len(accepted) + UNDER_WAY
        # What was stored may not have been acknowledged any more, but the order holds.
        assert first_messages(node, site) == list(range(queued))
        assert node.site(site)["queued"] == 0
        assert first_messages(node, site) == []


def test_kill_of_the_receiver_while_a_sender_goes_on(
    tmp_path: Path, site: str, serving: Callable[..., RunningNode], new_node: NewNode
) -> None:
    first = serving(program="twistd").start()
    second = new_node(sites={site: None}, connect=[first.peer], program="twistd").start()
    wait_for(lambda: second.site(site)["peers"] == 1, 20, "the nodes know each other")
    sent: list[int] = []
    with ZeroFrameProgram(first.host, first.ui_port, site) as sender:
        for number in range(400):
            result = sender.ask("peerBroadcast", {"message": number, "immediate": True})
            if result["sent"]:
                sent.append(number)
            elif sent:
                break
            if number == 100:
                threading.Thread(target=second.kill).start()
        wait_for(lambda: not second.running, 5, "it was killed")
        second.start()
        told = first_messages(second, site)
        # Those that were on their way when it died are lost, and none before them.
        assert told == sent[: len(told)]
        assert len(told) >= 50
        wait_for(lambda: first.site(site)["peers"] == 1, 20, "they are connected again")
        assert sender.ask("peerBroadcast", {"message": "back", "immediate": True})["sent"]
        wait_for(lambda: second.site(site)["queued"] == 1, 10, "life goes on")
    assert first_messages(second, site) == ["back"]
    for node in (first, second):
        assert "Traceback" not in node.log


def test_queue_is_bounded_and_drops_the_oldest_over_restarts(node: RunningNode, site: str) -> None:
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        last = 0
        for number in range(1200):
            last = peer.request("peerBroadcast", envelope(site, number, immediate=True))
        answered = peer.receive()
        while answered is not None and answered.get("to") != last:
            answered = peer.receive()
    assert node.site(site)["queued"] == 1000
    node.kill()
    node.start()
    assert first_messages(node, site) == list(range(200, 1200))


# Hashes that were met


def saved_hashes(node: RunningNode) -> int:
    with closing(sqlite3.connect(node.data_dir / "zeromsg.sqlite3")) as database:
        count: int = database.execute("SELECT count(*) FROM seen").fetchone()[0]
        return count


def test_replays_after_a_restart_are_known(node: RunningNode, site: str) -> None:
    old = [envelope(site, f"old {number}") for number in range(10)]
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        for params in old:
            assert peer.ask("peerBroadcast", params)["ok"] == "thx"
        assert "error" in peer.ask("peerBroadcast", {**old[0], "raw": "no JSON"})
    # A kill may lose those of the last second.
    wait_for(lambda: saved_hashes(node) >= len(old), 10, "hashes on disk")
    for end in (node.kill, node.stop):
        end()
        node.start()
        seen = node.status()["seen"]
        assert seen >= len(old)
        with PlainPeer(node.peer, PEER) as peer:
            peer.greet()
            for params in old:
                answer = peer.ask("peerBroadcast", params)
                assert answer["warning"] == "Already received, thanks", envelope_hash(params)
            assert peer.broadcast(site, "new")["ok"] == "thx"


def test_an_orderly_end_forgets_no_hash(node: RunningNode, site: str) -> None:
    params = envelope(site, "in the last moment")
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        assert peer.ask("peerBroadcast", params)["ok"] == "thx"
    node.stop()
    node.start()
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        assert "warning" in peer.ask("peerBroadcast", params)


# Identity


def test_keys_identity_and_settings_survive(node: RunningNode, site: str) -> None:
    def identity() -> tuple[Any, ...]:
        key = wrapper_key(node.host, node.ui_port, site)
        with PlainClient(node.host, node.ui_port, key) as client:
            user = client.ask("siteInfo")["auth_address"]
            return key, user, client.ask("userGetSettings")

    with PlainClient(node.host, node.ui_port, wrapper_key(node.host, node.ui_port, site)) as client:
        assert client.ask("userSetSettings", {"settings": {"color": "red"}}) == "ok"
    before = identity()
    assert before[2] == {"color": "red"}
    for end in (node.stop, node.kill):
        end()
        node.start()
        assert identity() == before


def test_secrets_are_for_their_owner_only(node: RunningNode) -> None:
    secret = [path for path in node.data_dir.rglob("*") if path.is_file()]
    assert len(secret) >= 4
    for path in [node.data_dir, *secret]:
        assert path.stat().st_mode & 0o077 == 0, path


# Ends


@attrs.frozen
class Busy:
    """A node with clients and peers that are all in the middle of something.

    closed: code and reason that each client was told, once the node is gone.
    """

    node: RunningNode
    peer: PlainPeer
    closed: list[Future[tuple[int, str] | None]]


@pytest.fixture(params=["zeromsg", "twistd"])
def busy(
    request: pytest.FixtureRequest, site: str, serving: Callable[..., RunningNode]
) -> Iterator[Busy]:
    node = serving(program=request.param).start()
    key = wrapper_key(node.host, node.ui_port, site)
    with ExitStack() as stack:
        readers = stack.enter_context(ThreadPoolExecutor())
        open_client = partial(PlainClient, node.host, node.ui_port, key)
        listening, asking = (stack.enter_context(open_client()) for _ in range(2))
        deaf = stack.enter_context(open_client(receive_buffer=4096))
        peer = stack.enter_context(PlainPeer(node.peer, PEER))
        peer.greet()
        peer.ask("pex", {"site": site, "peers": [], "need": 5})
        question = {"message": "?", "broadcast": False, "timeout": 60}
        for client in (asking, deaf):
            client.send_text(json.dumps({"cmd": "peerBroadcast", "params": question, "id": 1}))
            peer.wait_for_request("peerSend")
        silent = stack.enter_context(PlainPeer(node.peer, PEER))
        silent.socket.sendall(b"\x83")
        closed = [readers.submit(client.wait_for_close, 30) for client in (listening, asking)]
        for _ in range(40):
            assert peer.broadcast(site, "x" * 60_000)["ok"] == "thx"
        yield Busy(node, peer, closed)
    assert "Traceback" not in node.log
    assert "Unhandled" not in node.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_within_two_seconds(busy: Busy, number: int) -> None:
    began = time.monotonic()
    code = busy.node.stop(number=number)
    assert time.monotonic() - began < STOP_SECONDS
    # twistd ends by the signal that it was sent, as its shell expects.
    assert code == (0 if busy.node.program == "zeromsg" else -number)
    for closed in busy.closed:
        assert closed.result(5) == (1001, "this node stops")
    assert busy.peer.closed_within(1)


def test_a_node_can_be_stopped_and_started_many_times(node: RunningNode, site: str) -> None:
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        peer.broadcast(site, "kept", immediate=True)
    for end in (node.stop, node.kill, node.kill, node.stop):
        end()
        node.start()
    assert first_messages(node, site) == ["kept"]


# Starts that cannot be


@pytest.mark.parametrize("program", ["zeromsg", "twistd"])
@pytest.mark.parametrize("which", ["peer_port", "ui_port"])
def test_port_in_use_is_said_clearly(
    serving: Callable[..., RunningNode], program: Program, which: str
) -> None:
    node = serving(program=program)
    with socket.socket() as taken:
        taken.bind((node.host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        setattr(node, which, port)
        node.launch()
        code = node.wait(20)
    assert code == 1
    assert f"cannot listen on tcp:{port}:interface={node.host}" in node.log
    assert "Address already in use" in node.log
    assert "Traceback" not in node.log
    assert "Unhandled" not in node.log
