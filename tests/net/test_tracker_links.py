"""Links to trackers: the trackers here are pools of other nodes, in memory."""

import attrs
import pytest

from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import Unreachable
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.tls import tls_options
from zeromsg.net.tracker_links import IDLE_SECONDS, LINKS_LIMIT, TrackerLinks
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

ONION = OnionKey.from_seed(b"o" * 32).onion
OTHER_ONION = OnionKey.from_seed(b"p" * 32).onion
OURS = PeerAddress("203.0.113.9", 26552)


class Asker:
    """A node that has links to trackers; `known` are those it has anyway."""

    def __init__(self, world, tls=None):
        self.world = world
        self.known = {}
        self.asked = []
        self.charges = []
        self.bans = set()
        self.in_the_name_of = []
        self.links = TrackerLinks(
            connector=self.connect,
            ours=lambda remote: Handshake(
                "-UT3530-asker0000000", 26552, True, remote.host, (), None, 0
            ),
            known=self.known.get,
            requests=self,
            tls=tls,
            clock=world.clock,
            limits=Limits(),
            charge=lambda *charge: self.charges.append(charge),
        )

    def connect(self, address, onion):
        self.in_the_name_of.append(onion)
        return self.world._endpoint(OURS, address)

    def link_to(self, address, onion="", seconds=2):
        results = []
        self.links.link_to(address, onion).addBoth(results.append)
        self.world.run(seconds)
        self.world.settle(0.1)
        assert results, "still dialling"
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    # IRequests, as far as such links concern routing.

    def requested(self, link, req_id, cmd, params):
        self.asked.append(cmd)
        link.respond(req_id, {"ok": cmd})

    def banned(self, identity):
        return identity in self.bans


@pytest.fixture
def tracker(world):
    return world.pool(1)


@pytest.fixture
def asker(world):
    asker = Asker(world)
    yield asker
    asker.links.stop()
    world.run(2)


def ask(world, link):
    answered = link.ask("announce", {})
    world.settle()
    return answered.result


def test_a_link_says_what_it_is_for(world, tracker, asker):
    address = world.address(tracker)
    link = asker.link_to(address)
    assert ask(world, link)["ok"] == "announce"
    [theirs] = tracker.links
    assert theirs.theirs.tracker_connection
    assert not link.theirs.tracker_connection
    assert theirs.theirs.peer_id == "-UT3530-asker0000000"
    assert world.requests[address].requests[0][1] == "announce"


def test_it_is_used_again_and_closed_when_nothing_came_for_a_while(world, tracker, asker):
    address = world.address(tracker)
    link = asker.link_to(address)
    world.run(IDLE_SECONDS - 5)
    assert asker.link_to(address) is link
    ask(world, link)
    world.run(IDLE_SECONDS - 2)
    assert link.open
    world.run(4)
    assert not link.open
    assert len(tracker.links) == 0
    # Nothing ticks while there is no link.
    assert not asker.links._ticking.running
    assert asker.link_to(address) is not link


def test_a_link_that_exists_anyway_is_used(world, tracker, asker):
    address = world.address(tracker)
    asker.known[address] = existing = object()
    assert asker.link_to(address) is existing
    assert world.attempts == []


def test_each_onion_has_links_of_its_own(world, tracker, asker):
    address = world.address(tracker)
    asker.known[address] = object()
    first = asker.link_to(address, ONION)
    second = asker.link_to(address, OTHER_ONION)
    assert first is not second
    assert asker.link_to(address, ONION) is first
    assert asker.in_the_name_of == [ONION, OTHER_ONION]
    said = [link.theirs for link in tracker.links]
    assert {theirs.onion for theirs in said} == {ONION, OTHER_ONION}
    assert {theirs.peer_id for theirs in said} == {""}


def test_tls_comes_first_and_plain_where_a_tracker_cannot(world, pem):
    asker = Asker(world, tls_options(pem))
    able, unable = world.pool(2, tls_options(pem)), world.pool(3)
    assert asker.link_to(world.address(able)).encrypted
    assert not asker.link_to(world.address(unable), seconds=4).encrypted
    assert len(world.pipes) == 3
    asker.links.stop()
    world.run(2)
    # It is remembered that the second speaks plain.
    again = Asker(world, tls_options(pem))
    again.links._plain = asker.links._plain
    again.link_to(world.address(unable))
    assert len(world.pipes) == 4
    again.links.stop()
    world.run(2)


def test_nobody_listens(world, asker):
    with pytest.raises(Unreachable, match="ConnectionRefused"):
        asker.link_to(PeerAddress("203.0.113.77", 1))
    assert not asker.links._ticking.running


def test_nobody_answers(world, asker):
    address = PeerAddress("203.0.113.77", 1)
    world.deaf.add(address)
    with pytest.raises(Unreachable, match="cannot connect"):
        asker.link_to(address, seconds=12)


def test_an_address_that_this_node_has_no_way_to(world, asker):
    def connector(address, onion):
        raise Unreachable("this node has no Tor")

    asker.links._connector = connector
    with pytest.raises(Unreachable, match="no Tor"):
        asker.link_to(PeerAddress(f"{ONION}.onion", 1))
    assert asker.links._all == {}


def test_a_tracker_that_is_this_node(world, asker):
    address = world.address(world.pool(4, peer_id="-UT3530-asker0000000"))
    with pytest.raises(Unreachable):
        asker.link_to(address)


def test_a_tracker_that_is_banned(world, tracker, asker):
    address = world.address(tracker)
    asker.bans.add(address.host)
    with pytest.raises(Unreachable, match="banned"):
        asker.link_to(address)
    assert world.attempts == []


def test_what_the_tracker_asks_is_answered(world, tracker, asker):
    asker.link_to(world.address(tracker))
    [theirs] = tracker.links
    answered = theirs.ask("pex", {})
    world.settle()
    assert asker.asked == ["pex"]
    assert answered.result["ok"] == "pex"


def test_a_tracker_that_does_not_answer(world, tracker, asker):
    address = world.address(tracker)
    world.requests[address].requested = lambda *request: None
    link = asker.link_to(address)
    answered = link.ask("announce", {})
    failed = []
    answered.addErrback(failed.append)
    world.run(12)
    assert failed[0].check(Unreachable)
    assert not link.open


def test_a_tracker_that_breaks_the_protocol_is_charged(world, tracker, asker):
    link = asker.link_to(world.address(tracker))
    far = world.pipes[0][1]
    far.write(b"\xc1\xc1")
    world.run(2)
    assert asker.charges == [("203.0.113.1", 7, "broken messages")]
    assert not link.open


def test_links_have_a_bound(world, asker):
    for number in range(10, 10 + LINKS_LIMIT):
        assert asker.link_to(world.address(world.pool(number)), seconds=0).open
    with pytest.raises(Unreachable, match="too many links"):
        asker.link_to(world.address(world.pool(100)), seconds=0)


def test_stopping_closes_everything(world, tracker, asker):
    link = asker.link_to(world.address(tracker))
    asker.links.stop()
    world.run(2)
    assert not link.open
    with pytest.raises(Unreachable, match="stops"):
        asker.link_to(world.address(tracker))


def test_the_key_travels_in_a_handshake():
    ours = Handshake("-UT3530-asker0000000", 1, True, "h", (), None, 0)
    assert "tracker_connection" not in ours.to_wire()
    said = attrs.evolve(ours, tracker_connection=True).to_wire()
    assert said["tracker_connection"] is True
    assert Handshake.from_wire(said).tracker_connection
    assert not Handshake.from_wire({**said, "tracker_connection": 1}).tracker_connection
