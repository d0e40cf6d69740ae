"""Who knows peer messages, and for how long that is believed."""

from zeromsg.policy.capability import (
    CAPABLE_SECONDS,
    DEAF_SECONDS,
    Capabilities,
    Evidence,
    Known,
)
from zeromsg.wire.values import PeerAddress

NODE = PeerAddress("203.0.113.9", 15441)
NOW = 1_800_000_000.0


def test_nothing_is_known_at_first():
    assert Capabilities().capable(NODE, NOW) is None


def test_every_evidence_but_one_shows_that_a_node_is_capable():
    for how in Evidence:
        known = Capabilities()
        known.learn(NODE, how, NOW)
        assert known.capable(NODE, NOW) is (how is not Evidence.UNKNOWN)
        assert known.of(NODE, NOW) == Known(how is not Evidence.UNKNOWN, how, NOW)


def test_a_node_that_knows_no_messages_is_left_alone_for_a_day():
    known = Capabilities()
    known.learn(NODE, Evidence.UNKNOWN, NOW)
    assert known.capable(NODE, NOW + DEAF_SECONDS - 1) is False
    assert known.capable(NODE, NOW + DEAF_SECONDS) is None


def test_a_capable_one_is_remembered_for_a_month():
    known = Capabilities()
    known.learn(NODE, Evidence.SENT, NOW)
    assert known.capable(NODE, NOW + CAPABLE_SECONDS - 1) is True
    assert known.capable(NODE, NOW + CAPABLE_SECONDS) is None


def test_the_last_evidence_counts():
    known = Capabilities()
    known.learn(NODE, Evidence.UNKNOWN, NOW)
    known.learn(NODE, Evidence.SENT, NOW + 1)
    assert known.capable(NODE, NOW + 1) is True
    known.learn(NODE, Evidence.UNKNOWN, NOW + 2)
    assert known.capable(NODE, NOW + 2) is False


def test_what_is_remembered_is_bounded():
    known = Capabilities(limit=3)
    nodes = [PeerAddress(f"203.0.113.{n}", 1) for n in range(5)]
    for node in nodes:
        known.learn(node, Evidence.UNKNOWN, NOW)
    assert len(known) == 3
    assert [known.capable(node, NOW) for node in nodes] == [None, None, False, False, False]
    kept, gone = known.take_changes()
    assert [node for node, _ in kept] == nodes[2:] and gone == nodes[:2]


def test_changes_are_taken_once_and_restored():
    known = Capabilities()
    known.learn(NODE, Evidence.UNKNOWN, NOW)
    kept, gone = known.take_changes()
    assert gone == [] and known.take_changes() == ([], [])
    # The same again soon after is no news.
    known.learn(NODE, Evidence.UNKNOWN, NOW + 60)
    assert known.take_changes() == ([], [])
    again = Capabilities()
    again.restore(kept, NOW + 60)
    assert again.capable(NODE, NOW + 60) is False
    later = Capabilities()
    later.restore(kept, NOW + DEAF_SECONDS)
    assert len(later) == 0
