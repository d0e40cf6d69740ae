"""zero:// trackers, and all kinds behind one interface."""

import itertools
import random

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_zero import ZeroAnnouncer
from zeromsg.net.trackers import Trackers, all_trackers
from zeromsg.policy.tracker_book import TrackerBook
from zeromsg.routing.tracker_server import TrackerServer
from zeromsg.wire.announce import HASHES_LIMIT, AnnounceRequest
from zeromsg.wire.trackers import Announcement, Found, TrackerRefused, parse_tracker
from zeromsg.wire.values import PeerAddress, site_sha256

SITE, OTHER = "1" * 30, "2" * 30
ZERO = parse_tracker("zero://203.0.113.1:15441")
ALL = frozenset({"ipv4", "ipv6", "onion"})
MINE = Announcement((SITE, OTHER), 15441, frozenset({"ipv4"}), ALL, need=20)
KEYS = {key.onion: key for key in (OnionKey.from_seed(bytes([n]) * 32) for n in (1, 2))}
FIRST, SECOND = KEYS


@attrs.define(eq=False)
class Link:
    """A link to a tracker, over which requests are answered at once."""

    tracker: "ZeroTracker"
    identity: str
    name: str

    def ask(self, cmd, params, timeout=10.0):
        assert cmd == "announce"
        self.tracker.requests.append((self.name, params))
        answer = self.tracker.answer(self, params)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class ZeroTracker:
    """A tracker, our own unless told otherwise, and an announcer that asks it."""

    def __init__(self, answer=None):
        numbers = itertools.count(1)
        self.book = TrackerBook()
        server = TrackerServer(
            self.book,
            Clock(),
            random.Random(1),
            lambda size: next(numbers).to_bytes(size, "big"),
            allow_private=False,
        )
        self.answer = answer or server.announce
        self.requests = []
        self.dialled = []
        self.signed = []
        self.announcer = ZeroAnnouncer(
            link_to=self.link_to, resolver=Resolver(None, Clock(), False), sign_onion=self.sign
        )

    def link_to(self, address, onion):
        self.dialled.append((address, onion))
        identity = "127.0.0.1" if onion else "198.51.100.7"
        return succeed(Link(self, identity, onion or "198.51.100.7:15441"))

    def sign(self, onion, message):
        self.signed.append((onion, message))
        return KEYS[onion].public, KEYS[onion].sign(message)

    def ask(self, mine=MINE, tracker=ZERO):
        return result(self.announcer.announce(tracker, mine))

    def at(self, site):
        return self.book.peers(site_sha256(site), list(ALL), (), 100, random.Random(1))


def result(coroutine):
    results = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def test_all_sites_go_in_one_request():
    tracker = ZeroTracker()
    tracker.book.announce(site_sha256(OTHER), PeerAddress("192.0.2.9", 7), 0.0)
    found = tracker.ask()
    assert found.peers == {SITE: (), OTHER: (PeerAddress("192.0.2.9", 7),)}
    assert tracker.dialled == [(PeerAddress("203.0.113.1", 15441), "")]
    [(_, params)] = tracker.requests
    assert params["need_types"] == ["ipv4", "ipv6", "onion"]
    assert params["add"] == ["ipv4"]
    assert "delete" not in params
    assert tracker.at(SITE) == (PeerAddress("198.51.100.7", 15441),)


def test_who_cannot_be_connected_to_is_not_listed():
    tracker = ZeroTracker()
    tracker.ask(attrs.evolve(MINE, listed=frozenset()))
    assert tracker.requests[0][1]["add"] == []
    assert tracker.at(SITE) == ()


def test_a_complete_list_says_so():
    tracker = ZeroTracker()
    tracker.ask(attrs.evolve(MINE, complete=True))
    assert tracker.requests[0][1]["delete"] is True


def test_onions_are_proven_each_over_a_link_of_its_own():
    tracker = ZeroTracker()
    mine = attrs.evolve(MINE, onions={SITE: FIRST, OTHER: SECOND}, complete=True)
    tracker.ask(mine)
    assert [onion for _, onion in tracker.dialled] == [FIRST, SECOND]
    assert [onion for onion, _ in tracker.signed] == [FIRST, SECOND]
    assert tracker.at(SITE) == (PeerAddress(FIRST + ".onion", 15441),)
    assert tracker.at(OTHER) == (PeerAddress(SECOND + ".onion", 15441),)
    for name, params in tracker.requests:
        # No request names two onions, the address of the machine, or all that there is.
        assert set(params["onions"]) == {name}
        assert params["add"] == ["onion"]
        assert "delete" not in params


def test_sites_with_and_without_an_onion_are_not_named_together():
    tracker = ZeroTracker()
    tracker.ask(attrs.evolve(MINE, onions={OTHER: FIRST}))
    assert [onion for _, onion in tracker.dialled] == ["", FIRST]
    hashes = [params["hashes"] for _, params in tracker.requests]
    assert hashes[0] == [site_sha256(SITE)]
    assert hashes[1] == hashes[2] == [site_sha256(OTHER)]


def test_a_tracker_that_has_anything_but_a_number_signed():
    tracker = ZeroTracker(lambda link, params: {"peers": [], "onion_sign_this": "I owe you"})
    with pytest.raises(TheirMistake):
        tracker.ask(attrs.evolve(MINE, onions={SITE: FIRST}))
    assert tracker.signed == []


