"""One WebSocket client: frames, answers, what it may leave unread, how it ends."""

import json
import struct

import pytest
import txaio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost

from zeromsg.net.client_protocol import (
    PACE_SECONDS,
    PING_SECONDS,
    ClientFactory,
    ClientLimits,
    text_frame,
)
from zeromsg.testing.plain_client import frame
from zeromsg.testing.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocketClient, Wire

SITE = "1" + "a" * 30
LIMITS = ClientLimits(message=100_000, unsent=200_000, clients=3)

PROGRAM = {"User-Agent": "test"}
ZEROFRAME_WS_CLIENT = {"Origin": "http://127.0.0.1:43110"}
"""What Python's websocket-client sends: an Origin, and no User-Agent."""


class Calls:
    """Routing, as a client's connection sees it (`interfaces.ICalls`): answers pings."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.calls = []
        self.answers = []

    def client_opened(self, client):
        self.opened.append(client)

    def client_closed(self, client):
        self.closed.append(client)

    def answered(self, client, answer):
        self.answers.append((client, answer.to, answer.result))
        if answer.result == "fail":
            raise RuntimeError("a bug")

    def called(self, client, call):
        self.calls.append(call)
        if call.cmd == "fail":
            raise RuntimeError("a bug")
        if call.cmd == "join":
            client.join(call.positional)
        client.respond(call.id, "pong")


@pytest.fixture(autouse=True)
def autobahn_time(clock, monkeypatch):
    """autobahn's own timers take their time from here, whatever reactor its factory is given."""
    monkeypatch.setattr(txaio.config, "loop", clock)


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def factory(clock, calls):
    return ClientFactory(clock, calls, LIMITS)


@pytest.fixture
def connect(factory, clock):
    def connect(headers=PROGRAM):
        client = WebSocketClient(factory.build(SITE), headers, settle=lambda: clock.advance(0))
        assert client.head.startswith("HTTP/1.1 101 ")
        return client

    return connect


def wait(clock, seconds):
    for _ in range(int(10 * seconds)):
        clock.advance(0.1)


def event(number, size=0):
    return f'{{"cmd":"peerReceive","params":"{number}{"x" * size}","id":'


# The upgrade


def test_the_upgrade(connect, calls):
    client = connect()
    head = client.head.lower()
    assert "upgrade: websocket" in head
    # Of the key in RFC 6455, section 1.3.
    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "sec-websocket-extensions" not in head and "sec-websocket-protocol" not in head
    assert len(calls.opened) == 1
    assert calls.opened[0].site == SITE
    assert client.frames() == []


def test_offers_of_extensions_are_passed_over(connect):
    client = connect(
        {
            **PROGRAM,
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
            "Sec-WebSocket-Protocol": "chat",
        }
    )
    assert "sec-websocket-extensions" not in client.head.lower()
    client.send({"cmd": "ping", "id": 1})
    assert client.messages() == [{"cmd": "response", "to": 1, "result": "pong", "id": 1}]


# Frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_text_frames(size):
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    length = frame[1]
    assert length < 128, "servers do not mask"
    if length < 126:
        start = 2
    elif length == 126:
        (length,) = struct.unpack_from("!H", frame, 2)
        start = 4
        assert length >= 126, "the shortest form"
    else:
        (length,) = struct.unpack_from("!Q", frame, 2)
        start = 10
        assert length >= 65536, "the shortest form"
    assert (length, frame[start:]) == (size, b"x" * size)


def test_messages_may_come_in_pieces(connect, calls):
    client = connect()
    payload = json.dumps({"cmd": "ping", "id": 1}).encode()
    client.send_frame(TEXT, payload[:5], final=False)
    client.send_frame(PING, b"between")
    client.send_frame(0, payload[5:], final=False)
    client.send_frame(0, b"", final=True)
    opcodes = [opcode for opcode, _ in client.frames()]
    assert opcodes == [PONG, TEXT]
    assert [call.cmd for call in calls.calls] == ["ping"]


def test_binary_frames_are_taken_as_text(connect):
    client = connect()
    client.send_frame(BINARY, b'{"cmd":"ping","id":17}')
    assert client.messages()[0]["to"] == 17


