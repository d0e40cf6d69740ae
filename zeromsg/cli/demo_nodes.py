"""The two nodes of `zeromsg demo`, in one process, with their data in a temporary directory."""

import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from zeromsg.cli.working import finish, sleep
from zeromsg.errors import ZeromsgError
from zeromsg.service.assembly import NodeService
from zeromsg.service.config import PeerSettings, Settings, SiteSettings, UiSettings
from zeromsg.service.site_making import new_site
from zeromsg.service.site_templates import SITE_EXTRAS, copy_template
from zeromsg.wire.values import PeerAddress

TITLE = "Demo chat"
HOSTS = ("127.0.0.2", "127.0.0.3")
"""A ZeroNet node knows one peer per IP address, so each node has its own."""

READY_SECONDS = 15.0
_POLL_SECONDS = 0.05


class DemoFailed(ZeromsgError):
    """What was to be shown did not happen."""


@attrs.frozen
class DemoNode:
    """A running node. letter: how it is called on the screen. url: where browsers connect."""

    letter: str
    url: str
    service: NodeService


@attrs.frozen
class DemoPair:
    """Two nodes that are connected and both hold the site."""

    site: str
    nodes: tuple[DemoNode, DemoNode]


@asynccontextmanager
async def demo_pair(
    reactor: Any, port: int, note: Callable[[str], None]
) -> AsyncIterator[DemoPair]:
    """Two nodes, and a site that the first made and the second has fetched from it.

    port: of the first node's pages; the second has the next one.
    note: told what is done, and about ports that are taken.
    Raises DemoFailed.
    """
    with tempfile.TemporaryDirectory(prefix="zeromsg-demo-") as name:
        folder = Path(name)
        copy_template("chat", folder / "site")
        key = new_site(folder / "site", TITLE, secrets.token_bytes, time.time, SITE_EXTRAS)
        site = key.address
        services: list[NodeService] = []
        try:
            first = _settings(folder, 0, port, SiteSettings(site, folder / "site"), note)
            services.append(await _started(reactor, first))
            peer = PeerAddress(HOSTS[0], services[0].node.peer_port)
            second = _settings(folder, 1, port and port + 1, SiteSettings(site), note, (peer,))
            services.append(await _started(reactor, second))
            note("Node B fetches the site from node A over the peer protocol ...")
            await _ready(reactor, services)
            yield DemoPair(site, (_running("A", services[0]), _running("B", services[1])))
        finally:
            for service in services:
                await finish(service.stopService())


def _settings(
    folder: Path,
    index: int,
    port: int,
    site: SiteSettings,
    note: Callable[[str], None],
    connect: tuple[PeerAddress, ...] = (),
) -> Settings:
    free = free_port(port)
    if free != port:
        note(f"Port {port} is taken, so node {'AB'[index]} gets another one.")
    return Settings(
        data_dir=folder / f"node-{'ab'[index]}",
        ui=UiSettings(endpoint=f"tcp:{free}:interface=127.0.0.1"),
        peers=PeerSettings(
            endpoint=f"tcp:0:interface={HOSTS[index]}",
            connect=connect,
            # Both nodes are on this machine.
            allow_private=True,
        ),
        sites=(site,),
    )


def free_port(port: int) -> int:
    """The port, or 0 (the system picks one) if it cannot be had on 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # As Twisted does; otherwise a port that was just closed counts as taken.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return 0
    return port


async def _started(reactor: Any, settings: Settings) -> NodeService:
    service = NodeService(settings, reactor)
    service.startService()
    await service.started
    if service.failed:
        await finish(service.stopService())
        raise DemoFailed("a node could not start: see above")
    return service


def _running(letter: str, service: NodeService) -> DemoNode:
    host, port = service.node.ui
    return DemoNode(letter, f"http://{host}:{port}", service)


async def _ready(reactor: Any, services: list[NodeService]) -> None:
    """Wait until both hold the whole site and know each other as its peers."""
    deadline = reactor.seconds() + READY_SECONDS
    while not all(_holds_site(service) for service in services):
        if reactor.seconds() > deadline:
            raise DemoFailed(f"node B did not get the site within {READY_SECONDS:g} seconds")
        await sleep(reactor, _POLL_SECONDS)


def _holds_site(service: NodeService) -> bool:
    site = service.node.status()["sites"][0]
    return bool(site["complete"] and site["takes_messages"] and site["peers"])
