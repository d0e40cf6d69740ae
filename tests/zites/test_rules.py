"""The rules that come with the zites: what they take, and what dies at the first hop."""

import json
from typing import Any

import pytest

from zeromsg.policy.rule_review import replay, review
from zeromsg.policy.rules import Rules
from zeromsg.service.site_templates import TEMPLATES, template_files

LONG = "x" * 501
GAME = "0123456789abcdef" * 2
SEALED = {"v": 1, "key": "A", "to": ["A"], "body": "A"}
POLL = {"cmd": "poll", "nick": "Ann", "question": "Tea?", "options": ["yes", "no"], "seconds": 30}


def rules_of(template: str) -> Rules:
    rules, findings = review(template_files(template)["p2p.json"])
    assert rules is not None, findings
    return rules


def refused_by(template: str, message: Any, signer: str = "1Ann") -> str:
    """The check that a message does not pass, or ""."""
    refusals = list(replay(rules_of(template), [{"message": message, "signed_by": signer}]))
    return refusals[0].check if refusals else ""


@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_is_wrong_with_the_rules(template):
    # Among others: nodes with the PeerMessage plugin take the filter.
    assert review(template_files(template)["p2p.json"])[1] == []


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("message", [None, 1, "hello", [], {}, {"cmd": "other"}, {"cmd": None}])
def test_no_zite_takes_just_anything(template, message):
    assert refused_by(template, message) == "filter"


GOOD = {
    "chat": [
        {"cmd": "say", "nick": "Ann", "text": "hello"},
        {"cmd": "say", "nick": "Ann", "text": "😀" * 500},
        {"cmd": "here", "nick": "Ann"},
        {"cmd": "here", "nick": "Ann", "note": "away", "bot": True},
        {"cmd": "who"},
        {"cmd": "private", "encrypted": SEALED},
        POLL,
        {"cmd": "vote", "nick": "Ann", "choice": 1},
    ],
    "tictactoe": [
        {"cmd": "here"},
        *(
            {"cmd": cmd, "game": GAME, "encrypted": SEALED}
            for cmd in ("invite", "accept", "play", "leave")
        ),
    ],
    "ask": [
        {"cmd": "ask", "text": "Who is there?", "seconds": 20},
        {"cmd": "answer", "text": "😀" * 280},
    ],
}

BAD = {
    "chat": [
        {"cmd": "say", "nick": "Ann"},
        {"cmd": "say", "nick": "", "text": "hello"},
        {"cmd": "say", "nick": "n" * 25, "text": "hello"},
        {"cmd": "say", "nick": "Ann", "text": ""},
        {"cmd": "say", "nick": "Ann", "text": LONG},
        {"cmd": "say", "nick": "Ann", "text": "hello", "more": 1},
        {"cmd": "say", "nick": "Ann", "encrypted": SEALED},
        {"cmd": "here", "nick": "Ann", "note": "n" * 81},
        {"cmd": "who", "nick": "Ann"},
        # What is private must be sealed.
        {"cmd": "private", "to": "1Bob", "nick": "Ann", "text": "psst"},
        {"cmd": "private", "text": "psst", "encrypted": SEALED},
        {**POLL, "options": ["only"]},
        {**POLL, "options": ["o"] * 7},
        {**POLL, "seconds": 301},
        {**POLL, "question": LONG},
        {"cmd": "vote", "nick": "Ann", "choice": 6},
        {"cmd": "vote", "nick": "Ann", "choice": "1"},
    ],
    "tictactoe": [
        {"cmd": "here", "game": GAME},
        # Moves must be sealed, and nothing but the game be readable.
        {"cmd": "play", "game": GAME, "moves": [4]},
        {"cmd": "play", "game": GAME, "moves": [4], "encrypted": SEALED},
        {"cmd": "play", "game": GAME, "to": "1Bob", "encrypted": SEALED},
        {"cmd": "play", "game": GAME.upper(), "encrypted": SEALED},
        {"cmd": "play", "game": GAME[1:], "encrypted": SEALED},
        {"cmd": "invite", "encrypted": SEALED},
        {"cmd": "accept", "game": GAME, "encrypted": "sealed"},
    ],
    "ask": [
        {"cmd": "ask", "text": "Who is there?"},
        {"cmd": "ask", "text": "", "seconds": 20},
        {"cmd": "ask", "text": "x" * 281, "seconds": 20},
        {"cmd": "ask", "text": "Who is there?", "seconds": 4},
        {"cmd": "answer", "text": "me", "seconds": 20},
        {"cmd": "answer"},
    ],
}


@pytest.mark.parametrize(
    ("template", "message"), [(name, message) for name in GOOD for message in GOOD[name]]
)
def test_good_messages(template, message):
    assert refused_by(template, message) == ""
    assert refused_by(template, message, signer="") == "signed-only"


@pytest.mark.parametrize(
    ("template", "message"), [(name, message) for name in BAD for message in BAD[name]]
)
def test_bad_messages(template, message):
    assert refused_by(template, message) == "schema"


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_is_tried(template):
    assert {message["cmd"] for message in GOOD[template]} == commands_of(template)
    assert BAD[template]


def commands_of(template: str) -> set[str]:
    """The commands that the schema knows."""
    schema = json.loads(template_files(template)["p2p.json"])["schema"]
    kinds = [kind["properties"]["cmd"] for kind in schema["oneOf"]]
    return {cmd for kind in kinds for cmd in kind.get("enum", [kind.get("const")])}


def test_what_is_too_large_never_reaches_the_filter():
    message = {"cmd": "private", "encrypted": {**SEALED, "body": "A" * 12000}}
    assert refused_by("chat", message) == "size"