def test_a_ping_is_answered_an_empty_one_too(connect):
    client = connect()
    client.send_frame(PING, b"hello")
    client.send_frame(PING, b"")
    assert client.frames() == [(PONG, b"hello"), (PONG, b"")]


def test_an_empty_message_is_nothing(connect, calls):
    client = connect()
    client.send_frame(TEXT, b"")
    assert client.frames() == [] and calls.calls == []


def test_a_message_that_is_too_long_closes_the_connection(connect, calls):
    client = connect()
    client.send_frame(TEXT, b" " * (LIMITS.message + 1))
    ((opcode, payload),) = client.frames()
    assert (opcode, struct.unpack("!H", payload[:2])) == (CLOSE, (1009,))
    assert calls.calls == []
    client = connect()
    for _ in range(11):
        client.send_frame(TEXT if _ == 0 else 0, b" " * 10_000, final=False)
    assert client.frames()[-1][0] == CLOSE


def test_a_frame_that_only_announces_too_much_closes_it_too(connect):
    client = connect()
    client.feed(b"\x81\xff" + struct.pack("!Q", 2**40) + b"mask")
    assert client.frames()[-1][0] == CLOSE


@pytest.mark.parametrize("data", [b"\x81\x05hello", b"\xff\xff", b"\x83\x80mask", b"\x00" * 20])
def test_frames_that_are_none_close_the_connection(connect, clock, calls, data):
    client = connect()
    client.feed(data)
    assert client.frames()[-1][0] == CLOSE
    wait(clock, 3)
    assert not client.wire.connected
    assert len(calls.closed) == 1


# Messages


def test_answers_and_events_are_numbered_from_one(connect, calls):
    client = connect()
    (link,) = calls.opened
    client.send({"cmd": "ping", "id": 7})
    link.push(event("a"))
    client.send({"cmd": "ping", "id": -1})
    assert client.messages() == [
        {"cmd": "response", "to": 7, "result": "pong", "id": 1},
        {"cmd": "peerReceive", "params": "a", "id": 2},
        {"cmd": "response", "to": -1, "result": "pong", "id": 3},
    ]


def test_channels_are_kept(connect, calls):
    client = connect()
    (link,) = calls.opened
    client.send({"cmd": "join", "params": ["siteChanged"], "id": 1})
    assert link.listens("siteChanged") and not link.listens("peerReceive")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\xff", None),
        (b"hello", "invalid: the message is no JSON"),
        (b"[1, 2]", "invalid: the message is no JSON object"),
        (b"null", "invalid: the message is no JSON object"),
        (b'{"cmd": "ping"}', "invalid: the message has no number as id"),
        (b'{"cmd": "ping", "id": 1e999}', "invalid: the message is no JSON"),
        (b'{"cmd": "ping", "id": NaN}', "invalid: the message is no JSON"),
        (b"[" * 100_000, "invalid: the message is no JSON: nested too deeply"),
        (b"9" * 90_000, "invalid: the message is no JSON"),
        (b'{"cmd": "response"}', "invalid: the message has no number as id"),
    ],
)
def test_what_cannot_be_answered_is_an_error_event(connect, calls, payload, text):
    client = connect()
    client.send_frame(BINARY if payload == b"\xff" else TEXT, payload)
    (message,) = client.messages()
    assert message["cmd"] == "error"
    assert message["params"].startswith(text or "invalid: the message is no UTF-8")
    assert calls.calls == []
    # The connection goes on.
    client.send({"cmd": "ping", "id": 1})
    assert client.messages()[0]["result"] == "pong"


@pytest.mark.parametrize("message", [{"id": 9}, {"id": 9, "cmd": ""}, {"id": 9, "cmd": 5}])
def test_a_call_without_a_command_is_answered(connect, calls, message):
    client = connect()
    client.send(message)
    ((answer,),) = [client.messages()]
    assert (answer["to"], answer["result"]) == (9, {"error": "invalid: the message has no cmd"})
    assert calls.calls == []


