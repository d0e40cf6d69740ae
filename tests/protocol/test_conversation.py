import json
import pathlib

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.protocol.conversation import (
    ANSWER_SECONDS,
    STREAM_LIMIT,
    AnswerArrived,
    Conversation,
    RequestArrived,
)
from zeromsg.wire.packing import MESSAGE_LIMIT, pack

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
CONNECTIONS = {
    f"{name}-{number}": connection["messages"]
    for name in ("wire-plain", "wire-plain-more", "wire-announce")
    for number, connection in enumerate(
        json.loads((VECTORS / f"{name}.json").read_text())["connections"]
    )
}

NO_PARAMS = pack({})


def receive(conversation, data, now=0.0):
    return [event for event in conversation.receive(data, now) if event is not None]


def request(**changes):
    return pack({"cmd": "ping", "req_id": 1, "params": {}, **changes})


def asked(conversation, cmd="ping", token="token", now=0.0, timeout=10.0):
    """Make a request; its number as the peer reads it."""
    data = conversation.request(cmd, NO_PARAMS, token, now, timeout)
    return msgpack.unpackb(data)["req_id"]


def answer(to, **body):
    return pack({"cmd": "response", "to": to, **body})


# What comes in.


def test_a_request_arrives():
    (event,) = receive(Conversation(9), request(req_id=5, params={"a": 1}))
    assert event == RequestArrived(5, "ping", {"a": 1})


def test_a_request_without_a_number_has_none():
    data = pack({"cmd": "ping", "params": {}})
    assert receive(Conversation(9), data) == [RequestArrived(None, "ping", {})]


@pytest.mark.parametrize(
    ("cmd", "read"),
    [("Ping", "ping"), ("PeerBroadcast", "peerBroadcast"), ("PING", "pING"), ("x", "x")],
)
def test_the_first_letter_of_a_command_counts_in_either_case(cmd, read):
    (event,) = receive(Conversation(9), request(cmd=cmd))
    assert event.cmd == read


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"req_id": 1, "params": {}},
        *({"cmd": cmd, "req_id": 1, "params": {}} for cmd in ("", None, 5, b"ping", ["ping"])),
        *({"cmd": "ping", "req_id": 1, "params": params} for params in (None, [], "x", 1)),
        {"cmd": "ping", "req_id": 1},
        *({"cmd": "x", "req_id": req_id, "params": {}} for req_id in ("1", 1.0, True, [1], {})),
    ],
    ids=repr,
)
def test_what_is_no_request_is_their_mistake(message):
    with pytest.raises(TheirMistake):
        receive(Conversation(9), pack(message))


def test_a_command_that_could_not_be_repeated_is_their_mistake():
    """Unknown commands are answered with their name, and that answer must be text."""
    with pytest.raises(TheirMistake):
        receive(Conversation(9), b"\x83\xa3cmd\xa2x\xff\xa6req_id\x01\xa6params\x80")
    (event,) = receive(Conversation(9), request(cmd="caf\u00e9"))
    assert event.cmd == "caf\u00e9"


@given(st.integers(-(2**63), 2**64 - 1) | st.none())
def test_every_number_of_a_request_can_be_answered(req_id):
    (event,) = receive(Conversation(9), request(req_id=req_id))
    sent = msgpack.unpackb(Conversation.answer(event.req_id, {"ok": "thx"}))
    assert sent == {"cmd": "response", "to": req_id, "ok": "thx"}


def test_events_come_one_at_a_time():
    """A handler may close the connection, and the next message then means nothing."""
    conversation = Conversation(9)
    events = conversation.receive(request(req_id=1) + request(req_id=2), 0.0)
    assert next(events).req_id == 1
    assert next(events).req_id == 2


def test_a_handler_may_give_up_what_a_later_message_answers():
    conversation = Conversation(9)
    first, second = asked(conversation, token="a"), asked(conversation, token="b")
    events = conversation.receive(answer(first) + answer(second), 0.0)
    assert next(events).token == "a"
    assert conversation.abandoned() == ["b"]
    assert list(events) == [None]


def test_what_real_nodes_wait_for_and_ask_for():
    """They give up on a connection after ten seconds, and ask for half a mebibyte at a time."""
    assert ANSWER_SECONDS == 10.0
    assert STREAM_LIMIT == 2 * 512 * 1024


def test_when_something_was_received_last():
    conversation = Conversation(9)
    assert conversation.last_received == 0.0
    receive(conversation, request()[:3], 5.0)
    assert conversation.last_received == 5.0
    assert conversation.partial
    receive(conversation, request()[3:], 7.0)
    assert conversation.last_received == 7.0
    assert not conversation.partial


# What goes out, and its answers.


