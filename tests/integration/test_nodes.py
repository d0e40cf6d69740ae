"""Two and three real nodes, and the unmodified zeroframe-ws-client at each.

Nodes run under twistd, as processes; the first serves a site from a directory,
the others join it by address.
"""

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

RULES = {"filter": '("|\\{)', "size_limit": 5000}
"""Texts and maps, nothing else."""

ALICE, BOB = "127.0.0.61", "127.0.0.62"

_texts = (f"message {number}" for number in itertools.count(1))


def start_all(*nodes: RunningNode) -> None:
    """Start nodes at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(RunningNode.start, nodes))


def choose_port(node: RunningNode) -> None:
    """Give a node its peer port before its first start, for others to dial."""
    with socket.socket() as probe:
        probe.bind((node.host, 0))
        node.peer_port = probe.getsockname()[1]


def wait_for_peers(site: str, count: int, *nodes: RunningNode) -> None:
    """Wait until each node knows so many peers of the site, and holds all of it."""

    def ready(node: RunningNode) -> bool:
        part = node.site(site)
        return part["complete"] and part["peers"] == count

    for node in nodes:
        wait_for(lambda node=node: ready(node), 20, f"{count} peers and the site at {node.host}")


def open_program(node: RunningNode, site: str, **arguments: Any) -> ZeroFrameProgram:
    return ZeroFrameProgram(node.host, node.ui_port, site, **arguments)


def echo(params: Any) -> Any:
    """What the programs of these tests reply to questions."""
    if params["broadcast"] or not isinstance(params["message"], dict):
        return None
    return {"echo": params["message"].get("question")}


def duplicates(node: RunningNode) -> int:
    count: int = node.status()["messages"]["duplicates"]
    return count


def assert_quiet(*nodes: RunningNode) -> None:
    for node in nodes:
        assert "Traceback" not in node.log
        assert "Unhandled" not in node.log


class Pair:
    """Two nodes that know each other, and a program at each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.site = make_site(folder / "site", RULES, title="Chat")
        self.alice_node = stack.enter_context(
            RunningNode(
                folder / "alice", ALICE, sites={self.site: folder / "site"}, program="twistd"
            )
        ).start()
        self.bob_node = stack.enter_context(
            RunningNode(
                folder / "bob",
                BOB,
                sites={self.site: None},
                connect=[self.alice_node.peer],
                program="twistd",
            )
        ).start()
        wait_for_peers(self.site, 1, self.alice_node, self.bob_node)
        self.alice = stack.enter_context(open_program(self.alice_node, self.site))
        self.bob = stack.enter_context(
            open_program(self.bob_node, self.site, verdict="peerValid", replies=echo)
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path_factory.mktemp("pair"), stack)


@pytest.fixture
def pair(shared: Pair) -> Iterator[Pair]:
    """The two nodes; what they wrote to their logs is shown when the test fails."""
    before = len(shared.alice_node.log), len(shared.bob_node.log)
    yield shared
    for node, start in zip((shared.alice_node, shared.bob_node), before, strict=True):
        print(f"--- log of {node.host} ---\n{node.log[start:]}")
    assert_quiet(shared.alice_node, shared.bob_node)


class TestOneNode:
    def test_site_and_server_are_described(self, pair: Pair) -> None:
        for program in (pair.alice, pair.bob):
            site = program.ask("siteInfo")
            assert site["address"] == pair.site
            assert site["content"]["title"] == "Chat"
            assert site["peers"] == 2
            assert site["bad_files"] == 0
            assert "PeerMessage" in program.ask("serverInfo")["plugins"]
        assert pair.alice.ask("siteInfo")["settings"]["own"] is True
        assert pair.bob.ask("siteInfo")["settings"]["own"] is False

    def test_ping_and_channels(self, pair: Pair) -> None:
        assert pair.bob.ask("ping") == "pong"
        assert pair.bob.ask("channelJoin", {"channels": ["siteChanged", "peerReceive"]}) == "ok"
        assert pair.bob.ask("channelJoin", ["siteChanged"]) == "ok"

    def test_unknown_commands_and_wrong_parameters_are_answered(self, pair: Pair) -> None:
        assert pair.bob.ask("noSuchThing") == {"error": "Unknown command: noSuchThing"}
        assert pair.bob.ask("peerBroadcast")["error"].startswith("invalid: ")
        assert pair.bob.ask("peerBroadcast", {"massage": "?"})["error"].startswith("invalid: ")

    def test_joined_site_has_the_files(self, pair: Pair) -> None:
        rules = pair.bob.ask("fileGet", ["p2p.json"])
        assert json.loads(rules) == RULES

    def test_the_library_misses_few_answers_when_it_is_used_as_it_is(self, pair: Pair) -> None:
        # It notes callbacks after it sent a call; the node gives it the time.
        calls, answers = 50, []
        for _ in range(calls):
            pair.bob.cmd("ping", {}, answers.append)
            pair.bob.ask("ping")
        assert len(answers) > calls * 0.7


