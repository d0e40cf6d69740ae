import json

import pytest

from zeromsg.protocol.session import CHANNEL_LIMIT, Session


def test_numbers_start_at_one_and_rise_whatever_is_sent():
    session = Session()
    sent = [
        session.event("peerReceive", {"message": 1}),
        session.response(1000001, "pong"),
        session.payload('{"cmd":"x","params":null,"id":'),
    ]
    assert [json.loads(payload)["id"] for payload in sent] == [1, 2, 3]


def test_every_session_counts_for_itself():
    Session().event("x", None)
    assert json.loads(Session().event("x", None))["id"] == 1


@pytest.mark.parametrize("to", [1, 0, -1, 1.5, True, 10**20])
def test_a_response_echoes_the_number_it_answers(to):
    sent = json.loads(Session().response(to, {"error": "h\u00e9"}))
    assert sent == {"cmd": "response", "to": to, "result": {"error": "h\u00e9"}, "id": 1}
    assert type(sent["to"]) is type(to)


def test_an_event_as_the_client_reads_it():
    sent = Session().event("peerReceive", {"message": ['"\\', "\ud800"]})
    assert isinstance(sent, bytes)
    assert json.loads(sent) == {
        "cmd": "peerReceive",
        "params": {"message": ['"\\', "\ud800"]},
        "id": 1,
    }


def test_what_cannot_be_written_takes_no_number():
    """A gap would be harmless, but the first message of a connection must have number 1."""
    session = Session()
    with pytest.raises(ValueError, match="JSON"):
        session.response(1, float("nan"))
    assert json.loads(session.response(1, None))["id"] == 1


def test_channels_are_joined_one_or_many():
    session = Session()
    assert session.channels == set()
    session.join("siteChanged")
    session.join(["peerReceive", "serverChanged", "peerReceive"])
    assert session.channels == {"siteChanged", "peerReceive", "serverChanged"}


@pytest.mark.parametrize("channels", [None, 1, True, {}, {"a": 1}, ["a", 1], ["a", None], [["a"]]])
def test_what_is_no_channel_is_refused_as_a_whole(channels):
    session = Session()
    with pytest.raises(ValueError, match="must be a text or a list of texts"):
        session.join(channels)
    assert session.channels == set()


def test_a_client_is_in_so_many_channels_at_most():
    session = Session()
    names = [str(number) for number in range(CHANNEL_LIMIT)]
    session.join(names)
    session.join(names[:5])
    with pytest.raises(ValueError, match="at most 64 channels"):
        session.join("one more")
    assert session.channels == set(names)
