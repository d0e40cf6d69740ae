"""All links of a node: one for each peer, kept alive, bounded, dialled again."""

from itertools import pairwise

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError, TimeoutError

from zeromsg.errors import NotTried, Unreachable
from zeromsg.net import pool as pool_module
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.pool import PeerFactory
from zeromsg.net.tls import tls_options
from zeromsg.wire.values import PeerAddress


def reach(world, pool, target):
    """Results of a dial: the link, or why there is none."""
    found = []
    address = target if isinstance(target, PeerAddress) else world.address(target)
    pool.link_to(address).addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def links(pool):
    return sorted((link.name, link.dialled) for link in pool.links)


# Dialling


def test_a_dial_gives_a_link_on_both_sides(world):
    one, two = world.pool(1), world.pool(2)
    (found,) = [reach(world, one, two)]
    world.settle()
    assert found == list(one.links)
    assert links(one) == [("203.0.113.2:26552", True)]
    assert links(two) == [("203.0.113.1:26552", False)]
    asked = found[0].ask("hello", {"a": 1})
    world.settle()
    assert asked.result["ok"] == "hello"
    back = two.named("203.0.113.1:26552").ask("back", {})
    world.settle()
    assert back.result["ok"] == "back"


def test_one_connection_serves_all_who_want_it(world):
    one, two = world.pool(1), world.pool(2)
    first, second = reach(world, one, two), reach(world, one, two)
    world.settle()
    third = reach(world, one, two)
    assert first == second == third and len(first) == 1
    assert len(world.attempts) == 1
    # The other way too, over the very connection.
    fourth = reach(world, two, one)
    assert fourth == list(two.links)
    assert len(world.attempts) == 1


def test_who_cannot_be_reached(world):
    one = world.pool(1)
    found = reach(world, one, PeerAddress("203.0.113.99", 5))
    world.settle()
    assert isinstance(found[0], Unreachable) and "ConnectionRefusedError" in str(found[0])
    assert one._all == {} and one._dials == {} and one._waiters == {}


@pytest.mark.parametrize("problem", [DNSLookupError(), TimeoutError(), OSError("x"), ValueError()])
def test_every_kind_of_failed_dial_is_unreachable(world, problem):
    one = world.pool(1)
    target = PeerAddress("203.0.113.99", 5)
    world.deaf.add(target)
    found = reach(world, one, target)
    world.pending[0].errback(problem)
    world.settle()
    assert isinstance(found[0], Unreachable)
    assert one._all == {}


def test_an_onion_cannot_be_dialled_yet(world):
    one = world.pool(1)

    def connector(address, face):
        raise Unreachable("this node has no Tor to reach onions with")

    one._connector = connector
    found = reach(world, one, PeerAddress("203.0.113.99", 5))
    assert "Tor" in str(found[0])
    assert one._all == {}


def test_a_dial_may_take_ten_seconds(world, clock):
    one = world.pool(1)
    target = PeerAddress("203.0.113.99", 5)
    world.deaf.add(target)
    found = reach(world, one, target)
    clock.advance(9.9)
    assert found == []
    clock.advance(0.2)
    assert isinstance(found[0], Unreachable)
    assert one._all == {}


def test_a_peer_that_says_nothing_is_given_up(world):
    one, two = world.pool(1), world.pool(2)
    silent = two.accept

    def accept(source):
        link = silent(source)
        link.dataReceived = lambda data: None
        return link

    world.accepts[world.address(two)] = accept
    found = reach(world, one, two)
    world.run(12)
    assert isinstance(found[0], Unreachable)
    assert one._all == {}


def test_only_so_many_dials_at_once(world, monkeypatch):
    monkeypatch.setattr(pool_module, "DIALS_LIMIT", 3)
    one = world.pool(1)
    targets = [PeerAddress(f"203.0.113.{n}", 5) for n in range(50, 55)]
    world.deaf.update(targets)
    found = [reach(world, one, target) for target in targets]
    assert [str(result[0]) if result else None for result in found] == [
        *[None] * 3,
        *["too many dials in progress"] * 2,
    ]
    world.run(11)
    assert reach(world, one, targets[4]) == []


