"""Sealed messages between unmodified clients of real nodes, over a node that can read little."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zeromsg.crypto.cert import Certificate, cert_subject
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import MEMBER, seal_message
from zeromsg.crypto.sealing import Recipient, SharedKey
from zeromsg.crypto.shared_keys import group_key
from zeromsg.crypto.signing import sign
from zeromsg.service.site_making import new_site, sign_site
from zeromsg.testing.plain_peer import PlainPeer, envelope
from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

ISSUER = PrivateKey(b"\x51" * 32)
RULES = {"filter": ".*", "cert_signers": {"zeroid.bit": [ISSUER.address]}}
SECRET = "s" * 43 + "="
MOVE = {"game": 7, "move": "e2e4"}
GARBAGE = 2000
GARBAGE_PER_SECOND = 1000


class Line:
    """Alice's node, Carol's in the middle, Bob's; a program at each."""

    def __init__(self, folder: Path, stack: ExitStack, site: str, site_folder: Path) -> None:
        self.site = site
        hosts = iter(("127.0.0.81", "127.0.0.82", "127.0.0.83"))

        def start(name: str, path: Path | None, *connect: str) -> RunningNode:
            node = RunningNode(
                folder / name, next(hosts), sites={site: path}, connect=list(connect)
            )
            return stack.enter_context(node).start()

        self.middle = start("carol", site_folder)
        self.first = start("alice", None, self.middle.peer)
        self.last = start("bob", None, self.middle.peer)
        for node, peers in ((self.middle, 2), (self.first, 1), (self.last, 1)):
            wait_for(
                lambda node=node, peers=peers: (
                    node.site(site)["complete"] and node.site(site)["peers"] >= peers
                ),
                20,
                f"{node.host} holds the site and knows its peers",
            )
        self.alice, self.carol, self.bob = (
            stack.enter_context(
                ZeroFrameProgram(node.host, node.ui_port, site, verdict="peerValid")
            )
            for node in (self.first, self.middle, self.last)
        )

    def certify(self, program: ZeroFrameProgram, name: str) -> str:
        """Give a program's user a certificate as a provider would; its address."""
        address: str = program.ask("siteInfo")["auth_address"]
        unsigned = Certificate("web", name, "zeroid.bit", "")
        signature = sign(cert_subject(address, unsigned), ISSUER)
        assert program.ask("certAdd", ["zeroid.bit", "web", name, signature]) == "ok"
        return address


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    site = make_site(tmp_path / "site", RULES)
    with ExitStack() as stack:
        made = Line(tmp_path, stack, site, tmp_path / "site")
        yield made
        for node in (made.first, made.middle, made.last):
            print(f"--- log of {node.host} ---\n{node.log}")
            assert "Traceback" not in node.log


def sealed_at(program: ZeroFrameProgram, hash: str) -> Any:
    """The message as a program saw it, by its hash."""

    def find() -> Any:
        found = [p for cmd, p in list(program.events) if cmd == "peerReceive" and p["hash"] == hash]
        return found[0] if found else None

    return wait_for(find, 10, "the message is there")


def test_by_user_id_and_by_shared_key_over_a_node_that_reads_the_clear_fields_alone(
    line: Line,
) -> None:
    bob = line.certify(line.bob, "bob")
    alice = line.certify(line.alice, "alice")
    for program, name in ((line.bob, "bob"), (line.alice, "alice")):
        program.ask("peerBroadcast", {"message": f"I am {name}", "privatekey": False})
    line.alice.wait_for_message("I am bob")
    line.bob.wait_for_message("I am alice")

    # By user ID, some fields, signed.
    sent = line.alice.ask(
        "peerBroadcast",
        {
            "message": MOVE,
            "privatekey": False,
            "encrypt": {"to": "bob@zeroid.bit", "fields": ["move"]},
        },
    )
    seen = sealed_at(line.bob, sent["hash"])
    assert seen["message"] == MOVE
    assert seen["encrypted"] == {"opened": True, "by": "auth"}
    assert seen["user"] == {"address": alice, "id": "alice@zeroid.bit", "provider": "zeroid.bit"}
    between = sealed_at(line.carol, sent["hash"])
    assert between["message"]["game"] == 7
    assert set(between["message"]) == {"game", MEMBER}
    assert between["encrypted"] == {"opened": False}
    assert between["signed_by"] == alice

    # Back, by a key that both typed in, all of it, unsigned.
    for program in (line.alice, line.bob):
        assert program.ask("peerKeyAdd", ["our secret phrase", "us"]) == {"name": "us"}
    sent = line.bob.ask("peerBroadcast", {"message": "psst", "encrypt": {"key": "us"}})
    seen = sealed_at(line.alice, sent["hash"])
    assert seen["message"] == "psst"
    assert seen["encrypted"] == {"opened": True, "by": "key", "name": "us"}
    between = sealed_at(line.carol, sent["hash"])
    assert list(between["message"]) == [MEMBER]
    assert between["signed_by"] == ""
    for secret in ("e2e4", "psst"):
        assert secret not in json.dumps(line.carol.events)

    # What the middle node could not read it cannot read by hand either.
    refused = line.carol.ask("peerDecrypt", [between["message"]])
    assert refused == {"error": "denied: this cannot be opened"}
    assert bob != alice