class TestBroadcast:
    def test_by_name(self, pair: Pair) -> None:
        text = next(_texts)
        sent = pair.alice.ask("peerBroadcast", {"message": text})
        assert sent["sent"] is True
        assert sent["peers"] == 1
        received = pair.bob.wait_for_message(text)
        assert received == {
            "ip": pair.alice_node.peer,
            "hash": sent["hash"],
            "message": text,
            "signed_by": "",
            "cert": "",
            "site": pair.site,
            "broadcast": True,
            "timestamp": None,
            "trace": None,
            "user": None,
        }

    def test_by_position_in_the_plugins_order(self, pair: Pair) -> None:
        text = next(_texts)
        assert pair.bob.ask("peerBroadcast", [text, False, 3, True, True, True])["sent"] is True
        received = pair.alice.wait_for_message(text)
        assert received["signed_by"] == pair.bob.ask("siteInfo")["auth_address"]
        assert received["trace"] == [pair.bob_node.peer]
        assert abs(received["timestamp"] - time.time()) < 60

    def test_by_position_in_the_proposals_order(self, pair: Pair) -> None:
        question = {"question": next(_texts)}
        result = pair.alice.ask("peerBroadcast", [question, 5, False, False, 10])
        assert [entry["reply"] for entry in result] == [{"echo": question["question"]}]

    def test_as_one_bare_parameter(self, pair: Pair) -> None:
        text = next(_texts)
        assert pair.alice.ask("peerBroadcast", text)["sent"] is True
        pair.bob.wait_for_message(text)

    def test_signed_with_the_users_key(self, pair: Pair) -> None:
        text = next(_texts)
        pair.alice.ask("peerBroadcast", {"message": text, "privatekey": False})
        received = pair.bob.wait_for_message(text)
        address = pair.alice.ask("siteInfo")["auth_address"]
        assert received["signed_by"] == address
        assert received["user"] == {"address": address, "id": None, "provider": None}

    def test_senders_own_clients_see_it_in_the_order_that_pages_know(self, pair: Pair) -> None:
        text = next(_texts)
        start = len(pair.alice.events)
        sent = pair.alice.ask("peerBroadcast", {"message": text})
        wait_for(lambda: len(pair.alice.events) >= start + 2, 5, "both events")
        (first, received), (second, echoed) = pair.alice.events[start : start + 2]
        assert (first, second) == ("peerReceive", "peerSend")
        assert received["ip"] == "self"
        assert "ip" not in echoed
        assert received["hash"] == echoed["hash"] == sent["hash"]

    def test_hundred_in_a_row_arrive_once_and_in_order(self, pair: Pair) -> None:
        texts = list(itertools.islice(_texts, 100))
        for sent in [pair.alice.send("peerBroadcast", {"message": text}) for text in texts]:
            assert sent.result(20)["sent"] is True
        pair.bob.wait_for_message(texts[-1])
        assert [text for text in pair.bob.messages() if text in texts] == texts

    def test_text_of_all_kinds_arrives_as_it_was(self, pair: Pair) -> None:
        message = {"text": 'ünï\u2028 "\\" \x00 <b>', "lone": "\ud800", "n": [1.5, -0.0, 10**30]}
        pair.alice.ask("peerBroadcast", {"message": message})
        assert pair.bob.wait_for_message(message)["message"] == message

    def test_refused_by_the_filter(self, pair: Pair) -> None:
        for message, shown in ([1, 2], "[1, 2]"), (False, "false"):
            assert pair.alice.ask("peerBroadcast", {"message": message}) == {
                "error": f"invalid: Invalid message for site {pair.site}: {shown} "
                "(the filter does not match it)"
            }
        assert pair.alice.ask("peerBroadcast", {"message": "x" * 6000}) == {
            "error": "too-big: Too big message: 6002 characters as JSON, over the size_limit 5000"
        }
        marker = next(_texts)
        pair.alice.ask("peerBroadcast", {"message": marker})
        pair.bob.wait_for_message(marker)
        assert [1, 2] not in pair.bob.messages()
        assert pair.bob_node.status()["messages"]["refused"] == {}


