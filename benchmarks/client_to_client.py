"""Messages a second from a client of one node to a client of another, and how long each takes.

Two nodes as processes, joined by the peer protocol over TLS; two WebSockets
driven by this process with as little work for each message as possible. First
the rate with a full window, then the latency at half of that rate.
"""

import argparse
import json
import os
import re
import socket
import statistics
import struct
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from zeromsg.crypto.keys import PrivateKey
from zeromsg.service.site_making import new_site
from zeromsg.store.users import Users
from zeromsg.testing.processes import RunningNode, wait_for

TEXT = "x" * 180
"""Brings the envelope to about 300 bytes."""

_NUMBER = re.compile(rb'"n": (\d+)')


class Wire:
    """A WebSocket to a node that sends ready-made frames and looks at little of what comes."""

    def __init__(self, node: RunningNode, site: str) -> None:
        request = urllib.request.Request(f"{node.url}/{site}", headers={"Accept": "text/html"})
        page = urllib.request.urlopen(request).read()
        found = re.search(rb'wrapper_key = "(.*?)"', page)
        assert found is not None
        self._socket = socket.create_connection((node.host, node.ui_port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(
            b"GET /Websocket?wrapper_key=" + found[1] + b" HTTP/1.1\r\n"
            b"Host: " + f"{node.host}:{node.ui_port}".encode() + b"\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._socket.recv(4096)
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]

    def send(self, payload: bytes) -> None:
        """A text frame, masked with zeros: the mask must be there, its value is free."""
        size = len(payload)
        head = (
            struct.pack("!BB", 0x81, 0x80 | size)
            if size < 126
            else (struct.pack("!BBH", 0x81, 0x80 | 126, size))
        )
        self._socket.sendall(head + bytes(4) + payload)

    def receive(self) -> list[bytes]:
        """Payloads of the frames that came, at least one; none once it is closed."""
        payloads: list[bytes] = []
        while not payloads:
            data = self._socket.recv(1 << 18)
            if not data:
                return []
            self._buffer += data
            payloads = self._cut()
        return payloads

    def _cut(self) -> list[bytes]:
        payloads, at, buffer = [], 0, self._buffer
        while len(buffer) - at >= 4:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            if len(buffer) - start < size:
                break
            payloads.append(buffer[start : start + size])
            at = start + size
        self._buffer = buffer[at:]
        return payloads

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)


class Run:
    """One measurement: numbered messages from one client to the other."""

    def __init__(
        self, sender: Wire, reader: Wire, count: int, signed: bool, verdicts: bool
    ) -> None:
        self._sender = sender
        self._reader = reader
        self._count = count
        self._verdicts = verdicts
        key = {"privatekey": False} if signed else {}
        self._calls = [
            json.dumps(
                {
                    "cmd": "peerBroadcast",
                    "params": {"message": {"n": number, "text": TEXT}, **key},
                    "id": number + 1,
                }
            ).encode()
            for number in range(count)
        ]
        self.sent_at = [0.0] * count
        self.came_at = [0.0] * count
        self._answers = 0
        self._arrived = 0
        self._progress = threading.Condition()

    def _read_answers(self) -> None:
        while self._answers < self._count:
            payloads = self._sender.receive()
            answers = sum(payload.startswith(b'{"cmd":"response"') for payload in payloads)
            with self._progress:
                self._answers += answers
                self._progress.notify()

    def _read_messages(self) -> None:
        verdict = 0
        while self._arrived < self._count:
            for payload in self._reader.receive():
                if not payload.startswith(b'{"cmd":"peerReceive"'):
                    continue
                found = _NUMBER.search(payload)
                if found is None:
                    continue
                self.came_at[int(found[1])] = time.perf_counter()
                self._arrived += 1
                if self._verdicts:
                    verdict += 1
                    hash = payload[payload.index(b'"hash":"') + 8 :][:64].decode()
                    call = {"cmd": "peerValid", "params": [hash], "id": verdict}
                    self._reader.send(json.dumps(call).encode())

    def go(self, window: int, rate: float | None) -> float:
        """Send all; the seconds from the first call to the last arrival.

        window: calls without an answer at one time. rate: calls a second.
        """
        readers = [threading.Thread(target=self._read_answers, daemon=True)]
        readers.append(threading.Thread(target=self._read_messages, daemon=True))
        for reader in readers:
            reader.start()
        begin = time.perf_counter()
        for number, call in enumerate(self._calls):
            if rate is not None:
                pause = begin + number / rate - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
            with self._progress:
                self._progress.wait_for(lambda: number - self._answers < window)  # noqa: B023
            self.sent_at[number] = time.perf_counter()
            self._sender.send(call)
        for reader in readers:
            reader.join(60)
        assert self._arrived == self._count, f"only {self._arrived} of {self._count} arrived"
        return max(self.came_at) - begin

    def latencies(self) -> list[float]:
        pairs = zip(self.sent_at, self.came_at, strict=True)
        return sorted(1000 * (came - sent) for sent, came in pairs)


def measure(nodes: list[RunningNode], site: str, options: argparse.Namespace, signed: bool) -> None:
    sender, reader = Wire(nodes[0], site), Wire(nodes[1], site)
    rates = []
    for _ in range(options.rounds):
        run = Run(sender, reader, options.count, signed, options.verdicts)
        rates.append(options.count / run.go(options.window, None))
    rate = statistics.median(rates)
    paced = Run(sender, reader, options.count, signed, options.verdicts)
    pace = options.rate or rate / 2
    paced.go(10**9, pace)
    latencies = paced.latencies()
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    kind = "signed" if signed else "unsigned"
    print(
        f"{kind:9} {rate:7.0f} messages/s (of {', '.join(f'{each:.0f}' for each in rates)}); "
        f"at {pace:.0f}/s p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        flush=True,
    )
    sender.close()
    reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="messages a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=200, help="calls without an answer")
    parser.add_argument("--rate", type=float, help="for the latency (default: half of what it can)")
    parser.add_argument("--plain", action="store_true", help="no TLS between the nodes")
    parser.add_argument("--verdicts", action="store_true", help="the reader judges each message")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site").mkdir()
        waits = 5 if options.verdicts else 0
        rules = {"filter": ".*", "size_limit": 10000, "valid_timeout": waits}
        (folder / "site" / "p2p.json").write_text(json.dumps(rules))
        key: PrivateKey = new_site(folder / "site", "benchmark", os.urandom, time.time)
        (folder / "first" / "data").mkdir(parents=True, mode=0o700)
        Users(folder / "first" / "data" / "users.json", os.urandom)
        settings = {"peers.tls": not options.plain}
        with RunningNode(
            folder / "first", "127.0.0.71", sites={key.address: folder / "site"}, settings=settings
        ) as first:
            first.start()
            with RunningNode(
                folder / "second",
                "127.0.0.72",
                sites={key.address: None},
                connect=[first.peer],
                settings=settings,
            ) as second:
                second.start()
                wait_for(lambda: second.site(key.address)["complete"], 10, "the site is complete")
                wait_for(lambda: first.site(key.address)["peers"], 10, "the nodes know each other")
                print(f"nodes: {first.pid} and {second.pid}", flush=True)
                for signed in (False, True):
                    measure([first, second], key.address, options, signed)


if __name__ == "__main__":
    main()
