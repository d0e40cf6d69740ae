"""How long honest messages take while a stranger floods the node that receives them.

Calm first, then floods of duplicates, oversize messages, bad filters, bad
signatures, and of what costs a ZeroNet node nothing (a breach of the schema), at
ten times the honest rate, in one run. A sender that is banned comes again from
another address, so the flood does not end; one that is not read from waits, and
after five seconds comes again, too.
"""

import argparse
import gc
import itertools
import json
import multiprocessing
import operator
import os
import select
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from client_to_client import Run, Wire
from corpus import envelopes

from zeromsg.crypto.keys import PrivateKey
from zeromsg.service.site_making import new_site
from zeromsg.testing.plain_peer import handshake, pack
from zeromsg.testing.processes import RunningNode, wait_for

KINDS = {
    "duplicates": None,
    "oversize": "size",
    "bad filter": "filter",
    "bad signature": "signature",
    "bad schema": "schema",
}
"""Kinds, and the check that refuses each; duplicates are counted apart."""

CHUNK = 20
DIFFERENT = 2000


def bad_messages(kind: str, site: str) -> list[dict[str, Any]]:
    key = PrivateKey.generate(os.urandom) if kind == "bad signature" else None
    made = envelopes(site, 1 if kind == "duplicates" else DIFFERENT, key, seed=hash(kind))
    for params, other in zip(made, made[1:] + made[:1], strict=True):
        # Honest messages are told apart by their "n".
        params["raw"] = params["raw"].replace('"n": ', '"m": ')
        if kind == "oversize":
            params["raw"] = params["raw"].replace('"text": "', '"text": "' + "x" * 2000)
        elif kind == "bad filter":
            params["raw"] = params["raw"].replace('"text": "', '"never": "')
        elif kind == "bad schema":
            params["raw"] = params["raw"].replace('"text": "', '"extra": 1, "text": "')
        elif kind == "bad signature":
            params["signature"] = other["signature"]
    return made


def flood(kind: str, site: str, target: tuple[str, int], rate: float, sent: Any) -> None:
    """Send for ever, at a rate, from a new address whenever the connection is cut."""
    made = bad_messages(kind, site)
    # Other nonces make other messages of the same ones, so that none is a duplicate.
    nonces = itertools.repeat("1") if kind == "duplicates" else map(str, itertools.count())
    requests = (
        pack({"cmd": "peerBroadcast", "req_id": 1, "params": {**params, "nonce": nonce}})
        for params, nonce in zip(itertools.cycle(made), nonces, strict=False)
    )
    chunks = (b"".join(itertools.islice(requests, CHUNK)) for _ in itertools.count())
    due = time.perf_counter()
    for number in itertools.count():
        source = f"127.{9 + number // 60000}.{number // 250 % 240}.{number % 250 + 1}"
        try:
            with socket.create_connection(target, 5, (source, 0)) as connection:
                greeting = {"cmd": "handshake", "req_id": 0, "params": handshake()}
                connection.sendall(pack(greeting))
                connection.recv(4096)
                while True:
                    connection.sendall(next(chunks))
                    sent.value += CHUNK
                    due = max(due + CHUNK / rate, time.perf_counter() - 0.5)
                    readable, _, _ = select.select([connection], [], [], 0)
                    if readable and not connection.recv(1 << 20):
                        break
                    time.sleep(max(0.0, due - time.perf_counter()))
        except OSError:
            continue


def latency(sender: Wire, reader: Wire, count: int, rate: float) -> tuple[float, float]:
    run = Run(sender, reader, count, signed=False, verdicts=False)
    # A collection here takes as long as the slowest message and would be counted as one.
    gc.collect()
    gc.disable()
    run.go(10**9, rate)
    gc.enable()
    latencies = run.latencies()
    return latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]


def refused(node: RunningNode, kind: str) -> tuple[int, int]:
    """How many messages a node refused as this kind, and how many for other reasons."""
    messages = node.status()["messages"]
    counts = {None: messages["duplicates"], **messages["refused"]}
    meant = counts.pop(KINDS[kind], 0)
    return meant, sum(counts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1500, help="honest messages a round")
    parser.add_argument("--rate", type=float, default=200.0, help="honest messages a second")
    parser.add_argument("--times", type=float, default=10.0, help="the flood's rate against it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site").mkdir()
        rules = {
            "filter": '.*"text"',
            "size_limit": 1000,
            "schema": {"properties": {"extra": False}},
            "valid_timeout": 0,
        }
        (folder / "site" / "p2p.json").write_text(json.dumps(rules))
        site = new_site(folder / "site", "benchmark", os.urandom, time.time).address
        sites = {site: folder / "site"}
        with RunningNode(folder / "first", "127.0.0.73", sites=sites) as first:
            first.start()
            with RunningNode(
                folder / "second", "127.0.0.74", sites={site: None}, connect=[first.peer]
            ) as second:
                second.start()
                wait_for(lambda: second.site(site)["complete"], 10, "the site is complete")
                wait_for(lambda: first.site(site)["peers"], 10, "the nodes know each other")
                sender, reader = Wire(first, site), Wire(second, site)
                latency(sender, reader, options.count, options.rate)
                p50, calm = latency(sender, reader, options.count, options.rate)
                print(f"calm           p50 {p50:5.1f} ms, p99 {calm:5.1f} ms", flush=True)
                for kind in KINDS:
                    sent = multiprocessing.Value("q", 0)
                    target = (second.host, second.peer_port)
                    rate = options.rate * options.times
                    attack = multiprocessing.Process(
                        target=flood, args=(kind, site, target, rate, sent), daemon=True
                    )
                    before = refused(second, kind)
                    attack.start()
                    begin = time.perf_counter()
                    p50, p99 = latency(sender, reader, options.count, options.rate)
                    reached = sent.value / (time.perf_counter() - begin)
                    attack.terminate()
                    attack.join()
                    meant, others = map(operator.sub, refused(second, kind), before)
                    # What came last of the flood before may be counted only now.
                    assert meant > others and others <= CHUNK, (meant, others)
                    print(
                        f"{kind:14} p50 {p50:5.1f} ms, p99 {p99:5.1f} ms "
                        f"({p99 / calm:.1f} of calm), {reached:.0f} bad messages/s, "
                        f"{meant} refused",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
