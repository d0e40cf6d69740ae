"""Nodes behind real Tor, on a private Tor network: through real clients, and over restarts."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.tor_network import TorNetwork, TorNode, tor_is_there
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = [
    pytest.mark.integration,
    pytest.mark.tor,
    # On CI nothing is skipped: there the network says what it lacks.
    pytest.mark.skipif(
        not tor_is_there() and os.environ.get("CI") != "true",
        reason="Debian's tor is not installed",
    ),
]

REACHED_SECONDS = 60
"""More than Tor ever took here to publish an onion and to reach it."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorNetwork]:
    with TorNetwork(tmp_path_factory.mktemp("tor") / "network") as network:
        yield network


def behind(client: TorNode, mode: str = "only", **more: Any) -> dict[str, Any]:
    """Settings of a node that uses a Tor of the network by its control port."""
    return {
        **({"peers.endpoint": ""} if mode == "only" else {}),
        "tor.mode": mode,
        "tor.control": f"tcp:127.0.0.1:{client.control}",
        **more,
    }


def launching(network: TorNetwork) -> dict[str, Any]:
    """Settings of a node that starts its own Tor in the network."""
    options = network.client_options
    return {
        "peers.endpoint": "",
        "tor.mode": "only",
        "tor.launch": True,
        "tor.launch_options": options,
    }


def onions(node: RunningNode) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.status()["tor"]["onions"]
    return found


def reachable(node: RunningNode) -> bool:
    return all(onion["state"] == "reachable" for onion in onions(node))


def wait_reachable(node: RunningNode) -> str:
    """The node's first onion, once it can be reached."""
    wait_for(lambda: reachable(node), REACHED_SECONDS, "the onion is published")
    address: str = onions(node)[0]["onion"]
    return address


def takes_part(node: RunningNode, site: str) -> bool:
    part = node.site(site)
    return bool(part["complete"] and part["peers"])


def echo(params: Any) -> Any:
    return None if params["broadcast"] else f"re: {params['message']}"


def program(node: RunningNode, site: str) -> ZeroFrameProgram:
    return ZeroFrameProgram(node.host, node.ui_port, site, verdict="peerValid", replies=echo)


def exchange(nodes: list[RunningNode], site: str, word: str) -> None:
    """A broadcast of each reaches all others, and a question of the first gets a reply."""
    with ExitStack() as stack:
        programs = [stack.enter_context(program(node, site)) for node in nodes]
        for number, author in enumerate(programs):
            author.ask("peerBroadcast", {"message": f"{word} {number}"})
        for number, author in enumerate(programs):
            for reader in programs:
                if reader is not author:
                    reader.wait_for_message(f"{word} {number}")
        replies = programs[0].ask(
            "peerBroadcast", {"message": word, "broadcast": False, "timeout": 20}
        )
        assert f"re: {word}" in [entry["reply"] for entry in replies]


def assert_hidden(*nodes: RunningNode) -> None:
    for node in nodes:
        assert "Traceback" not in node.log and "Unhandled" not in node.log
        assert node.status()["tor"]["refused"] == {}


def test_two_nodes_behind_tor_alone_and_again_after_both_tors_restarted(
    tmp_path: Path, new_node: Callable[..., RunningNode], network: TorNetwork
) -> None:
    """One uses a Tor by its control port, the other starts its own."""
    began = time.monotonic()
    client = network.clients[0]
    site = make_site(tmp_path / "site")
    first = new_node(sites={site: tmp_path / "site"}, settings=behind(client)).start()
    first_onion = wait_reachable(first)
    print(f"time from start to a published onion: {time.monotonic() - began:.1f} s")
    second = new_node(
        sites={site: None}, connect=[first_onion], settings=launching(network)
    ).start()
    wait_for(lambda: takes_part(second, site), REACHED_SECONDS, "the site came through the onion")
    exchange([first, second], site, "before")
    print(f"time from start to the first messages: {time.monotonic() - began:.1f} s")
    second_onion = wait_reachable(second)

    # Both Tors go, and come back.
    network.stop(client)
    os.kill(tor_of(second), signal.SIGKILL)
    wait_for(lambda: not first.status()["tor"]["connected"], 20, "the loss is noticed")
    with program(first, site) as alone:
        assert alone.ask("serverInfo")["tor_status"].startswith("Error")
    network.start(client)
    network.wait_ready(client)
    restarted = time.monotonic()
    assert wait_reachable(first) == first_onion
    assert wait_reachable(second) == second_onion
    for node in (first, second):
        wait_for(lambda node=node: takes_part(node, site), 120, "the nodes found one another")
    exchange([first, second], site, "after")
    print(f"time from the restart of both Tors to messages: {time.monotonic() - restarted:.1f} s")
    assert_hidden(first, second)
    for node in (first, second):
        key = node.data_dir / "onions" / f"{site}.key"
        assert key.stat().st_mode & 0o777 == 0o600


