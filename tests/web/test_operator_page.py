"""The operator's endpoint: for who has the token, by POST, in JSON."""

import json

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.server import Site as HttpSite

from zeromsg.errors import ClientError
from zeromsg.testing.gate import MemoryGate
from zeromsg.web.pages import OPERATOR_PATH, Pages

TOKEN = "5f" * 32
OWN_HOST = "127.0.0.1:43110"


class Gate(MemoryGate):
    """It keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def host_allowed(self, host):
        return host == OWN_HOST

    def may_see_status(self, token):
        return token == TOKEN

    def operate(self, cmd, params):
        self.calls.append((cmd, params))
        if cmd == "refuse":
            raise ClientError("invalid", "not \u00fcber this \ud800")
        return {"did": cmd, "text": "\ud800\u2028"}


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def ask(gate):
    """One request; the code and the body."""

    def ask(body=b"", method="POST", path=OPERATOR_PATH, host=OWN_HOST, **headers):
        values = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {text}" for key, text in values.items())]
        http = HttpSite(Pages(gate, bytes, Clock().seconds), reactor=Clock())
        http.displayTracebacks = False
        http.noisy = False
        http.log = lambda request: None
        channel = http.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 5))
        channel.makeConnection(transport)
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, rest = transport.value().partition(b"\r\n\r\n")
        assert b"access-control" not in head.lower()
        return int(head.split(b" ")[1]), rest

    return ask


def call(ask, body, token=TOKEN, **more):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return ask(body, Authorization=f"Bearer {token}", **more)


def test_a_command_is_carried_out(ask, gate):
    code, body = call(ask, {"cmd": "ban", "params": {"identity": "x"}})
    assert (code, json.loads(body)) == (200, {"did": "ban", "text": "\ud800\u2028"})
    assert gate.calls == [("ban", {"identity": "x"})]


def test_parameters_may_be_left_out(ask, gate):
    assert call(ask, {"cmd": "bans"})[0] == 200
    assert gate.calls == [("bans", {})]


def test_a_refusal_says_why(ask):
    code, body = call(ask, {"cmd": "refuse"})
    assert (code, json.loads(body)) == (200, {"error": "invalid: not \u00fcber this \ud800"})


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "None"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_token_is_needed(ask, gate, token, method):
    code, body = call(ask, {"cmd": "bans"}, token, method=method)
    assert code == 401
    assert TOKEN.encode() not in body
    assert gate.calls == []


def test_without_a_header_there_is_no_token(ask, gate):
    body = json.dumps({"cmd": "bans"}).encode()
    assert ask(body)[0] == 401
    # Nor is it taken from elsewhere: a page could put it there.
    assert ask(body, path=f"{OPERATOR_PATH}?token={TOKEN}")[0] == 401
    assert ask(body, Cookie=f"token={TOKEN}")[0] == 401
    assert gate.calls == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_is_answered(ask, gate, method):
    assert call(ask, {"cmd": "bans"}, method=method)[0] == 405
    assert gate.calls == []


def test_the_host_is_checked_first(ask, gate):
    assert call(ask, {"cmd": "bans"}, host="evil.example")[0] == 403
    assert gate.calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"5",
        b'"bans"',
        b"[]",
        b'["cmd"]',
        b"{}",
        b'{"cmd": null}',
        b'{"cmd": 5}',
        b'{"cmd": ["bans"]}',
        b'{"cmd": "bans", "params": null}',
        b'{"cmd": "bans", "params": []}',
        b'{"cmd": "bans", "params": "x"}',
        b'{"cmd": "bans", "params": {"x": NaN}}',
        b'{"cmd": "bans", "params": {"x": 1e999}}',
        b'{"cmd": "bans", "params": {"x": ' + b"1" * 5000 + b"}}",
        b"[" * 10_000,
        b'{"cmd": ' * 300 + b"1" + b"}" * 300,
        b'{"cmd": "bans", "params": {"x": "' + b"y" * 9_000_000 + b'"}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_bad_json_is_no_command(ask, gate, body):
    code, answer = call(ask, body)
    assert (code, json.loads(answer)) == (200, {"error": "invalid: this is no command"})
    assert gate.calls == []


@pytest.mark.parametrize("path", [f"{OPERATOR_PATH}/", f"{OPERATOR_PATH}/x", f"/{OPERATOR_PATH}"])
def test_other_paths_are_other_pages(ask, gate, path):
    assert call(ask, {"cmd": "bans"}, path=path)[0] in (404, 405)
    assert gate.calls == []