def test_responses_of_a_client_are_passed_on_and_not_answered(connect, calls):
    client = connect()
    client.send({"cmd": "response", "to": 1, "result": 1, "id": 5})
    client.send({"cmd": "response", "id": 5})
    assert client.messages() == [] and calls.calls == []
    (opened,) = calls.opened
    assert calls.answers == [(opened, 1, 1), (opened, None, None)]


def test_a_bug_in_taking_a_response_is_logged(connect, errors):
    client = connect()
    client.send({"cmd": "response", "to": 1, "result": "fail", "id": 5})
    assert len(errors) == 1
    errors.clear()
    client.send({"cmd": "ping", "id": 2})
    assert client.messages()[0]["to"] == 2


def test_only_who_opens_it_says_whether_it_is_trusted(factory):
    assert not factory.build(SITE).trusted
    assert not factory.build(SITE, "1bob").trusted
    protocol = factory.for_site(SITE, "1bob", True).buildProtocol(None)
    assert (protocol.site, protocol.user, protocol.trusted) == (SITE, "1bob", True)


def test_a_bug_of_ours_is_logged_and_the_connection_lives_on(connect, errors):
    client = connect()
    client.send({"cmd": "fail", "id": 1})
    assert len(errors) == 1
    errors.clear()
    client.send({"cmd": "ping", "id": 2})
    assert client.messages()[0]["to"] == 2


# Who does not read


def test_what_a_client_does_not_read_waits_in_order(connect, calls):
    client = connect()
    (link,) = calls.opened
    client.wire.stuck = True
    for number in range(20):
        link.push(event(number, 10_000))
    assert len(client.wire.unread) < 90_000
    client.wire.unstick()
    messages = client.messages()
    assert [message["id"] for message in messages] == list(range(1, 21))
    assert [message["params"].rstrip("x") for message in messages] == [str(n) for n in range(20)]


def test_a_client_that_leaves_too_much_unread_is_dropped(connect, calls):
    client = connect()
    (link,) = calls.opened
    client.wire.stuck = True
    pushed = 0
    while client.wire.connected:
        link.push(event(pushed, 10_000))
        pushed += 1
        assert pushed < 100
    # A TCP buffer and the limit beyond it.
    assert 26 <= pushed <= 29
    assert client.wire.aborted
    assert calls.closed == [link]
    # Whoever still holds it does no harm.
    link.push(event("x"))
    link.respond(1, "x")
    assert link._held == []


def test_a_slow_client_that_catches_up_stays(connect, calls):
    client = connect()
    (link,) = calls.opened
    for _ in range(20):
        client.wire.stuck = True
        for _ in range(20):
            link.push(event("x", 10_000))
        client.wire.unstick()
    assert client.wire.connected
    assert len(client.messages()) == 400


def test_what_one_turn_brings_is_one_write(connect, calls, clock):
    clients = [connect(), connect()]
    before = [len(client.wire.writes) for client in clients]
    for number in range(5):
        for link in calls.opened:
            link.push(event(number))
    clock.advance(0)
    assert [len(client.wire.writes) for client in clients] == [count + 1 for count in before]
    for client in clients:
        assert [message["params"] for message in client.messages()] == ["0", "1", "2", "3", "4"]


def test_a_close_comes_after_what_was_said_before(connect, calls, factory):
    client = connect()
    (link,) = calls.opened
    link.push(event("last"))
    factory.stop()
    link.push(event("too late"))
    text, close = client.frames()
    assert json.loads(text[1])["params"] == "last"
    assert close[0] == CLOSE


def test_who_is_gone_at_the_end_of_the_turn_gets_nothing(connect, calls, clock):
    client = connect()
    (link,) = calls.opened
    link.push(event(1))
    client.wire.abortConnection()
    clock.advance(0)
    assert client.frames() == []


class Socket(Wire):
    """A Twisted TCP connection as far as it can be written to without asking the reactor."""

    def __init__(self, room):
        super().__init__()
        self.room = room
        self.dataBuffer = b""
        self._tempDataBuffer = []
        self.direct = []

    def writeSomeData(self, data):
        if self.room is None:
            return ConnectionLost()
        taken = data[: self.room]
        self.direct.append(bytes(taken))
        self.read += taken
        return len(taken)


