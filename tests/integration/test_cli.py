"""The command line as people use it: real processes, sockets and signals."""

import contextlib
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zeromsg.net.tls import load_certificate
from zeromsg.service.site_making import sign_site
from zeromsg.store.private_file import write_private
from zeromsg.testing.processes import wait_for

pytestmark = pytest.mark.integration

PROGRAM = [sys.executable, "-m", "zeromsg.cli"]
COMMAND_SECONDS = 30.0
"""A command is through by then, on a loaded machine too."""


def zeromsg(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        stdin=subprocess.DEVNULL,
    )


class Background:
    """A command that runs beside the test; its output is collected in files."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*PROGRAM, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary)},
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of --json that are complete."""
        lines = self.out.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Any]:
    """Starts commands that end with the test: `background("listen", ...)`."""
    started: list[Background] = []

    def start(*arguments: object) -> Background:
        command = Background(tmp_path / f"command-{len(started)}", *arguments)
        started.append(command)
        return command

    yield start
    for command in started:
        with contextlib.suppress(OSError):
            command.process.kill()
        command.process.wait()


def wait_for_clients(node: Any, site: Any, number: int) -> None:
    wait_for(
        lambda: node.site(site.address)["clients"] == number, COMMAND_SECONDS, f"{number} clients"
    )


# Messages


def test_a_broadcast_crosses_two_nodes(two_nodes, site, background, tmp_path):
    first, second = two_nodes
    record = tmp_path / "record.jsonl"
    record.write_text('{"earlier": true}\n')
    listening = background(
        "listen", site.address, "--count", 1, "--json", "--record", record, "--node", second.url
    )
    wait_for_clients(second, site, 1)

    sent = zeromsg(
        "broadcast", site.address, '{"move": "e2e4"}', "--sign", "user", "--json",
        "--timestamp", "--config", first.config,
    )  # fmt: skip
    assert (sent.returncode, sent.stderr) == (0, "")
    answer = json.loads(sent.stdout)
    assert answer["sent"] is True

    assert listening.process.wait(COMMAND_SECONDS) == 0
    (event,) = listening.events
    assert event["message"] == {"move": "e2e4"}
    assert event["hash"] == answer["hash"]
    assert event["ip"] == first.peer
    assert event["signed_by"]
    assert abs(event["timestamp"] - time.time()) < 60
    earlier, recorded = map(json.loads, record.read_text().splitlines())
    assert earlier == {"earlier": True}
    assert recorded == event
    assert listening.err == ""
    # The listener's verdict was taken before it went.
    assert second.status()["messages"]["waiting_for_verdict"] == 0


