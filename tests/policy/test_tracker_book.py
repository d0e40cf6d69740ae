import hashlib
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zeromsg.crypto.onion import onion_of
from zeromsg.policy.tracker_book import (
    ENTRIES_LIMIT,
    HOST_LIMIT,
    LIFETIME,
    PEERS_LIMIT,
    PORTS_LIMIT,
    SITES_LIMIT,
    TrackerBook,
    neighbourhood,
)
from zeromsg.wire.values import PeerAddress

ALL = ("ipv4", "ipv6", "onion")
SITE = b"s" * 32


def site(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def ipv4(number: int, port: int = 15441) -> PeerAddress:
    """Addresses of which each has a neighbourhood of its own."""
    return PeerAddress(f"{1 + number // 256}.{number % 256}.0.1", port)


def crowd(number: int) -> PeerAddress:
    """Addresses of one neighbourhood."""
    return PeerAddress(f"203.0.{number // 256}.{number % 256}", 15441)


def onion(number: int) -> PeerAddress:
    return PeerAddress(onion_of(site(number)) + ".onion", 15441)


def known(book, at=SITE, kinds=ALL, but=(), need=1000, seed=1):
    return book.peers(at, kinds, but, need, random.Random(seed))


def test_who_announced_is_told():
    book = TrackerBook()
    assert known(book) == ()
    book.announce(SITE, ipv4(1), 0.0)
    book.announce(SITE, ipv4(2), 1.0)
    assert known(book) == (ipv4(2), ipv4(1))
    assert known(book, site(7)) == ()
    assert (len(book), book.sites) == (2, 1)


def test_announcing_again_changes_only_the_time():
    book = TrackerBook()
    for at in (0.0, LIFETIME - 1):
        book.announce(SITE, ipv4(1), at)
    book.expire(LIFETIME + 1)
    assert known(book) == (ipv4(1),)
    assert len(book) == 1


def test_what_is_not_announced_again_is_forgotten():
    book = TrackerBook()
    book.announce(SITE, ipv4(1), 0.0)
    book.announce(site(1), ipv4(2), 10.0)
    book.expire(LIFETIME - 0.1)
    assert len(book) == 2
    book.expire(LIFETIME)
    assert (known(book), known(book, site(1))) == ((), (ipv4(2),))
    book.expire(LIFETIME + 10)
    assert (len(book), book.sites) == (0, 0)


def test_the_asker_and_families_it_cannot_dial_are_left_out():
    book = TrackerBook()
    addresses = [ipv4(1), PeerAddress("2001:db8::1", 2), onion(1)]
    for address in addresses:
        book.announce(SITE, address, 0.0)
    for address in addresses:
        assert known(book, kinds=(address.kind,)) == (address,)
        assert address not in known(book, but={address})


@pytest.mark.parametrize("need", [0, -1])
def test_who_needs_none_gets_none(need):
    book = TrackerBook()
    book.announce(SITE, ipv4(1), 0.0)
    assert known(book, need=need) == ()


def test_withdrawing_leaves_what_is_still_announced_and_everybody_else():
    book = TrackerBook()
    other_port = PeerAddress(ipv4(1).host, 7)
    for number in range(3):
        for address in (ipv4(1), ipv4(2), other_port):
            book.announce(site(number), address, 0.0)
    book.withdraw(ipv4(1), {site(1)})
    assert known(book, site(0)) == (other_port, ipv4(2))
    assert ipv4(1) in known(book, site(1))
    book.withdraw(ipv4(99), set())
    assert len(book) == 7


def test_ten_thousand_sites_of_one_host():
    book = TrackerBook()
    book.announce(SITE, ipv4(2), 0.0)
    for number in range(10_000):
        book.announce(site(number), ipv4(1, 1 + number % 60000), 1.0)
    assert len(book) == HOST_LIMIT + 1
    assert known(book) == (ipv4(2),)
    assert known(book, site(9_999)) != ()
    assert known(book, site(9_000)) == ()


def test_one_host_under_every_port():
    book = TrackerBook()
    for port in range(1, 2000):
        book.announce(SITE, ipv4(1, port), 0.0)
    assert len(known(book)) == PORTS_LIMIT
    assert ipv4(1, 1999) in known(book)


def test_a_peer_that_claims_to_be_everybody_makes_room_itself():
    """A whole /16 announces itself at a site where twenty others are."""
    book = TrackerBook()
    honest = [ipv4(number) for number in range(20)]
    for address in honest:
        book.announce(SITE, address, 0.0)
    for number in range(5000):
        book.announce(SITE, crowd(number), 1.0)
    there = known(book)
    assert len(there) == PEERS_LIMIT
    assert set(honest) <= set(there)
    # And of thirty that are told, the crowd is one neighbourhood among 21.
    told = known(book, need=30)
    assert set(honest) <= set(told)
    assert len(set(told)) == 30


def test_answers_differ_from_time_to_time():
    book = TrackerBook()
    for number in range(50):
        book.announce(SITE, ipv4(number), 0.0)
    assert len({known(book, need=5, seed=seed) for seed in range(10)}) > 5


def test_a_flood_of_onions_does_not_push_addresses_out():
    book = TrackerBook(peers_limit=10)
    book.announce(SITE, ipv4(1), 0.0)
    for number in range(50):
        book.announce(SITE, onion(number), 1.0)
    assert ipv4(1) in known(book)
    assert len(known(book)) == 10


def test_sites_that_a_crowd_invents_do_not_push_others_out():
    book = TrackerBook(sites_limit=100, host_limit=50)
    for number in range(40):
        book.announce(site(number), ipv4(number), 0.0)
    for number in range(1000, 3000):
        book.announce(site(number), crowd(number), 1.0)
    assert book.sites == 100
    assert all(known(book, site(number)) == (ipv4(number),) for number in range(40))


def test_entries_in_all_have_a_bound():
    book = TrackerBook(entries_limit=100)
    for number in range(300):
        book.announce(site(number % 7), ipv4(number), float(number))
    assert len(book) == 100
    # All neighbourhoods are of one size: then the oldest goes.
    assert ipv4(299) in known(book, site(299 % 7))
    assert ipv4(0) not in known(book, site(0))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (PeerAddress("203.0.113.9", 1), "203.0"),
        (PeerAddress("2001:db8:7:9::1", 1), "20010db80007"),
        (onion(1), "onion"),
    ],
)
def test_neighbourhoods(address, name):
    assert neighbourhood(address) == name