@pytest.mark.parametrize("room", [1000, 10, 0, None])
def test_what_the_socket_takes_is_not_left_to_the_reactor(connect, calls, clock, room):
    client = connect()
    wire = Socket(room)
    wire.protocol, wire.producer = client.wire.protocol, client.wire.producer
    wire.read = client.wire.read
    before = len(wire.read)
    client.wire.protocol.transport = client.wire = wire
    (link,) = calls.opened
    link.push(event(1))
    link.push(event(2))
    clock.advance(0)
    whole = bytes(wire.read[before:])
    # In order, each byte once.
    assert [message["params"] for message in client.messages()] == ["1", "2"]
    direct = whole[: room or 0]
    assert b"".join(wire.direct) == direct
    assert b"".join(wire.writes) == whole[len(direct) :]
    # What waits there already is not overtaken.
    wire.dataBuffer = b"x"
    link.push(event(3))
    clock.advance(0)
    assert len(wire.writes) == (1 if len(direct) == len(whole) else 2)


def test_one_slow_client_does_not_hold_up_another(connect, calls):
    slow, quick = connect(), connect()
    slow.wire.stuck = True
    for _ in range(15):
        for link in calls.opened:
            link.push(event("x", 10_000))
    assert len(quick.messages()) == 15


# Clients that lose answers which come too soon


def test_zeroframe_ws_client_is_given_a_moment(connect, clock):
    client = connect(ZEROFRAME_WS_CLIENT)
    client.send({"cmd": "ping", "id": 1})
    client.send({"cmd": "ping", "id": 2})
    assert client.messages() == []
    clock.advance(PACE_SECONDS)
    assert [message["to"] for message in client.messages()] == [1, 2]
    client.send({"cmd": "ping", "id": 3})
    assert client.messages() == []
    clock.advance(PACE_SECONDS)
    assert [message["to"] for message in client.messages()] == [3]


@pytest.mark.parametrize(
    "headers", [PROGRAM, {}, {"User-Agent": "Mozilla/5.0", "Origin": "http://127.0.0.1:43110"}]
)
def test_others_are_answered_at_once(connect, headers):
    client = connect(headers)
    client.send({"cmd": "ping", "id": 1})
    assert len(client.messages()) == 1


def test_pacing_and_a_full_transport(connect, calls, clock):
    client = connect(ZEROFRAME_WS_CLIENT)
    (link,) = calls.opened
    client.wire.stuck = True
    for number in range(10):
        link.push(event(number, 10_000))
        clock.advance(PACE_SECONDS)
    assert len(client.wire.unread) < 90_000
    client.wire.unstick()
    clock.advance(PACE_SECONDS)
    assert [message["params"].rstrip("x") for message in client.messages()] == [
        str(number) for number in range(10)
    ]


def test_pacing_is_bounded(connect, calls, clock):
    client = connect(ZEROFRAME_WS_CLIENT)
    (link,) = calls.opened
    for number in range(25):
        link.push(event(number, 10_000))
    assert not client.wire.connected
    clock.advance(1)


def test_a_paced_client_that_leaves_gets_nothing(connect, calls, clock):
    client = connect(ZEROFRAME_WS_CLIENT)
    client.send({"cmd": "ping", "id": 1})
    client.wire.loseConnection()
    clock.advance(1)
    assert client.frames() == []


# Life and end


def test_a_client_is_pinged_and_one_that_is_silent_is_dropped(connect, clock, calls):
    lively, dead = connect(), connect()
    pings = 0
    for _ in range(20):
        wait(clock, PING_SECONDS / 6)
        for opcode, payload in lively.frames():
            assert opcode == PING and payload
            lively.send_frame(PONG, payload)
            pings += 1
    assert pings == 3
    assert lively.wire.connected
    assert not dead.wire.connected
    assert calls.closed == [calls.opened[1]]


def test_a_close_is_answered_with_its_code(connect, calls):
    client = connect()
    client.send_frame(CLOSE, struct.pack("!H", 1000))
    assert client.frames() == [(CLOSE, struct.pack("!H", 1000))]
    assert not client.wire.connected
    assert calls.closed == calls.opened