def test_a_banned_peer_is_not_dialled(world):
    one, two = world.pool(1), world.pool(2)
    world.requests[world.address(one)].bans.add("203.0.113.2")
    found = reach(world, one, two)
    assert str(found[0]) == "that peer is banned"
    assert world.attempts == []


def test_what_was_not_dialled_says_nothing_of_the_peer(world, monkeypatch):
    monkeypatch.setattr(pool_module, "DIALS_LIMIT", 1)
    one = world.pool(1)
    targets = [PeerAddress(f"203.0.113.{n}", 5) for n in (50, 51)]
    world.deaf.update(targets)
    tried, not_tried = (reach(world, one, target) for target in targets)
    world.run(11)
    assert not isinstance(tried[0], NotTried) and isinstance(not_tried[0], NotTried)


@pytest.mark.parametrize(
    ("hosts", "number"),
    [
        (["203.0.113.99"], 6),
        # Nodes of a test network share this one.
        (["127.0.0.1"], 12),
        (["203.0.113.98", "203.0.113.99"], 12),
    ],
)
def test_a_host_is_dialled_six_times_in_fifteen_seconds(world, clock, hosts, number):
    one = world.pool(1)
    targets = [PeerAddress(host, port) for port in (5, 6) for host in hosts]
    for _ in range(20):
        found = [reach(world, one, target) for target in targets]
        clock.advance(0.1)
    assert len(world.attempts) == number
    assert all("too often" in str(result[0]) for result in found)
    clock.advance(13.1)
    assert reach(world, one, targets[0]) and len(world.attempts) == number + 1


def test_the_second_try_without_tls_counts_too(world, pem, clock):
    one, two = world.pool(1, tls_options(pem)), world.pool(2)
    for _ in range(5):
        one._plain.clear()
        reach(world, one, two)
        world.run(2)
        for link in list(one.links):
            link.drop("test")
        world.settle()
    assert len(world.attempts) <= 6


def test_addresses_of_ones_own_are_remembered_within_bounds(world, monkeypatch):
    monkeypatch.setattr(pool_module, "OURSELVES_LIMIT", 2)
    one = world.pool(1)
    addresses = [PeerAddress(f"203.0.113.{n}", 26552) for n in (200, 201, 202)]
    for address in addresses:
        world.accepts[address] = one.accept
        reach(world, one, address)
        world.settle()
    assert [one.is_us(address) for address in addresses] == [False, True, True]


def test_what_is_remembered_of_dials_is_bounded(world, monkeypatch):
    monkeypatch.setattr(pool_module, "DIALLED_LIMIT", 3)
    one = world.pool(1)
    for number in range(50, 60):
        reach(world, one, PeerAddress(f"203.0.113.{number}", 5))
        world.settle()
    assert len(one._dialled) == 3


def test_oneself_is_dialled_once(world):
    one = world.pool(1)
    found = reach(world, one, one)
    world.settle()
    assert "this node itself" in str(found[0])
    again = reach(world, one, one)
    assert str(again[0]) == "that is this node itself"
    assert len(world.attempts) == 1
    assert links(one) == []


def test_a_node_at_another_address_of_ones_own_is_oneself(world):
    one = world.pool(1)
    world.accepts[PeerAddress("203.0.113.200", 26552)] = one.accept
    found = reach(world, one, PeerAddress("203.0.113.200", 26552))
    world.settle()
    assert "this node itself" in str(found[0])


def test_after_the_stop_nothing_is_dialled_or_accepted(world):
    one, two = world.pool(1), world.pool(2)
    reach(world, one, two)
    world.settle()
    deaf = PeerAddress("203.0.113.99", 5)
    world.deaf.add(deaf)
    dialling = reach(world, one, deaf)
    one.stop()
    world.settle(2)
    assert isinstance(dialling[0], Unreachable)
    assert one._all == {} and links(one) == [] and links(two) == []
    assert str(reach(world, one, two)[0]) == "this node stops"
    assert one.accept(PeerAddress("203.0.113.9", 5)) is None
    world.run(120)
    assert len(world.attempts) == 2


# TLS


