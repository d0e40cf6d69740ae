"""What is known of peers: who is kept, who goes, whom to dial."""

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.addresses import range_of
from zeromsg.policy.peer_book import (
    FORGET_FAILURES,
    FORGET_SECONDS,
    HEARSAY_SECONDS,
    HOST_SHARE,
    ONION_SHARE,
    PROVEN_SECONDS,
    RANGE_SHARE,
    RETRY_MOST,
    SITE_LIMIT,
    TELLER_SHARE,
    PeerBook,
    Source,
)
from zeromsg.wire.values import PeerAddress, unpack_onion

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER = "1Gfey7wVXXg1rxk751TBTxLJwhddDNfcdp"
NOW = 1_800_000_000.0


def at(text):
    return PeerAddress.parse(text)


def spread(count, start=0):
    """Addresses of as many ranges as possible."""
    return [PeerAddress(f"{20 + n % 60}.{n // 60}.0.9", 15441) for n in range(start, start + count)]


def crowd(count, prefix="203.0"):
    """Addresses of one range."""
    return [PeerAddress(f"{prefix}.{n // 250}.{n % 250 + 1}", 15441) for n in range(count)]


def teller(number):
    return f"{100 + number % 20}.{number // 20}.0.1"


@pytest.fixture
def rng():
    return random.Random(1)


@pytest.fixture
def book():
    return PeerBook()


def dialled(book, rng, count=10, now=NOW, exclude=()):
    return book.candidates(SITE, count, exclude, rng, now)


# Hearing


def test_what_was_heard_is_known(book):
    assert book.heard(SITE, at("203.0.113.9:5"), Source.PEX, NOW, "198.51.100.1")
    assert book.heard(SITE, at("203.0.113.9:5"), Source.TRACKER, NOW + 5, "tracker")
    peer = book.get(SITE, at("203.0.113.9:5"))
    assert peer.sources == {Source.PEX: (NOW, NOW), Source.TRACKER: (NOW + 5, NOW + 5)}
    assert (peer.first_heard, peer.last_heard, peer.last_seen) == (NOW, NOW + 5, 0.0)
    assert not peer.proven and len(book) == 1
    assert book.known(OTHER) == [] and book.known(SITE) == [at("203.0.113.9:5")]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:5", "10.0.0.1:5", "[::1]:5", "224.0.0.1:5", "0.0.0.0:5", "203.0.113.9:0"]
)
def test_nobody_makes_us_dial_our_own_network(book, text):
    for source in Source:
        if source not in (Source.CONFIGURED, Source.LOCAL):
            assert not book.heard(SITE, at(text), source, NOW, "198.51.100.1")
    assert len(book) == 0
    # The operator may, and then it counts like any other.
    assert book.heard(SITE, at(text), Source.CONFIGURED, NOW)
    book.reached(SITE, at(text), NOW)
    assert book.get(SITE, at(text)).successes == 1


def test_the_local_network_names_its_own_addresses(book):
    assert book.heard(SITE, at("10.0.0.9:5"), Source.LOCAL, NOW, "10.0.0.9")
    assert not book.heard(SITE, at("224.0.0.1:5"), Source.LOCAL, NOW, "10.0.0.9")
    assert not book.heard(SITE, at("10.0.0.9:0"), Source.LOCAL, NOW, "10.0.0.9")
    again = PeerBook()
    again.restore(book.take_changes()[0])
    assert again.known(SITE) == [at("10.0.0.9:5")]


def test_private_addresses_where_they_are_allowed():
    book = PeerBook(allow_private=True)
    assert book.heard(SITE, at("127.0.0.7:5"), Source.PEX, NOW, "127.0.0.1")
    assert not book.heard(SITE, at("224.0.0.1:5"), Source.PEX, NOW, "127.0.0.1")


def test_our_own_address_is_not_taken():
    book = PeerBook(is_us=lambda address: address.host == "203.0.113.1")
    assert not book.heard(SITE, at("203.0.113.1:5"), Source.PEX, NOW, "198.51.100.1")
    assert book.heard(SITE, at("203.0.113.2:5"), Source.PEX, NOW, "198.51.100.1")


