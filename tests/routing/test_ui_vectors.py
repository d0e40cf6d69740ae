"""Recorded sessions of real ZeroFrame clients, played against our nodes.

What must hold: shapes, order on one connection, echo of ids, texts. Where we
differ on purpose, the table says why, and a difference that is gone is a
failure too.
"""

import json
from pathlib import Path

import attrs
import pytest

from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.testing.websocket import BINARY, CLOSE, TEXT, WebSocketClient

FOLDER = Path(__file__).parents[1] / "vectors" / "ui"

LIMITS = ClientLimits(message=10 * 1024 * 1024, unsent=4 * 1024 * 1024, clients=100)

STRICT = {"filter": ".*ok.*", "freq_limit": 1, "size_limit": 60, "signed_only": True}


# Where we differ, for all recordings.

EVENTS_CHANGED = {
    "cert": "null on unsigned own messages there; pages call cert.split unasked, so it is a text",
    "timestamp": "never shown to the sender there, even if asked for",
    "user": "ours: the parsed identity, so that pages need not split strings",
    "trace": "off unless asked for, as it shows addresses",
}
RESULT_KEYS = {"sent", "hash", "peers"}
"""Of peerBroadcast: there only `sent`, which is true even when nobody was there."""


@attrs.frozen
class Answers:
    """Instead of what was recorded, this.

    result: how the error begins, "ok", "sent" for a reply that was taken, or `list`.
    why: the reason.
    """

    result: object
    why: str


ANSWERED = "there an `error` event without an answer, so that the caller waits for ever"
SILENT = "there nothing at all, so that the caller waits for ever"
CODED = "a code before the plugin's sentence"
REASONED = "a code before the plugin's sentence, the message in it as JSON, the reason behind it"
OWN_RULES = "our own messages are held to all of the site's rules, signatures too"
NO_RIGHTS = "a number is no right here; only the node's own page may"

ENVELOPE = {
    7: Answers("invalid: ping takes at most 0 parameters", ANSWERED),
    8: Answers("invalid: ping has no parameter x", ANSWERED),
    9: Answers("invalid: the message has no cmd", ANSWERED),
    10: Answers("invalid: the message has no cmd", ANSWERED),
    11: Answers("invalid: the message has no cmd", ANSWERED),
    16: Answers("denied: You don't have permission to run siteList", NO_RIGHTS),
    1000000: Answers("denied: You don't have permission to run certList", NO_RIGHTS),
}
"""By the id of the call."""

ENVELOPE_EVENTS = {
    '{"cmd": "ping"}': "invalid: the message has no number as id",
    '{"cmd": "ping", "id": null}': "invalid: the message has no number as id",
    '{"cmd": "ping", "id": "abc"}': "invalid: the message has no number as id",
    "hello": "invalid: the message is no JSON",
    "[1,2]": "invalid: the message is no JSON object",
}
"""Messages that no answer can name: an `error` event too, in our words."""

ERRORS = {
    ("N", 1): Answers("unsupported: Site NOP2P doesn't support P2P messages", CODED),
    ("N", 2): Answers("unsupported: Site NOP2P doesn't support P2P messages", CODED),
    ("N", 3): Answers("ok", SILENT),
    ("T", 1): Answers('invalid: Invalid message for site STRICT: {"a": "no"} (the', REASONED),
    ("T", 2): Answers("unsigned: Not signed message", OWN_RULES),
    ("T", 3): Answers("unsigned: Not signed message", OWN_RULES),
    ("T", 4): Answers("too-big: Too big message: ", REASONED),
    ("T", 5): Answers("unsigned: Not signed message", OWN_RULES),
    ("T", 6): Answers("unsigned: Not signed message", OWN_RULES),
    ("T", 7): Answers("too-big: Too big message: ", REASONED),
    ("C", 1): Answers("invalid: peerBroadcast needs the parameter message", SILENT),
    ("C", 2): Answers(list, "the keyword of the proposal works here"),
    ("C", 3): Answers("invalid: privatekey is no private key", SILENT),
    ("C", 4): Answers("no-peer: no message with hash h was received lately", "it exists here"),
    ("C", 5): Answers("invalid: peerSend needs the parameter ip", SILENT),
}