def test_tls_comes_first(world, pem):
    one, two = world.pool(1, tls_options(pem)), world.pool(2, tls_options(pem))
    found = reach(world, one, two)
    world.settle()
    assert [link.encrypted for link in [*one.links, *two.links]] == [True, True]
    near, far = world.pipes[0]
    for _, data in near.writes + far.writes:
        assert data[0] in (0x14, 0x15, 0x16, 0x17)
    assert [link.theirs.crypt for link in (*one.links, *two.links)] == ["tls-rsa", None]
    asked = found[0].ask("hello", {"x": bytes(300_000)})
    world.settle()
    assert asked.result["ok"] == "hello"


def test_a_handshake_travels_in_a_tls_record_of_its_own(world, pem):
    one, two = world.pool(1, tls_options(pem)), world.pool(2, tls_options(pem))
    opened = world.requests[world.address(two)].opened

    def asking(link):
        opened(link)
        for _ in range(3):
            link.ask("hello", {}).addErrback(lambda failure: None)

    world.requests[world.address(two)].opened = asking
    reach(world, one, two)
    for _ in range(30):
        world.clock.advance(0)
    far = world.pipes[0][1]
    before = len(far.writes)
    at = far.writes[-1][0]
    world.clock.advance(0.09)
    assert len(far.writes) == before
    world.clock.advance(0.02)
    assert len(far.writes) > before and far.writes[before][0] - at >= 0.1


def test_plain_where_a_peer_cannot_tls(world, pem):
    one, two = world.pool(1, tls_options(pem)), world.pool(2)
    found = reach(world, one, two)
    world.run(3)
    assert found == list(one.links)
    assert [link.encrypted for link in one.links] == [False]
    assert len(world.pipes) == 2
    # It is remembered, and the next dial is plain at once.
    found[0].drop("test")
    world.run(2)
    reach(world, one, two)
    world.run(2)
    assert len(world.pipes) == 3 and len(one.links) == 1


def test_a_plain_dialler_that_offers_tls_gets_it_after_the_handshake(world, pem):
    one, two = world.pool(1, tls_options(pem)), world.pool(2, tls_options(pem))
    one._plain[world.address(two)] = None
    found = reach(world, one, two)
    world.run(1)
    assert [link.encrypted for link in [*one.links, *two.links]] == [True, True]
    near, far = world.pipes[0]
    assert b"handshake" in near.writes[0][1]
    assert b"tls-rsa" in far.writes[0][1]
    asked = found[0].ask("hello", {"x": bytes(100_000)})
    world.settle()
    assert asked.result["ok"] == "hello"
    back = next(iter(two.links)).ask("back", {})
    world.settle()
    assert back.result["ok"] == "back"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_loopback_is_dialled_plain(world, pem, host):
    """ZeroNet nodes never look for TLS there."""
    one = world.pool(1, tls_options(pem))
    assert one._speaks_plain(PeerAddress(host, 5))
    assert not one._speaks_plain(PeerAddress("127.0.0.2", 5))


def test_what_is_remembered_of_plain_peers_is_bounded(world, pem, monkeypatch):
    monkeypatch.setattr(pool_module, "PLAIN_LIMIT", 2)
    one = world.pool(1, tls_options(pem))
    others = [world.pool(number) for number in (2, 3, 4)]
    for other in others:
        reach(world, one, other)
        world.run(3)
    assert [address.host for address in one._plain] == ["203.0.113.3", "203.0.113.4"]


# One link for each peer


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("delay", [0, 1, 3, 20])
def test_dialling_at_the_same_time_ends_with_one_link_each(world, first, delay):
    one, two = world.pool(1), world.pool(2)
    pair = (one, two) if first == 1 else (two, one)
    found = [reach(world, pair[0], pair[1])]
    for _ in range(delay):
        world.clock.advance(0)
    found.append(reach(world, pair[1], pair[0]))
    world.run(5)
    assert len(one.links) == len(two.links) == 1
    assert len(one._all) == len(two._all) == 1
    # The very same connection.
    near, far = next(pipes for pipes in world.pipes if pipes[0].connected)
    assert {near.protocol, far.protocol} == {*one.links, *two.links}
    assert all(isinstance(result[0], type(next(iter(one.links)))) for result in found)
    assert one.named("203.0.113.2:26552").open and two.named("203.0.113.1:26552").open


