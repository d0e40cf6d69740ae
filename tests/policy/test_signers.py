"""The directory of keys: bounded, and no user ID is ever taken over."""

import random

import pytest

from zeromsg.crypto.keys import PrivateKey, compressed
from zeromsg.errors import BadKey
from zeromsg.policy.signers import ADDRESSES_LIMIT, NOTED_SECONDS, Signers
from zeromsg.store.database import Database

SITE, OTHER = "1Site", "1Other"
KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 21)]
ALICE, BOB, EVE = KEYS[:3]
BOB_ID = "bob@zeroid.bit"


def met(signers, key, user_id=None, now=0.0, site=SITE):
    return signers.met(site, key.address, key.public_key, user_id, now)


def restored(signers, database=None, **more):
    """What another run would know."""
    database = database or Database(":memory:")
    database.change_signers(signers.take_changes())
    again = Signers(**more)
    again.restore(database.signers(), database.named())
    return again


def test_a_signature_shows_the_key_of_its_address():
    signers = Signers()
    assert signers.public_key(SITE, BOB.address) is None
    assert met(signers, BOB) == ()
    assert signers.public_key(SITE, BOB.address) == compressed(BOB.public_key)


def test_what_one_site_showed_counts_on_no_other():
    signers = Signers()
    met(signers, BOB, BOB_ID)
    assert signers.public_key(OTHER, BOB.address) is None
    assert signers.addresses(OTHER, BOB_ID) == ()
    assert signers.addresses(SITE, BOB_ID) == (BOB.address,)


def test_a_second_address_of_a_user_id_is_told_and_replaces_nothing():
    signers = Signers()
    assert met(signers, BOB, BOB_ID) == ()
    assert met(signers, EVE, BOB_ID) == (BOB.address,)
    assert met(signers, BOB, BOB_ID) == (EVE.address,)
    assert signers.addresses(SITE, BOB_ID) == (BOB.address, EVE.address)


def test_an_address_may_have_several_user_ids():
    signers = Signers()
    met(signers, BOB, BOB_ID)
    assert met(signers, BOB, "robert@other.bit") == ()
    assert signers.addresses(SITE, "robert@other.bit") == (BOB.address,)


def test_of_very_many_addresses_the_first_stay():
    signers = Signers()
    for key in KEYS:
        met(signers, key, BOB_ID)
    shown = signers.addresses(SITE, BOB_ID)
    assert shown == tuple(key.address for key in KEYS[:ADDRESSES_LIMIT])
    # Who is not among them is told of the others nevertheless.
    assert met(signers, KEYS[-1], BOB_ID) == shown


def test_who_is_vouched_for_is_not_pushed_out_by_a_crowd():
    signers = Signers(capacity=5)
    met(signers, BOB, BOB_ID)
    rng = random.Random(1)
    for number in range(200):
        stranger = PrivateKey.generate(rng.randbytes)
        met(signers, stranger, now=float(number))
        assert signers.public_key(SITE, stranger.address) is not None
    assert signers.addresses(SITE, BOB_ID) == (BOB.address,)
    again = restored(signers, capacity=5)
    assert again.addresses(SITE, BOB_ID) == (BOB.address,)
    assert again.public_key(SITE, stranger.address) is not None


def test_among_those_vouched_for_the_silent_are_forgotten_first():
    signers, database = Signers(capacity=3), Database(":memory:")
    for number, key in enumerate(KEYS[:3]):
        met(signers, key, f"user{number}@a.bit", now=float(number))
    met(signers, KEYS[0], "user0@a.bit", now=NOTED_SECONDS + 1)
    restored(signers, database)
    met(signers, KEYS[3], "user3@a.bit", now=NOTED_SECONDS + 2)
    for found in (signers, restored(signers, database)):
        assert found.addresses(SITE, "user1@a.bit") == ()
        assert found.public_key(SITE, KEYS[1].address) is None
        assert {named.user_id for named in found.users(SITE)} == {
            *("user0@a.bit", "user2@a.bit", "user3@a.bit")
        }


def test_it_survives_a_restart_in_its_order():
    signers = Signers()
    met(signers, EVE, BOB_ID, now=5.0)
    met(signers, BOB, BOB_ID, now=6.0)
    met(signers, ALICE, now=7.0)
    again = restored(signers)
    assert again.addresses(SITE, BOB_ID) == (EVE.address, BOB.address)
    assert again.public_key(SITE, ALICE.address) == compressed(ALICE.public_key)
    assert not again.take_changes()


def test_a_busy_signer_is_written_once_an_hour():
    signers = Signers()
    met(signers, BOB, BOB_ID)
    assert signers.take_changes()
    for second in range(100):
        met(signers, BOB, BOB_ID, now=float(second))
    assert not signers.take_changes()
    met(signers, BOB, BOB_ID, now=NOTED_SECONDS)
    assert list(signers.take_changes().signers) == [(SITE, BOB.address)]


def test_a_person_may_settle_which_address_is_meant():
    signers, database = Signers(), Database(":memory:")
    met(signers, BOB, BOB_ID)
    met(signers, EVE, BOB_ID)
    restored(signers, database)
    assert not signers.keep_only(SITE, BOB_ID, ALICE.address)
    assert not signers.keep_only(OTHER, BOB_ID, EVE.address)
    assert signers.keep_only(SITE, BOB_ID, EVE.address)
    for found in (signers, restored(signers, database)):
        assert found.addresses(SITE, BOB_ID) == (EVE.address,)
        # By its address it can still be written to.
        assert found.public_key(SITE, BOB.address) is not None
    # Showing it again is told again.
    assert met(signers, BOB, BOB_ID) == (EVE.address,)


def test_what_is_no_key_is_not_taken():
    with pytest.raises(BadKey):
        Signers().met(SITE, "1x", b"nonsense", None, 0.0)
