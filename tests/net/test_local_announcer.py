"""Discovery without sockets: a network here carries datagrams between hosts at once."""

import hashlib
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from zeromsg.errors import Unreachable
from zeromsg.net.local_announcer import (
    ALL_BURST,
    BURST,
    DISCOVER_SECONDS,
    EVERYBODY,
    GREETING_SECONDS,
    GREETINGS_APART,
    NEIGHBOURS_LIMIT,
    PORT,
    SITES_LIMIT,
    LocalAnnouncer,
)
from zeromsg.wire.local_announce import (
    DISCOVER_REQUEST,
    DISCOVER_RESPONSE,
    SITE_LIST_REQUEST,
    SITE_LIST_RESPONSE,
    Datagram,
    Sender,
)
from zeromsg.wire.local_announce import (
    SITES_LIMIT as SITES_IN_ONE,
)
from zeromsg.wire.values import PeerAddress, site_sha256

SITE, OTHER, THIRD = "1" * 30, "2" * 30, "3" * 30
STRANGER = ("10.0.0.66", 4711)
THEM = Sender("-UT3530-AAAAAAAAAAAA", 15441, 1600)


@attrs.define(eq=False)
class Port:
    """A UDP port on the network."""

    net: "Net"
    host: str
    port: int
    protocol: LocalAnnouncer
    broadcast: bool = False
    broken: bool = False

    def write(self, data, target):
        if self.broken or (target[0] in EVERYBODY and not self.broadcast):
            raise OSError("cannot send")
        self.net.sent.append((Datagram.from_wire(data), target))
        for other in list(self.net.ports):
            if target[1] == other.port and target[0] in (other.host, *EVERYBODY):
                other.protocol.datagramReceived(data, (self.host, self.port))

    def setBroadcastAllowed(self, allowed):
        self.broadcast = allowed

    def getHost(self):
        return IPv4Address("UDP", self.host, self.port)

    def stopListening(self):
        self.net.ports.remove(self)


class Net:
    def __init__(self):
        self.clock = Clock()
        self.ports = []
        self.sent = []
        self.refuse = False

    def node(self, number, sites, port=15441):
        return Node(self, number, list(sites), port)

    def cmds(self, target=None):
        return [message.cmd for message, to in self.sent if target in (None, to[0])]


class Node:
    def __init__(self, net, number, sites, port):
        self.net = net
        self.host = f"192.168.0.{number}"
        self.sites = sites
        self.found = []
        self.announcer = LocalAnnouncer(
            reactor=self,
            clock=net.clock,
            rng=random.Random(number),
            interface=self.host,
            port=PORT,
            broadcast_to=[(host, PORT) for host in EVERYBODY],
            node=lambda: (f"-UT3530-{number:012d}", port),
            sites=lambda: list(self.sites),
            found=lambda site, address: self.found.append((site, address)),
        )

    def listenMulticast(self, port, protocol, interface, size, listenMultiple):
        if self.net.refuse:
            raise CannotListenError(interface, port, OSError("in use"))
        assert listenMultiple
        opened = Port(self.net, interface, port, protocol)
        protocol.transport = opened
        self.net.ports.append(opened)
        return opened

    @property
    def port(self):
        return next(port for port in self.net.ports if port.protocol is self.announcer)

    def hear(self, datagram, addr=STRANGER):
        """What it sends when it hears this."""
        before = len(self.net.sent)
        data = datagram if isinstance(datagram, bytes) else datagram.to_wire()
        self.announcer.datagramReceived(data, addr)
        return [message for message, _ in self.net.sent[before:]]


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def node(net):
    node = net.node(1, [SITE, OTHER])
    node.announcer.start()
    del net.sent[:]
    return node


