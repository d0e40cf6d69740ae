"""Memory that a node takes for each idle client, and for each idle peer over plain TCP.

What is counted is the resident memory of the node's process; the system's own
buffers of sockets are not in it.
"""

import argparse
import os
import re
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from fan_out import open_client

from zeromsg.service.site_making import new_site
from zeromsg.testing.plain_client import wrapper_key
from zeromsg.testing.plain_peer import PlainPeer
from zeromsg.testing.processes import RunningNode, wait_for

_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


def resident(pid: int) -> int:
    """KiB."""
    found = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def settled(pid: int) -> int:
    """The resident memory, once it has not risen for a second."""
    last = resident(pid)
    while True:
        time.sleep(1)
        now = resident(pid)
        if now <= last:
            return now
        last = now


def answer_all(peers: list[PlainPeer]) -> None:
    for peer in peers:
        # Whatever came before the answer to this is answered as well.
        peer.ask("ping", {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--peers", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        site = new_site(folder / "site", "benchmark", os.urandom, time.time).address
        settings = {
            "ui.max_clients": options.clients + 10,
            "peers.max_connections": options.peers + 10,
        }
        node = opened.enter_context(
            RunningNode(
                folder / "node", "127.0.0.77", sites={site: folder / "site"}, settings=settings
            )
        )
        node.start()
        key = wrapper_key(node.host, node.ui_port, site)
        # What the first ones take besides is no cost of each.
        clients: list[socket.socket] = [open_client(node.host, node.ui_port, key) for _ in range(5)]
        opened.enter_context(PlainPeer(node.peer, "127.20.0.1")).greet()
        before = settled(node.pid)
        print(f"idle node: {before / 1024:.0f} MiB", flush=True)
        clients += [open_client(node.host, node.ui_port, key) for _ in range(options.clients)]
        wait_for(lambda: node.status()["clients"] == len(clients), 30, "all clients are open")
        after = settled(node.pid)
        print(f"a client: {(after - before) / options.clients:.1f} KiB", flush=True)
        peers: list[PlainPeer] = []
        for number in range(options.peers):
            source = f"127.{21 + number // 250}.0.{number % 250 + 1}"
            peers.append(opened.enter_context(PlainPeer(node.peer, source)))
            peers[-1].greet()
            if number % 100 == 99:
                answer_all(peers)
        # What the node asks of who is new is answered within three seconds; then it is idle.
        for _ in range(3):
            time.sleep(2)
            answer_all(peers)
        links = len(node.status()["links"])
        # The first one may have been closed meanwhile, as it answered nothing.
        assert links >= options.peers, f"only {links} of the peers are connected"
        print(f"a peer: {(settled(node.pid) - after) / options.peers:.1f} KiB", flush=True)
        for client in clients:
            client.close()


if __name__ == "__main__":
    main()