def test_rules_are_tried_on_a_recording_and_then_published(two_nodes, site, background, tmp_path):
    """What `rules check --against` says of a recording is what nodes do with the rules."""
    first, second = two_nodes
    record, rules = tmp_path / "record.jsonl", tmp_path / "new.json"
    messages = [{"cmd": "say", "text": "hi"}, {"cmd": "say", "text": "x" * 200}, "no map"]
    signing = ["user", "user", "none"]
    listening = background(
        "listen", site.address, "--count", 4, "--record", record, "--node", second.url
    )
    wait_for_clients(second, site, 1)
    for message, sign in zip([*messages, messages[0]], [*signing, "none"], strict=True):
        sent = zeromsg(
            "broadcast", site.address, json.dumps(message), "--sign", sign, "--node", first.url
        )
        assert (sent.returncode, sent.stderr) == (0, "")
    assert listening.process.wait(COMMAND_SECONDS) == 0
    assert len(record.read_text().splitlines()) == 4

    wanted = {"filter": '.*"cmd": "say"', "size_limit": 100, "signed_only": True}
    rules.write_text(json.dumps(wanted))
    checked = zeromsg("rules", "check", rules, "--against", record, "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    refused = [(each["line"], each["check"]) for each in json.loads(checked.stdout)["refused"]]
    assert refused == [(2, "size"), (3, "filter"), (4, "signed-only")]
    # They are tried, not put in force.
    assert zeromsg("broadcast", site.address, "no map", "--node", first.url).returncode == 0

    (site.folder / "p2p.json").write_text(json.dumps(wanted))
    sign_site(site.folder, site.key, time.time)

    def refuses() -> bool:
        again = zeromsg("broadcast", site.address, "no map", "--node", first.url)
        return "Invalid message" in again.stderr

    wait_for(refuses, COMMAND_SECONDS, "the node takes up the new rules")
    for line, message in enumerate(messages, 1):
        again = zeromsg(
            "broadcast", site.address, json.dumps(message), "--sign", "user", "--node", first.url
        )
        assert (again.returncode == 1) is (line in dict(refused)), again.stderr
    unsigned = zeromsg("broadcast", site.address, json.dumps(messages[0]), "--node", first.url)
    assert unsigned.stderr.startswith("Error: unsigned: Not signed message: ")


def test_text_for_people(two_nodes, site, background):
    first, second = two_nodes
    listening = background("listen", site.address, "--count", 2, "--node", second.url)
    wait_for_clients(second, site, 1)
    sent = zeromsg("broadcast", site.address, "no \x1b[31mJSON", "--node", first.url)
    assert re.fullmatch(r"sent to 1 peer\(s\) as [0-9a-f]{64}\n", sent.stdout)
    assert zeromsg("broadcast", site.address, "[1]", "--node", first.url).returncode == 0
    assert listening.process.wait(COMMAND_SECONDS) == 0
    assert listening.out == f"{first.peer}: no \\x1b[31mJSON\n{first.peer}: [1]\n"


def test_replies_are_gathered(two_nodes, site, background):
    first, second = two_nodes
    listening = background(
        "listen", site.address, "--reply", '{"node": 2}', "--json", "--node", second.url
    )
    wait_for_clients(second, site, 1)
    asked = zeromsg("broadcast", site.address, "who?", "--ask", "--json", "--config", first.config)
    assert asked.returncode == 0
    (reply,) = json.loads(asked.stdout)
    assert (reply["ip"], reply["reply"]) == (second.peer, {"node": 2})

    for_people = zeromsg("broadcast", site.address, "who?", "--ask", "--node", first.url)
    assert for_people.stdout == f'{second.peer}  {{"node": 2}}\n'

    sent = zeromsg("send", site.address, second.peer, '"and you?"', "--node", first.url)
    assert (sent.returncode, sent.stdout) == (0, '{"node": 2}\n')
    sent = zeromsg("send", site.address, second.peer, "and you?", "--json", "--node", first.url)
    assert json.loads(sent.stdout)["message"] == {"node": 2}
    assert [event["message"] for event in listening.events] == ["who?"] * 2 + ["and you?"] * 2
    assert [event["broadcast"] for event in listening.events] == [False] * 4
    assert listening.end() == 0


def test_replies_are_signed_where_the_rules_want_it(new_node, site, background):
    (site.folder / "p2p.json").write_text('{"filter": ".*", "signed_only": true}')
    sign_site(site.folder, site.key, time.time)
    first = new_node(sites={site.address: site.folder}).start()
    second = new_node(sites={site.address: None}, connect=[first.peer]).start()
    wait_for(
        lambda: all(node.site(site.address)["takes_messages"] for node in (first, second)),
        COMMAND_SECONDS,
        "both nodes hold the site",
    )
    listening = background(
        "listen", site.address, "--reply", "me", "--sign", "user", "--node", second.url
    )
    wait_for_clients(second, site, 1)
    asked = zeromsg(
        "broadcast", site.address, "who?", "--ask", "--sign", "user", "--node", first.url
    )
    assert (asked.returncode, asked.stdout) == (0, f"{second.peer}  me\n")
    assert listening.end() == 0
    assert listening.err == ""


def test_a_reply_by_hand(two_nodes, site, background):
    first, second = two_nodes
    listening = background("listen", site.address, "--json", "--node", second.url)
    wait_for_clients(second, site, 1)
    asking = background(
        "send", site.address, second.peer, "?", "--timeout", 30, "--node", first.url
    )
    wait_for(lambda: listening.events, COMMAND_SECONDS, "the question")
    (event,) = listening.events
    replied = zeromsg(
        "send", site.address, event["ip"], "!", "--to", event["hash"], "--node", second.url
    )
    assert replied.returncode == 0
    assert re.fullmatch(r"sent as [0-9a-f]{64}\n", replied.stdout)
    assert asking.process.wait(COMMAND_SECONDS) == 0
    assert asking.out == "!\n"


def test_what_became_of_a_message_that_was_heard(two_nodes, site, background):
    first, second = two_nodes
    listening = background("listen", site.address, "--hash", "--count", 1, "--node", second.url)
    wait_for_clients(second, site, 1)
    sent = zeromsg("broadcast", site.address, "hello", "--json", "--node", first.url)
    assert listening.process.wait(COMMAND_SECONDS) == 0
    hash, _, text = listening.out.partition("  ")
    assert text == f"{first.peer}: hello\n"
    assert len(hash) == 16
    whole = json.loads(sent.stdout)["hash"]
    for beginning in (hash, hash[:8].upper(), whole):
        why = zeromsg("why", beginning, "--config", second.config)
        assert why.returncode == 0, why.stderr
        assert why.stdout.startswith(
            f"message {whole}\nsite {site.address}, fate: accepted\n1 cop(ies), from {first.peer}"
        )
    short = zeromsg("why", hash[:7], "--config", second.config)
    assert (short.returncode, "at least the first 8" in short.stderr) == (1, True)


def test_silence_is_a_failure_after_the_timeout(two_nodes, site):
    first, second = two_nodes
    asked = zeromsg("broadcast", site.address, "?", "--ask", "--timeout", 0.5, "--node", first.url)
    assert asked.returncode == 1
    assert "timeout: no reply within 0.5 seconds" in asked.stdout
    sent = zeromsg("send", site.address, second.peer, "?", "--timeout", 0.5, "--node", first.url)
    assert sent.returncode == 1
    assert sent.stderr == "Error: timeout: no reply within 0.5 seconds\n"


def test_nobody_is_there(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    sent = zeromsg("broadcast", site.address, "hi", "--node", node.url)
    assert sent.returncode == 1
    assert sent.stderr == "Not sent: no peer of the site is connected to the node.\n"
    asked = zeromsg("broadcast", site.address, "hi", "--ask", "--node", node.url)
    assert asked.returncode == 1
    assert asked.stderr == "Nobody to ask: no peer of the site is connected to the node.\n"
    nowhere = zeromsg("send", site.address, "127.0.0.19:9", "hi", "--node", node.url)
    assert nowhere.returncode == 1
    assert nowhere.stderr == "Error: no-peer: Could not find peer 127.0.0.19:9\n"


def test_a_node_with_a_password_knows_who_has_its_configuration(new_node, site, background):
    node = new_node(
        sites={site.address: site.folder}, settings={"ui.password": "correct horse"}
    ).start()
    own = ("--config", node.config)
    listening = background("listen", site.address, "--count", 1, "--json", *own)
    wait_for_clients(node, site, 1)
    # Nobody replies to it, but other clients of the node see it.
    sent = zeromsg("send", site.address, "self", "hello", "--timeout", 1, *own)
    assert "no reply within 1 second" in sent.stderr
    assert listening.process.wait(COMMAND_SECONDS) == 0
    assert listening.events[0]["message"] == "hello"
    other = zeromsg("broadcast", site.address, "hello", "--node", node.url)
    assert other.returncode == 1
    assert "asks for a password" in other.stderr and "--config" in other.stderr


def test_a_refusal_is_told(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    big = zeromsg("broadcast", site.address, "x" * 20_000, "--node", node.url)
    assert (big.returncode, big.stdout) == (1, "")
    assert big.stderr.startswith("Error: too-big: Too big message: 20002 characters as JSON, ")
    unsigned = zeromsg("broadcast", site.address, "x", "--sign", "site", "--node", node.url)
    assert unsigned.returncode == 1
    assert unsigned.stderr.startswith("Error: denied: this node has no key of the site")


def test_listening_survives_a_restart_of_the_node(new_node, site, background):
    node = new_node(sites={site.address: site.folder}).start()
    listening = background("listen", site.address, "--json", "--node", node.url)
    wait_for_clients(node, site, 1)
    node.kill()
    wait_for(lambda: "went away; waiting for it" in listening.err, 10, "the end is noticed")
    node.start()
    wait_for_clients(node, site, 1)
    zeromsg("broadcast", site.address, "again", "--node", node.url)
    wait_for(lambda: listening.events, COMMAND_SECONDS, "the message after the restart")
    assert listening.end() == 0


def test_listening_for_a_time(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    command = ("listen", site.address, "--seconds", 0.2, "--node", node.url)
    assert zeromsg(*command).returncode == 0
    too_few = zeromsg(*command, "--count", 1)
    assert too_few.returncode == 1
    assert too_few.stderr == "Only 0 of 1 messages came within 0.2 seconds.\n"


def test_no_node_is_one_sentence(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for command in (
            ("broadcast", site.address, "hi"),
            ("send", site.address, "self", "hi"),
            ("listen", site.address),
        ):
            result = zeromsg(*command, "--node", url)
            assert result.returncode == 1
            assert result.stderr.startswith(f"Error: no node answers at {url}: ")
            assert "Start one with `zeromsg run`" in result.stderr
            assert len(result.stderr.splitlines()) == 1


def test_a_site_that_the_node_does_not_hold(new_node, site):
    node = new_node().start()
    result = zeromsg("listen", site.address, "--node", node.url)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: unsupported: the node at {node.url} does not hold the site {site.address}\n"
    )


# Status


def test_status_and_sites_of_a_running_node(two_nodes, site):
    first, second = two_nodes
    found = json.loads(zeromsg("status", "--config", second.config, "--json").stdout)
    assert found["sites"][0]["address"] == site.address
    for_people = zeromsg("status", "--config", second.config)
    assert for_people.returncode == 0
    for part in (site.address, "Chat", "complete", first.peer, "out", "zeromsg", "received"):
        assert part in for_people.stdout
    listed = zeromsg("site", "list", "--config", second.config)
    assert re.search(rf"{site.address} +Chat +complete +0 +1 +0", listed.stdout)


def test_status_needs_the_token(new_node, tmp_path):
    node = new_node().start()
    without = zeromsg("status", "--node", node.url, "--data-dir", tmp_path / "none")
    assert without.returncode == 2
    assert "status.token cannot be read" in without.stderr
    other = tmp_path / "other"
    other.mkdir()
    (other / "status.token").write_text("0" * 64)
    wrong = zeromsg("status", "--node", node.url, "--data-dir", other)
    assert wrong.returncode == 1
    assert "has another token" in wrong.stderr


def test_nothing_runs(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    assert node.stop() == 0
    status = zeromsg("status", "--config", node.config)
    assert status.returncode == 1
    assert f"no node answers at {node.url}" in status.stderr
    listed = zeromsg("site", "list", "--config", node.config, "--json")
    assert json.loads(listed.stdout) == [{"address": site.address, "path": str(site.folder)}]


# `zeromsg run`


@pytest.mark.parametrize("program", ["zeromsg", "twistd"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_within_two_seconds(program, number, new_node, site, background):
    node = new_node(program=program, sites={site.address: site.folder}).start()
    background("listen", site.address, "--node", node.url)
    wait_for_clients(node, site, 1)
    start = time.monotonic()
    code = node.stop(number=number)
    assert time.monotonic() - start < 2
    # twistd passes a signal on to itself when it has cleaned up.
    assert code in (0, -number) if program == "twistd" else code == 0
    assert "Traceback" not in node.log
    assert "critical" not in node.log


def test_a_message_waits_for_the_next_client_and_survives_a_kill(two_nodes, site):
    first, second = two_nodes
    sent = zeromsg("broadcast", site.address, "later", "--immediate", "--config", first.config)
    assert sent.returncode == 0
    wait_for(lambda: second.site(site.address)["queued"] == 1, 10, "the message is queued")
    second.kill()
    second.start()
    heard = zeromsg("listen", site.address, "--count", 1, "--json", "--config", second.config)
    assert heard.returncode == 0
    assert json.loads(heard.stdout)["message"] == "later"


@pytest.mark.parametrize("listener", ["ui", "peers"])
def test_a_port_in_use_is_one_clear_line(listener, new_node):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        node = new_node(settings={f"{listener}.endpoint": endpoint})
        node.launch()
        assert node.wait() == 1
    (line,) = node.log.splitlines()
    assert f"cannot listen on {endpoint}" in line
    assert "Address already in use" in line


def test_an_unknown_key_stops_the_start(new_node):
    node = new_node(settings={"peers.tsl": True})
    node.launch()
    assert node.wait() == 2
    assert node.log == f"Error: {node.config} line 8: peers.tsl: unknown key; did you mean tls?\n"


def test_a_site_that_cannot_be_served_stops_the_start(new_node, site, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    node = new_node(sites={site.address: empty})
    node.launch()
    assert node.wait() == 2
    (line,) = node.log.splitlines()
    assert f"{empty} has no content.json" in line


def test_overrides(new_node):
    node = new_node()
    node.write_config()
    result = zeromsg("run", "--config", node.config, "--set", "peers.max_connections=no")
    assert result.returncode == 2
    assert "peers.max_connections: expected a whole number" in result.stderr


def test_a_log_for_programs(new_node, site):
    node = new_node(sites={site.address: site.folder}, settings={"log.format": "json"}).start()
    assert node.stop() == 0
    lines = [json.loads(line) for line in node.log.splitlines()]
    (up,) = [line for line in lines if "is up" in line["text"]]
    assert (up["level"], up["port"]) == ("info", node.ui_port)
    assert {"time", "level", "from", "text"} <= up.keys()


def test_the_level_of_the_log(new_node):
    node = new_node(settings={"log.level": "error"})
    node.launch()
    wait_for(lambda: (node.data_dir / "status.token").exists(), COMMAND_SECONDS, "the start")
    # Nothing is written that says it is up, so it may still be on its way.
    assert node.stop() in (0, -signal.SIGTERM)
    assert node.log == ""


# `zeromsg demo`


def test_demo_once():
    shown = zeromsg("demo", "--once", "--port", 0)
    assert (shown.returncode, shown.stderr) == (0, "")
    for part in (
        r"Node A +http://127\.0\.0\.1:\d+/1\w+",
        r"Node B +http://127\.0\.0\.1:\d+/1\w+",
        r"A (→|->) B  Hello number 1 from node A  [\d.]+ ms",
        r"Question 1: who is there\?",
        r"A (←|<-) B  I am node B",
    ):
        assert re.search(part, shown.stdout), part


def test_demo_shows_what_others_say_and_leaves_nothing(background):
    shown = background("demo", "--port", 0)
    pages = r"Node (\w) +(http://127\.0\.0\.1:\d+)/(\w+)"
    wait_for(lambda: len(re.findall(pages, shown.out)) == 2, COMMAND_SECONDS, "the addresses")
    (_, first, site), (_, second, _) = re.findall(pages, shown.out)
    poll = {"cmd": "poll", "nick": "Bert", "question": "Tea?", "options": ["y", "n"], "seconds": 5}
    for node, message in (
        (first, {"cmd": "say", "nick": "Ann", "text": "typed at A"}),
        (second, {"cmd": "here", "nick": "Bert"}),
    ):
        sent = zeromsg("broadcast", site, json.dumps(message), "--sign", "user", "--node", node)
        assert sent.returncode == 0, sent.stderr
    background(
        "broadcast", site, json.dumps(poll), "--sign", "user", "--ask", "--timeout", "5",
        "--node", second,
    )  # fmt: skip
    for line in (
        r"A (→|->) B  Ann: typed at A",
        r"B (→|->) A  Bert is here",
        r"\? (→|->) A  Bert asks: Tea\?",
        "I am node B",
    ):
        wait_for(lambda line=line: re.search(line, shown.out), COMMAND_SECONDS, line)
    start = time.monotonic()
    assert shown.end(signal.SIGTERM) == 0
    assert time.monotonic() - start < 3
    assert "message(s) crossed" in shown.out
    assert shown.err == ""
    assert list(shown.temporary.iterdir()) == []


def test_demo_takes_other_ports_where_its_own_are_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = zeromsg("demo", "--once", "--port", port)
    assert shown.returncode == 0
    assert f"Port {port} is taken, so node A gets another one." in shown.stdout


# A node behind TLS, or at a unix socket


@pytest.mark.parametrize("kind", ["ssl", "unix"])
def test_commands_reach_a_node_by_its_own_configuration(new_node, site, tmp_path, kind):
    pem, port = tmp_path / "ui.pem", free_port("127.0.0.1")
    load_certificate(pem, datetime.datetime.now(datetime.UTC), write_private)
    endpoint = {
        "ssl": f"ssl:{port}:privateKey={pem}:certKey={pem}:interface=127.0.0.1",
        "unix": f"unix:{tmp_path}/ui.sock",
    }[kind]
    settings = {"ui.endpoint": endpoint, "ui.password": "a long password"}
    node = new_node(sites={site.address: site.folder}, settings=settings)
    node.launch()
    wait_for(lambda: "is up" in node.log, 20, "the node is up")
    status = zeromsg("status", "--config", node.config)
    assert status.returncode == 0, status.stderr
    # Over a WebSocket: it is the site's only node, so nobody can be sent to.
    sent = zeromsg("broadcast", site.address, '"x"', "--config", node.config)
    assert "Not sent: no peer" in sent.stdout + sent.stderr
    if kind == "ssl":
        stranger = zeromsg(
            "status", "--node", f"https://127.0.0.1:{port}", "--data-dir", node.data_dir
        )
        assert stranger.returncode == 1
        assert "is not trusted" in stranger.stderr and "zeromsg run" not in stranger.stderr
    assert "Traceback" not in node.log


def free_port(host: str) -> int:
    with socket.socket() as taken:
        taken.bind((host, 0))
        port: int = taken.getsockname()[1]
        return port