def test_who_has_no_onion_signs_nothing():
    tracker = ZeroTracker(lambda link, params: {"peers": [], "onion_sign_this": "123"})
    assert tracker.ask().peers == {}
    assert tracker.signed == []


def test_a_tracker_that_is_never_satisfied_is_asked_twice():
    tracker = ZeroTracker(lambda link, params: {"peers": [{}], "onion_sign_this": "123"})
    tracker.ask(attrs.evolve(MINE, sites=(SITE,), onions={SITE: FIRST}))
    assert len(tracker.requests) == 2


def test_many_sites_take_several_requests():
    sites = tuple(f"{number:030d}" for number in range(HASHES_LIMIT + 10))
    tracker = ZeroTracker()
    found = tracker.ask(attrs.evolve(MINE, sites=sites, complete=True))
    assert set(found.peers) == set(sites)
    assert [len(params["hashes"]) for _, params in tracker.requests] == [HASHES_LIMIT, 10]
    assert not any("delete" in params for _, params in tracker.requests)


def test_fewer_answers_than_sites():
    tracker = ZeroTracker(lambda link, params: {"peers": [{"ipv4": [b"\xc0\x00\x02\x09\x07\x00"]}]})
    assert tracker.ask().peers == {SITE: (PeerAddress("192.0.2.9", 7),)}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": "Unknown command: announce"}, TrackerRefused),
        ({}, TheirMistake),
        ({"peers": [{"ipv4": [b"x"]}]}, TheirMistake),
        (Unreachable("no answer in time"), Unreachable),
    ],
)
def test_trackers_that_fail(answer, error):
    with pytest.raises(error):
        ZeroTracker(lambda link, params: answer).ask()


def test_a_tracker_that_cannot_be_reached():
    tracker = ZeroTracker()
    tracker.announcer._link_to = lambda address, onion: fail(Unreachable("cannot connect"))
    with pytest.raises(Unreachable, match="cannot connect"):
        tracker.ask()


# All kinds.


class Announcer:
    def __init__(self):
        self.asked = []

    async def announce(self, tracker, announcement):
        self.asked.append(tracker)
        return Found({})


def test_each_kind_has_its_announcer():
    announcers = {kind: Announcer() for kind in ("zero", "http", "https", "udp")}
    trackers = Trackers(announcers, "refused")
    for kind, announcer in announcers.items():
        tracker = parse_tracker(f"{kind}://203.0.113.1:80")
        assert trackers.refusal(tracker) == ""
        result(trackers.announce(tracker, MINE))
        assert announcer.asked == [tracker]


class Untouchable:
    """A reactor that must not be used."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was used")


def everything(direct, reactor, link_to=None, connector=None):
    return all_trackers(
        reactor=reactor,
        clock=Clock(),
        connector=connector or Untouchable(),
        link_to=link_to or Untouchable(),
        sign_onion=Untouchable(),
        peer_id="-UT3530-pKaCVxmqwC60",
        entropy=bytes,
        interface="",
        allow_private=False,
        direct=direct,
    )


@pytest.mark.parametrize("kind", ["http", "https", "udp"])
def test_with_tor_alone_no_such_tracker_is_asked(kind):
    trackers = everything(False, Untouchable())
    tracker = parse_tracker(f"{kind}://203.0.113.1:80")
    assert "without Tor" in trackers.refusal(tracker)
    with pytest.raises(Unreachable, match="without Tor"):
        result(trackers.announce(tracker, MINE))


def test_with_tor_alone_no_name_is_looked_up():
    trackers = everything(False, Untouchable())
    tracker = parse_tracker("zero://tracker.example:80")
    assert trackers.refusal(tracker) == ""
    with pytest.raises(Unreachable, match="not looked up"):
        result(trackers.announce(tracker, MINE))


def test_with_tor_alone_zero_trackers_are_asked_over_links():
    asked = []

    def link_to(address, onion):
        asked.append(address)
        return fail(Unreachable("tor is not there"))

    trackers = everything(False, Untouchable(), link_to)
    with pytest.raises(Unreachable, match="tor is not there"):
        result(trackers.announce(parse_tracker(f"zero://{FIRST}.onion:80"), MINE))
    assert asked == [PeerAddress(f"{FIRST}.onion", 80)]


def test_without_tor_all_kinds_are_asked():
    class Reactor:
        nameResolver = None

        def listenUDP(self, *args):
            raise OSError

    def connector(address):
        raise Unreachable("by connector")

    trackers = everything(
        True, Reactor(), lambda address, onion: fail(Unreachable("by link")), connector
    )
    for kind, reason in [
        ("zero", "by link"),
        ("http", "by connector"),
        ("https", "by connector"),
        ("udp", "cannot open"),
    ]:
        tracker = parse_tracker(f"{kind}://203.0.113.1:80")
        assert trackers.refusal(tracker) == ""
        with pytest.raises(Unreachable, match=reason):
            result(trackers.announce(tracker, MINE))


def test_what_is_asked_is_what_a_tracker_reads():
    tracker = ZeroTracker()
    tracker.ask()
    request = AnnounceRequest.from_wire(tracker.requests[0][1])
    assert request.hashes == (site_sha256(SITE), site_sha256(OTHER))
