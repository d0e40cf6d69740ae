import json
import pathlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeromsg.errors import ClientError
from zeromsg.wire.client_messages import (
    Answer,
    BadCall,
    Call,
    Unanswerable,
    event_head,
    parameters,
    parse,
    response_head,
)

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "ui"


def sent_by_clients(name):
    """Every recorded message of a client, with the note above it."""
    note, sent = "", []
    for step in json.loads((VECTORS / f"{name}.json").read_text())["steps"]:
        note = step.get("note", note)
        if step.get("dir") == "c2s":
            if "binary" in step:
                payload = bytes.fromhex(step["binary"]).decode()
            else:
                payload = step["text"] if "text" in step else json.dumps(step["msg"])
            sent.append((note, payload))
    return sent


ENVELOPES = sent_by_clients("envelope")
REST = [
    payload
    for name in ("events", "peermessage", "peermessage_errors", "permissions", "files_settings")
    for _, payload in sent_by_clients(name)
]

# What a real node reports by an `error` event: some of it can be answered.
NO_ID = {"no id", "id null", "id string", "not JSON", "JSON but not an object"}
NO_CMD = {"no cmd", "empty cmd", "cmd not a string"}


@pytest.mark.parametrize(("note", "payload"), ENVELOPES, ids=[note for note, _ in ENVELOPES])
def test_recorded_envelopes(note, payload):
    if note in NO_ID or not payload:
        with pytest.raises(Unanswerable):
            parse(payload)
    elif note in NO_CMD:
        with pytest.raises(BadCall) as refused:
            parse(payload)
        assert refused.value.call_id == json.loads(payload)["id"]
    else:
        values = json.loads(payload)
        message = parse(payload)
        if values["cmd"] == "response":
            assert message == Answer(values.get("to"), values.get("result"))
        else:
            assert (message.id, message.cmd) == (values["id"], values["cmd"])


def test_the_recordings_hold_every_kind():
    notes = {note for note, _ in ENVELOPES}
    assert notes >= NO_ID | NO_CMD
    assert len(REST) > 50


@pytest.mark.parametrize("payload", REST, ids=range(len(REST)))
def test_recorded_calls(payload):
    values = json.loads(payload)
    message = parse(payload)
    if values["cmd"] == "response":
        assert message == Answer(values["to"], values["result"])
        return
    assert (message.id, message.cmd) == (values["id"], values["cmd"])
    params = values.get("params", {})
    assert params in ([message.named, message.positional, *message.positional])


@pytest.mark.parametrize(
    ("params", "named", "positional"),
    [
        ({"a": 1}, {"a": 1}, []),
        ([1, None], {}, [1, None]),
        ("text", {}, ["text"]),
        (5, {}, [5]),
        (True, {}, [True]),
        *((nothing, {}, []) for nothing in (None, {}, [], "", 0, False, 0.0)),
    ],
)
def test_parameters_by_name_by_position_or_one_alone(params, named, positional):
    assert parameters(params) == (named, positional)
    call = parse(json.dumps({"cmd": "x", "id": 1, "params": params}))
    assert call == Call(1, "x", named, positional)


def test_missing_parameters_are_none():
    assert parse('{"cmd": "x", "id": 1}') == Call(1, "x", {}, [])


@pytest.mark.parametrize("call_id", [1, 0, -1, 1.5, True, False, 10**30])
def test_any_number_is_an_id_and_comes_back_as_it_was(call_id):
    call = parse(json.dumps({"cmd": "ping", "id": call_id}))
    assert repr(call.id) == repr(call_id)
    answer = json.loads(response_head(call.id, "pong") + "1}")
    assert repr(answer["to"]) == repr(call_id)


@pytest.mark.parametrize("call_id", ["null", '"1"', "[1]", "{}", "1e999", "-1e999", "NaN"])
def test_what_cannot_be_sent_back_as_a_number_is_no_id(call_id):
    with pytest.raises(Unanswerable) as refused:
        parse(f'{{"cmd": "ping", "id": {call_id}}}')
    assert refused.value.code == "invalid"


@pytest.mark.parametrize("cmd", ["", None, 5, True, ["ping"], {"a": 1}])
def test_a_call_without_a_command_can_be_answered(cmd):
    with pytest.raises(BadCall) as refused:
        parse(json.dumps({"cmd": cmd, "id": 7}))
    assert refused.value.call_id == 7
    assert str(refused.value) == "invalid: the message has no cmd"


def test_an_answer_without_to_is_an_answer_to_nothing():
    assert parse('{"cmd": "response", "id": 1}') == Answer(None, None)


def test_the_command_is_not_changed():
    assert parse('{"cmd": "Ping", "id": 1}').cmd == "Ping"


def test_deep_nesting_is_unanswerable():
    with pytest.raises(Unanswerable, match="nested too deeply"):
        parse('{"cmd": "x", "id": 1, "params": ' + "[" * 100_000)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "cmd": st.sampled_from(["ping", "response", ""]) | json_values,
        "id": st.integers() | json_values,
        "params": json_values,
        "to": json_values,
        "result": json_values,
    },
)


@settings(max_examples=300)
@given(st.text(st.characters(), max_size=60) | (messages | json_values).map(json.dumps))
@example('{"cmd": "ping", "id": 1e999}')
def test_any_text_is_a_message_or_a_refusal_that_can_be_told(payload):
    try:
        message = parse(payload)
    except (Unanswerable, BadCall) as refused:
        assert isinstance(refused, ClientError)
        if isinstance(refused, BadCall):
            response_head(refused.call_id, {"error": str(refused)}).encode()
        event_head("error", json.dumps(str(refused))).encode()
        return
    if isinstance(message, Call):
        assert isinstance(message.cmd, str)
        assert message.cmd
        assert not (message.named and message.positional)
        response_head(message.id, None).encode()


@given(json_values.filter(lambda value: "nan" not in repr(value) and "inf" not in repr(value)))
def test_heads_become_messages_once_they_have_a_number(value):
    assert json.loads(response_head(1.5, value) + "7}") == {
        "cmd": "response",
        "to": 1.5,
        "result": value,
        "id": 7,
    }
    assert json.loads(event_head("peerReceive", json.dumps(value)) + "8}") == {
        "cmd": "peerReceive",
        "params": value,
        "id": 8,
    }