MESSAGES = {
    ("B", 1): Answers("ok", SILENT),
    ("B2", 1): Answers("ok", SILENT),
    ("B", 2): Answers("invalid: peerValid needs the parameter hash", ANSWERED),
    ("B", 3): Answers("ok", SILENT),
    ("B", 4): Answers("ok", SILENT),
    ("B", 5): Answers("ok", SILENT),
    ("B", 6): Answers("ok", SILENT),
    ("A", 6): Answers("ok", SILENT),
    ("A", 7): Answers("sent", SILENT),
    ("A", 9): Answers("sent", SILENT),
    ("A", 10): Answers("no-peer: Could not find peer 0.0.0.0:5", CODED),
    ("A", 11): Answers("invalid: ip: ", SILENT),
}

CLIENT = {
    8: Answers("denied: You don't have permission to run certList", NO_RIGHTS),
    9: Answers("denied: You don't have permission to run siteList", NO_RIGHTS),
    10: Answers("invalid: peerBroadcast needs the parameter message", SILENT),
    11: Answers("invalid: peerBroadcast has no parameter bogus", SILENT),
}


def load(name):
    recording = json.loads((FOLDER / f"{name}.json").read_text())
    return recording["steps"], {address: site for site, address in recording["sites"].items()}


class Stage:
    """Our two nodes with the recording's sites, and its connections."""

    def __init__(self, net, names):
        self.net = net
        self.sites = {
            "chat": net.site(files={"hello.txt": b"hello raw\n"}),
            "nop2p": net.site(rules=None),
            "strict": net.site(STRICT),
        }
        net.connect_all()
        self._factories = [
            ClientFactory(net.clock, node.node.commands, LIMITS) for node in net.nodes
        ]
        self.connections = {}
        # Their words for ours.
        self.words = {
            address: self.sites[name] for address, name in names.items() if name in self.sites
        }
        self.words |= {"127.0.0.1:22000": net.nodes[0].name, "127.0.0.1:22001": net.nodes[1].name}

    def open(self, name, node, site):
        protocol = self._factories["ab".index(node)].build(self.sites[site])
        headers = {"User-Agent": "vectors"}
        client = WebSocketClient(protocol, headers, settle=lambda: self.net.advance(0))
        assert client.head.startswith("HTTP/1.1 101 ")
        self.connections[name] = client

    def translate(self, value):
        """A recorded value in terms of our addresses, hashes and sites."""
        if isinstance(value, str):
            for theirs, ours in self.words.items():
                value = value.replace(theirs, ours)
            return value
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        if isinstance(value, dict):
            return {key: self.translate(item) for key, item in value.items()}
        return value


def assert_event(ours, theirs, stage):
    """An event of the recording and its twin."""
    assert ours["cmd"] == theirs["cmd"]
    got, recorded = ours["params"], theirs["params"]
    stage.words.setdefault(recorded["hash"], got["hash"])
    assert len(got["hash"]) == 64
    assert set(got) == {*recorded, "user"}, "the keys"
    expected = stage.translate(recorded)
    for key in recorded:
        if key in ("hash", "signed_by"):
            assert bool(got[key]) == bool(recorded[key])
        elif key == "cert":
            assert got["cert"] == (recorded["cert"] or "")
        elif key in EVENTS_CHANGED:
            continue
        else:
            assert got[key] == expected[key], key