def flood(node: RunningNode, site: str, messages: list[Any], stop: threading.Event) -> None:
    """Send messages at a steady rate, from new addresses whenever the connection is cut."""
    left = iter(messages)
    number = 0
    while not stop.is_set():
        number += 1
        try:
            with PlainPeer(node.peer, f"127.3.{number // 250}.{number % 250 + 1}") as peer:
                peer.greet()
                while not stop.is_set():
                    for _ in range(GARBAGE_PER_SECOND // 50):
                        message = next(left, None)
                        if message is None:
                            return
                        peer.send({"cmd": "peerBroadcast", "req_id": 1, "params": message})
                    stop.wait(0.02)
        except OSError:
            continue


def outcome(line: Line, messages: list[Any]) -> None:
    """Flood the middle node while Alice talks to Bob, who reads every message of hers."""
    stop = threading.Event()
    attack = threading.Thread(target=flood, args=(line.middle, line.site, messages, stop))
    attack.start()
    try:
        hashes = [
            line.alice.ask("peerBroadcast", {"message": n, "encrypt": {"key": "club"}})["hash"]
            for n in range(20)
        ]
        seen = [sealed_at(line.bob, hash)["message"] for hash in hashes]
        attack.join(60)
    finally:
        stop.set()
        attack.join()
    assert seen == list(range(20))


def garbage(site: str) -> list[Any]:
    """Sealed to keys that nobody at these nodes has."""
    stranger = Recipient.of(PrivateKey(b"\x77" * 32).public_key)
    return [
        envelope(
            site,
            seal_message("x", None, [stranger], site=site, sender="", entropy=os.urandom),
        )
        for _ in range(GARBAGE)
    ]


def test_garbage_of_an_outsider_causes_no_decryption(line: Line) -> None:
    for program in (line.alice, line.bob):
        program.ask("peerKeyAdd", [SECRET, "club"])
    outcome(line, garbage(line.site))
    for node in (line.first, line.last):
        # Each of the twenty, by whoever reads them; not one for two thousand strange ones.
        assert node.status()["sealed"]["tried"] <= 20
        assert node.status()["sealed"]["over_limit"] == 0


@pytest.fixture
def club(tmp_path: Path) -> Iterator[Line]:
    """A site that takes messages of a group only."""
    folder = tmp_path / "site"
    key = new_site(folder, "Club", os.urandom, time.time)
    public = group_key(SharedKey(b"g" * 32), key.address).public_key.hex()
    rules = {"filter": ".*", "signed_only": {"group": public}}
    (folder / "p2p.json").write_text(json.dumps(rules))
    sign_site(folder, key, lambda: time.time() + 1)
    with ExitStack() as stack:
        yield Line(tmp_path, stack, key.address, folder)


def test_garbage_against_a_group_dies_at_the_first_hop(club: Line) -> None:
    for program in (club.alice, club.bob):
        program.ask("peerKeyAdd", [(b"g" * 32).hex(), "club"])
    assert club.carol.ask("peerBroadcast", {"message": "let me in"}) == {
        "error": "unsigned: Not signed with the key of the group"
    }
    outcome(club, garbage(club.site))
    assert club.middle.status()["messages"]["refused"]["group"] >= 20
    for node in (club.first, club.last):
        assert node.status()["messages"]["refused"] == {}
        assert node.status()["sealed"]["tried"] <= 20


# The command line


def zeromsg(node: RunningNode, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zeromsg.cli", *arguments, "--config", str(node.config)],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_from_the_shell(line: Line) -> None:
    line.bob.ask("peerBroadcast", {"message": "I am here", "privatekey": False})
    bob = line.alice.wait_for_message("I am here")["signed_by"]
    for node in (line.first, line.last):
        assert zeromsg(node, "key", "add", "us", text="our secret phrase\n").returncode == 0
    listener = subprocess.Popen(
        [
            *(sys.executable, "-m", "zeromsg.cli", "listen", line.site, "--json", "--count", "2"),
            *("--key", "us", "--config", str(line.last.config), "--seconds", "30"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: line.last.site(line.site)["clients"] == 2, 20, "the listener is there")
        message = ("broadcast", line.site, json.dumps(MOVE), "--field", "move")
        sent = zeromsg(line.first, *message, "--encrypt-to", bob, "--sign", "user")
        assert sent.returncode == 0, sent.stderr
        sent = zeromsg(line.first, *message, "--key", "us", "--hidden")
        assert sent.returncode == 0, sent.stderr
        output, _ = listener.communicate(timeout=40)
    finally:
        listener.kill()
    first, second = map(json.loads, output.splitlines())
    assert (first["message"], first["encrypted"]["by"]) == (MOVE, "auth")
    assert (second["message"], second["encrypted"]["by"]) == (MOVE, "key")
    refused = zeromsg(line.first, *message[:3], "--encrypt-to", "nobody@zeroid.bit")
    assert refused.returncode == 1
    assert "no signed message of nobody@zeroid.bit" in refused.stderr
    refused = zeromsg(line.first, *message[:3], "--key", "nothing")
    assert refused.returncode == 2
    assert "there is no key named 'nothing'" in refused.stderr
