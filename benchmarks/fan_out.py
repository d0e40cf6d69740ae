"""Deliveries a second: messages of one peer to many clients of the node that it is connected to.

The clients are sockets in a process of their own that counts what comes and reads
no JSON. Beside the rate, which the two processes share the machine for, stands the
processor time that the node spends on a delivery.
"""

import argparse
import json
import multiprocessing
import os
import selectors
import socket
import tempfile
import time
from collections import deque
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from corpus import envelopes

from zeromsg.service.site_making import new_site
from zeromsg.testing.plain_client import upgrade_text, wrapper_key
from zeromsg.testing.plain_peer import PlainPeer
from zeromsg.testing.processes import RunningNode, wait_for

EVENT = b'{"cmd":"peerReceive"'
TICK = os.sysconf("SC_CLK_TCK")


def open_client(host: str, port: int, key: str) -> socket.socket:
    connection = socket.create_connection((host, port))
    connection.sendall(upgrade_text(host, port, key, {}))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    connection.setblocking(False)
    return connection


def listen(
    host: str,
    port: int,
    key: str,
    clients: int,
    counted: "Synchronized[int]",
    ready: "Synchronized[int]",
) -> None:
    """Open the clients, and count the messages that come to all of them together."""
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        selector.register(open_client(host, port, key), selectors.EVENT_READ)
        ready.value += 1
    # An event whose first bytes came in another piece than the rest is not missed.
    tails: dict[int, bytes] = {}
    while True:
        found = 0
        for ready_key, _ in selector.select():
            data = ready_key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
            if not data:
                return
            data = tails.pop(ready_key.fd, b"") + data
            found += data.count(EVENT)
            rest = data[-(len(EVENT) - 1) :]
            if EVENT[0] in rest:
                tails[ready_key.fd] = rest
        counted.value += found


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--count", type=int, default=300, help="messages a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--window",
        type=int,
        default=10,
        help="messages on their way at a time; 1 shows what one message costs",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site").mkdir()
        rules = {"filter": ".*", "size_limit": 10000, "valid_timeout": 0}
        (folder / "site" / "p2p.json").write_text(json.dumps(rules))
        site = new_site(folder / "site", "benchmark", os.urandom, time.time).address
        sites = {site: folder / "site"}
        with RunningNode(
            folder / "node", "127.0.0.75", sites=sites, settings={"ui.max_clients": 5000}
        ) as node:
            node.start()
            counted, ready = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
            key = wrapper_key(node.host, node.ui_port, site)
            arguments = (node.host, node.ui_port, key, options.clients, counted, ready)
            listening = multiprocessing.Process(target=listen, args=arguments, daemon=True)
            listening.start()
            wait_for(lambda: ready.value == options.clients, 120, "all clients are open")
            with PlainPeer(node.peer, "127.0.0.76") as peer:
                peer.greet()
                for number in range(options.rounds):
                    measure(node, peer, site, options, counted, number)
            listening.terminate()
            listening.join()


def measure(
    node: RunningNode,
    peer: PlainPeer,
    site: str,
    options: argparse.Namespace,
    counted: "Synchronized[int]",
    seed: int,
) -> None:
    messages = envelopes(site, options.count, None, seed)
    before, spent = counted.value, processor_seconds(node.pid)
    begin = time.perf_counter()
    asked: deque[int] = deque()
    for number, params in enumerate(messages):
        arrived = before + (number - options.window) * options.clients
        while counted.value < arrived:
            time.sleep(0.0005)
        asked.append(peer.request("peerBroadcast", params))
        while asked and (len(asked) > options.window or number + 1 == options.count):
            answer = peer.answer_to(asked.popleft())
            assert "ok" in answer, answer
    total = options.count * options.clients
    wait_for(lambda: counted.value >= before + total, 60, "everything has come")
    seconds = time.perf_counter() - begin
    assert counted.value == before + total, "a client was told twice"
    spent = processor_seconds(node.pid) - spent
    print(
        f"{options.clients} clients: {total / seconds:7.0f} deliveries/s; "
        f"{1e6 * spent / total:.1f} us of the node's processor each",
        flush=True,
    )


if __name__ == "__main__":
    main()