def test_the_bounds_are_what_the_documentation_says():
    assert (SITES_LIMIT, PEERS_LIMIT, ENTRIES_LIMIT) == (10_000, 200, 30_000)
    assert (HOST_LIMIT, PORTS_LIMIT, LIFETIME) == (500, 3, 2400.0)


class Book(RuleBasedStateMachine):
    """Whatever strangers do, the bounds hold and the indexes agree."""

    def __init__(self):
        super().__init__()
        self.book = TrackerBook(sites_limit=4, entries_limit=12, peers_limit=5, host_limit=3)
        self.now = 0.0

    addresses = st.builds(
        PeerAddress,
        st.sampled_from(["1.1.0.1", "1.1.0.2", "1.2.0.1", "2.2.0.2", "2001:db8::1"]),
        st.integers(1, 5),
    )
    sites = st.integers(0, 6).map(site)

    @rule(at=sites, address=addresses)
    def announce(self, at, address):
        self.book.announce(at, address, self.now)
        assert address in known(self.book, at)

    @rule(address=addresses, kept=st.sets(sites, max_size=2))
    def withdraw(self, address, kept):
        self.book.withdraw(address, kept)
        for number in range(7):
            assert site(number) in kept or address not in known(self.book, site(number))

    @rule(seconds=st.floats(0, LIFETIME))
    def wait(self, seconds):
        self.now += seconds
        self.book.expire(self.now)

    @invariant()
    def holds(self):
        found = [(number, known(self.book, site(number))) for number in range(7)]
        entries = [address for _, addresses in found for address in addresses]
        assert len(entries) == len(self.book) <= 12
        assert self.book.sites == sum(bool(addresses) for _, addresses in found) <= 4
        assert all(len(addresses) <= 5 for _, addresses in found)
        for host in {address.host for address in entries}:
            assert sum(address.host == host for address in entries) <= 3


Book.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBook = Book.TestCase
