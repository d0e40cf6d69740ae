import itertools
import random

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.routing.announcing import (
    ANNOUNCE_SECONDS,
    BACKOFF_MOST,
    FOUND_LIMIT,
    HUNGRY_SECONDS,
    IN_FLIGHT,
    INTERVAL_MOST,
    REFUSALS_LIMIT,
    ROUND_SECONDS,
    START_SECONDS,
    Announcing,
    Presence,
)
from zeromsg.wire.trackers import Found, TrackerRefused, parse_tracker
from zeromsg.wire.values import PeerAddress

SITE, OTHER = "1" * 30, "2" * 30
ZERO = parse_tracker("zero://203.0.113.1:15441")
HTTP = parse_tracker("http://tracker.example/announce?key=secret")
UDP = parse_tracker("udp://tracker.example:80")
PEER = PeerAddress("192.0.2.9", 7)
WALL = 1_000_000.0


started = []


@pytest.fixture(autouse=True)
def end():
    """Whatever a test leaves hanging ends with it."""
    yield
    while started:
        started.pop().stop()


class Node:
    """Announcing, with trackers that are a function from (tracker, announcement) to an answer."""

    def __init__(self, trackers, answer=None, sites=(SITE, OTHER), enough=True, private=False):
        self.clock = Clock()
        self.answer = answer or (lambda tracker, announcement: Found({}))
        self.sites = list(sites)
        self.enough = enough
        self.asked = []
        self.found = []
        self.refused = {}
        self.cancelled = 0
        self.flying = self.most_flying = 0
        self.presence = Presence(15441, frozenset({"ipv4"}), frozenset({"ipv4", "ipv6"}))
        self.trackers = trackers
        self.private = private

    def start(self):
        self.announcing = Announcing(
            trackers=self.trackers,
            asker=self,
            sites=lambda: list(self.sites),
            presence=lambda: self.presence,
            enough=lambda site: self.enough,
            found=lambda site, addresses, source: self.found.append((site, addresses, source)),
            allow_private=self.private,
            clock=self.clock,
            wall=lambda: WALL + self.clock.seconds(),
            rng=random.Random(1),
        )
        self.announcing.start()
        started.append(self.announcing)
        return self

    # ITrackers.

    def refusal(self, tracker):
        return self.refused.get(tracker, "")

    async def announce(self, tracker, announcement):
        self.asked.append((self.clock.seconds(), tracker, announcement))
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            answer = self.answer(tracker, announcement)
            if isinstance(answer, Deferred):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.flying -= 1

    # Time.

    def run(self, seconds, step=0.5):
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
        return self

    @property
    def times(self):
        return [at for at, _, _ in self.asked]

    @property
    def status(self):
        [status] = self.announcing.status()
        return status


def never():
    return Deferred()


def test_a_zero_tracker_hears_of_all_sites_at_once_every_twenty_minutes():
    node = Node([ZERO]).start().run(3.1 * ROUND_SECONDS)
    assert len(node.asked) == 3
    first, second, third = node.times
    assert first <= START_SECONDS + 0.5
    for pause in (second - first, third - second):
        assert ROUND_SECONDS <= pause <= 1.2 * ROUND_SECONDS + 1
    announcement = node.asked[0][2]
    assert announcement.sites == (SITE, OTHER)
    assert announcement.complete
    assert (announcement.port, announcement.listed) == (15441, frozenset({"ipv4"}))
    assert announcement.wanted == frozenset({"ipv4", "ipv6"})


@pytest.mark.parametrize("tracker", [HTTP, UDP])
def test_other_trackers_hear_of_one_site_after_the_other(tracker):
    node = Node([tracker]).start().run(ROUND_SECONDS / 2)
    assert sorted(announcement.sites for _, _, announcement in node.asked) == [(SITE,), (OTHER,)]
    assert not any(announcement.complete for _, _, announcement in node.asked)


