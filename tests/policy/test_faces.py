"""Faces, pseudonyms, and what strangers of a door do to its newcomers."""

import random

import pytest

from zeromsg.policy.faces import (
    ACCEPT_SECONDS,
    ACCEPTS,
    CLEAR,
    SHARED,
    SUSPICION_MOST,
    SUSPICION_SECONDS,
    Doors,
    Faces,
    is_pseudonym,
    make_pseudonym,
    speaks_of,
)

ONE, TWO = "1" * 34, "2" * 34
ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"


def test_each_site_has_a_face_unless_they_share_one() -> None:
    assert Faces().of(ONE) != Faces().of(TWO)
    assert Faces(shared=True).of(ONE) == Faces(shared=True).of(TWO) == SHARED


@pytest.mark.parametrize(
    ("face", "site", "may"),
    [(CLEAR, ONE, True), (SHARED, ONE, True), (ONE, ONE, True), (ONE, TWO, False)],
)
def test_what_reaches_an_onion_speaks_of_its_site(face: str, site: str, may: bool) -> None:
    assert speaks_of(face, site) is may


def test_pseudonyms_are_onions_that_nobody_can_dial() -> None:
    entropy = random.Random(1).randbytes
    names = {make_pseudonym(entropy) for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert name.kind == "onion" and name.port == 0
        assert is_pseudonym(name.host)
    assert not is_pseudonym(ONION)
    assert not is_pseudonym("192.0.2.1")


def test_newcomers_pay_for_strangers_that_were_banned_and_only_at_that_door() -> None:
    doors = Doors()
    assert doors.points(ONE, 0.0) == 0
    doors.banned(ONE, 0.0)
    assert 0 < doors.points(ONE, 1.0) < doors.points(ONE, 1.0) + 1
    for _ in range(20):
        doors.banned(ONE, 1.0)
    # An honest newcomer is not banned by that alone.
    assert doors.points(ONE, 2.0) == SUSPICION_MOST < 100
    assert doors.points(TWO, 2.0) == 0
    assert doors.points(ONE, 2.0 + SUSPICION_SECONDS) == 0


def test_a_door_takes_so_many_in_a_time() -> None:
    doors = Doors()
    assert all(doors.may_enter(ONE, 0.0) for _ in range(ACCEPTS))
    assert not doors.may_enter(ONE, 1.0)
    assert doors.may_enter(TWO, 1.0)
    assert doors.may_enter(ONE, ACCEPT_SECONDS)
