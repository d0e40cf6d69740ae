"""Fixtures for tests with real processes. See `zeromsg.testing.processes`."""

import itertools
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.service.site_making import new_site
from zeromsg.testing.processes import RunningNode, wait_for

_hosts = itertools.cycle(range(20, 61))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_the_nodes() -> None:
    """A shell has its background jobs ignore SIGINT, and what they start inherits that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@attrs.frozen
class ChatSite:
    """A site in a directory, which takes any message of at most 10,000 bytes."""

    key: PrivateKey
    folder: Path

    @property
    def address(self) -> str:
        return self.key.address


@pytest.fixture
def site(tmp_path: Path) -> ChatSite:
    folder = tmp_path / "site"
    return ChatSite(new_site(folder, "Chat", secrets.token_bytes, time.time), folder)


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Makes nodes that end with the test: `new_node(sites={...}, connect=[...])`.

    Takes the keyword arguments of `RunningNode`; nothing is started yet. The
    logs of all nodes are shown when the test fails.
    """
    nodes: list[RunningNode] = []

    def make(**arguments: Any) -> RunningNode:
        node = RunningNode(tmp_path / f"node-{len(nodes)}", f"127.0.0.{next(_hosts)}", **arguments)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.kill()
        print(f"--- log of the node at {node.host} ---\n{node.log}")


@pytest.fixture
def two_nodes(
    new_node: Callable[..., RunningNode], site: ChatSite
) -> tuple[RunningNode, RunningNode]:
    """Nodes that run, hold the site and know each other; the second fetched it from the first."""
    first = new_node(sites={site.address: site.folder}).start()
    second = new_node(sites={site.address: None}, connect=[first.peer]).start()
    for node in (first, second):
        wait_for(lambda node=node: _takes_part(node, site), 15, "both nodes hold the site")
    return first, second


def _takes_part(node: RunningNode, site: ChatSite) -> bool:
    state = node.site(site.address)
    return bool(state["complete"] and state["takes_messages"] and state["peers"])
