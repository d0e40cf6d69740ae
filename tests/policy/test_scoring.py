import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.scoring import (
    BAN_POINTS,
    BAN_SECONDS,
    CREDIT,
    EARNED,
    HALF_LIFE,
    IDENTITY_LIMIT,
    LONGEST_BAN,
    STRIKES_SECONDS,
    Banned,
    Scoring,
)

MALLORY, BOB = "192.0.2.1", "192.0.2.2"
HOUR, DAY = 3600.0, 86400.0


def ban(scoring, now, identity=MALLORY):
    """Charge enough for a ban; how long it lasts."""
    assert scoring.charge(identity, 200, now, "why") is True
    (found,) = [banned for banned in scoring.bans(now) if banned.identity == identity]
    return found.until - now


def test_who_did_nothing_has_no_points():
    scoring = Scoring()
    assert scoring.points(MALLORY, 0.0) == 0.0
    assert not scoring.banned(MALLORY, 0.0)


def test_points_add_up():
    scoring = Scoring()
    assert scoring.charge(MALLORY, 7, 0.0) is False
    assert scoring.charge(MALLORY, 5, 0.0) is False
    assert scoring.points(MALLORY, 0.0) == 12.0
    assert scoring.points(BOB, 0.0) == 0.0


def test_points_halve_every_ten_minutes_and_stand_in_between():
    scoring = Scoring()
    scoring.charge(MALLORY, 80, 50.0)
    assert HALF_LIFE == 600.0
    for now, points in ((649.0, 80.0), (650.0, 40.0), (1249.0, 40.0), (1250.0, 20.0)):
        assert scoring.points(MALLORY, now) == points


def test_what_was_halved_is_what_is_added_to():
    scoring = Scoring()
    scoring.charge(MALLORY, 80, 0.0)
    scoring.charge(MALLORY, 10, 900.0)
    assert scoring.points(MALLORY, 900.0) == 50.0
    # The ten minutes run on; they do not begin anew with each mistake.
    assert scoring.points(MALLORY, 1200.0) == 25.0


def test_a_clock_that_is_set_back_does_not_double_points():
    scoring = Scoring()
    scoring.charge(MALLORY, 40, 10_000.0)
    assert scoring.points(MALLORY, 0.0) == 40.0
    assert scoring.charge(MALLORY, 10, 0.0) is False
    assert scoring.points(MALLORY, 0.0) == 50.0


def test_a_hundred_points_ban_for_an_hour():
    scoring = Scoring()
    assert scoring.charge(MALLORY, 99.9, 0.0) is False
    assert not scoring.banned(MALLORY, 0.0)
    assert scoring.charge(MALLORY, 0.1, 0.0) is True
    assert scoring.banned(MALLORY, 0.0)
    assert scoring.banned(MALLORY, HOUR - 0.1)
    assert not scoring.banned(MALLORY, HOUR)
    assert not scoring.banned(BOB, 0.0)
    assert (BAN_POINTS, BAN_SECONDS) == (100.0, HOUR)


def test_ten_times_ten_within_ten_minutes_is_a_ban():
    scoring = Scoring()
    charged = [scoring.charge(MALLORY, 10, number * 66.0) for number in range(10)]
    assert charged == [False] * 9 + [True]


def test_points_start_anew_after_a_ban():
    scoring = Scoring()
    scoring.charge(MALLORY, 150, 0.0)
    assert scoring.points(MALLORY, 0.0) == 0.0
    assert scoring.charge(MALLORY, 99, HOUR) is False
    assert scoring.charge(MALLORY, 1, HOUR) is True


def test_who_is_banned_stays_so_whatever_else_it_does():
    scoring = Scoring()
    scoring.charge(MALLORY, 150, 0.0)
    assert scoring.charge(MALLORY, 1, 10.0) is True
    assert scoring.charge(MALLORY, 0, 10.0) is True
    assert scoring.banned(MALLORY, HOUR - 0.1)
    assert not scoring.banned(MALLORY, HOUR)


@pytest.mark.parametrize("points", [0, -5])
def test_nothing_and_less_is_no_charge(points):
    scoring = Scoring()
    scoring.charge(MALLORY, 50, 0.0)
    assert scoring.charge(MALLORY, points, 0.0) is False
    assert scoring.points(MALLORY, 0.0) == 50.0
    assert scoring.charge(BOB, points, 0.0) is False


# Bans that follow each other.


def test_each_ban_is_twice_as_long_up_to_a_month():
    scoring, now, lengths = Scoring(), 0.0, []
    for _ in range(12):
        lengths.append(ban(scoring, now))
        now += lengths[-1] + 1.0
    assert lengths[:4] == [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR]
    assert lengths[-2:] == [LONGEST_BAN, LONGEST_BAN]
    assert LONGEST_BAN == 30 * DAY