def test_the_link_that_is_left_is_found_by_name(world):
    """Two connections of a node that is no zeromsg node both stay."""
    one = world.pool(1)
    first = one.accept(PeerAddress("203.0.113.7", 40001))
    second = one.accept(PeerAddress("203.0.113.7", 40002))
    del first, second
    two = world.pool(7)
    for _ in range(2):
        world.connect(
            PeerAddress("203.0.113.7", 1), PeerAddress("203.0.113.1", 26552), _Dialling(two)
        )
    world.settle()
    assert len(one.links) == 2
    kept, spare = one.links
    assert one.named("203.0.113.7:26552") is kept
    kept.drop("test")
    world.run(2)
    assert one.named("203.0.113.7:26552") is spare


def foreign(pool, **changes):
    """Let a pool pose as a ZeroNet node."""
    ours = pool._ours
    pool._ours = lambda *asked: attrs.evolve(ours(*asked), extension=0, **changes)
    # It follows no rule of ours: what it has it keeps.
    pool._same_peer = lambda link, other: False
    return pool


@pytest.mark.parametrize("delay", [0, 1, 3, 20])
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("number", [2, 0])
def test_of_two_links_to_a_zeronet_node_the_one_that_we_dialled_is_kept(
    world, first, delay, number
):
    one, two = world.pool(number + 1), foreign(world.pool(number + 2))
    pair = (one, two) if first == 1 else (two, one)
    reach(world, *pair)
    for _ in range(delay):
        world.clock.advance(0)
    reach(world, pair[1], pair[0])
    world.run(5)
    assert len(one.links) == len(two.links) == 1
    if len(world.pipes) == 2:
        assert [link.dialled for link in one.links] == [True]


@pytest.mark.parametrize("ours", [True, False])
def test_a_second_link_stays_where_the_first_one_is_lost_meanwhile(world, ours):
    """A peer that comes again before the end of its old connection is noticed here."""
    one, two = world.pool(2), world.pool(1)
    if not ours:
        foreign(two)
    reach(world, one, two)
    world.settle()
    world.connect(PeerAddress("203.0.113.1", 9), PeerAddress("203.0.113.2", 26552), _Dialling(two))
    world.settle()
    assert len(one.links) == 2
    next(link for link in one.links if link.dialled).drop("test")
    world.run(5)
    (left,) = one.links
    assert left.open and not left.dialled and one.named("203.0.113.1:26552") is left


def test_two_nodes_behind_one_address_are_two(world):
    """They declare the same port, and one of them alone can be reached there."""
    one, two = world.pool(1), foreign(world.pool(2))
    reach(world, one, two)
    other = foreign(world.pool(3), peer_id="-UT3530-another00000")
    world.connect(
        PeerAddress("203.0.113.2", 9), PeerAddress("203.0.113.1", 26552), _Dialling(other)
    )
    world.run(5)
    assert len(one.links) == 2


@pytest.mark.parametrize(("host", "links"), [("10.0.0.2", 1), ("203.0.113.2", 2)])
def test_nodes_without_a_name_are_one_in_their_own_network_alone(world, host, links):
    one = world.pool(1)
    two = foreign(world.pool(2), peer_id="")
    world.pools[PeerAddress(host, 26552)] = two
    one.link_to(PeerAddress(host, 26552))
    world.settle()
    world.connect(PeerAddress(host, 9), PeerAddress("203.0.113.1", 26552), _Dialling(two))
    world.run(5)
    assert len(one.links) == links


class _Dialling:
    """Connections of a pool beside those it would make by itself."""

    def __init__(self, pool):
        self._pool = pool

    def buildProtocol(self, address):
        link = self._pool._protocol(PeerAddress("203.0.113.1", 26552), dialled=True)
        self._pool._all[link] = None
        return link


@pytest.mark.parametrize("name", ["", "x", "203.0.113.2", "203.0.113.2:1", "203.0.113.2:99999"])
def test_a_name_that_nobody_has(world, name):
    one, two = world.pool(1), world.pool(2)
    reach(world, one, two)
    world.settle()
    assert one.named(name) is None


