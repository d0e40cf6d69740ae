import itertools
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import TheirMistake
from zeromsg.policy.tracker_book import TrackerBook
from zeromsg.routing.tracker_server import (
    BURST,
    CHALLENGE_SECONDS,
    CHALLENGES_LIMIT,
    NEED_OF_MANY,
    TrackerServer,
)
from zeromsg.wire.announce import HASHES_LIMIT, AnnounceAnswer, AnnounceRequest
from zeromsg.wire.trackers import TrackerRefused
from zeromsg.wire.values import PeerAddress, site_sha256

SITE, OTHER = site_sha256("1" * 30), site_sha256("2" * 30)
KEYS = [OnionKey.from_seed(bytes([number]) * 32) for number in range(3)]
ALL = ("ipv4", "ipv6", "onion")


@attrs.define(eq=False)
class Link:
    """What of a link the tracker looks at."""

    identity: str
    name: str = ""


class Tracker:
    """A server, and askers that speak to it through what is on the wire."""

    def __init__(self, allow_private=False):
        self.clock = Clock()
        numbers = itertools.count(1)
        self.book = TrackerBook()
        self.server = TrackerServer(
            self.book,
            self.clock,
            random.Random(1),
            lambda size: next(numbers).to_bytes(size, "big"),
            allow_private,
        )

    def ask(self, host, hashes=(SITE,), port=15441, add=ALL, need=20, types=ALL, **more):
        request = AnnounceRequest(tuple(hashes), port, types, need, add, **more)
        return self.send(host, request)

    def send(self, host, request):
        link = host if isinstance(host, Link) else Link(host)
        body = self.server.announce(link, request.to_wire())
        return AnnounceAnswer.from_wire(body, len(request.hashes))


@pytest.fixture
def tracker():
    return Tracker()


def test_one_after_the_other(tracker):
    assert tracker.ask("203.0.113.1").peers == ((),)
    assert tracker.ask("198.51.100.2").peers == ((PeerAddress("203.0.113.1", 15441),),)
    found = tracker.ask("192.0.2.3", [OTHER, SITE]).peers
    assert found[0] == ()
    assert set(found[1]) == {
        PeerAddress("203.0.113.1", 15441),
        PeerAddress("198.51.100.2", 15441),
    }
    assert tracker.server.status() == {"sites": 2, "entries": 4}


def test_only_the_port_is_believed(tracker):
    """Nobody can name another host: the address is that of the connection."""
    tracker.ask("203.0.113.1", port=1234)
    assert tracker.ask("192.0.2.3").peers == ((PeerAddress("203.0.113.1", 1234),),)


@pytest.mark.parametrize(
    ("host", "add", "port"),
    [
        ("203.0.113.1", (), 15441),
        ("203.0.113.1", ("ipv6", "onion"), 15441),
        ("203.0.113.1", ALL, 0),
        ("2001:db8::1", ("ipv4",), 15441),
        ("127.0.0.1", ALL, 15441),
        ("10.1.2.3", ALL, 15441),
        ("192.168.0.9", ALL, 15441),
        ("fe80::1", ALL, 15441),
        ("::ffff:127.0.0.1", ALL, 15441),
        ("nonsense", ALL, 15441),
    ],
)
def test_who_is_not_listed_still_gets_an_answer(tracker, host, add, port):
    tracker.ask("198.51.100.2")
    answer = tracker.ask(host, add=add, port=port)
    assert answer.peers == ((PeerAddress("198.51.100.2", 15441),),)
    assert tracker.ask("192.0.2.9", add=()).peers == answer.peers


def test_the_old_name_of_ipv4(tracker):
    tracker.ask("203.0.113.1", add=("ip4",))
    link = Link("192.0.2.9")
    body = tracker.server.announce(
        link, AnnounceRequest((SITE,), 1, ("ip4", "ipv4"), 20, ()).to_wire()
    )
    assert list(body["peers"][0]) == ["ipv6", "onion", "ip4"]
    assert len(body["peers"][0]["ip4"]) == 1


def test_in_a_private_network_private_addresses_are_listed():
    tracker = Tracker(allow_private=True)
    tracker.ask(Link("127.0.0.7", "127.0.0.7:15441"))
    found = tracker.ask(Link("127.0.0.8", "127.0.0.8:15441")).peers
    assert found == ((PeerAddress("127.0.0.7", 15441),),)


