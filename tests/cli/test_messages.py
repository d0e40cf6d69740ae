"""What `broadcast` and `send` say to a node, and what they leave unsaid."""

import pytest
from click.testing import CliRunner
from twisted.python.failure import Failure

from zeromsg.cli import listen, messages
from zeromsg.client import CallRefused, NodeUnreachable
from zeromsg.crypto.keys import PrivateKey
from zeromsg.routing import message_commands

SITE = PrivateKey(b"\x41" * 32).address

PLUGIN = {
    "peerBroadcast": ["message", "privatekey", "peer_count", "immediate", "trace", "timestamp"],
    "peerSend": ["ip", "message", "privatekey", "to", "immediate", "timestamp"],
}
"""The parameters that ZeroNet's plugin knows."""


class FakeClient:
    def __init__(self, result):
        self.calls = []
        self._result = result

    def call(self, cmd, params):
        self.calls.append((cmd, params))
        return self._result


@pytest.fixture
def said(monkeypatch):
    """Runs a command up to its call; returns what was printed, and the call."""

    def run(command, result, *arguments):
        client = FakeClient(result)

        class Connected:
            async def __aenter__(self):
                return client

            async def __aexit__(self, *problem):
                pass

        def work(job):
            with pytest.raises(StopIteration) as ended:
                job(None).send(None)
            return ended.value.value

        async def within(reactor, seconds, waiting):
            return waiting

        monkeypatch.setattr(messages, "connected", lambda *args, **more: Connected())
        monkeypatch.setattr(messages, "work", work)
        monkeypatch.setattr(messages, "within", within)
        monkeypatch.setattr(messages, "hush", lambda: None)
        done = CliRunner().invoke(command, [*arguments, "--node", "http://127.0.0.1:1"])
        assert done.exit_code == 0, done.output
        (call,) = client.calls
        return done.output, *call

    return run


SENT = {"sent": True, "hash": "0" * 64, "peers": 2}


def test_what_stands_at_its_default_is_left_out(said):
    output, cmd, params = said(messages.broadcast, SENT, SITE, '"hi"')
    assert (cmd, params) == ("peerBroadcast", {"message": "hi"})
    assert output.startswith("sent to 2 peer(s)")
    _, cmd, params = said(messages.send, {"message": 5}, SITE, "127.0.0.2:5", '"hi"')
    assert (cmd, params) == ("peerSend", {"ip": "127.0.0.2:5", "message": "hi"})


def test_a_node_with_the_plugin_understands_what_it_can_do(said):
    options = ("--sign", "user", "--immediate", "--timestamp")
    more = {"privatekey": False, "immediate": True, "timestamp": True, "message": 1}
    output, cmd, params = said(messages.broadcast, {"sent": True}, SITE, "1", *options)
    assert params == more and set(params) <= set(PLUGIN[cmd])
    assert output == "sent\n"
    _, cmd, params = said(messages.send, {"message": 5}, SITE, "127.0.0.2:5", "1", *options)
    assert params == {**more, "ip": "127.0.0.2:5"} and set(params) <= set(PLUGIN[cmd])


def test_what_is_wanted_otherwise_is_said(said):
    options = ("--ask", "--timeout", "5", "--count", "3", "--encrypt-to", "bob@zeroid.bit")
    reply = {"ip": "127.0.0.2:5", "reply": 1, "hash": "0" * 64}
    _, _, params = said(messages.broadcast, [reply], SITE, "1", *options)
    assert params == {
        "message": 1,
        "broadcast": False,
        "timeout": 5.0,
        "peer_count": 3,
        "encrypt": {"to": ["bob@zeroid.bit"], "hidden": False},
    }


def test_the_defaults_are_the_nodes():
    known = {**message_commands._TO_ALL, "privatekey": message_commands._KEY}
    for name, default in messages._DEFAULTS.items():
        if name != "to":
            assert known[name].default == default, name


def test_a_verdict_that_is_never_answered_is_no_complaint(capsys):
    listen._complain(Failure(NodeUnreachable("it went away")), "peerValid")
    assert capsys.readouterr().err == ""
    listen._complain(Failure(NodeUnreachable("it went away")), "peerReply")
    listen._complain(Failure(CallRefused("invalid", "no such hash")), "peerValid")
    assert capsys.readouterr().err.splitlines() == [
        "peerReply: it went away",
        "peerValid: invalid: no such hash",
    ]