class Play:
    """A recording, played: what comes is compared, answers that differ on purpose at the end.

    differences: `Answers` by what `key_of` makes of connection and call id.
    only: messages of this connection, in a recording that does not tell of opening it.
    """

    def __init__(self, net, name, differences, key_of, only=None):
        self.steps, names = load(name)
        if only is not None:
            self.steps = [step for step in self.steps if step["conn"] == only and "msg" in step]
            self.steps.insert(0, {"conn": only, "open": {"node": "a", "site": "chat"}})
        self.net = net
        self.stage = Stage(net, names)
        self.differences = differences
        self.key_of = key_of
        self.heard = {}
        self.calls = {}
        for step in self.steps:
            self.take_step(step)
        net.advance(60)  # until questions that nobody answers are given up
        self.settle()
        self.compare_the_rest()

    def settle(self):
        self.net.advance(0.5)
        for conn, client in self.stage.connections.items():
            self.heard.setdefault(conn, []).extend(client.messages())

    def take_step(self, step):
        conn = step.get("conn")
        if "open" in step:
            self.stage.open(conn, step["open"]["node"], step["open"]["site"])
        elif step.get("dir") == "c2s":
            self.say(conn, step)
        elif step.get("close") == "client":
            self.stage.connections.pop(conn).wire.loseConnection()
        elif step.get("dir") == "s2c":
            self.compare(conn, step["msg"])
            return
        self.settle()

    def say(self, conn, step):
        client = self.stage.connections[conn]
        if "text" in step:
            client.send_frame(TEXT, step["text"].encode())
            return
        binary = "binary" in step
        message = json.loads(bytes.fromhex(step["binary"])) if binary else step["msg"]
        message = self.stage.translate(message)
        self.calls.setdefault(conn, {})[message.get("id")] = message
        client.send_frame(BINARY if binary else TEXT, json.dumps(message).encode())

    def compare(self, conn, recorded):
        if recorded["cmd"] == "error":
            return  # in our words an answer, or looked at by another test
        if recorded["cmd"] == "response":
            if self.key_of(conn, recorded["to"]) not in self.differences:
                assert_response(self.next(conn, recorded), recorded, self.stage)
        elif not self.refused_here(conn, recorded["params"]["message"]):
            assert_event(self.next(conn, recorded), recorded, self.stage)

    def next(self, conn, recorded):
        """The next message of a connection that is no answer, or echo, that only we give."""
        for number, message in enumerate(self.heard.get(conn, [])):
            if message["cmd"] == "error" or _is_echoed_reply(message):
                continue
            to = message.get("to")
            if recorded.get("to") != to and self.key_of(conn, to) in self.differences:
                continue
            return self.heard[conn].pop(number)
        raise AssertionError(f"{conn}: nothing came where {recorded} was recorded")

    def refused_here(self, conn, message):
        """Whether it is a message that we do not send."""
        for call_id, call in self.calls.get(conn, {}).items():
            difference = self.differences.get(self.key_of(conn, call_id))
            refused = difference is not None and difference.why is OWN_RULES
            if refused and call["params"]["message"] == message:
                return True
        return False

    def compare_the_rest(self):
        """What is left are the answers that were not given there, and what came after the end."""
        met = set()
        for conn, messages in self.heard.items():
            for message in messages:
                if message["cmd"] == "response":
                    key = self.key_of(conn, message["to"])
                    assert_answer(message["result"], self.differences[key], self.stage)
                    met.add(key)
                elif message["cmd"] != "error" and not _is_echoed_reply(message):
                    assert message["params"]["message"] == "order of the three messages"
        assert met == set(self.differences)


def _is_echoed_reply(message):
    """There, a reply waits for a reply to itself, and so is never echoed."""
    return message["cmd"] == "peerSend" and message["params"]["message"] in ("pong", "reply")


