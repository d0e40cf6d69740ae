"""`zeromsg status`: how the table of sites reads."""

import pytest

from zeromsg.cli.status import show_sites

SITE = {
    "address": "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D",
    "title": "Chat",
    "problem": "",
    "complete": True,
    "clients": 2,
    "peers": 3,
    "peers_without_messages": 0,
    "queued": 0,
}


@pytest.mark.parametrize(("deaf", "text"), [(0, "3 "), (1, "3 (1 without messages)")])
def test_peers_without_messages_are_named_as_such(capsys, deaf, text):
    show_sites([{**SITE, "peers_without_messages": deaf}])
    out = capsys.readouterr().out
    assert text in out and ("without" in out) is bool(deaf)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "complete"),
        ({"problem": "there is no filter"}, "there is no filter"),
        ({"complete": False, "own": False}, "being fetched"),
        ({"complete": False, "own": True}, "changed since it was signed"),
        (
            {"version_problem": "its files have 2 bytes, over 1", "files": 3},
            "an earlier version, as the newest cannot be used: its files have 2 bytes, over 1",
        ),
        (
            {"version_problem": "its files have 2 bytes, over 1", "files": 0, "complete": False},
            "the newest cannot be used: its files have 2 bytes, over 1",
        ),
    ],
)
def test_the_state_is_true(capsys, more, state):
    show_sites([{**SITE, **more}])
    row = capsys.readouterr().out.splitlines()[1]
    assert f"Chat   {state}  " in row
