"""What the demo's terminal says in the chat room, and how it shows what others say."""

import pytest

from zeromsg.cli.demo_chat import WHO, here, spoken
from zeromsg.policy.rule_review import replay, review
from zeromsg.service.site_templates import template_files


def test_the_room_takes_what_the_terminal_says():
    rules, _ = review(template_files("chat")["p2p.json"])
    assert rules is not None
    said = [here("A", "Hello number 1000000 from node A"), WHO]
    assert list(replay(rules, [{"message": each, "signed_by": "1A"} for each in said])) == []


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (here("A", "Hello"), "Hello"),
        ({"cmd": "here", "nick": "Ann"}, "Ann is here"),
        (WHO, "who is there?"),
        ({"cmd": "say", "nick": "Ann", "text": "hi\x1b[31m"}, "Ann: hi\\x1b[31m"),
        ({"cmd": "private", "encrypted": {"v": 1}}, "(a private message, sealed)"),
        ({"cmd": "poll", "nick": "Ann", "question": "Tea?"}, "Ann asks: Tea?"),
        ({"cmd": "say", "nick": 5, "text": "hi"}, '{"cmd": "say", "nick": 5, "text": "hi"}'),
        ({"error": "timeout: no reply"}, '{"error": "timeout: no reply"}'),
        (None, "null"),
    ],
)
def test_messages_become_lines(message, line):
    assert spoken(message) == line
