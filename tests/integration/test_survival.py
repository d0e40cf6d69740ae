"""What a node keeps when it ends, however it ends; and how it ends."""

import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
QUEUED = 400
"""Messages in one go; the queue of a site holds a thousand."""

SAVED_SECONDS = 1.0
"""How old a hash may be that a killed node has forgotten."""

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
        assert client.ask("ping") == "pong"
        return [
            event["params"]["message"] for event in client.events if event["cmd"] == "peerReceive"
        ]


# What was acknowledged


def acknowledged_until_killed(node: RunningNode, site: str, kill_after: int) -> list[int]:
    """Messages that the node said it has, in their order; it is killed while more arrive."""
    accepted: list[int] = []
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        numbers = {
            peer.request("peerBroadcast", envelope(site, number, immediate=True)): number
            for number in range(QUEUED)
        }
        killer = threading.Thread(target=node.kill)
        while (message := peer.receive()) is not None:
            if message["cmd"] == "response" and message["to"] in numbers:
                assert message["ok"] == "thx"
                accepted.append(numbers[message["to"]])
            if len(accepted) == kill_after:
                killer.start()
        killer.join()
    return accepted


def test_kill_loses_nothing_that_was_acknowledged(node: RunningNode, site: str) -> None:
    told: list[int] = []
    for kill_after in (1, 50, 200):
        accepted = acknowledged_until_killed(node, site, kill_after)
        assert accepted[:kill_after] == list(range(kill_after))
        node.start()
        queued = node.site(site)["queued"]
        assert queued >= len(accepted)
        told = first_messages(node, site)
        # What was stored may not have been acknowledged any more, but the order holds.
        assert told == list(range(queued))
        assert node.site(site)["queued"] == 0
        assert first_messages(node, site) == []
    print(f"{len(accepted)} of {QUEUED} were acknowledged and {len(told)} told")


def test_kill_of_the_receiver_while_a_sender_goes_on(
    tmp_path: Path, site: str, serving: Callable[..., RunningNode], new_node: NewNode
) -> None:
    first = serving(program="twistd").start()
    second = new_node(sites={site: None}, connect=[first.peer], program="twistd").start()
    wait_for(lambda: second.site(site)["peers"] == 1, 20, "the nodes know each other")
    sent: list[int] = []
    with ZeroFrameProgram(first.host, first.ui_port, site) as sender:
        for number in range(QUEUED):
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


def test_replays_after_a_restart_are_known(node: RunningNode, site: str) -> None:
    old = [envelope(site, f"old {number}") for number in range(10)]
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        for params in old:
            assert peer.ask("peerBroadcast", params)["ok"] == "thx"
        assert "error" in peer.ask("peerBroadcast", {**old[0], "raw": "no JSON"})
    # What is younger may be lost by a kill; nothing but the clock says that it was saved.
    time.sleep(SAVED_SECONDS * 1.5)
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
    """A node with clients and peers that are all in the middle of something."""

    node: RunningNode
    client: PlainClient
    waiting: PlainClient
    deaf: PlainClient
    peer: PlainPeer


@pytest.fixture(params=["zeromsg", "twistd"])
def busy(
    request: pytest.FixtureRequest, site: str, serving: Callable[..., RunningNode]
) -> Iterator[Busy]:
    node = serving(program=request.param).start()
    key = wrapper_key(node.host, node.ui_port, site)
    with ExitStack() as stack:
        client, waiting, deaf = (
            stack.enter_context(PlainClient(node.host, node.ui_port, key, receive_buffer=4096))
            for _ in range(3)
        )
        peer = stack.enter_context(PlainPeer(node.peer, PEER))
        silent = stack.enter_context(PlainPeer(node.peer, PEER))
        peer.greet()
        silent.socket.sendall(b"\x83")
        peer.ask("pex", {"site": site, "peers": [], "need": 5})
        call = {
            "cmd": "peerBroadcast",
            "params": {"message": "?", "broadcast": False, "timeout": 60},
        }
        waiting.send_text(json.dumps({**call, "id": 1}))
        for _ in range(40):
            assert peer.broadcast(site, "x" * 60_000)["ok"] == "thx"
        client.receive_json()
        yield Busy(node, client, waiting, deaf, peer)
    assert "Traceback" not in node.log
    assert "Unhandled" not in node.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_within_two_seconds(busy: Busy, number: int) -> None:
    began = time.monotonic()
    code = busy.node.stop(number=number)
    assert time.monotonic() - began < STOP_SECONDS
    # twistd ends by the signal that it was sent, as its shell expects.
    assert code == (0 if busy.node.program == "zeromsg" else -number)
    for client in (busy.client, busy.waiting):
        assert client.wait_for_close() == (1001, "this node stops")
    assert busy.peer.closed_within(1)


@pytest.mark.parametrize("program", ["zeromsg", "twistd"])
def test_signals_end_an_idle_node_and_a_second_one_does_no_harm(
    serving: Callable[..., RunningNode], program: Program
) -> None:
    node = serving(program=program).start()
    for number in (signal.SIGTERM, signal.SIGTERM):
        code = node.stop(number=number)
        assert code == (0 if program == "zeromsg" else -number)
    assert "Traceback" not in node.log


def test_a_node_can_be_stopped_and_started_many_times(node: RunningNode, site: str) -> None:
    with PlainPeer(node.peer, PEER) as peer:
        peer.greet()
        peer.broadcast(site, "kept", immediate=True)
    for end in itertools.islice(itertools.cycle((node.stop, node.kill)), 6):
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
    # twistd tells no reason by its exit code.
    assert code == (1 if program == "zeromsg" else 0)
    assert f"cannot listen on tcp:{port}:interface={node.host}" in node.log
    assert "Address already in use" in node.log
    assert "Traceback" not in node.log
    assert "Unhandled" not in node.log


def test_a_second_node_on_the_same_data_is_refused_or_harmless(
    serving: Callable[..., RunningNode], site: str
) -> None:
    first = serving(program="twistd").start()
    second = serving(program="twistd")
    second.folder.joinpath("data").symlink_to(first.data_dir)
    second.launch()
    with PlainPeer(first.peer, PEER) as peer:
        peer.greet()
        assert peer.broadcast(site, "kept", immediate=True)["ok"] == "thx"
    second.kill()
    assert first_messages(first, site) == ["kept"]
    assert "Traceback" not in first.log