def test_after_a_week_without_one_the_next_ban_is_an_hour_again():
    scoring = Scoring()
    ban(scoring, 0.0)
    assert ban(scoring, HOUR + STRIKES_SECONDS) == 2 * HOUR
    ended = HOUR + STRIKES_SECONDS + 2 * HOUR
    assert ban(scoring, ended + STRIKES_SECONDS + 1.0) == HOUR
    assert STRIKES_SECONDS == 7 * DAY


def test_however_often_somebody_is_banned_it_can_be_counted():
    scoring = Scoring()
    for _ in range(2000):
        scoring.charge(MALLORY, 100, 0.0)
    assert ban(scoring, 0.0) == LONGEST_BAN


# Credit.


def test_accepted_first_deliveries_earn_points_back():
    scoring = Scoring()
    scoring.charge(MALLORY, 10, 0.0)
    scoring.earn(MALLORY, 0.0)
    assert scoring.points(MALLORY, 0.0) == 10 - EARNED
    assert EARNED == 2.0


def test_credit_is_bounded_and_halves_like_points():
    scoring = Scoring()
    scoring.earn(BOB, 0.0)
    assert scoring.points(BOB, 0.0) == -EARNED
    for _ in range(100):
        scoring.earn(BOB, 0.0)
    assert scoring.points(BOB, 0.0) == -CREDIT == -50.0
    assert scoring.points(BOB, 600.0) == -25.0


def test_with_credit_it_takes_more_to_be_banned():
    scoring = Scoring()
    for _ in range(25):
        scoring.earn(BOB, 0.0)
    assert scoring.charge(BOB, 149.9, 0.0) is False
    assert scoring.charge(BOB, 0.1, 0.0) is True


def test_an_honest_node_that_errs_now_and_then_is_never_banned():
    scoring = Scoring()
    assert not any(scoring.charge(BOB, 7, number * 120.0) for number in range(10_000))


# What clients rejected.


def test_ten_rejections_ban_whatever_was_earned_meanwhile():
    scoring = Scoring()
    for number in range(9):
        for _ in range(50):
            scoring.earn(MALLORY, float(number))
        assert scoring.rejected(MALLORY, 10, float(number)) is False
    # What is shown of it is the sum.
    assert scoring.points(MALLORY, 8.0) == 90.0 - CREDIT
    assert scoring.rejected(MALLORY, 10, 9.0, "why") is True
    assert [ban.reason for ban in scoring.bans(9.0)] == ["why"]
    assert scoring.points(MALLORY, 9.0) == 0.0


def test_rejections_halve_after_ten_minutes_without_one():
    scoring = Scoring()
    assert not any(scoring.rejected(MALLORY, 10, 599.0 * number) for number in range(9))
    assert scoring.points(MALLORY, 8 * 599.0 + 599.0) == 90.0
    assert scoring.points(MALLORY, 8 * 599.0 + 600.0) == 45.0
    assert scoring.rejected(MALLORY, 10, 8 * 599.0 + 1200.0) is False
    assert scoring.points(MALLORY, 8 * 599.0 + 1200.0) == 32.5


def test_rejections_and_other_points_count_together():
    scoring = Scoring()
    scoring.rejected(MALLORY, 90, 0.0)
    assert scoring.charge(MALLORY, 9, 0.0) is False
    assert scoring.charge(MALLORY, 1, 0.0) is True


def test_a_rejection_that_costs_nothing_is_none():
    scoring = Scoring()
    assert scoring.rejected(MALLORY, 0, 0.0) is False
    assert scoring.points(MALLORY, 0.0) == 0.0
    scoring.charge(MALLORY, 150, 0.0)
    assert scoring.rejected(MALLORY, 0, 0.0) is True


def test_a_clock_that_is_set_back_does_not_double_rejections():
    scoring = Scoring()
    scoring.rejected(MALLORY, 40, 10_000.0)
    assert scoring.points(MALLORY, 0.0) == 40.0
    assert scoring.rejected(MALLORY, 10, 0.0) is False
    assert scoring.points(MALLORY, 0.0) == 50.0


# Bans by hand, and on disk.


def test_a_ban_by_hand():
    scoring = Scoring()
    scoring.ban(MALLORY, 10.0, 100.0, "by hand")
    assert scoring.banned(MALLORY, 109.9)
    assert not scoring.banned(MALLORY, 110.0)
    assert scoring.bans(10.0) == [Banned(MALLORY, 110.0, 1, "by hand")]
    # It counts when it comes to the next one.
    assert ban(scoring, 200.0) == 2 * HOUR