def test_nodes_that_start_together_do_not_announce_together():
    times = set()
    for seed in range(5):
        node = Node([ZERO])
        clock = node.clock
        announcing = Announcing(
            trackers=[ZERO],
            asker=node,
            sites=lambda: [SITE],
            presence=lambda node=node: node.presence,
            enough=lambda site: True,
            found=print,
            allow_private=False,
            clock=clock,
            wall=clock.seconds,
            rng=random.Random(seed),
        )
        announcing.start()
        node.run(START_SECONDS + 0.1, step=0.01)
        times.add(node.times[0])
    assert len(times) > 3


def test_what_is_found_is_handed_on():
    own = PeerAddress("127.0.0.1", 5)
    closed = PeerAddress("192.0.2.10", 0)
    answer = Found({SITE: (PEER, own, closed, PEER), OTHER: (), "3" * 30: (PEER,)})
    node = Node([ZERO], lambda tracker, announcement: answer).start().run(10)
    assert node.found == [(SITE, [PEER], "zero://203.0.113.1:15441")]
    assert node.status.found == 1


def test_private_addresses_are_handed_on_in_a_private_network():
    own = PeerAddress("127.0.0.1", 5)
    node = Node([ZERO], lambda *_: Found({SITE: (own,)}), private=True).start().run(10)
    assert node.found == [(SITE, [own], ZERO.name)]


def test_a_tracker_that_claims_to_know_everybody():
    many = tuple(PeerAddress("192.0.2.9", port) for port in range(1, 1000))
    node = Node([ZERO], lambda *_: Found({SITE: many})).start().run(10)
    assert len(node.found[0][1]) == FOUND_LIMIT


def test_the_source_does_not_tell_the_passkey():
    node = Node([HTTP], lambda *_: Found({SITE: (PEER,)})).start().run(10)
    assert node.found[0][2] == "http://tracker.example:80"
    assert "secret" not in str(node.announcing.status())


@pytest.mark.parametrize("problem", [Unreachable("gone"), TheirMistake("nonsense")])
def test_a_tracker_that_fails_is_asked_less_and_less(problem):
    node = Node([ZERO], lambda *_: problem).start().run(4 * 3600)
    pauses = [later - earlier for earlier, later in itertools.pairwise(node.times)]
    assert 5 <= pauses[0] <= 6.5
    for earlier, later in itertools.pairwise(pauses):
        assert later > earlier or later >= BACKOFF_MOST
    assert max(pauses) <= 1.2 * BACKOFF_MOST + 1
    status = node.status
    assert (status.state, status.last_error) == ("failing", str(problem))
    assert status.failures == len(node.asked)
    assert status.last_success is None
    assert status.next_at > WALL + node.clock.seconds()


def test_a_failing_tracker_is_asked_about_the_first_site_only():
    node = Node([HTTP], lambda *_: Unreachable("gone")).start().run(3)
    assert len(node.asked) == 1


def test_a_tracker_that_works_again():
    node = Node([ZERO], lambda *_: Unreachable("gone")).start().run(20)
    node.answer = lambda *_: Found({})
    node.run(60)
    status = node.status
    assert (status.state, status.last_error, status.failures) == ("ok", "", 0)
    assert WALL < status.last_success <= WALL + 80
    node.answer = lambda *_: Unreachable("gone")
    node.run(ROUND_SECONDS * 1.2)
    assert node.status.failures < 9  # the back-off begins anew


def test_a_refusal_of_one_site_does_not_keep_the_others_back():
    sites = [f"{number:030d}" for number in range(10)]

    def answer(tracker, announcement):
        if announcement.sites[0] == sites[4]:
            return TrackerRefused("not registered")
        return Found({announcement.sites[0]: (PEER,)})

    node = Node([HTTP], answer, sites).start().run(10)
    assert len(node.asked) == 10
    assert len(node.found) == 9
    assert node.status.state == "ok"


