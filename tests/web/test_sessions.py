"""The password of a node: sessions, guesses, and what goes without."""

import random

import pytest

from zeromsg.web import sessions as sessions_module
from zeromsg.web.sessions import COOKIE, GUESS_SECONDS, GUESSES, LIFETIME, Sessions, cookie_header

PASSWORD = "correct horse"
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Time:
    now = 0.0


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def sessions(time):
    return Sessions(PASSWORD, random.Random(1).randbytes, lambda: time.now)


def cookie(value):
    return [f"other=1; {COOKIE}={value}".encode()]


def test_a_session_is_good_until_it_ends(sessions, time):
    session = sessions.log_in(PASSWORD, HERE)
    assert len(session) == 64
    assert sessions.is_logged_in(cookie(session)) and sessions.has_somebody(HERE)
    assert not sessions.has_somebody(THERE)
    time.now = LIFETIME
    assert not sessions.is_logged_in(cookie(session)) and not sessions.has_somebody(HERE)


@pytest.mark.parametrize("value", ["", "0" * 64, "\xff", "x" * 10_000, f"a; {COOKIE}=b"])
def test_other_cookies_are_none(sessions, value):
    sessions.log_in(PASSWORD, HERE)
    assert not sessions.is_logged_in([f"{COOKIE}={value}".encode("latin-1")])
    assert not sessions.is_logged_in([])


@pytest.mark.parametrize("given", ["", "correct hors", "correct horse ", "Correct horse", "\udcff"])
def test_a_wrong_password_opens_nothing(sessions, given):
    assert sessions.log_in(given, HERE) is None
    assert not sessions.has_somebody(HERE)


def test_guesses_are_slowed_down_for_each_host(sessions, time):
    for _ in range(GUESSES):
        assert sessions.log_in("guess", HERE) is None
    with pytest.raises(ValueError, match="31"):
        sessions.log_in(PASSWORD, HERE)
    assert sessions.log_in(PASSWORD, THERE)
    time.now += GUESS_SECONDS
    assert sessions.log_in("guess", HERE) is None
    with pytest.raises(ValueError):
        sessions.log_in(PASSWORD, HERE)
    time.now += GUESS_SECONDS
    assert sessions.log_in(PASSWORD, HERE)


def test_both_are_bounded(sessions, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSIONS_LIMIT", 2)
    monkeypatch.setattr(sessions_module, "HOSTS_LIMIT", 2)
    made = [sessions.log_in(PASSWORD, HERE) for _ in range(3)]
    assert [sessions.is_logged_in(cookie(each)) for each in made] == [False, True, True]
    for number in range(5):
        sessions.log_in("guess", str(number))
    assert len(sessions._guesses) == 2


def test_without_a_password_everybody_is_in():
    sessions = Sessions("", bytes, lambda: 0.0)
    assert not sessions.needed and sessions.is_logged_in([]) and sessions.has_somebody(HERE)


def test_the_cookie_is_for_this_node_alone():
    header = cookie_header("ab", secure=True)
    assert header == f"{COOKIE}=ab; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict; Secure"
    assert "Secure" not in cookie_header("ab", secure=False).replace("SameSite", "")