def test_a_closed_port_is_named_by_its_connection(world):
    one = world.pool(1)
    two = world.pool(2)
    closed = two._ours
    two._ours = lambda remote, face: _closed_port(closed(remote, face))
    reach(world, two, one)
    world.settle()
    (link,) = one.links
    assert link.address is None
    assert one.named(link.name) is link
    assert link.name.startswith("203.0.113.2:400")


def _closed_port(handshake):
    return attrs.evolve(handshake, port_opened=False)


# Accepting


def test_the_seventh_connection_of_a_host_in_a_round_is_refused(world, clock):
    one = world.pool(1)
    taken = [one.accept(PeerAddress("203.0.113.9", 40000 + n)) for n in range(8)]
    assert [link is not None for link in taken] == [True] * 6 + [False] * 2
    assert one.accept(PeerAddress("203.0.113.10", 5)) is not None
    clock.advance(15.1)
    assert one.accept(PeerAddress("203.0.113.9", 5)) is not None


def test_all_addresses_of_one_line_count_as_one_host(world):
    """Who has one address of IPv6 has 2^64, and could take every place with them."""
    one = world.pool(1)
    taken = [one.accept(PeerAddress(f"2001:db8:0:1::{n:x}", 5)) for n in range(1, 9)]
    assert [link is not None for link in taken] == [True] * 6 + [False] * 2
    assert one.accept(PeerAddress("2001:db8:0:2::1", 5)) is not None
    # On a private network each machine is its own.
    assert all(one.accept(PeerAddress(f"fd00::{n:x}", 5)) for n in range(1, 9))


def test_loopback_may_connect_as_often_as_it_likes(world):
    one = world.pool(1)
    assert all(one.accept(PeerAddress("127.0.0.1", 40000 + n)) for n in range(50))


def test_a_banned_host_is_refused(world):
    one = world.pool(1)
    world.requests[world.address(one)].bans.add("203.0.113.9")
    assert one.accept(PeerAddress("203.0.113.9", 5)) is None


def test_a_host_that_was_banned_during_its_handshake_is_dropped(world):
    one, two = world.pool(1), world.pool(2)
    found = reach(world, two, one)
    world.requests[world.address(one)].bans.add("203.0.113.2")
    world.run(3)
    assert links(one) == [] and links(two) == []
    assert world.requests[world.address(one)].links == []
    assert found


def test_ban_closes_all_links_of_a_host(world):
    one, two, three = world.pool(1), world.pool(2), world.pool(3)
    reach(world, one, two)
    reach(world, three, one)
    world.settle()
    one.ban("203.0.113.3")
    world.run(2)
    assert links(one) == [("203.0.113.2:26552", True)]


def test_mistakes_are_charged_to_the_host(world):
    one, two = world.pool(1), world.pool(2)
    reach(world, two, one)
    world.settle()
    world.pipes[0][0].write(b"garbage")
    world.settle()
    assert world.charges == [("203.0.113.2", 7)]


def test_messages_under_way_are_bounded_together_and_the_largest_goes(world, monkeypatch):
    monkeypatch.setattr(pool_module, "HELD_LIMIT", 1_000_000)
    one = world.pool(1)
    pools = [world.pool(number) for number in range(2, 6)]
    for pool in pools:
        reach(world, pool, one)
        world.settle(1)
    wires = [near for near, _ in world.pipes]
    begun = b"\x83\xa3cmd\xa4ping\xa6req_id\x01\xa6params\x81\xa1a\xc6\x00\x40\x00\x00"
    for wire, size in zip(wires, (300_000, 100_000, 400_000, 10_000), strict=True):
        wire.write(begun + bytes(size))
        world.settle()
    assert len(one.links) == 4
    wires[1].write(bytes(200_000))
    world.settle()
    assert [name for name, _ in links(one)] == [f"203.0.113.{number}:26552" for number in (2, 3, 5)]
    # What is whole, or gone, is not counted any more.
    wires[0].write(bytes(0x400000 - 300_000))
    world.settle()
    wires[3].write(bytes(200_000))
    world.settle()
    assert len(one.links) == 3 and 510_000 < sum(one._holding.values()) < 511_000
    wires[1].loseConnection()
    world.settle()
    assert 210_000 < sum(one._holding.values()) < 211_000
    assert world.charges == []