def test_a_tracker_that_refuses_everything_is_left_alone():
    sites = [f"{number:030d}" for number in range(10)]
    node = Node([HTTP], lambda *_: TrackerRefused("no", retry=7200.0), sites).start().run(7200)
    assert len(node.asked) == REFUSALS_LIMIT
    assert node.status.last_error == "no"
    node.run(1500)
    assert len(node.asked) == 2 * REFUSALS_LIMIT


def test_the_only_site_that_is_refused_is_a_failure():
    node = Node([HTTP], lambda *_: TrackerRefused("no"), [SITE]).start().run(3)
    assert node.status.state == "failing"


def test_a_tracker_may_want_to_be_asked_less_often_but_not_for_ever():
    node = Node([HTTP], lambda *_: Found({}, 3000.0), [SITE]).start().run(3000)
    assert len(node.asked) == 1
    node.run(800)
    assert len(node.asked) == 2
    node.answer = lambda *_: Found({}, 10.0**9)
    node.run(2.1 * INTERVAL_MOST)
    assert len(node.asked) == 4


def test_while_peers_are_lacking_zero_trackers_are_asked_sooner():
    node = Node([ZERO], enough=False).start().run(ROUND_SECONDS)
    pauses = [later - earlier for earlier, later in itertools.pairwise(node.times)]
    assert HUNGRY_SECONDS <= pauses[0] <= 1.2 * HUNGRY_SECONDS + 1
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(pauses))
    node.enough = True
    node.run(4 * ROUND_SECONDS)
    assert node.times[-1] - node.times[-2] >= ROUND_SECONDS


def test_while_peers_are_lacking_other_trackers_are_not_asked_sooner():
    node = Node([HTTP], sites=[SITE], enough=False).start().run(ROUND_SECONDS)
    assert len(node.asked) == 1


def test_a_site_that_is_new_is_announced_soon_and_alone():
    node = Node([ZERO, HTTP], sites=[SITE]).start().run(10)
    del node.asked[:]
    node.sites.append(OTHER)
    node.announcing.site_added(OTHER)
    node.run(START_SECONDS + 0.5)
    assert sorted(tracker.kind for _, tracker, _ in node.asked) == ["http", "zero"]
    for _, _, announcement in node.asked:
        assert announcement.sites == (OTHER,)
        assert not announcement.complete
    # The round stays where it was.
    node.run(ROUND_SECONDS * 1.2)
    assert {(t.kind, a.sites) for _, t, a in node.asked[2:]} == {
        ("zero", (SITE, OTHER)),
        ("http", (SITE,)),
        ("http", (OTHER,)),
    }


def test_a_site_that_comes_while_its_tracker_answers_is_announced_after():
    answer = never()
    node = Node([ZERO], lambda *_: answer, [SITE]).start().run(5)
    node.sites.append(OTHER)
    node.announcing.site_added(OTHER)
    node.run(5)
    assert len(node.asked) == 1
    node.answer = lambda *_: Found({})
    answer.callback(Found({}))
    node.run(5)
    assert [announcement.sites for _, _, announcement in node.asked] == [(SITE,), (OTHER,)]


def test_a_new_site_does_not_hurry_a_tracker_that_fails():
    node = Node([ZERO], lambda *_: Unreachable("gone"), [SITE]).start().run(300)
    asked = len(node.asked)
    node.sites.append(OTHER)
    node.announcing.site_added(OTHER)
    node.run(3)
    assert len(node.asked) == asked
    node.run(1000)
    assert node.asked[asked][2].sites == (SITE, OTHER)


def test_a_site_that_went_is_not_announced():
    node = Node([ZERO], sites=[SITE]).start().run(5)
    node.announcing.site_added(OTHER)  # and gone again before its time
    node.run(5)
    assert len(node.asked) == 1


def test_without_sites_nobody_is_asked():
    node = Node([ZERO, HTTP], sites=[]).start().run(3 * ROUND_SECONDS)
    assert node.asked == []
    assert [status.state for status in node.announcing.status()] == ["waiting", "waiting"]
    node.sites.append(SITE)
    node.announcing.site_added(SITE)
    node.run(5)
    assert len(node.asked) == 2


