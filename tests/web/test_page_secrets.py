"""Secrets of single pages: for one site and one user, for a while, and not too many."""

import random

import pytest

from zeromsg.web import page_secrets
from zeromsg.web.page_secrets import LIFETIME, PageSecrets

SITE = "1P4hfVMLyEEWqhACGQrchJG8xHnKKtts3w"


class Time:
    now = 0.0


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def secrets(time):
    return PageSecrets(random.Random(1).randbytes, lambda: time.now)


def test_a_secret_is_good_for_its_site_and_user(secrets):
    secret = secrets.make(SITE, "1bob")
    assert len(secret) == 64 and int(secret, 16)
    assert secrets.belongs(secret, SITE, "1bob")
    assert not secrets.belongs(secret, SITE, "")
    assert not secrets.belongs(secret, SITE, "1alice")
    assert not secrets.belongs(secret, SITE + "x", "1bob")
    # To try it elsewhere costs it nothing.
    assert secrets.belongs(secret, SITE, "1bob")


@pytest.mark.parametrize("guess", ["", "0" * 64, "x", "\udcff", "a" * 100_000])
def test_other_texts_are_good_for_nothing(secrets, guess):
    secrets.make(SITE, "")
    assert not secrets.belongs(guess, SITE, "")


def test_each_page_has_its_own(secrets):
    assert len({secrets.make(SITE, "") for _ in range(50)}) == 50


def test_it_ends_a_day_after_its_last_use(secrets, time):
    unused, used = secrets.make(SITE, ""), secrets.make(SITE, "")
    time.now = LIFETIME
    assert secrets.belongs(used, SITE, "")
    time.now = LIFETIME + 1
    assert not secrets.belongs(unused, SITE, "")
    time.now = 2 * LIFETIME
    assert secrets.belongs(used, SITE, "")
    time.now = 3 * LIFETIME + 1
    assert not secrets.belongs(used, SITE, "")


def test_programs_that_fetch_pages_push_out_no_page_in_use(secrets, monkeypatch):
    monkeypatch.setattr(page_secrets, "PAGES_LIMIT", 10)
    opened, never = secrets.make(SITE, ""), secrets.make(SITE, "")
    assert secrets.belongs(opened, SITE, "")
    for _ in range(100):
        secrets.make(SITE, "")
    assert secrets.belongs(opened, SITE, "")
    assert not secrets.belongs(never, SITE, "")
    assert len(secrets) == 11


def test_pages_in_use_have_a_bound_too(secrets, monkeypatch):
    monkeypatch.setattr(page_secrets, "PAGES_LIMIT", 10)
    made = []
    for _ in range(25):
        made.append(secrets.make(SITE, ""))
        assert secrets.belongs(made[-1], SITE, "")
        assert secrets.belongs(made[0], SITE, "")  # used again and again
    assert len(secrets) == 10
    assert not secrets.belongs(made[1], SITE, "")
    assert all(secrets.belongs(secret, SITE, "") for secret in made[-9:])