def test_what_turns_out_to_be_us_is_forgotten(book):
    for site in (SITE, OTHER):
        book.heard(site, at("203.0.113.1:5"), Source.PEX, NOW, "198.51.100.1")
    book.forget(at("203.0.113.1:5"))
    assert len(book) == 0


# Bounds


def test_one_range_has_a_bounded_share(book):
    honest = spread(20)
    for number, address in enumerate(honest):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for number, address in enumerate(crowd(5000)):
        book.heard(SITE, address, Source.PEX, NOW + number, teller(number))
    known = book.known(SITE)
    assert sum(range_of(address.host) == "203.0.0.0/16" for address in known) == RANGE_SHARE
    assert set(honest) <= set(known)


def test_one_range_of_ipv6_too(book):
    for number in range(500):
        address = PeerAddress(f"2001:db8:1:{number + 1:x}::1", 5)
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    assert len(book) == RANGE_SHARE


def test_onions_have_a_bounded_share():
    book = PeerBook(site_limit=10_000)
    made = 0
    for number in range(ONION_SHARE + 50):
        onion = _onion(number)
        made += book.heard(SITE, onion, Source.PEX, NOW, teller(number))
    assert made == ONION_SHARE + 50 and len(book) == ONION_SHARE


def _onion(number):
    key = hashlib.sha256(str(number).encode()).digest()
    check = hashlib.sha3_256(b".onion checksum" + key + b"\x03").digest()[:2]
    return unpack_onion(key + check + b"\x03" + b"\x05\x00")


def test_one_teller_has_a_bounded_share(book):
    honest = spread(20, start=2000)
    for number, address in enumerate(honest):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    # The teller has a whole /16 to speak from.
    for number, address in enumerate(spread(2000)):
        book.heard(SITE, address, Source.PEX, NOW, f"198.51.{number % 250}.7")
    known = book.known(SITE)
    assert len(known) == len(honest) + TELLER_SHARE
    assert set(honest) <= set(known)


def test_a_teller_who_repeats_honest_addresses_does_not_take_them_along(book):
    honest = spread(20)
    for number, address in enumerate(honest):
        book.heard(SITE, address, Source.PEX, NOW, "198.51.100.1")
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for address in spread(2000, start=100):
        book.heard(SITE, address, Source.PEX, NOW + 1, "198.51.100.1")
    assert set(honest) <= set(book.known(SITE))


