"""`zeromsg peers`: how the table reads."""

import pytest

from zeromsg.cli import peers as module
from zeromsg.cli.peers import _ago, _messages, _row
from zeromsg.policy.capability import Evidence

NOW = 1_800_000_000.0
PEER = {
    "site": "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D",
    "peer": "203.0.113.9:5",
    "connected": False,
    "capable": None,
    "how": None,
    "sources": {"pex": [NOW - 7200, NOW], "asked-us": [NOW, NOW]},
    "since": NOW - 7200,
    "last_seen": None,
    "failures": 3,
}


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (None, "-"),
        (NOW, "0 s"),
        (NOW + 5, "0 s"),
        (NOW - 59, "59 s"),
        (NOW - 61, "1 min"),
        (NOW - 7200, "2 h"),
        (NOW - 86400 * 9, "9 d"),
    ],
)
def test_how_long_ago(when, text):
    assert _ago(when, NOW) == text


def test_every_evidence_has_words():
    assert set(module._HOW) == set(Evidence)


def test_a_row():
    assert _row(PEER, NOW) == (
        "1HeLLo..",
        "203.0.113.9:5",
        "no",
        "not known",
        "pex, asked-us",
        "2 h",
        "-",
        "3",
    )
    closed = {**PEER, "connected": True, "sources": {}, "since": None}
    assert _row(closed, NOW)[2:7] == ("yes", "not known", "its connection", "-", "now")


@pytest.mark.parametrize(
    ("capable", "how", "text"),
    [
        (True, "handshake", "yes: its handshake says so"),
        (False, "answered-unknown", "no: it did not know a message"),
        (True, "of-a-later-version", "yes: of-a-later-version"),
    ],
)
def test_what_is_known_of_messages(capable, how, text):
    assert _messages({"capable": capable, "how": how}) == text
