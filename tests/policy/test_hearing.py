from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.hearing import GRACE, Hearing
from zeromsg.policy.judges import COST_LIMIT, SILENT_DEBT, Judges
from zeromsg.policy.scoring import BAN_POINTS, Scoring


def test_who_hears_each_verdict_before_it_sends_again_pays_in_full():
    hearing = Hearing()
    for _ in range(20):
        assert hearing.charge(10.0, hearing.heard) == 10.0
        assert not hearing.is_behind
        hearing.hears(10.0)


def test_what_was_sent_before_anything_was_heard_is_paid_up_to_a_limit():
    hearing = Hearing()
    assert [hearing.charge(12.5, 0.0) for _ in range(4)] == [12.5, 12.5, 5.0, 0.0]
    assert GRACE == 30.0
    assert hearing.is_behind
    hearing.hears(12.5)
    assert not hearing.is_behind
    # One that came before that is as innocent as it was.
    assert hearing.charge(10.0, 0.0) == 0.0
    assert hearing.charge(10.0, 12.5) == 10.0


def test_the_grace_and_the_silence_of_who_heard_stay_below_a_ban():
    assert SILENT_DEBT + GRACE <= BAN_POINTS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "judge", "hear", "wait"]),
            st.floats(0.1, COST_LIMIT),
            st.floats(0, 700),
        ),
        max_size=200,
    )
)
def test_a_relay_that_heeds_what_it_hears_is_never_banned(steps):
    """Whatever is on its way, in whatever order it is judged, heard of and halved.

    Judges and Hearing are the two ends of one connection here.
    """
    scoring, hearing, judges = Scoring(), Hearing(), Judges()
    now, under_way, told = 0.0, [], []
    for step, cost, seconds in steps:
        if step == "wait":
            # Verdicts are heard of within seconds; only then time passes.
            for points in told:
                judges.charged_us("judge", points, now)
                hearing.hears(points)
            told.clear()
            now += seconds
        elif step == "send" and judges.risks("judge", False, now):
            under_way.append(hearing.heard)
        elif step == "judge" and under_way:
            points = hearing.charge(cost, under_way.pop())
            assert not scoring.rejected("relay", points, now)
            told.append(points)
        elif step == "hear" and told:
            points = told.pop(0)
            judges.charged_us("judge", points, now)
            hearing.hears(points)