def test_a_full_book_loses_the_largest_range_first():
    book = PeerBook(site_limit=40)
    for number, address in enumerate(crowd(20)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for number, address in enumerate(spread(30)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    known = book.known(SITE)
    assert len(known) == 40
    assert sum(range_of(address.host) == "203.0.0.0/16" for address in known) == 10


def test_who_was_reached_is_never_pushed_out_by_hearsay():
    book = PeerBook(site_limit=50)
    proven = crowd(50, "198.51")
    for address in proven:
        book.reached(SITE, address, NOW)
    for number, address in enumerate(spread(3000)):
        assert not book.heard(SITE, address, Source.PEX, NOW + number, teller(number))
    assert set(book.known(SITE)) == set(proven)
    # Another that is reached takes the place of one of the largest range.
    assert book.heard(SITE, at("1.2.3.4:5"), Source.CONNECTED, NOW)
    assert len(book) == 50 and at("1.2.3.4:5") in book.known(SITE)


def test_reached_ones_do_not_count_as_hearsay(book):
    for address in crowd(RANGE_SHARE):
        book.reached(SITE, address, NOW)
    for number, address in enumerate(crowd(RANGE_SHARE, "203.0")):
        assert book.heard(SITE, address, Source.PEX, NOW, teller(number))
    assert book.heard(SITE, at("203.0.200.1:5"), Source.PEX, NOW, teller(1))
    assert len(book) == RANGE_SHARE + 1


def test_a_host_cannot_be_everybody(book):
    for port in range(1, 500):
        book.heard(SITE, PeerAddress("203.0.113.9", port), Source.ASKED_US, NOW, "203.0.113.9")
    assert len(book) == HOST_SHARE
    for port in range(1, 500):
        book.reached(SITE, PeerAddress("203.0.113.9", port), NOW)
    assert len(book) == HOST_SHARE


def test_ports_of_this_machine_are_many_nodes_on_a_test_network():
    book = PeerBook(allow_private=True)
    for port in range(1, 30):
        book.heard(SITE, PeerAddress("127.0.0.1", port), Source.PEX, NOW, "127.0.0.1")
    assert len(book) == 29


def test_the_whole_book_is_bounded():
    book = PeerBook(limit=60)
    for number, address in enumerate(spread(50)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for number, address in enumerate(spread(50)):
        book.heard(OTHER, address, Source.PEX, NOW, teller(number))
    assert len(book) == 60
    assert abs(len(book.known(SITE)) - len(book.known(OTHER))) <= 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "reached", "failed", "forget", "prune"]),
            st.sampled_from([SITE, OTHER]),
            st.sampled_from(spread(8) + crowd(8)),
            st.integers(0, 5),
        ),
        max_size=120,
    )
)
def test_the_counts_stay_true(steps):
    book = PeerBook(site_limit=6, limit=9)
    rng = random.Random(2)
    now = NOW
    for what, site, address, number in steps:
        now += number * 3600
        if what == "heard":
            book.heard(site, address, Source.PEX, now, teller(number))
        elif what == "reached":
            book.reached(site, address, now)
        elif what == "failed":
            book.failed(address, rng, now)
        elif what == "forget":
            book.forget(address)
        else:
            book.prune(now)
    peers = [peer for site in (SITE, OTHER) for peer in book.peers(site)]
    assert len(book) == len(peers) <= 9
    assert sum(book._ranges.values()) == sum(not peer.proven for peer in peers)
    assert sum(book._tellers.values()) == sum(not peer.proven for peer in peers)
    assert sum(book._hosts.values()) == len(peers)


# Whom to dial


def test_peers_that_deliver_come_first(book, rng):
    addresses = spread(30)
    for number, address in enumerate(addresses):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for address in addresses[:3]:
        book.reached(SITE, address, NOW)
    book.failed(addresses[29], rng, NOW)
    later = NOW + 60
    assert set(dialled(book, rng, 3, later)) == set(addresses[:3])
    assert dialled(book, rng, 100, later)[-1] == addresses[29]
    assert len(dialled(book, rng, 100, later)) == 30


def test_who_failed_is_left_alone_for_a_growing_while(book, rng):
    address = at("203.0.113.9:5")
    book.reached(SITE, address, NOW)
    now, pauses = NOW, []
    for _ in range(12):
        book.failed(address, rng, now)
        pause = book.get(SITE, address).retry_at - now
        assert dialled(book, rng, now=now + pause - 0.01) == []
        now += pause
        assert dialled(book, rng, now=now) == [address]
        pauses.append(pause)
    for pause, expected in zip(pauses, [5, 10, 20, 40, 80], strict=False):
        assert 0.75 * expected <= pause <= 1.25 * expected
    assert max(pauses) <= 1.25 * RETRY_MOST
    book.reached(SITE, address, now)
    assert book.get(SITE, address).failures == 0 and dialled(book, rng, now=now) == [address]


def test_a_clock_that_was_ahead_does_not_lock_a_peer_away(book, rng):
    address = at("203.0.113.9:5")
    book.reached(SITE, address, NOW)
    book.failed(address, rng, NOW + 365 * 86400)
    assert dialled(book, rng) == [address]


def test_hearsay_that_never_answers_is_forgotten(book, rng):
    address = at("203.0.113.9:5")
    book.heard(SITE, address, Source.PEX, NOW, "198.51.100.1")
    for _ in range(FORGET_FAILURES):
        book.failed(address, rng, NOW + FORGET_SECONDS + 1)
    assert len(book) == 0


def test_who_is_announced_for_ever_and_never_answers_is_tried_once_an_hour(book, rng):
    """By a tracker, say, behind a firewall."""
    address = at("203.0.113.9:5")
    dials = []
    for now in range(int(NOW), int(NOW) + 86400, 5):
        if now % 600 < 5:
            book.heard(SITE, address, Source.TRACKER, now, "198.51.100.1")
        if dialled(book, rng, now=now):
            dials.append(now)
            book.failed(address, rng, now)
    assert 24 <= len(dials) <= 40
    assert min(late - early for early, late in itertools.pairwise(dials[12:])) >= 0.7 * RETRY_MOST


