import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.judges import (
    CAREFUL_DEBT,
    COST_LIMIT,
    GRADIENT,
    HALF_LIFE,
    JUDGES_LIMIT,
    OBJECTION_POINTS,
    SILENT_DEBT,
    Judges,
)
from zeromsg.policy.scoring import Scoring

MALLORY, ALICE, BOB, CAROL = "192.0.2.1", "192.0.2.2", "192.0.2.3", "key:1abc"


def test_a_source_pays_a_little_more_than_its_judge_charged_us():
    judges = Judges()
    assert judges.objected(MALLORY, BOB, 10.0, 0.0) == 12.5
    assert GRADIENT == 1.25


@pytest.mark.parametrize(
    ("cost", "charge"), [(0.0, 0.0), (-5.0, 0.0), (20.0, 25.0), (21.0, 25.0), (100.0, 25.0)]
)
def test_the_charge_is_bounded_whatever_the_judge_says(cost, charge):
    assert Judges().objected(MALLORY, BOB, cost, 0.0) == charge
    assert COST_LIMIT == 25.0


def test_along_a_chain_who_is_nearest_to_the_attacker_pays_most():
    """Each link has its own account of its source, and passes on what it was charged."""
    cost, charges = 10.0, []
    for _ in range(5):
        cost = Judges().objected(MALLORY, BOB, cost, 0.0)
        charges.append(cost)
    assert charges == [12.5, 15.625, 19.53125, 24.4140625, 25.0]


def test_no_judge_is_believed_without_end():
    judges = Judges()
    charges = [judges.objected(MALLORY, BOB, 10.0, 0.0) for _ in range(10)]
    assert charges == [12.5] * 4 + [0.0] * 6
    assert OBJECTION_POINTS == 50.0
    # Another one has an account of its own, and this one is believed about others.
    assert judges.objected(MALLORY, ALICE, 10.0, 0.0) == 12.5
    assert judges.objected(CAROL, BOB, 10.0, 0.0) == 12.5


def test_a_judge_alone_cannot_have_a_source_banned():
    judges = Judges()
    assert sum(judges.objected(MALLORY, BOB, 100.0, 0.0) for _ in range(100)) < 100.0


def test_who_objected_often_enough_is_not_sent_more_of_it():
    judges = Judges()
    assert judges.wants(MALLORY, BOB, 0.0)
    for _ in range(3):
        judges.objected(MALLORY, BOB, 10.0, 0.0)
        assert judges.wants(MALLORY, BOB, 0.0)
    judges.objected(MALLORY, BOB, 10.0, 0.0)
    assert not judges.wants(MALLORY, BOB, 0.0)
    assert judges.wants(MALLORY, ALICE, 0.0)
    assert judges.wants(ALICE, BOB, 0.0)


def test_objections_halve_every_ten_minutes():
    judges = Judges()
    for _ in range(4):
        judges.objected(MALLORY, BOB, 10.0, 0.0)
    assert not judges.wants(MALLORY, BOB, 0.0)
    assert judges.wants(MALLORY, BOB, 1.0)
    # Never more than fifty at a time is charged, however often it objects.
    assert 0.0 < judges.objected(MALLORY, BOB, 10.0, 1.0) < 0.1
    assert not judges.wants(MALLORY, BOB, 100.0)
    assert judges.wants(MALLORY, BOB, HALF_LIFE)
    assert judges.objected(MALLORY, BOB, 10.0, HALF_LIFE) == 12.5
    assert HALF_LIFE == 600.0


def test_approval_forgives_half():
    judges = Judges()
    for _ in range(4):
        judges.objected(MALLORY, BOB, 10.0, 0.0)
    judges.approved(MALLORY, BOB, 0.0)
    assert judges.wants(MALLORY, BOB, 0.0)
    charges = [judges.objected(MALLORY, BOB, 10.0, 0.0) for _ in range(3)]
    assert charges == [12.5, 12.5, 0.0]


def test_approval_of_whom_nobody_objected_to_changes_nothing():
    judges = Judges()
    for _ in range(100):
        judges.approved(MALLORY, BOB, 0.0)
    assert judges.objected(MALLORY, BOB, 10.0, 0.0) == 12.5
    judges.approved(MALLORY, ALICE, 0.0)
    assert judges.suspects(MALLORY, 0.0)


def test_a_source_is_suspected_for_a_while():
    judges = Judges()
    assert not judges.suspects(MALLORY, 0.0)
    judges.objected(MALLORY, BOB, 10.0, 0.0)
    assert judges.suspects(MALLORY, 0.0)
    assert not judges.suspects(BOB, 0.0)
    # 12.5 points are less than one after a little more than 36 minutes.
    assert judges.suspects(MALLORY, 36 * 60.0)
    assert not judges.suspects(MALLORY, 37 * 60.0)


def test_an_objection_without_cost_makes_nobody_suspect():
    judges = Judges()
    judges.objected(MALLORY, BOB, 0.0, 0.0)
    assert not judges.suspects(MALLORY, 0.0)


# What judges charged us.


