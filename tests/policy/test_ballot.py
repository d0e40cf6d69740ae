import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.ballot import Ballot, Verdict

ACCEPT, IGNORE, REJECT = Verdict.ACCEPT, Verdict.IGNORE, Verdict.REJECT
ABSTAIN = None


def outcome(votes):
    """What the rules of the game say, word by word.

    Reject needs more than half of those that judged; ignore too, or that nobody
    accepted; otherwise the message is accepted.
    """
    judged = [vote for vote in votes if vote is not ABSTAIN]
    share = {verdict: Fraction(judged.count(verdict), len(judged) or 1) for verdict in Verdict}
    if share[REJECT] > Fraction(1, 2):
        return REJECT
    if share[IGNORE] > Fraction(1, 2) or (judged and ACCEPT not in judged):
        return IGNORE
    return ACCEPT


def settled(votes, silent):
    """The one outcome of all ways in which the silent may still vote, or not; None if it varies."""
    outcomes = {
        outcome([*votes, *more]) for more in itertools.product([*Verdict, ABSTAIN], repeat=silent)
    }
    return outcomes.pop() if len(outcomes) == 1 else None


def every_course(voters):
    """What each of some voters does in turn: a vote, or leaving."""
    return itertools.product([*Verdict, ABSTAIN], repeat=voters)


@pytest.mark.parametrize("voters", [1, 2, 3, 4])
def test_settled_as_soon_as_nobody_can_change_it_and_not_before(voters):
    for course in every_course(voters):
        ballot = Ballot(range(voters))
        for number, vote in enumerate(course):
            said = ballot.leave(number) if vote is ABSTAIN else ballot.vote(number, vote)
            so_far = course[: number + 1]
            assert said is settled(so_far, voters - number - 1), so_far
            assert ballot.close() is outcome(so_far)


@given(st.lists(st.sampled_from([*Verdict, ABSTAIN]), min_size=1, max_size=7), st.data())
def test_larger_ballots(course, data):
    silent = data.draw(st.integers(0, 7 - len(course)))
    ballot, said = Ballot(range(len(course) + silent)), None
    for number, vote in enumerate(course):
        said = ballot.leave(number) if vote is ABSTAIN else ballot.vote(number, vote)
    assert said is settled(course, silent)
    assert ballot.close() is outcome(course)


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ([], ACCEPT),
        ([ACCEPT], ACCEPT),
        ([IGNORE], IGNORE),
        ([REJECT], REJECT),
        ([REJECT, ACCEPT], ACCEPT),
        ([REJECT, IGNORE], IGNORE),
        ([IGNORE, ACCEPT], ACCEPT),
        ([REJECT, REJECT, ACCEPT], REJECT),
        ([IGNORE, IGNORE, ACCEPT], IGNORE),
        ([REJECT, IGNORE, ACCEPT], ACCEPT),
        ([REJECT, REJECT, IGNORE, IGNORE], IGNORE),
        ([REJECT, REJECT, ACCEPT, ACCEPT], ACCEPT),
        ([REJECT, REJECT, IGNORE, ACCEPT], ACCEPT),
    ],
)
def test_outcomes(votes, result):
    assert outcome(votes) is result
    ballot = Ballot(range(9))
    for number, vote in enumerate(votes):
        ballot.vote(number, vote)
    assert ballot.close() is result


def test_one_client_decides_alone():
    for verdict in Verdict:
        assert Ballot(["page"]).vote("page", verdict) is verdict


def test_the_first_vote_of_a_client_counts():
    ballot = Ballot("abc")
    assert ballot.vote("a", REJECT) is None
    assert ballot.vote("a", ACCEPT) is None
    assert ballot.vote("a", REJECT) is None
    assert ballot.vote("b", REJECT) is REJECT


def test_strangers_have_no_vote():
    ballot = Ballot("ab")
    for _ in range(5):
        assert ballot.vote("stranger", REJECT) is None
    assert ballot.close() is ACCEPT


def test_who_leaves_is_not_waited_for():
    ballot = Ballot("ab")
    assert ballot.vote("a", IGNORE) is None
    assert ballot.leave("b") is IGNORE


def test_a_vote_stays_when_its_voter_leaves():
    ballot = Ballot("abc")
    ballot.vote("a", REJECT)
    assert ballot.leave("a") is None
    assert ballot.leave("b") is None
    assert ballot.leave("c") is REJECT


def test_when_all_leave_without_a_word_it_is_accepted():
    ballot = Ballot("ab")
    assert ballot.leave("a") is None
    assert ballot.leave("b") is ACCEPT


def test_a_late_word_changes_nothing():
    ballot = Ballot("ab")
    ballot.leave("a")
    assert ballot.vote("a", REJECT) is None
    assert ballot.close() is ACCEPT


def test_whether_anybody_judged():
    for verdict in Verdict:
        ballot = Ballot("ab")
        assert not ballot.judged
        ballot.vote("stranger", verdict)
        ballot.leave("b")
        assert not ballot.judged
        ballot.vote("a", verdict)
        assert ballot.judged
