"""The ZeroFrame client, without a connection."""

import contextlib
import datetime
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL.SSL import Connection, WantReadError
from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock as MemoryReactor
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from zeromsg.client import (
    CallRefused,
    Client,
    NodeUnreachable,
    NodeUrl,
    _is_distrust,
    _Pinned,
    node_status,
)
from zeromsg.net.tls import make_certificate, tls_options

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"


class Wire:
    """Stands for the WebSocket: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed = False

    def sendMessage(self, payload: bytes) -> None:
        self.sent.append(json.loads(payload))

    def sendClose(self, code: int) -> None:
        self.closed = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(wire: Wire) -> Client:
    client = Client(SITE, NodeUrl.parse("http://127.0.0.1:43110"), None)
    client.opened(wire)  # type: ignore[arg-type]
    return client


def outcome(waiting: Deferred[Any]) -> Any:
    """What a Deferred has fired with; None if it has not."""
    results: list[Any] = []

    def look(result: Any) -> Any:
        results.append(result)
        return None if isinstance(result, Failure) else result

    waiting.addBoth(look)
    return results[0] if results else None


def refusal(waiting: Deferred[Any]) -> CallRefused:
    failure = outcome(waiting)
    assert isinstance(failure, Failure)
    assert isinstance(failure.value, CallRefused)
    return failure.value


def answer(client: Client, to: Any, result: Any) -> None:
    client.received(json.dumps({"cmd": "response", "to": to, "result": result, "id": 1}))


def test_calls_are_numbered_and_answered_in_any_order(client, wire):
    first = client.call("ping")
    second = client.call("peerSend", ["self", "hi"])
    assert wire.sent == [
        {"cmd": "ping", "params": {}, "id": 1},
        {"cmd": "peerSend", "params": ["self", "hi"], "id": 2},
    ]
    answer(client, 2, {"message": "hello"})
    assert outcome(first) is None
    answer(client, 1, "pong")
    assert outcome(first) == "pong"
    assert outcome(second) == {"message": "hello"}


def test_a_null_result_is_a_result(client):
    results: list[Any] = []
    client.call("fileGet", ["missing"]).addCallback(results.append)
    answer(client, 1, None)
    assert results == [None]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("too-fast: Too fast messages", "too-fast", "Too fast messages"),
        ("invalid: a: b", "invalid", "a: b"),
        ("Unknown command: shout", "", "Unknown command: shout"),
        ("Site is deleting", "", "Site is deleting"),
        ({"odd": 1}, "", '{"odd":1}'),
    ],
)
def test_refusals_are_raised(client, error, code, sentence):
    waiting = client.call("peerBroadcast", {"message": 1})
    answer(client, 1, {"error": error})
    refused = refusal(waiting)
    assert (refused.code, refused.sentence) == (code, sentence)


def test_data_with_a_member_called_error_is_no_refusal(client):
    waiting = client.call("userGetSettings")
    answer(client, 1, {"error": "none", "theme": "dark"})
    assert outcome(waiting) == {"error": "none", "theme": "dark"}


def test_parameters_that_are_no_json_are_refused_here(client, wire):
    assert refusal(client.call("peerBroadcast", {"message": {1, 2}})).code == "invalid"
    assert refusal(client.call("peerBroadcast", {"message": float("nan")})).code == "invalid"
    assert wire.sent == []


def test_a_cancelled_call_ignores_its_late_answer(client):
    waiting = client.call("peerSend", ["self", 1])
    waiting.cancel()
    answer(client, 1, "late")
    assert outcome(waiting).check(CancelledError)


def test_events_reach_the_callback(client):
    events = []
    client.on_event = lambda cmd, params: events.append((cmd, params))
    client.received('{"cmd": "peerReceive", "params": {"message": 1}, "id": 1}')
    client.received('{"cmd": "siteChanged", "id": 2}')
    assert events == [("peerReceive", {"message": 1}), ("siteChanged", None)]


def test_a_failing_callback_does_not_end_the_connection(client):
    client.on_event = lambda cmd, params: 1 / 0
    client.received('{"cmd": "peerReceive", "params": {}, "id": 1}')
    assert client.connected


def test_a_ping_of_the_node_is_answered(client, wire):
    client.received('{"cmd": "ping", "params": [], "id": 7}')
    assert wire.sent == [{"cmd": "response", "to": 7, "result": "pong", "id": 1}]


@pytest.mark.parametrize("to", [99, 0, -1, 1.0, True, None, "1", [1], {"a": 1}])
def test_answers_to_nothing_are_ignored(client, to):
    waiting = client.call("ping")
    answer(client, to, "pong")
    assert outcome(waiting) is None


def test_losing_the_node_ends_calls_and_tells_why(client):
    waiting, closed = client.call("ping"), client.closed
    client.lost("this node stops")
    failure = outcome(waiting)
    assert failure.check(NodeUnreachable)
    assert "http://127.0.0.1:43110 is gone: this node stops" in failure.getErrorMessage()
    assert outcome(closed) == "this node stops"
    assert outcome(client.closed) == "this node stops"
    assert outcome(client.call("ping")).check(NodeUnreachable)
    assert not client.connected


def test_who_waits_for_the_end_may_stop_waiting(client):
    impatient, patient = client.closed, client.closed
    impatient.cancel()
    client.lost("")
    assert outcome(impatient).check(CancelledError)
    assert outcome(patient) == ""


def test_close(client, wire):
    client.close()
    assert wire.closed
    client.lost("closed")
    client.close()


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["cmd", "to", "result", "params", "id"]), inner),
    max_leaves=10,
).map(json.dumps))  # fmt: skip
def test_whatever_the_node_says_only_value_error_is_raised(text):
    wire = Wire()
    client = Client(SITE, NodeUrl.parse("http://127.0.0.1:43110"), lambda cmd, params: None)
    client.opened(wire)  # type: ignore[arg-type]
    waiting = client.call("ping")
    waiting.addErrback(lambda failure: failure.trap(CallRefused))
    with contextlib.suppress(ValueError):
        client.received(text)


@pytest.mark.parametrize(
    ("text", "shown", "websocket"),
    [
        ("http://127.0.0.1:43110", "http://127.0.0.1:43110", "ws://127.0.0.1:43110/Websocket"),
        ("http://127.0.0.1:43110/1Site/x?y", "http://127.0.0.1:43110", None),
        ("http://localhost", "http://localhost:80", None),
        ("https://zero.example/", "https://zero.example:443", "wss://zero.example:443/Websocket"),
        ("http://[::1]:43110", "http://[::1]:43110", "ws://[::1]:43110/Websocket"),
    ],
)
def test_urls_of_nodes(text, shown, websocket):
    url = NodeUrl.parse(text)
    assert str(url) == shown
    assert websocket in (None, url.websocket)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:43110", "ws://h", "http://", "http://h:x", "http://é/"]
)
def test_what_is_no_url_of_a_node(text):
    with pytest.raises(ValueError, match="expected the URL of a node"):
        NodeUrl.parse(text)


# Where it connects


def handshake(certificate: bytes, shown: bytes) -> bool:
    """Whether a client that trusts one certificate goes on with who shows another."""
    server = Connection(tls_options(shown).getContext(), None)
    server.set_accept_state()
    client = _Pinned(certificate).clientConnectionForTLS(None)
    client.set_connect_state()
    ended = [False, False]
    for _ in range(5):
        for side, (ours, theirs) in enumerate(((client, server), (server, client))):
            if not ended[side]:
                try:
                    ours.do_handshake()
                    ended[side] = True
                except WantReadError:
                    pass
                except TlsError:
                    return False
            with contextlib.suppress(WantReadError):
                theirs.bio_write(ours.bio_read(1 << 16))
    return all(ended)


def test_a_pinned_certificate_is_trusted_and_no_other() -> None:
    now = datetime.datetime.now(datetime.UTC)
    ours, other = make_certificate(now), make_certificate(now)
    der = x509.load_pem_x509_certificate(ours).public_bytes(Encoding.DER)
    assert handshake(der, ours)
    assert not handshake(der, other)
    # Expired and for other names, it is the very one all the same.
    old = make_certificate(now - datetime.timedelta(days=5000))
    assert handshake(x509.load_pem_x509_certificate(old).public_bytes(Encoding.DER), old)


def test_a_certificate_that_nobody_vouches_for_is_named_as_the_reason() -> None:
    refused = ResponseNeverReceived([Failure(TlsError([("SSL routines", "", "failed")]))])
    assert _is_distrust(refused)
    assert not _is_distrust(ResponseNeverReceived([Failure(ConnectionLost())]))
    text = str(NodeUrl.parse("https://127.0.0.1:43110").untrusted())
    assert "--config" in text and "zeromsg run" not in text


def test_a_unix_socket_is_connected_to() -> None:
    reactor = MemoryReactor()
    url = NodeUrl(False, "127.0.0.1", 80, socket="/run/zeromsg")
    waiting = Deferred.fromCoroutine(node_status(reactor, url, "token"))
    assert [client[0] for client in reactor.unixClients] == ["/run/zeromsg"]
    assert str(url) == "unix:/run/zeromsg" and url.base == "http://127.0.0.1:80"
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