def test_a_failure_at_one_site_is_none_at_another(book, rng):
    for site in (SITE, OTHER):
        book.reached(site, at("203.0.113.9:5"), NOW)
    book.failed(at("203.0.113.9:5"), rng, NOW, SITE)
    assert book.get(SITE, at("203.0.113.9:5")).failures == 1
    assert book.get(OTHER, at("203.0.113.9:5")).failures == 0
    book.failed(at("203.0.113.9:5"), rng, NOW)
    assert book.get(OTHER, at("203.0.113.9:5")).failures == 1


def test_of_one_range_one_is_dialled_before_the_others_have_had_their_turn(book, rng):
    for number, address in enumerate(crowd(RANGE_SHARE)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    for number, address in enumerate(spread(7)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    chosen = dialled(book, rng, 8)
    assert len({range_of(address.host) for address in chosen}) == 8


def test_whom_not_to_dial(book, rng):
    for number, address in enumerate(spread(6)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    first, second, *rest = spread(6)
    assert set(dialled(book, rng, exclude={first, second})) == set(rest)
    found = book.candidates(SITE, 9, (), rng, NOW, lambda address: address == first)
    assert found == [first]
    assert book.candidates(OTHER, 9, (), rng, NOW) == []


def test_the_choice_is_by_chance_and_repeatable(book):
    for number, address in enumerate(spread(30)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    picks = [dialled(book, random.Random(seed), 5) for seed in (1, 1, 2)]
    assert picks[0] == picks[1] != picks[2]


# What survives


def test_what_was_written_down_is_restored(book, rng):
    book.heard(SITE, at("203.0.113.9:5"), Source.PEX, NOW, "198.51.100.1")
    book.reached(OTHER, at("203.0.113.8:5"), NOW)
    kept, gone = book.take_changes()
    assert len(kept) == 2 and gone == [] and book.take_changes() == ([], [])
    again = PeerBook()
    again.restore(kept)
    assert again.peers(SITE) == book.peers(SITE) and again.peers(OTHER) == book.peers(OTHER)
    assert again.take_changes() == ([], [])
    again.forget(at("203.0.113.9:5"))
    assert again.take_changes() == ([], [(SITE, at("203.0.113.9:5"))])


def test_hearing_the_same_again_soon_is_no_change(book):
    for later in (0, 1, 500):
        book.heard(SITE, at("203.0.113.9:5"), Source.PEX, NOW + later, "198.51.100.1")
    assert len(book.take_changes()[0]) == 1
    book.heard(SITE, at("203.0.113.9:5"), Source.PEX, NOW + 700, "198.51.100.1")
    assert len(book.take_changes()[0]) == 1


def test_private_addresses_of_an_earlier_configuration_are_not_restored():
    loose = PeerBook(allow_private=True)
    loose.heard(SITE, at("10.0.0.9:5"), Source.PEX, NOW, "10.0.0.1")
    kept, _ = loose.take_changes()
    book = PeerBook()
    book.restore(kept)
    assert len(book) == 0


def test_who_is_not_spoken_of_is_forgotten(book):
    book.heard(SITE, at("203.0.113.9:5"), Source.PEX, NOW, "198.51.100.1")
    book.reached(SITE, at("203.0.113.8:5"), NOW)
    book.prune(NOW + HEARSAY_SECONDS)
    assert len(book) == 2
    book.prune(NOW + HEARSAY_SECONDS + 1)
    assert book.known(SITE) == [at("203.0.113.8:5")]
    book.prune(NOW + PROVEN_SECONDS + 1)
    assert len(book) == 0


def test_the_book_of_one_site_holds_what_it_says():
    book = PeerBook()
    for number, address in enumerate(spread(3000)):
        book.heard(SITE, address, Source.PEX, NOW, teller(number))
    assert len(book) == SITE_LIMIT