def test_a_pardon_forgets_everything():
    scoring = Scoring()
    scoring.charge(MALLORY, 150, 0.0)
    scoring.charge(BOB, 50, 0.0)
    assert scoring.pardon(MALLORY) is True
    assert scoring.pardon(MALLORY) is False
    assert scoring.pardon(BOB) is False
    assert not scoring.banned(MALLORY, 0.0)
    assert scoring.points(BOB, 0.0) == 0.0
    assert scoring.bans(0.0) == []
    assert ban(scoring, 0.0) == HOUR


def test_bans_are_told_as_long_as_they_matter():
    scoring = Scoring()
    scoring.charge(BOB, 50, 0.0)
    scoring.charge(MALLORY, 150, 0.0, "refused by signature")
    wanted = [Banned(MALLORY, HOUR, 1, "refused by signature")]
    assert scoring.bans(0.0) == wanted
    assert scoring.bans(HOUR + STRIKES_SECONDS - 1.0) == wanted
    assert scoring.bans(HOUR + STRIKES_SECONDS) == []


def test_bans_survive_a_restart():
    before, after = Scoring(), Scoring()
    before.charge(MALLORY, 150, 0.0, "first")
    before.charge(MALLORY, 150, HOUR, "second")
    after.restore(before.bans(HOUR), HOUR + 60.0)
    assert after.bans(HOUR) == before.bans(HOUR)
    assert after.banned(MALLORY, 3 * HOUR - 1.0)
    assert not after.banned(MALLORY, 3 * HOUR)
    assert after.points(MALLORY, HOUR) == 0.0
    assert ban(after, 3 * HOUR) == 4 * HOUR


# Who is forgotten.


def test_those_unheard_of_longest_are_forgotten_first():
    scoring = Scoring(capacity=2)
    scoring.charge("a", 10, 0.0)
    scoring.charge("b", 10, 1.0)
    scoring.charge("a", 10, 2.0)
    scoring.charge("c", 10, 3.0)
    assert scoring.points("b", 3.0) == 0.0
    assert scoring.points("a", 3.0) == 20.0
    assert scoring.points("c", 3.0) == 10.0


def test_a_ban_in_force_is_not_forgotten_for_a_newcomer():
    scoring = Scoring(capacity=3)
    ban(scoring, 0.0)
    for number in range(50):
        scoring.charge(f"198.51.100.{number}", 1, 1.0 + number)
    assert scoring.banned(MALLORY, 100.0)
    assert scoring.points("198.51.100.49", 100.0) == 1.0
    assert scoring.points("198.51.100.47", 100.0) == 0.0


def test_hundreds_of_bans_do_not_hide_whom_to_forget():
    scoring = Scoring(capacity=600)
    for number in range(500):
        ban(scoring, 0.0, f"banned {number}")
    for number in range(500):
        scoring.charge(str(number), 10, 0.0)
    assert all(scoring.banned(f"banned {number}", 0.0) for number in range(500))
    assert [n for n in range(500) if scoring.points(str(n), 0.0)] == list(range(400, 500))


def test_there_is_room_for_a_newcomer_among_bans():
    scoring = Scoring(capacity=2)
    ban(scoring, 0.0, "a")
    ban(scoring, 0.0, "b")
    assert scoring.charge(MALLORY, 99, 0.0) is False
    assert scoring.charge(MALLORY, 1, 0.0) is True
    assert not scoring.banned("a", 0.0)


def test_memory_is_bounded_even_if_everybody_is_banned():
    scoring = Scoring(capacity=200)
    for number in range(500):
        scoring.charge(str(number), 100, 0.0)
    assert [one.identity for one in scoring.bans(0.0)] == [str(n) for n in range(300, 500)]
    assert IDENTITY_LIMIT == 10_000


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 3, 7, 25, 60, "earn"]), st.integers(0, 900)), max_size=40
    )
)
def test_against_a_model(steps):
    """Points as one number that is halved each time ten minutes are over."""
    scoring, now, points, banned_until, strikes = Scoring(), 0, 0.0, 0.0, 0
    next_halving = None
    for step, later in steps:
        now += later
        while next_halving is not None and now >= next_halving:
            points /= 2
            next_halving += 600
        if next_halving is None and step != 0:
            next_halving = now + 600
        if step == "earn":
            scoring.earn(MALLORY, float(now))
            points = max(points - 2.0, -50.0)
        else:
            points += step
            if points >= 100.0 and step:
                points, banned_until = 0.0, now + HOUR * 2**strikes
                strikes += 1
            assert scoring.charge(MALLORY, step, float(now)) is (banned_until > now)
        assert scoring.points(MALLORY, float(now)) == pytest.approx(points)
        assert scoring.banned(MALLORY, float(now)) is (banned_until > now)