def test_a_client_that_vanishes_is_closed_once(connect, calls):
    client = connect()
    client.wire.abortConnection()
    assert calls.closed == calls.opened and len(calls.closed) == 1


def test_a_client_that_never_finishes_its_handshake_is_nobody(factory, calls, clock):
    class Silent(WebSocketClient):
        def feed(self, data):
            """Say nothing."""

    client = Silent(factory.build(SITE), PROGRAM)
    wait(clock, 8)
    assert not client.wire.connected
    assert calls.opened == calls.closed == []
    assert not factory.full


def test_only_so_many_clients(factory, connect):
    clients = [connect() for _ in range(3)]
    assert factory.full
    clients[0].wire.loseConnection()
    assert not factory.full
    connect()
    assert factory.full


def test_stopping_tells_every_client(factory, connect, clock):
    clients = [connect(), connect(ZEROFRAME_WS_CLIENT)]
    factory.stop()
    for client in clients:
        ((opcode, payload),) = client.frames()
        assert (opcode, struct.unpack("!H", payload[:2])[0]) == (CLOSE, 1001)
        assert payload[2:] == b"this node stops"
    wait(clock, 3)
    assert not any(client.wire.connected for client in clients)


def test_a_site_has_a_factory_of_its_own(factory):
    protocol = factory.for_site(SITE).buildProtocol(None)
    assert protocol.site == SITE


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunks=st.lists(
        st.tuples(
            st.sampled_from([TEXT, BINARY, CLOSE, PING, PONG, 0, 3]),
            st.binary(max_size=40)
            | st.sampled_from([b'{"cmd":"ping","id":1}', b'{"id":1}', b"\x03\xe8", b"[]"]),
            st.booleans(),
        )
        | st.binary(max_size=20),
        max_size=8,
    )
)
def test_any_frames_are_answered_or_close_the_connection(clock, errors, chunks):
    calls = Calls()
    client = WebSocketClient(ClientFactory(clock, calls, LIMITS).build(SITE), PROGRAM)
    for chunk in chunks:
        if isinstance(chunk, bytes):
            client.feed(chunk)
        else:
            client.send_frame(*chunk)
        if not client.wire.connected:
            break
    wait(clock, 200)
    assert not client.wire.connected, "nobody answered its pings"
    assert len(calls.opened) == len(calls.closed) == 1
    assert errors == []


# Taking turns


class Slow(Calls):
    """Whose calls take a while of the node's time."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def called(self, client, call):
        self._clock.rightNow += 0.02
        super().called(client, call)


def ping(number):
    return frame(TEXT, json.dumps({"cmd": "ping", "id": number}).encode())


@pytest.fixture
def slow(clock):
    calls = Slow(clock)
    factory = ClientFactory(clock, calls, LIMITS)
    return calls, [WebSocketClient(factory.build(SITE), PROGRAM) for _ in range(2)]


def test_a_client_of_many_calls_lets_others_have_their_turn(slow, clock):
    calls, (busy, other) = slow
    busy.feed(b"".join(map(ping, range(500))))
    assert 2 <= len(calls.calls) <= 4 and not busy.wire.reading
    other.feed(ping(1000))
    assert calls.calls[-1].id == 1000 and len(calls.calls) <= 5
    assert other.wire.reading
    clock.advance(0)
    assert [call.id for call in calls.calls if call.id < 1000] == list(range(500))
    assert [message["to"] for message in busy.messages()] == list(range(500))
    assert busy.wire.reading


def test_what_comes_while_a_client_waits_is_not_lost(slow, clock):
    calls, (busy, _) = slow
    cut = ping(10)
    busy.feed(b"".join(map(ping, range(10))) + cut[:5])
    busy.feed(cut[5:] + ping(11))
    assert len(calls.calls) <= 4
    clock.advance(0)
    assert [call.id for call in calls.calls] == list(range(12))


def test_calls_of_a_client_that_is_gone_are_not_run(slow, clock):
    calls, (busy, _) = slow
    busy.feed(b"".join(map(ping, range(500))))
    busy.wire.abortConnection()
    clock.advance(0)
    assert len(calls.calls) <= 4 and len(calls.closed) == 1