def test_families_that_the_asker_cannot_dial_are_not_told(tracker):
    tracker.ask("203.0.113.1")
    tracker.ask("2001:db8::1")
    assert tracker.ask("192.0.2.1", types=("ipv6",)).peers == (
        (PeerAddress("2001:db8::1", 15441),),
    )
    assert tracker.ask("192.0.2.1", types=()).peers == ((),)


def test_a_complete_list_withdraws_the_rest(tracker):
    tracker.ask("203.0.113.1", [SITE, OTHER])
    tracker.ask("203.0.113.1", [OTHER], delete=True)
    assert tracker.ask("192.0.2.1", [SITE, OTHER], add=()).peers == (
        (),
        (PeerAddress("203.0.113.1", 15441),),
    )


def test_ten_thousand_sites_announced_by_one_peer(tracker):
    hashes = [site_sha256(f"{number:030d}") for number in range(10_000)]
    answer = tracker.ask("203.0.113.1", hashes)
    assert len(answer.peers) == HASHES_LIMIT
    for start in range(500, 10_000, 500):
        tracker.clock.advance(30)
        tracker.ask("203.0.113.1", hashes[start : start + 500])
    assert tracker.server.status() == {"sites": 500, "entries": 500}


def test_large_requests_get_few_peers_of_each_site(tracker):
    for number in range(20):
        tracker.ask(f"{number + 20}.0.0.1")
    hashes = [SITE, *(site_sha256(f"{number:030d}") for number in range(100))]
    assert len(tracker.ask("192.0.2.1", hashes, add=(), need=30).peers[0]) == NEED_OF_MANY
    assert len(tracker.ask("192.0.2.1", add=(), need=30).peers[0]) == 20


def test_who_announces_without_end_is_refused(tracker):
    link = Link("203.0.113.1")
    request = AnnounceRequest((SITE,), 1, ALL, 5, ALL).to_wire()
    answers = [tracker.server.announce(link, request) for _ in range(int(BURST) + 5)]
    assert [answer.get("error") for answer in answers[-5:]] == ["Too many announces"] * 5
    with pytest.raises(TrackerRefused, match="Too many announces"):
        tracker.ask("203.0.113.1", [SITE] * 20)
    assert "error" not in answers[int(BURST) - 1]
    assert tracker.ask("198.51.100.2").peers != ((),)
    tracker.clock.advance(1.0)
    assert "peers" in tracker.server.announce(link, request)


def test_many_sites_cost_more_than_one(tracker):
    """However they are spread over announces, and named again and again."""
    for _ in range(4):
        tracker.ask("203.0.113.1", [SITE] * HASHES_LIMIT)
    with pytest.raises(TrackerRefused):
        tracker.ask("203.0.113.1")
    tracker.clock.advance(0.1)
    tracker.ask("203.0.113.1", [SITE, SITE])
    assert len(tracker.book) == 1


def test_a_missing_key_is_a_mistake(tracker):
    with pytest.raises(TheirMistake):
        tracker.server.announce(Link("203.0.113.1"), {"hashes": []})


# Onions.


def prove(request, challenge, keys, sign=None):
    signs = {key.public: (sign or key).sign(challenge.encode()) for key in keys}
    return request.proven(challenge, signs)


def onion_request(keys, hashes=None):
    hashes = hashes or [SITE] * len(keys)
    return AnnounceRequest(
        tuple(hashes), 15441, ALL, 20, ("onion",), onions=tuple(key.onion for key in keys)
    )


TOR = Link("127.0.0.1", "127.0.0.1:4711")


def addresses(*keys):
    return {PeerAddress(f"{key.onion}.onion", 15441) for key in keys}


def test_a_proven_onion_is_listed(tracker):
    request = onion_request(KEYS[:2], [SITE, OTHER])
    challenge = tracker.send(TOR, request).onion_sign_this
    assert challenge.isdigit()
    assert tracker.ask("192.0.2.1", add=()).peers == ((),)
    assert tracker.send(TOR, prove(request, challenge, KEYS[:2])).onion_sign_this == ""
    found = tracker.ask("192.0.2.1", [SITE, OTHER], add=()).peers
    assert [set(one) for one in found] == [addresses(KEYS[0]), addresses(KEYS[1])]


