"""Networks that find themselves: real nodes, each told of one other, some with closed ports."""

import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

RULES = {"filter": ".*", "size_limit": 5000}
CLOSED = {"peers.endpoint": ""}


def start_all(nodes: list[RunningNode]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(RunningNode.start, nodes))


def open_program(node: RunningNode, site: str, **arguments: Any) -> ZeroFrameProgram:
    return ZeroFrameProgram(node.host, node.ui_port, site, **arguments)


def echo(params: Any) -> Any:
    return None if params["broadcast"] else f"re: {params['message']}"


def complete(node: RunningNode, site: str) -> bool:
    part = node.site(site)
    return bool(part["complete"] and part["peers"])


def assert_quiet(*nodes: RunningNode) -> None:
    for node in nodes:
        assert "Traceback" not in node.log
        assert "Unhandled" not in node.log


def test_a_question_between_two_closed_nodes_is_answered(
    tmp_path: Path, new_node: Callable[..., RunningNode]
) -> None:
    site = make_site(tmp_path / "site", RULES)
    middle = new_node(sites={site: tmp_path / "site"}).start()
    ends = [new_node(sites={site: None}, connect=[middle.peer], settings=CLOSED) for _ in range(2)]
    # One after the other, so that the second is told of the first.
    for node in ends:
        node.start()
        wait_for(lambda node=node: complete(node, site), 20, "the site is there")
    first, second = ends
    with (
        open_program(first, site, verdict="peerValid", replies=echo),
        open_program(second, site) as asking,
    ):

        def names() -> list[str]:
            return [
                entry["ip"]
                for entry in asking.ask("peerList")
                if not entry["connected"] and entry["ip"] != middle.peer
            ]

        (name,) = wait_for(names, 20, "the other closed node is known")
        reply = asking.ask("peerSend", {"ip": name, "message": "hello", "privatekey": False})
        assert reply["message"] == "re: hello"
    assert_quiet(middle, *ends)


def test_twelve_nodes_find_one_another_and_hear_everything_once(
    tmp_path: Path, new_node: Callable[..., RunningNode]
) -> None:
    """Seven are open, five closed; each is told of one node before it, or of a tracker alone."""
    rng = random.Random(5)
    site = make_site(tmp_path / "site", RULES)
    # A node that holds no site and only tells others of one another.
    tracker = new_node(settings={"peers.serve_tracker": True}).start()
    told_tracker = {"peers.trackers": [f"zero://{tracker.peer}"]}
    nodes = [new_node(sites={site: tmp_path / "site"}, settings=told_tracker).start()]
    for number in range(1, 12):
        settings = dict(CLOSED) if number >= 7 else {}
        if number % 2:
            settings |= told_tracker
            connect = []
        else:
            connect = [rng.choice(nodes[:7]).peer]
        nodes.append(new_node(sites={site: None}, connect=connect, settings=settings))
        if number < 7:
            nodes[-1].start()
    start_all(nodes[7:])
    began = time.monotonic()
    for node in nodes:
        wait_for(lambda node=node: complete(node, site), 30, f"{node.host} holds the site")
    for node in nodes[:7]:
        wait_for(lambda node=node: node.site(site)["peers"] >= 6, 30, f"{node.host} found others")
    assert time.monotonic() - began < 30
    broadcasts_reach_everybody(site, nodes, rng, [f"message {number}" for number in range(200)])

    # Half of them die, the first one too, and come back.
    gone = nodes[:3] + nodes[7:10]
    for node in gone:
        node.kill()
    start_all(gone)
    began = time.monotonic()
    for node in nodes:
        wait_for(lambda node=node: node.site(site)["peers"] >= 2, 60, f"{node.host} is back")
    assert time.monotonic() - began < 60
    broadcasts_reach_everybody(site, nodes, rng, [f"again {number}" for number in range(20)])
    assert_quiet(tracker, *nodes)
    announced = tracker.status()
    assert announced["serving"]["sites"] == 1
    # Whoever only announced was not taken for a peer.
    assert announced["sites"] == []


def broadcasts_reach_everybody(
    site: str, nodes: list[RunningNode], rng: random.Random, texts: list[str]
) -> None:
    """Random nodes send them; every other one hears each exactly once."""
    with ExitStack() as stack:
        programs = [
            stack.enter_context(open_program(node, site, verdict="peerValid")) for node in nodes
        ]
        authors = [rng.choice(programs) for _ in texts]
        for author, text in zip(authors, texts, strict=True):
            author.ask("peerBroadcast", {"message": text})
        for program in programs:
            for author, text in zip(authors, texts, strict=True):
                if author is not program:
                    program.wait_for_message(text)
            assert set(Counter(program.messages()).values()) == {1}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_port(family: int, host: str) -> int:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def six(host: str, port: int) -> dict[str, str]:
    """Settings to listen on an IPv6 address."""
    escaped = host.replace(":", "\\:")
    return {"peers.endpoint": f"tcp6:{port}:interface={escaped}"}


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_nodes_find_one_another_over_ipv6(
    tmp_path: Path, new_node: Callable[..., RunningNode]
) -> None:
    """The third learns of the second by pex, and dials it."""
    site = make_site(tmp_path / "site", RULES)
    ports = [free_port(socket.AF_INET6, "::1") for _ in range(3)]
    nodes = [
        new_node(
            sites={site: tmp_path / "site" if number == 0 else None},
            connect=[f"[::1]:{ports[0]}"] if number else [],
            settings=six("::1", port),
        ).start()
        for number, port in enumerate(ports)
    ]
    for node in nodes:
        wait_for(lambda node=node: node.site(site)["peers"] == 2, 30, "both others are found")
    links = itertools.chain.from_iterable(node.status()["links"] for node in nodes)
    assert {link["peer"] for link in links} == {f"[::1]:{port}" for port in ports}
    with (
        open_program(nodes[1], site) as asking,
        open_program(nodes[2], site, verdict="peerValid", replies=echo),
    ):
        ask = {"ip": f"[::1]:{ports[2]}", "message": "over six"}
        assert asking.ask("peerSend", ask)["message"] == "re: over six"
    wait_for(lambda: nodes[0].status()["port_opened"]["ipv6"], 30, "its port is known to be open")
    assert_quiet(*nodes)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_socket_for_both_families_knows_ipv4_peers_by_their_address(
    tmp_path: Path, new_node: Callable[..., RunningNode]
) -> None:
    site = make_site(tmp_path / "site", RULES)
    first = new_node(sites={site: tmp_path / "site"})
    port = free_port(socket.AF_INET, first.host)
    first.settings = six(f"::ffff:{first.host}", port)
    first.start()
    second = new_node(sites={site: None}, connect=[f"{first.host}:{port}"]).start()
    for node in (first, second):
        wait_for(lambda node=node: complete(node, site), 20, "they know each other")
    assert [link["peer"] for link in first.status()["links"]] == [second.peer]
    assert_quiet(first, second)