def test_trackers_that_hang_do_not_keep_the_others_waiting():
    hanging = [parse_tracker(f"http://203.0.113.{number}/") for number in range(1, 11)]

    def answer(tracker, announcement):
        return never() if tracker in hanging else Found({})

    node = Node([*hanging, ZERO], answer).start().run(5)
    assert node.most_flying == IN_FLIGHT
    node.run(ANNOUNCE_SECONDS * 4)
    assert ZERO in [tracker for _, tracker, _ in node.asked]
    assert set(hanging) <= {tracker for _, tracker, _ in node.asked}
    assert node.most_flying == IN_FLIGHT
    errors = {status.last_error for status in node.announcing.status() if status.failures}
    assert errors == {"no answer in time"}


def test_a_slow_tracker_does_not_get_all_of_the_time():
    """Each of a hundred sites takes almost as long as it may."""
    node = Node([HTTP], sites=[f"{number:030d}" for number in range(100)])

    def answer(tracker, announcement):
        slow = Deferred()
        node.clock.callLater(100.0, slow.callback, Found({}))
        return slow

    node.answer = answer
    node.start().run(ROUND_SECONDS)
    assert len(node.asked) < 9
    assert node.status.state == "ok"
    node.run(3 * ROUND_SECONDS)
    # And it is not the same sites each time.
    assert len({announcement.sites for _, _, announcement in node.asked}) > 10


def test_what_is_refused_by_configuration_is_never_asked():
    node = Node([UDP, ZERO])
    node.refused = {UDP: "this node asks such trackers only without Tor"}
    node.start().run(3 * ROUND_SECONDS)
    node.announcing.site_added(SITE)
    node.run(5)
    assert {tracker for _, tracker, _ in node.asked} == {ZERO}
    refused, asked = node.announcing.status()
    assert (refused.state, refused.next_at) == ("refused", None)
    assert "without Tor" in refused.last_error
    assert asked.state == "ok"


def test_a_tracker_named_twice_is_one():
    node = Node([ZERO, ZERO]).start().run(5)
    assert len(node.asked) == 1


def test_stopping_ends_everything():
    node = Node([ZERO, HTTP, UDP])
    cancelled = []
    node.answer = lambda tracker, _: Deferred(cancelled.append) if tracker == ZERO else Found({})
    node.start().run(5)
    node.announcing.stop()
    assert len(cancelled) == 1
    assert node.clock.getDelayedCalls() == []
    node.announcing.site_added(SITE)
    assert node.clock.getDelayedCalls() == []


def test_stopping_before_anything_began():
    node = Node([ZERO]).start()
    node.announcing.stop()
    node.run(10)
    assert node.asked == []


def test_stopping_while_others_wait_for_their_turn():
    trackers = [parse_tracker(f"http://203.0.113.{number}/") for number in range(1, 11)]
    node = Node(trackers, lambda *_: never()).start().run(5)
    node.announcing.stop()
    assert node.flying == 0
    assert node.clock.getDelayedCalls() == []


def test_status_is_plain_data():
    node = Node([ZERO], lambda *_: Found({SITE: (PEER,)})).start().run(5)
    shown = dict(node.status.to_map())
    assert shown.pop("last_success") > WALL
    assert shown.pop("next_at") > WALL + ROUND_SECONDS
    assert shown == {
        "tracker": "zero://203.0.113.1:15441",
        "state": "ok",
        "last_error": "",
        "failures": 0,
        "found": 1,
    }
    assert attrs.asdict(node.status) == dict(node.status.to_map())


def test_an_exception_that_nobody_expected_is_a_bug_and_not_the_end(errors):
    node = Node([ZERO], lambda *_: RuntimeError("a bug")).start().run(5)
    [event] = errors
    assert event["log_format"] == "announcing failed"
    errors.clear()
    node.answer = lambda *_: Found({})
    node.run(1.2 * ROUND_SECONDS)
    assert node.status.state == "ok"