class TestReplies:
    def test_one_is_aggregated(self, pair: Pair) -> None:
        question = {"question": next(_texts)}
        began = time.monotonic()
        result = pair.alice.ask(
            "peerBroadcast", {"message": question, "broadcast": False, "timeout": 10}
        )
        assert time.monotonic() - began < 5
        (entry,) = result
        assert entry.pop("hash")
        assert entry == {
            "ip": pair.bob_node.peer,
            "reply": {"echo": question["question"]},
            "signed_by": "",
            "cert": "",
        }

    def test_silence_ends_with_the_timeout(self, pair: Pair) -> None:
        began = time.monotonic()
        result = pair.alice.ask(
            "peerBroadcast", {"message": next(_texts), "broadcast": False, "timeout": 1}
        )
        assert 0.9 < time.monotonic() - began < 4
        (entry,) = result
        assert entry["ip"] == pair.bob_node.peer
        assert entry["reply"]["error"].startswith("timeout: ")

    def test_peer_send_returns_the_reply(self, pair: Pair) -> None:
        question = {"question": next(_texts)}
        reply = pair.alice.ask(
            "peerSend", {"ip": pair.bob_node.peer, "message": question, "timeout": 10}
        )
        assert reply["message"] == {"echo": question["question"]}
        assert set(reply) == {"hash", "message", "signed_by", "cert", "timestamp"}
        assert pair.bob.received(question)[0]["broadcast"] is False

    def test_peer_send_with_to_is_a_reply(self, pair: Pair) -> None:
        text = next(_texts)
        asked = pair.alice.send(
            "peerSend", {"ip": pair.bob_node.peer, "message": text, "timeout": 10}
        )
        received = pair.bob.wait_for_message(text)
        answered = pair.bob.ask(
            "peerSend",
            {"ip": received["ip"], "message": "yes", "to": received["hash"], "privatekey": False},
        )
        assert answered["sent"] is True
        reply = asked.result(10)
        assert reply["message"] == "yes"
        assert reply["hash"] == answered["hash"]
        assert reply["signed_by"] == pair.bob.ask("siteInfo")["auth_address"]

    def test_peer_reply_needs_no_address(self, pair: Pair) -> None:
        text = next(_texts)
        asked = pair.alice.send(
            "peerSend", {"ip": pair.bob_node.peer, "message": text, "timeout": 10}
        )
        received = pair.bob.wait_for_message(text)
        answered = pair.bob.ask("peerReply", {"hash": received["hash"], "message": "no"})
        assert answered == {"sent": True}
        assert asked.result(10)["message"] == "no"

    def test_silence_and_strangers_are_errors(self, pair: Pair) -> None:
        silent = pair.alice.ask(
            "peerSend", {"ip": pair.bob_node.peer, "message": next(_texts), "timeout": 0.5}
        )
        assert silent["error"].startswith("timeout: ")
        nobody = pair.alice.ask(
            "peerSend", {"ip": "127.0.0.63:9", "message": next(_texts), "timeout": 10}
        )
        assert nobody == {"error": "no-peer: Could not find peer 127.0.0.63:9"}
        unknown = pair.alice.ask("peerReply", {"hash": "0" * 64, "message": "?"})
        assert unknown["error"].startswith("no-peer: ")


def answering(question: str, reply: str) -> Callable[[Any], Any]:
    return lambda params: reply if params["message"] == question else None


class TestThreeNodes:
    """A triangle: everybody is connected to both others."""

    @pytest.fixture
    def triangle(
        self, tmp_path: Path, new_node: Callable[..., RunningNode]
    ) -> Iterator[tuple[str, list[RunningNode], list[ZeroFrameProgram]]]:
        site = make_site(tmp_path / "site", RULES)
        first = new_node(sites={site: tmp_path / "site"}, program="twistd")
        second = new_node(sites={site: None}, program="twistd")
        third = new_node(sites={site: None}, program="twistd")
        for node in (first, second):
            choose_port(node)
        second.connect = [first.peer]
        third.connect = [first.peer, second.peer]
        nodes = [first, second, third]
        start_all(*nodes)
        wait_for_peers(site, 2, *nodes)
        with ExitStack() as stack:
            programs = [
                stack.enter_context(open_program(node, site, verdict="peerValid", replies=echo))
                for node in nodes
            ]
            yield site, nodes, programs
        assert_quiet(*nodes)

    def test_each_client_gets_a_broadcast_once(self, triangle: Any) -> None:
        _, nodes, programs = triangle
        texts = list(itertools.islice(_texts, 5))
        for text in texts:
            assert programs[0].ask("peerBroadcast", {"message": text})["peers"] == 2
            for program in programs[1:]:
                program.wait_for_message(text)
        # Of the other two at least one relays each to the other, who refuses it.
        wait_for(lambda: sum(map(duplicates, nodes)) >= len(texts), 10, "the relayed copies")
        for program in programs:
            assert [text for text in program.messages() if text in texts] == texts

    def test_replies_of_two_and_what_is_there_at_the_timeout(self, triangle: Any) -> None:
        _, nodes, programs = triangle
        question = {"question": next(_texts)}
        ask = {"message": question, "broadcast": False, "timeout": 20}
        both = programs[0].ask("peerBroadcast", ask)
        assert sorted(entry["ip"] for entry in both) == sorted(node.peer for node in nodes[1:])
        assert all(entry["reply"] == {"echo": question["question"]} for entry in both)

        programs[2].__exit__(None, None, None)
        question = {"question": next(_texts)}
        began = time.monotonic()
        ask = {"message": question, "broadcast": False, "timeout": 1.5}
        result = {entry["ip"]: entry["reply"] for entry in programs[0].ask("peerBroadcast", ask)}
        assert 1.4 < time.monotonic() - began < 5
        assert result[nodes[1].peer] == {"echo": question["question"]}
        assert result[nodes[2].peer]["error"].startswith("timeout: ")