def test_an_onion_is_not_told_of_itself(tracker):
    request = onion_request(KEYS[:1])
    challenge = tracker.send(TOR, request).onion_sign_this
    tracker.send(TOR, prove(request, challenge, KEYS[:1]))
    assert tracker.send(TOR, request).peers == ((),)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request, challenge: prove(request, challenge, KEYS[:1]),  # one is missing
        lambda request, challenge: prove(request, challenge, KEYS),  # one is too many
        lambda request, challenge: prove(request, challenge, KEYS[:2], sign=KEYS[0]),
        lambda request, challenge: prove(request, str(int(challenge) + 1), KEYS[:2]),
        lambda request, challenge: attrs.evolve(
            prove(request, "1795326699", KEYS[:2]), onion_sign_this=challenge
        ),
        lambda request, challenge: request.proven(challenge, {}),
        lambda request, challenge: request.proven(challenge, {b"": b""}),
    ],
)
def test_a_proof_that_is_none_lists_nothing_and_may_be_given_again(tracker, spoil):
    request = onion_request(KEYS[:2])
    challenge = tracker.send(TOR, request).onion_sign_this
    again = tracker.send(TOR, spoil(request, challenge)).onion_sign_this
    assert again not in ("", challenge)
    assert len(tracker.book) == 0
    tracker.send(TOR, prove(request, again, KEYS[:2]))
    assert len(tracker.book) == 2


def test_a_proof_is_good_for_three_minutes_once_and_for_one_asker(tracker):
    request = onion_request(KEYS[:1])

    def listed():
        return set(tracker.ask("192.0.2.1", add=()).peers[0]) == addresses(KEYS[0])

    challenge = tracker.send(TOR, request).onion_sign_this
    proof = prove(request, challenge, KEYS[:1])
    assert tracker.send("198.51.100.66", proof).onion_sign_this  # whoever overheard it
    assert not listed()
    tracker.clock.advance(CHALLENGE_SECONDS + 1)
    challenge = tracker.send(TOR, proof).onion_sign_this
    assert not listed()
    tracker.clock.advance(CHALLENGE_SECONDS - 1)
    proof = prove(request, challenge, KEYS[:1])
    assert tracker.send(TOR, proof).onion_sign_this == ""
    assert listed()
    tracker.clock.advance(10_000)
    assert tracker.send(TOR, proof).onion_sign_this
    assert not listed()


def test_onions_of_version_2_are_not_listed(tracker):
    request = attrs.evolve(onion_request(KEYS[:1]), onions=("boot3rdez4rzn36x",))
    assert tracker.send(TOR, request).onion_sign_this
    assert len(tracker.book) == 0


def test_numbers_that_wait_to_be_signed_have_a_bound(tracker):
    request = onion_request(KEYS[:1])
    first = Link("127.0.0.1", "first")
    challenge = tracker.send(first, request).onion_sign_this
    for number in range(CHALLENGES_LIMIT):
        tracker.server.announce(Link("127.0.0.1", str(number)), request.to_wire())
    assert tracker.send(first, prove(request, challenge, KEYS[:1])).onion_sign_this
    assert len(tracker.book) == 0


def test_those_who_come_through_tor_are_limited_one_by_one(tracker):
    request = AnnounceRequest((SITE,), 1, ALL, 5, ()).to_wire()
    for _ in range(int(BURST) + 1):
        last = tracker.server.announce(Link("127.0.0.1", "a"), request)
    assert "error" in last
    assert "peers" in tracker.server.announce(Link("127.0.0.1", "b"), request)


@given(
    st.dictionaries(
        st.sampled_from(["onions", "onion_signs", "onion_sign_this", "hashes", "add", "port"]),
        st.lists(st.text(max_size=5) | st.binary(min_size=32, max_size=32), max_size=2)
        | st.integers(-1, 70000)
        | st.text(max_size=5)
        | st.dictionaries(st.binary(max_size=33), st.binary(max_size=64), max_size=2),
        max_size=3,
    )
)
def test_hostile_requests_raise_only_their_mistake(changes):
    tracker = Tracker()
    request = onion_request(KEYS[:1]).to_wire()
    try:
        answer = tracker.server.announce(Link("203.0.113.1"), {**request, **changes})
    except TheirMistake as mistake:
        assert str(mistake)
        return
    assert "peers" in answer