def test_only_so_many_connections(world, clock):
    one = world.pool(1, max_connections=3)
    for number in range(2, 6):
        reach(world, world.pool(number), one)
        world.settle(0.2)
    assert len(one._all) == len(one.links) == 3
    # A full node dials nobody either.
    found = reach(world, one, PeerAddress("203.0.113.99", 5))
    assert str(found[0]) == "too many connections"


def test_whoever_was_idle_for_a_minute_makes_room(world, clock):
    one = world.pool(1, max_connections=3)
    world.used.update(f"203.0.113.{number}" for number in range(2, 6))
    pools = [world.pool(number) for number in range(2, 6)]
    for pool in pools[:3]:
        reach(world, pool, one)
        world.settle(1)
    world.run(70)
    # The second spoke lately.
    for number in (3, 4):
        world.pools[PeerAddress(f"203.0.113.{number}", 26552)].named("203.0.113.1:26552").ask(
            "x", {}
        )
    world.settle()
    reach(world, pools[3], one)
    world.run(2)
    assert [name for name, _ in links(one)] == [f"203.0.113.{n}:26552" for n in (3, 4, 5)]


def test_a_dial_in_progress_does_not_make_room(world, clock):
    """It is young, however long the node has been running."""
    one = world.pool(1, max_connections=3)
    world.used.update(f"203.0.113.{number}" for number in range(2, 9))
    clock.advance(1000)
    for number in (2, 3):
        reach(world, world.pool(number), one)
        world.settle()
    target = PeerAddress("203.0.113.99", 5)
    world.deaf.add(target)
    found = reach(world, one, target)
    assert len(one._all) == 3
    reach(world, world.pool(4), one)
    world.settle()
    assert found == [] and (target, "") in one._dials
    assert len(one._all) == 3
    assert [link.remote for link in one._all if link.dialled] == [target]


def test_connections_that_never_greet_make_room_too(world):
    one = world.pool(1, max_connections=2)
    for number in range(2):
        one.accept(PeerAddress(f"203.0.113.{50 + number}", 5))
    assert one.accept(PeerAddress("203.0.113.60", 5)) is None


def test_the_factory_accepts_for_the_pool(world):
    one = world.pool(1)
    factory = PeerFactory(one)
    made = factory.buildProtocol(IPv4Address("TCP", "203.0.113.9", 5))
    assert made.remote == PeerAddress("203.0.113.9", 5) and not made.dialled
    one.stop()
    assert factory.buildProtocol(IPv4Address("TCP", "203.0.113.9", 5)) is None


# Alive


def test_a_silent_link_in_use_is_pinged_and_stays(world):
    one, two = world.pool(1), world.pool(2)
    world.used.update(["203.0.113.1", "203.0.113.2"])
    reach(world, one, two)
    world.run(119)
    pings = world.requests[world.address(two)].requests
    assert pings == []
    world.run(3)
    assert [cmd for _, cmd, _ in pings][:1] == ["ping"] and len(pings) == 1
    world.run(1200)
    assert len(one.links) == len(two.links) == 1
    both = pings + world.requests[world.address(one)].requests
    assert 8 <= len(both) <= 24


def test_a_link_whose_peer_vanished_is_noticed(world):
    one, two = world.pool(1), world.pool(2)
    world.used.add("203.0.113.2")
    reach(world, one, two)
    world.settle()
    near, far = world.pipes[0]
    # Nothing arrives any more, in either direction.
    near.flush = far.flush = lambda: None
    world.run(140)
    assert links(one) == []
    assert world.requests[world.address(one)].links == []


def test_an_unused_link_is_closed_after_five_minutes(world):
    one, two = world.pool(1), world.pool(2)
    reach(world, one, two)
    world.run(295)
    assert len(one.links) == 1
    world.run(130)
    # A ping was the last that was heard.
    assert len(one.links) == 1
    one, two = world.pool(3), world.pool(4)
    reach(world, one, two)
    world.settle()
    for link in (*one.links, *two.links):
        link.ask = lambda cmd, params, timeout=0: _never()
    world.run(310)
    assert links(one) == links(two) == []


def _never():
    return Deferred()