def tor_of(node: RunningNode) -> int:
    """The pid of the Tor that a node started: the one whose torrc lies in its folder."""
    torrc = str(node.data_dir / "tor" / "torrc").encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if torrc in words:
                return int(folder.name)
    raise AssertionError("the node's Tor does not run")


def test_a_site_of_a_clear_a_mixed_and_a_hidden_node(
    tmp_path: Path, new_node: Callable[..., RunningNode], network: TorNetwork
) -> None:
    site = make_site(tmp_path / "site")
    clear = new_node(sites={site: tmp_path / "site"}).start()
    both = new_node(
        sites={site: None},
        connect=[clear.peer],
        settings=behind(network.clients[0], "on"),
    ).start()
    onion = wait_reachable(both)
    hidden = new_node(
        sites={site: None}, connect=[onion], settings=behind(network.clients[1])
    ).start()
    for node in (clear, both, hidden):
        wait_for(lambda node=node: takes_part(node, site), REACHED_SECONDS, f"{node.host} joined")
    exchange([hidden, both, clear], site, "mixed")
    exchange([clear, hidden, both], site, "again")
    assert_hidden(hidden)
    assert "Traceback" not in clear.log + both.log


def test_two_sites_have_two_onions_and_circuits_of_their_own(
    tmp_path: Path, new_node: Callable[..., RunningNode], network: TorNetwork
) -> None:
    sites = [make_site(tmp_path / f"site{number}") for number in range(2)]
    folders = {site: tmp_path / f"site{number}" for number, site in enumerate(sites)}
    first = new_node(sites=folders, settings=behind(network.clients[0])).start()
    wait_reachable(first)
    named = {entry["name"]: entry["onion"] for entry in onions(first)}
    assert set(named) == set(sites) and len(set(named.values())) == 2
    second = new_node(
        sites=dict.fromkeys(sites), connect=[*named.values()], settings=behind(network.clients[1])
    ).start()
    for site in sites:
        wait_for(lambda site=site: takes_part(second, site), REACHED_SECONDS, "both sites came")
    # What the one onion is asked about the other one's site it does not know.
    points = {link["peer"]: link["points"] for link in second.status()["links"] if link["dialled"]}
    assert set(points) >= set(named.values())
    exchange([first, second], sites[0], "one")
    exchange([first, second], sites[1], "two")


def test_an_onion_for_those_with_a_key(
    tmp_path: Path, new_node: Callable[..., RunningNode], network: TorNetwork
) -> None:
    import base64

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    public = base64.b32encode(private.public_key().public_bytes_raw()).decode().rstrip("=")
    site = make_site(tmp_path / "site")
    closed = new_node(
        sites={site: tmp_path / "site"},
        settings=behind(network.clients[0], **{"tor.clients": [public]}),
    ).start()
    onion = wait_reachable(closed)
    settings = behind(network.clients[1], **{"log.level": "debug"})
    other = new_node(sites={site: None}, connect=[onion], settings=settings).start()
    wait_for(lambda: "wants a key" in other.log or "with a key" in other.log, 60, "it is told why")
    assert not takes_part(other, site)
    other.stop()
    key = base64.b32encode(private.private_bytes_raw()).decode().rstrip("=")
    name = onion.partition(".")[0]
    (other.data_dir / "onions" / "closed.auth_private").write_text(
        f"{name}:descriptor:x25519:{key}\n"
    )
    other.start()
    wait_for(lambda: takes_part(other, site), REACHED_SECONDS, "the key opens it")