def test_the_nearer_our_own_ban_the_less_a_judge_is_sent():
    judges = Judges()
    assert judges.risks(BOB, True, 0.0)
    for cost, doubtful, other in ((20.0, True, True), (20.0, False, True), (25.0, False, True)):
        judges.charged_us(BOB, cost, 0.0)
        assert judges.risks(BOB, True, 0.0) is doubtful
        assert judges.risks(BOB, False, 0.0) is other
    judges.charged_us(BOB, 5.0, 0.0)
    assert not judges.risks(BOB, False, 0.0)
    assert judges.risks(ALICE, True, 0.0)
    assert (CAREFUL_DEBT, SILENT_DEBT) == (40.0, 70.0)


def test_debts_halve_too():
    judges = Judges()
    for number in range(3):
        judges.charged_us(BOB, 25.0, 100.0 * number)
    # Not before they do where we owe them: after ten minutes without another one.
    assert not judges.risks(BOB, False, 199.0 + HALF_LIFE)
    assert judges.risks(BOB, True, 200.0 + HALF_LIFE)
    # What costs nothing does not put that off.
    judges.charged_us(BOB, 0.0, 199.0 + HALF_LIFE)
    assert judges.risks(BOB, True, 200.0 + HALF_LIFE)


@given(st.lists(st.tuples(st.floats(0.1, 25.0), st.floats(0, 900)), max_size=40))
def test_we_never_owe_more_than_we_believe(charges):
    """Where the judge itself counts, it is no more: so we stop in time."""
    judges, scoring, now = Judges(), Scoring(), 0.0
    for cost, later in charges:
        now += later
        if judges.risks(BOB, False, now):
            assert scoring.points(ALICE, now) < SILENT_DEBT
            judges.charged_us(BOB, cost, now)
            assert not scoring.rejected(ALICE, cost, now)


@pytest.mark.parametrize(("cost", "times"), [(100.0, 3), (25.0, 3), (-100.0, None), (0.0, None)])
def test_what_a_judge_says_of_one_message_is_bounded(cost, times):
    judges = Judges()
    silent = next(
        (
            n
            for n in range(1, 50)
            if judges.charged_us(BOB, cost, 0.0) or not judges.risks(BOB, False, 0.0)
        ),
        None,
    )
    assert silent == times


# Memory.


def test_sources_unheard_of_longest_are_forgotten_first():
    judges = Judges(capacity=2)
    for source in (ALICE, MALLORY, ALICE, CAROL):
        judges.objected(source, BOB, 10.0, 0.0)
    suspects = [source for source in (ALICE, MALLORY, CAROL) if judges.suspects(source, 0.0)]
    assert suspects == [ALICE, CAROL]


def test_debts_to_judges_unheard_of_longest_are_forgotten_first():
    judges = Judges(capacity=2)
    for judge in (ALICE, MALLORY, ALICE, CAROL):
        for _ in range(3):
            judges.charged_us(judge, 25.0, 0.0)
    silent = [judge for judge in (ALICE, MALLORY, CAROL) if not judges.risks(judge, False, 0.0)]
    assert silent == [ALICE, CAROL]


def test_many_who_object_a_little_do_not_silence_a_further_one():
    """A source cannot fill its own list with friends who hold nothing against it."""
    judges = Judges()
    for number in range(JUDGES_LIMIT):
        judges.objected(MALLORY, f"friend {number}", 0.1, 0.0)
    charges = [judges.objected(MALLORY, BOB, 10.0, 1.0) for _ in range(5)]
    assert charges == [12.5] * 4 + [0.0]
    assert not judges.wants(MALLORY, BOB, 1.0)


def test_who_holds_most_against_a_source_is_remembered_longest():
    judges = Judges()
    for _ in range(4):
        judges.objected(MALLORY, BOB, 10.0, 0.0)
    for number in range(3 * JUDGES_LIMIT):
        judges.objected(MALLORY, f"judge {number}", 1.0, 0.0)
    assert not judges.wants(MALLORY, BOB, 0.0)
    assert sum(map(len, judges._sources.values())) == JUDGES_LIMIT


def test_a_million_sources_and_judges_take_bounded_memory():
    judges = Judges(capacity=50)
    for number in range(1000):
        judges.objected(f"source {number}", f"judge {number}", 10.0, 0.0)
        judges.charged_us(f"judge {number}", 10.0, 0.0)
        judges.approved(f"nobody {number}", BOB, 0.0)
        judges.wants(f"asked {number}", BOB, 0.0)
        judges.suspects(f"asked {number}", 0.0)
        judges.risks(f"asked {number}", True, 0.0)
    assert (len(judges._sources), len(judges._debts)) == (50, 50)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALICE, MALLORY]),
            st.sampled_from([BOB, CAROL]),
            st.floats(-10, 200),
            st.floats(0, 2000),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_charges_are_bounded_in_any_course(steps):
    judges, now = Judges(), 0.0
    for source, judge, cost, later, approves in steps:
        now += later
        wanted = judges.wants(source, judge, now)
        if approves:
            judges.approved(source, judge, now)
            assert judges.wants(source, judge, now) or not wanted
        else:
            charge = judges.objected(source, judge, cost, now)
            assert 0.0 <= charge <= min(max(cost, 0.0) * 1.25, 25.0)
            assert (charge > 0.0) is (cost > 0.0 and wanted)
            assert judges._sources[source][judge].points < OBJECTION_POINTS + COST_LIMIT
        assert judges._sources.get(source, {}).keys() <= {BOB, CAROL}