def assert_response(ours, theirs, stage):
    assert ours["cmd"] == "response"
    assert json.dumps(ours["to"]) == json.dumps(theirs["to"])
    result, recorded = ours["result"], theirs["result"]
    if recorded == {"sent": True}:
        assert set(result) == RESULT_KEYS
        assert isinstance(result["sent"], bool) and len(result["hash"]) == 64
    elif isinstance(recorded, dict) and "signed_by" in recorded:
        assert set(result) == set(recorded)
        assert (result["message"], result["cert"]) == (recorded["message"], recorded["cert"] or "")
    elif isinstance(recorded, dict) and ("plugins" in recorded or "address" in recorded):
        assert set(recorded) <= set(result)  # tests/routing/test_info.py looks closer
    else:
        assert result == stage.translate(recorded)


def assert_answer(result, expected, stage):
    if expected.result is list:
        assert isinstance(result, list)
    elif expected.result == "ok":
        assert result == "ok"
    elif expected.result == "sent":
        assert set(result) == {"sent", "hash"} and result["sent"] is True
    else:
        text = expected.result
        for name, address in stage.sites.items():
            text = text.replace(name.upper(), address)
        assert set(result) == {"error"}
        assert result["error"].startswith(text)


def test_forms_of_the_envelope(network):
    played = Play(network(2), "envelope", ENVELOPE, lambda conn, call_id: call_id)
    errors = [message["params"] for message in played.heard["A"] if message["cmd"] == "error"]
    for text in ENVELOPE_EVENTS.values():
        assert any(error.startswith(text) for error in errors), text
    assert len(errors) == len(ENVELOPE_EVENTS)


@pytest.mark.parametrize("text", ENVELOPE_EVENTS)
def test_what_cannot_be_answered_is_an_error_event(network, text):
    stage = Stage(network(2), {})
    stage.open("A", "a", "chat")
    client = stage.connections["A"]
    client.send_frame(TEXT, text.encode())
    ((message,),) = [client.messages()]
    assert message["cmd"] == "error" and message["id"] == 1
    assert message["params"].startswith(ENVELOPE_EVENTS[text])


def test_server_ids_count_from_one(network):
    stage = Stage(network(2), {})
    stage.open("A", "a", "chat")
    client = stage.connections["A"]
    for call_id in (1, -1, 0, 1.5, True, 10**6, 10**30):
        client.send({"cmd": "ping", "id": call_id})
    client.send({"cmd": "peerBroadcast", "params": ["x"], "id": 7})
    client.send({"cmd": "as", "params": [stage.sites["chat"], "ping"], "id": 8})
    messages = client.messages()
    assert [message["id"] for message in messages] == list(range(1, 12))
    echoed = [message["to"] for message in messages if message["cmd"] == "response"]
    assert json.dumps(echoed) == json.dumps([1, -1, 0, 1.5, True, 10**6, 10**30, 7, 8])


def test_messages_between_two_nodes(network):
    Play(network(2), "peermessage", MESSAGES, lambda conn, call_id: (conn, call_id))


def test_refusals_at_the_sender(network):
    Play(network(2), "peermessage_errors", ERRORS, lambda conn, call_id: (conn, call_id))


def test_the_whole_life_of_the_python_client(network):
    """The WebSocket half of the recording; tests/web looks at its page."""
    played = Play(network(2), "ws_client_python", CLIENT, lambda conn, call_id: call_id, only=2)
    client = played.stage.connections[2]
    client.send_frame(CLOSE, bytes.fromhex("03e8"))
    assert client.frames() == [(CLOSE, bytes.fromhex("03e8"))]
    assert not client.wire.connected


def test_kept_messages_come_first_on_the_next_connection(network):
    net = network(2)
    stage = Stage(net, {})
    stage.open("B", "b", "chat")
    for number in range(3):
        stage.connections["B"].send(
            {"cmd": "peerBroadcast", "params": {"message": number, "immediate": True}, "id": number}
        )
        net.advance(0.5)
    stage.open("A", "a", "chat")
    first = stage.connections["A"].messages()
    assert [(message["cmd"], message["id"]) for message in first] == [
        ("peerReceive", 1),
        ("peerReceive", 2),
        ("peerReceive", 3),
    ]
    assert [message["params"]["message"] for message in first] == [0, 1, 2]