def test_requests_are_numbered_from_one():
    conversation = Conversation(9)
    assert [asked(conversation) for _ in range(3)] == [1, 2, 3]


def test_the_handshake_has_number_zero():
    conversation = Conversation(9)
    asked(conversation)
    data = conversation.greet({"fileserver_port": 1}, "greeting", 0.0, 10.0)
    assert msgpack.unpackb(data) == {
        "cmd": "handshake",
        "req_id": 0,
        "params": {"fileserver_port": 1},
    }
    assert receive(conversation, answer(0, version="x")) == [
        AnswerArrived("greeting", {"cmd": "response", "to": 0, "version": "x"})
    ]
    assert asked(conversation) == 2


def test_a_request_as_the_peer_reads_it():
    data = Conversation(9).request("pex", pack({"need": 5}), None, 0.0, 10.0)
    assert msgpack.unpackb(data) == {"cmd": "pex", "req_id": 1, "params": {"need": 5}}


def test_answers_may_come_in_any_order():
    conversation = Conversation(9)
    numbers = {asked(conversation, token=token): token for token in "abc"}
    order = [3, 1, 2]
    events = receive(conversation, b"".join(answer(to, body=to) for to in order))
    assert [event.token for event in events] == [numbers[to] for to in order]
    assert [event.body["body"] for event in events] == order
    assert conversation.waiting == 0


@pytest.mark.parametrize("to", [2, -1, None, "1", 1.0, True, [1], {}, 2**63])
def test_answers_to_nothing_are_ignored(to):
    conversation = Conversation(9)
    asked(conversation)
    assert receive(conversation, answer(to)) == []
    assert conversation.waiting == 1


def test_an_answer_counts_once():
    conversation = Conversation(9)
    to = asked(conversation)
    assert len(receive(conversation, answer(to) + answer(to))) == 1
    assert receive(conversation, answer(to)) == []


def test_numbers_of_both_sides_have_nothing_to_do_with_each_other():
    conversation = Conversation(9)
    to = asked(conversation)
    (event,) = receive(conversation, request(req_id=to))
    assert isinstance(event, RequestArrived)
    assert conversation.waiting == 1


def test_only_so_many_requests_wait():
    conversation = Conversation(2)
    first = asked(conversation)
    assert not conversation.full
    asked(conversation)
    assert conversation.full
    assert conversation.waiting == 2
    receive(conversation, answer(first))
    assert not conversation.full


def test_requests_expire_at_their_own_time():
    conversation = Conversation(9)
    asked(conversation, token="long", now=100.0, timeout=60.0)
    asked(conversation, token="short", now=100.0, timeout=10.0)
    conversation.greet({}, "greeting", 101.0, 9.0)
    assert conversation.expired(109.9) == []
    assert conversation.expired(110.0) == ["short", "greeting"]
    assert conversation.expired(110.0) == []
    assert conversation.waiting == 1
    assert conversation.expired(160.0) == ["long"]


def test_an_answer_after_its_time_is_ignored():
    conversation = Conversation(9)
    to = asked(conversation)
    assert conversation.expired(10.0) == ["token"]
    assert receive(conversation, answer(to), 11.0) == []


def test_every_request_is_abandoned_with_the_connection():
    conversation = Conversation(9)
    conversation.greet({}, "greeting", 0.0, 10.0)
    asked(conversation, token="a")
    assert conversation.abandoned() == ["greeting", "a"]
    assert conversation.abandoned() == []
    assert conversation.waiting == 0


# Streamed bodies.


def test_a_file_that_was_asked_for_arrives():
    conversation = Conversation(9)
    to = asked(conversation, "streamFile", token="file")
    (event, ping) = receive(conversation, answer(to, size=3, stream_bytes=3) + b"abc" + request())
    assert event.token == "file"
    assert event.body["body"] == b"abc"
    assert ping == RequestArrived(1, "ping", {})


def test_a_file_may_be_as_large_as_the_limit():
    conversation = Conversation(9)
    to = asked(conversation, "streamFile")
    data = answer(to, stream_bytes=STREAM_LIMIT) + bytes(STREAM_LIMIT)
    (event,) = receive(conversation, data)
    assert len(event.body["body"]) == STREAM_LIMIT


def test_a_larger_file_is_refused_before_it_comes():
    conversation = Conversation(9)
    to = asked(conversation, "streamFile")
    with pytest.raises(TheirMistake, match="nobody asked"):
        receive(conversation, answer(to, stream_bytes=STREAM_LIMIT + 1))


