import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.shedding import LAG_SECONDS, LEAST_MESSAGES, Shedding, Tally, worst

BEHIND = LAG_SECONDS * 2


def sent(shedding, sender, useful=0, useless=0):
    for _ in range(useful):
        shedding.useful(sender)
    for _ in range(useless):
        shedding.useless(sender)


def test_nothing_is_decided_while_the_node_keeps_up():
    shedding = Shedding()
    sent(shedding, "mallory", useless=1000)
    assert shedding.look(0.0) == []
    sent(shedding, "mallory", useless=1000)
    assert shedding.look(LAG_SECONDS) == []
    sent(shedding, "mallory", useless=1000)
    assert shedding.look(LAG_SECONDS + 0.001) == ["mallory"]


def test_those_with_the_worst_record_go_first():
    shedding = Shedding()
    sent(shedding, "honest", useful=500, useless=100)
    sent(shedding, "mallory", useful=10, useless=1000)
    assert shedding.look(BEHIND) == ["mallory"]


def test_with_nobody_to_blame_nobody_is_slowed_down():
    shedding = Shedding()
    assert shedding.look(BEHIND) == []
    sent(shedding, "alice", useful=1000)
    sent(shedding, "bob", useful=51, useless=49)
    assert shedding.look(BEHIND) == []


def test_each_look_counts_anew():
    shedding = Shedding()
    sent(shedding, "mallory", useless=1000)
    assert shedding.look(BEHIND) == ["mallory"]
    assert shedding.look(BEHIND) == []
    sent(shedding, "mallory", useful=100)
    assert shedding.look(BEHIND) == []


def test_what_was_sent_while_the_node_kept_up_is_forgotten():
    shedding = Shedding()
    sent(shedding, "mallory", useless=1000)
    shedding.look(0.0)
    sent(shedding, "mallory", useful=20)
    assert shedding.look(BEHIND) == []


def test_it_is_busy_when_anything_came():
    shedding = Shedding()
    assert not shedding.busy
    shedding.useful("alice")
    assert shedding.busy
    shedding.look(0.0)
    assert not shedding.busy
    shedding.useless("alice")
    assert shedding.busy


def test_memory_is_given_back_with_each_look():
    shedding = Shedding()
    for number in range(1000):
        shedding.useless(number)
    assert shedding.look(0.0) == []
    assert not shedding._tallies


@pytest.mark.parametrize(
    ("messages", "useless", "slow"),
    [
        (LEAST_MESSAGES, LEAST_MESSAGES, True),
        (LEAST_MESSAGES - 1, LEAST_MESSAGES - 1, False),
        (100, 50, True),
        (100, 49, False),
        (0, 0, False),
    ],
)
def test_a_few_messages_or_a_good_share_are_not_the_cause(messages, useless, slow):
    assert worst({"a": Tally(messages, useless)}) == (["a"] if slow else [])


def test_the_worst_of_the_bad_are_those_above_their_average():
    tallies = {
        name: Tally(useless, useless) for name, useless in zip("abc", (30, 60, 90), strict=True)
    }
    assert worst(tallies) == ["b", "c"]
    # Who sends much that is useful does not pull the average down.
    assert worst({**tallies, "honest": Tally(1000, 10)}) == ["b", "c"]


def test_equals_are_treated_alike():
    assert worst({name: Tally(100, 80) for name in "abc"}) == ["a", "b", "c"]


@given(st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 200), st.integers(0, 200))))
def test_while_anybody_is_bad_the_very_worst_is_slowed_down(counts):
    tallies = {who: Tally(useful + useless, useless) for who, (useful, useless) in counts.items()}
    bad = {
        who: tally.useless
        for who, tally in tallies.items()
        if tally.messages >= 20 and 2 * tally.useless >= tally.messages
    }
    found = worst(tallies)
    assert set(found) <= set(bad)
    assert bool(found) is bool(bad)
    if bad:
        least = min(bad[who] for who in found)
        assert max(bad.values()) in [bad[who] for who in found]
        assert all(bad[who] < least for who in bad.keys() - set(found))