def test_a_request_that_is_not_answered_closes_the_link(world):
    one, two = world.pool(1), world.pool(2)
    found = reach(world, one, two)
    world.settle()
    world.requests[world.address(two)].requested = lambda link, req_id, cmd, params: None
    failed = []
    found[0].ask("x", {}).addErrback(failed.append)
    world.run(9)
    assert failed == [] and len(one.links) == 1
    world.run(3)
    assert failed[0].check(Unreachable)
    assert links(one) == []


# Peers that are always kept


def attempts(world, target):
    return sum(address == target for address in world.attempts)


def test_configured_peers_are_dialled_again_with_growing_pauses(world, clock):
    target = PeerAddress("203.0.113.2", 26552)
    world.pool(1, keep=[target])
    times, seen = [], 0
    for _ in range(4000):
        clock.advance(0.1)
        if attempts(world, target) > seen:
            seen = attempts(world, target)
            times.append(clock.seconds())
    pauses = [after - before for before, after in pairwise(times)]
    for pause, expected in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60], strict=False):
        assert 0.7 * expected <= pause <= 1.3 * expected
    assert len(pauses) >= 7


def test_a_configured_peer_that_comes_back_is_found(world):
    target = PeerAddress("203.0.113.2", 26552)
    one = world.pool(1, keep=[target])
    world.run(5)
    assert links(one) == []
    two = world.pool(2)
    world.run(70)
    assert links(one) == [("203.0.113.2:26552", True)]
    # And again, now from the shortest pause.
    dials = len(world.attempts)
    next(iter(two.links)).drop("test")
    world.settle(0.5)
    assert links(one) == []
    world.run(3)
    assert len(world.attempts) == dials + 1
    assert links(one) == [("203.0.113.2:26552", True)]


def test_a_configured_peer_is_kept_though_nobody_uses_it(world):
    two = world.pool(2)
    one = world.pool(1, keep=[world.address(two)])
    world.run(400)
    assert links(one) == [("203.0.113.2:26552", True)]


def test_a_configured_peer_that_connected_itself_is_not_dialled_beside(world):
    two = world.pool(2)
    one = world.pool(1)
    reach(world, two, one)
    world.settle()
    one._kept.clear()
    dials = len(world.attempts)
    one.stop()
    world.settle(2)
    one = world.pool(1, keep=[world.address(two)])
    world.run(3)
    assert len(world.attempts) == dials + 1
    next(iter(one.links)).drop("test")
    world.run(5)
    assert len(one.links) == 1


def test_two_nodes_that_keep_each_other_settle_on_one_link(world):
    first, second = (PeerAddress(f"203.0.113.{n}", 26552) for n in (1, 2))
    one = world.pool(1, keep=[second])
    two = world.pool(2, keep=[first])
    world.run(60)
    assert len(one.links) == len(two.links) == 1
    dials = len(world.attempts)
    world.run(200)
    assert len(world.attempts) == dials


def test_oneself_among_the_configured_peers_is_given_up(world):
    own = PeerAddress("203.0.113.1", 26552)
    world.pool(1, keep=[own])
    world.run(200)
    assert attempts(world, own) == 1


def test_stopping_ends_the_tries(world):
    target = PeerAddress("203.0.113.2", 26552)
    one = world.pool(1, keep=[target])
    world.run(5)
    one.stop()
    dials = len(world.attempts)
    world.run(200)
    assert len(world.attempts) == dials
    assert world.clock.getDelayedCalls() == []


def test_a_cancelled_waiter_does_not_disturb_the_others(world):
    one, two = world.pool(1), world.pool(2)
    address = world.address(two)
    first = one.link_to(address)
    problems = []
    first.addErrback(lambda failure: problems.append(failure.trap(CancelledError)))
    found = reach(world, one, two)
    first.cancel()
    world.settle()
    assert problems == [CancelledError]
    assert found == list(one.links)


def test_limits_reach_the_links(world):
    one, two = world.pool(1, limits=Limits(in_flight=1)), world.pool(2)
    found = reach(world, one, two)
    world.settle()
    found[0].ask("x", {})
    problems = []
    found[0].ask("y", {}).addErrback(problems.append)
    assert problems[0].check(Unreachable)
    world.settle()