def test_two_nodes_that_dial_each_other_keep_one_copy(
    tmp_path: Path, new_node: Callable[..., RunningNode]
) -> None:
    site = make_site(tmp_path / "site", RULES)
    first = new_node(sites={site: tmp_path / "site"}, program="twistd")
    second = new_node(sites={site: None}, program="twistd")
    for node in (first, second):
        choose_port(node)
    first.connect, second.connect = [second.peer], [first.peer]
    start_all(first, second)
    wait_for_peers(site, 1, first, second)
    for node in (first, second):
        wait_for(lambda node=node: len(node.status()["links"]) == 1, 10, "one link is left")
    with open_program(first, site) as alice, open_program(second, site) as bob:
        texts = list(itertools.islice(_texts, 10))
        for text in texts:
            assert alice.ask("peerBroadcast", {"message": text})["peers"] == 1
            assert bob.ask("peerBroadcast", {"message": f"re: {text}"})["peers"] == 1
        bob.wait_for_message(texts[-1])
        alice.wait_for_message(f"re: {texts[-1]}")
        assert [text for text in bob.messages() if text in texts] == texts
        answers = [f"re: {text}" for text in texts]
        assert [text for text in alice.messages() if text in answers] == answers
    assert duplicates(first) == duplicates(second) == 0
    assert_quiet(first, second)


class TestLateClients:
    @pytest.fixture
    def nodes(
        self, tmp_path: Path, new_node: Callable[..., RunningNode]
    ) -> tuple[str, RunningNode, RunningNode]:
        site = make_site(tmp_path / "site", RULES)
        first = new_node(sites={site: tmp_path / "site"}, program="twistd").start()
        second = new_node(sites={site: None}, connect=[first.peer], program="twistd").start()
        wait_for_peers(site, 1, first, second)
        return site, first, second

    def test_queue_reaches_the_first_client(self, nodes: Any) -> None:
        site, first, second = nodes
        texts = list(itertools.islice(_texts, 20))
        with open_program(first, site) as alice:
            lost = next(_texts)
            alice.ask("peerBroadcast", {"message": lost})
            for text in texts:
                alice.ask("peerBroadcast", {"message": text, "immediate": True})
            wait_for(lambda: second.site(site)["queued"] == len(texts), 10, "all are queued")
        with open_program(second, site) as bob:
            bob.wait_for_message(texts[-1])
            assert bob.messages() == texts
            with open_program(second, site) as later:
                assert later.ask("ping") == "pong"
                assert later.messages() == []
        assert second.site(site)["queued"] == 0
        assert_quiet(first, second)

    def test_queue_survives_a_restart(self, nodes: Any) -> None:
        site, first, second = nodes
        texts = list(itertools.islice(_texts, 20))
        with open_program(first, site) as alice:
            for text in texts:
                alice.ask("peerBroadcast", {"message": text, "immediate": True})
            wait_for(lambda: second.site(site)["queued"] == len(texts), 10, "all are queued")
            second.stop()
            second.start()
            with open_program(second, site) as bob:
                bob.wait_for_message(texts[-1])
                assert bob.messages() == texts
                # They are not told again after another restart, and life goes on.
                opened = bob.opened
                second.stop()
                second.start()
                bob.wait_for_reopening(opened, 20)
                wait_for_peers(site, 1, first, second)
                marker = next(_texts)
                alice.ask("peerBroadcast", {"message": marker})
                bob.wait_for_message(marker)
                assert bob.messages() == [*texts, marker]
        assert_quiet(first, second)

    def test_client_comes_back_with_its_old_key(self, nodes: Any) -> None:
        site, first, second = nodes
        with open_program(first, site) as alice, open_program(second, site) as bob:
            for end in (second.stop, second.kill):
                key, opened = bob.wrapper_key, bob.opened
                end()
                sent: Future[Any] = alice.send("peerBroadcast", {"message": next(_texts)})
                assert "hash" in sent.result(10)
                second.start()
                bob.wait_for_reopening(opened, 20)
                assert bob.ask("ping") == "pong"
                assert bob.wrapper_key == key
                wait_for_peers(site, 1, first, second)
                text = next(_texts)
                alice.ask("peerBroadcast", {"message": text})
                bob.wait_for_message(text)
        assert_quiet(first, second)