def test_two_nodes_find_each_other_at_the_sites_they_share(net):
    first, second = net.node(1, [SITE, OTHER]), net.node(2, [OTHER, THIRD], port=20000)
    first.announcer.start()
    net.clock.advance(100)
    second.announcer.start()
    assert second.found == [(OTHER, PeerAddress("192.168.0.1", 15441))]
    assert first.found == []
    net.clock.advance(GREETING_SECONDS)
    assert first.found == [(OTHER, PeerAddress("192.168.0.2", 20000))]


def test_it_asks_at_the_start_and_every_five_minutes(net):
    node = net.node(1, [SITE])
    assert net.ports == []
    node.announcer.start()
    assert net.cmds() == [DISCOVER_REQUEST]
    assert node.announcer.port == PORT
    [(message, _)] = net.sent
    assert message.sender == Sender("-UT3530-000000000001", 15441, PORT)
    net.clock.advance(DISCOVER_SECONDS)
    assert net.cmds() == [DISCOVER_REQUEST] * 2


def test_it_stops(net, node):
    node.hear(Datagram(DISCOVER_REQUEST, THEM))
    node.announcer.stop()
    assert net.ports == []
    assert net.clock.getDelayedCalls() == []
    assert node.hear(Datagram(DISCOVER_REQUEST, THEM)) == []
    assert node.announcer.stop() is None
    assert node.announcer.port == 0


def test_a_port_that_is_taken(net):
    net.refuse = True
    with pytest.raises(Unreachable, match="cannot listen on UDP port 1544"):
        net.node(1, []).announcer.start()


def test_answers_go_to_the_port_that_was_named(net, node):
    node.hear(Datagram(DISCOVER_REQUEST, THEM))
    [(message, target)] = net.sent
    assert message.cmd == DISCOVER_RESPONSE
    assert target == (STRANGER[0], THEM.broadcast_port)


def test_a_list_is_asked_for_once_until_it_changes(node):
    response = Datagram(DISCOVER_RESPONSE, THEM, 5)
    assert [m.cmd for m in node.hear(response)] == [SITE_LIST_REQUEST]
    node.hear(Datagram(SITE_LIST_RESPONSE, THEM, 5, (site_sha256(SITE),)))
    assert node.found == [(SITE, PeerAddress(STRANGER[0], 15441))]
    assert node.hear(response) == []
    assert [m.cmd for m in node.hear(attrs.evolve(response, sites_changed=6))] == [
        SITE_LIST_REQUEST
    ]


def test_its_own_number_changes_with_its_sites(node):
    def number():
        return node.hear(Datagram(DISCOVER_REQUEST, THEM))[0].sites_changed

    first = number()
    node.sites.reverse()
    assert number() == first
    node.sites.append(THIRD)
    second = number()
    assert second != first
    node.sites.remove(THIRD)
    assert number() not in (first, second)


def test_many_sites_take_several_datagrams_and_have_an_end(node):
    node.sites[:] = [f"{number:030d}" for number in range(SITES_LIMIT + 500)]
    answers = node.hear(Datagram(SITE_LIST_REQUEST, THEM))
    assert len(answers) == SITES_LIMIT // SITES_IN_ONE
    assert len({digest for answer in answers for digest in answer.sites}) == SITES_LIMIT


@pytest.mark.parametrize(
    "addr", [("203.0.113.9", 1544), ("8.8.8.8", 53), ("2001:db8::1", 1544), ("nonsense", 1)]
)
def test_strangers_from_elsewhere_are_neither_heard_nor_answered(node, addr):
    for cmd in (DISCOVER_REQUEST, SITE_LIST_REQUEST, DISCOVER_RESPONSE):
        assert node.hear(Datagram(cmd, THEM, 5), addr) == []
    node.hear(Datagram(SITE_LIST_RESPONSE, THEM, 5, (site_sha256(SITE),)), addr)
    assert node.found == []


def test_its_own_voice_is_not_heard(node):
    own = Sender("-UT3530-000000000001", 15441, PORT)
    assert node.hear(Datagram(DISCOVER_REQUEST, own)) == []


