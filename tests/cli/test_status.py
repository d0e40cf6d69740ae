"""`zeromsg status`: how the table of sites reads."""

import pytest

from zeromsg.cli.status import _show_links, _show_storage, _show_tor, show_sites

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


def test_a_disk_that_refuses_is_said_and_one_that_does_not_is_no_line(capsys):
    _show_storage({"problem": "the disk is full", "waiting": 3})
    assert "the disk is full\n3 write(s) wait" in capsys.readouterr().out
    _show_storage({"problem": "", "waiting": 0})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("encrypted", "tor", "text"),
    [(True, False, " yes "), (False, False, " no "), (False, True, " tor ")],
)
def test_who_encrypts_a_link(capsys, encrypted, tor, text):
    link = {"peer": "x:1", "dialled": True, "zeromsg": True, "points": 0.0}
    _show_links([{**link, "encrypted": encrypted, "tor": tor}])
    assert text in capsys.readouterr().out


def test_a_tor_that_was_never_reached_has_no_version(capsys):
    _show_tor({"version": "", "problem": "nothing listens", "refused": {}, "onions": []})
    assert capsys.readouterr().out.startswith("Tor: nothing listens\n")


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
