import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import ClientError
from zeromsg.routing.binding import (
    Parameter,
    anything,
    bind,
    boolean,
    optional_text,
    seconds,
    signing_key,
    text,
    whole,
)
from zeromsg.wire.client_messages import Call, parameters

PARAMETERS = (
    Parameter("message", anything),
    Parameter("key", signing_key, None),
    Parameter("count", whole(0, 10), 5),
    Parameter("immediate", boolean, False),
)


def bound(params, parameters_=PARAMETERS):
    return bind("peerBroadcast", parameters_, Call(1, "peerBroadcast", *parameters(params)))


def refusal(params, parameters_=PARAMETERS):
    with pytest.raises(ClientError) as refused:
        bound(params, parameters_)
    assert refused.value.code == "invalid"
    return refused.value.sentence


DEFAULTS = {"key": None, "count": 5, "immediate": False}


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        (["hi"], {"message": "hi"}),
        ("hi", {"message": "hi"}),
        ({"message": "hi"}, {"message": "hi"}),
        ([None], {"message": None}),
        (["hi", False], {"message": "hi", "key": False}),
        (["hi", None, 0, True], {"message": "hi", "count": 0, "immediate": True}),
        ({"count": 10, "message": [1]}, {"message": [1], "count": 10}),
    ],
)
def test_parameters_by_position_and_by_name(params, arguments):
    assert bound(params) == {**DEFAULTS, **arguments}


def test_false_is_not_mistaken_for_zero():
    """`["text", false]` signs with the user's key; 0 and 1 are no flags."""
    assert bound(["hi", False])["key"] is False
    assert "key must be" in refusal(["hi", 0])
    assert "immediate must be true or false" in refusal({"message": 1, "immediate": 0})
    assert "count must be a whole number" in refusal({"message": 1, "count": True})


def test_what_is_required_is_named():
    assert refusal([]) == "peerBroadcast needs the parameter message"
    assert refusal({"count": 3}) == "peerBroadcast needs the parameter message"


def test_too_many_are_refused():
    assert refusal([1, None, 5, False, 1]) == "peerBroadcast takes at most 4 parameters"


def test_unknown_names_are_told():
    sentence = refusal({"message": 1, "tiemout": 3, "broadcst": True})
    assert sentence == "peerBroadcast has no parameter broadcst, tiemout"
    assert len(refusal({"message": 1, "x" * 5000: 1})) < 300


def test_a_default_may_be_what_clients_cannot_give():
    hidden = (Parameter("to", text, None),)
    assert bound([], hidden) == {"to": None}
    assert bound({"to": "x"}, hidden) == {"to": "x"}
    assert "to must be a text" in refusal({"to": 5}, hidden)


def test_no_parameters_at_all():
    assert bound(None, ()) == {}
    assert refusal([1], ()) == "peerBroadcast takes at most 0 parameters"


ALL = [True, False, None, 0, 1, 5, 10, 11, -1, 1.5, "", "x", "x" * 64, "x" * 65, "x" * 1025, [], {}]
NONE, TRUE, FALSE = "none", "true", "false"


def taken(check):
    """Which of many values a check takes; their JSON, as true is not 1."""
    passed = []
    for value in ALL:
        try:
            result = check("it", value)
        except ClientError as refused:
            assert refused.code == "invalid"
            assert refused.sentence.startswith("it must be")
        else:
            assert result == value
            passed.append(value)
    return [json.dumps(value)[:10] + str(len(json.dumps(value))) for value in passed]


def written(*values):
    return [json.dumps(value)[:10] + str(len(json.dumps(value))) for value in values]


def test_what_each_check_takes():
    assert taken(boolean) == written(True, False)
    assert taken(whole(0, 10)) == written(0, 1, 5, 10)
    assert taken(whole(-1, 0)) == written(0, -1)
    assert taken(seconds(10)) == written(0, 1, 5, 10, 1.5)
    assert taken(text) == written("", "x", "x" * 64, "x" * 65)
    assert taken(optional_text) == written(None, "", "x", "x" * 64, "x" * 65)
    assert taken(signing_key) == written(False, None, "x", "x" * 64)


def test_anything_takes_everything():
    assert all(anything("it", value) is value for value in ALL)


def test_texts_up_to_their_limit():
    assert text("it", "x" * 1024) == "x" * 1024
    with pytest.raises(ClientError):
        text("it", "x" * 1025)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -0.1])
def test_seconds_are_finite_and_not_negative(value):
    with pytest.raises(ClientError, match="from 0 to 3600"):
        seconds(3600.0)("timeout", value)


def test_seconds_are_floats():
    assert type(seconds(10)("it", 5)) is float


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    json_values
    | st.lists(json_values, max_size=6)
    | st.dictionaries(st.sampled_from(["message", "key", "count", "immediate", "x"]), json_values)
)
def test_whatever_a_client_sends_is_bound_or_refused(params):
    try:
        arguments = bound(params)
    except ClientError as refused:
        assert refused.code == "invalid"
        return
    assert list(arguments) == [parameter.name for parameter in PARAMETERS]
    assert type(arguments["count"]) is int
    assert type(arguments["immediate"]) is bool