def test_unknown_commands_and_garbage_are_passed_over(node):
    assert node.hear(Datagram("nosuch", THEM)) == []
    assert node.hear(b"garbage") == []
    assert node.hear(b"\x91" * 5000) == []


def test_a_node_that_takes_no_connections_is_not_found(node):
    closed = attrs.evolve(THEM, port=0)
    node.hear(Datagram(SITE_LIST_RESPONSE, closed, 5, (site_sha256(SITE),)))
    assert node.found == []


def test_somebody_new_makes_it_ask_but_not_often(net, node):
    def new(number):
        who = Sender(f"-UT3530-{number:012d}", 15441, 1600)
        node.hear(Datagram(DISCOVER_REQUEST, who), (f"10.0.0.{number}", 1544))

    for number in range(10, 15):
        new(number)
    del net.sent[:]
    net.clock.advance(GREETING_SECONDS)
    assert net.cmds() == [DISCOVER_REQUEST]
    new(20)
    del net.sent[:]
    net.clock.advance(GREETINGS_APART - GREETING_SECONDS)
    assert net.cmds() == []
    net.clock.advance(GREETING_SECONDS)
    assert net.cmds() == [DISCOVER_REQUEST]


def test_who_is_known_does_not_make_it_ask(net, node):
    for _ in range(3):
        node.hear(Datagram(DISCOVER_REQUEST, THEM))
        net.clock.advance(50)
    assert net.cmds().count(DISCOVER_REQUEST) == 1


def test_a_flood_of_one_host_is_answered_for_a_while(net, node):
    for _ in range(1000):
        node.hear(Datagram(SITE_LIST_REQUEST, THEM))
    assert len(net.sent) == BURST
    assert node.hear(Datagram(SITE_LIST_REQUEST, THEM), ("10.0.0.67", 1)) != []
    net.clock.advance(1.0)
    assert node.hear(Datagram(SITE_LIST_REQUEST, THEM)) != []


def test_a_flood_of_many_hosts_is_answered_for_a_while(net, node):
    for number in range(1000):
        addr = (f"10.0.{number // 250}.{number % 250}", 1544)
        node.hear(Datagram(SITE_LIST_REQUEST, THEM), addr)
    assert len(net.sent) == ALL_BURST - 1  # it heard its own broadcast at the start


def test_neighbours_that_are_remembered_have_a_bound(net, node):
    for number in range(NEIGHBOURS_LIMIT + 10):
        who = Sender(f"-UT3530-{number:012d}", 15441, 1600)
        addr = (f"10.{number // 250}.0.{number % 250}", 1544)
        node.hear(Datagram(DISCOVER_REQUEST, who), addr)
        net.clock.advance(0.1)
    assert len(node.announcer._neighbours) == NEIGHBOURS_LIMIT


def test_without_a_network_nothing_happens(net, node):
    node.port.broken = True
    assert node.hear(Datagram(DISCOVER_REQUEST, THEM)) == []
    net.clock.advance(DISCOVER_SECONDS)
    node.port.broken = False
    net.clock.advance(DISCOVER_SECONDS)
    assert net.cmds() == [DISCOVER_REQUEST]


@given(st.binary(max_size=60), st.sampled_from(["10.0.0.1", "127.0.0.1", "fe80::1", "::1"]))
def test_hostile_datagrams_raise_nothing(data, host):
    node = Net().node(1, [SITE])
    node.announcer.start()
    node.announcer.datagramReceived(data, (host, 1544))


def test_a_forged_list_names_only_its_sender():
    """Nobody can be made to knock at a third host, but at the sender's own."""
    node = Net().node(1, [SITE])
    node.announcer.start()
    digests = [site_sha256(SITE), hashlib.sha256(b"else").digest()]
    node.hear(Datagram(SITE_LIST_RESPONSE, THEM, 5, tuple(digests)))
    assert [address.host for _, address in node.found] == [STRANGER[0]]