@pytest.mark.parametrize("cmd", ["getFile", "ping", "StreamFile"])
def test_other_requests_bring_no_stream(cmd):
    conversation = Conversation(9)
    to = asked(conversation, cmd)
    with pytest.raises(TheirMistake, match="nobody asked"):
        receive(conversation, answer(to, stream_bytes=1) + b"x")


@pytest.mark.parametrize("to", [0, 2, None, "1", 1.0, True, [], {}])
def test_a_stream_to_nothing_is_refused(to):
    conversation = Conversation(9)
    asked(conversation, "streamFile")
    with pytest.raises(TheirMistake, match="nobody asked"):
        receive(conversation, answer(to, stream_bytes=1) + b"x")


def test_a_stream_inside_a_request_is_refused():
    with pytest.raises(TheirMistake, match="nobody asked"):
        receive(Conversation(9), request(stream_bytes=1) + b"x")


# Real conversations, and hostile ones.


def replay(messages, side, chunks_of):
    """Be the other side of a recorded connection; what of its messages came as events."""
    conversation = Conversation(1000)
    events, wanted = [], []
    for message in messages:
        data, decoded = bytes.fromhex(message["hex"]), message.get("decoded", {})
        if message["dir"] == side:
            if message["kind"] == "msg":
                wanted.append(decoded["cmd"] if "req_id" in decoded else decoded["to"])
            for start in range(0, len(data), chunks_of):
                events += receive(conversation, data[start : start + chunks_of])
        elif decoded.get("cmd") == "handshake":
            conversation.greet({}, 0, 0.0, 10.0)
        elif "req_id" in decoded:
            # Numbers may have gaps, where a request went over another connection.
            while asked(conversation, decoded["cmd"], decoded["req_id"]) < decoded["req_id"]:
                pass
    got = [event.cmd if isinstance(event, RequestArrived) else event.token for event in events]
    return got, wanted


@pytest.mark.parametrize("name", CONNECTIONS)
@pytest.mark.parametrize("side", "><")
@pytest.mark.parametrize("chunks_of", [1, 100_000])
def test_recorded_conversations(name, side, chunks_of):
    got, wanted = replay(CONNECTIONS[name], side, chunks_of)
    assert got == wanted
    assert got


keys = st.sampled_from(["cmd", "req_id", "params", "to", "stream_bytes", "body"]) | st.integers(
    0, 3
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.sampled_from(["response", "Response", "handshake", "streamFile", "", "\u00e9"])
    | st.binary(max_size=8)
)
maps = st.dictionaries(
    keys, leaves | st.lists(leaves, max_size=2) | st.dictionaries(keys, leaves, max_size=2)
)


@settings(max_examples=500)
@given(
    st.lists(st.binary(max_size=30) | maps.map(pack), max_size=5).map(b"".join),
    st.integers(1, 40),
)
@example(b"\x83\xa3cmd\xa4ping\xa6req_id" + b"\x91" * 900 + b"\x90\xa6params\x80", 7)
@example(b"\x83\xa3cmd\xa4ping\xa6req_id\xa1\xff\xa6params\x80", 7)
def test_hostile_bytes_raise_only_their_mistake(data, size):
    conversation = Conversation(9)
    asked(conversation, "streamFile")
    asked(conversation, "ping")
    try:
        for start in range(0, len(data), size):
            for event in conversation.receive(data[start : start + size], 0.0):
                if isinstance(event, RequestArrived):
                    # Whatever it is, the refusal can be written.
                    conversation.answer(event.req_id, {"error": f"Unknown command: {event.cmd}"})
    except TheirMistake:
        pass


def test_a_message_over_the_size_limit_is_their_mistake():
    data = request(params={"raw": bytes(MESSAGE_LIMIT)})
    conversation = Conversation(9)
    with pytest.raises(TheirMistake):
        for start in range(0, len(data), 65536):
            receive(conversation, data[start : start + 65536])


def test_a_message_that_drips_takes_too_long_in_the_end():
    conversation = Conversation(in_flight_limit=10)
    message = pack({"cmd": "ping", "req_id": 1, "params": {}})
    list(conversation.receive(message[:1], 0.0))
    for at in range(1, 7):
        list(conversation.receive(message[at : at + 1], at * 10.0))
        assert not conversation.dawdles(at * 10.0)
    assert conversation.dawdles(60.1)
    list(conversation.receive(message[7:], 61.0))
    assert not conversation.dawdles(1000.0)


def test_a_new_message_has_its_own_time():
    conversation = Conversation(in_flight_limit=10)
    message = pack({"cmd": "ping", "req_id": 1, "params": {}})
    list(conversation.receive(message[:5], 0.0))
    list(conversation.receive(message[5:] + message[:5], 59.0))
    assert not conversation.dawdles(100.0)
    assert conversation.dawdles(119.1)
