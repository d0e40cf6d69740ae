"""UDP trackers without sockets: a port here is a list of what was sent."""

import itertools
import struct

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_udp import ANNOUNCE_SECONDS, FIRST_SECONDS, UdpAnnouncer
from zeromsg.wire.trackers import Announcement, TrackerRefused, parse_tracker
from zeromsg.wire.values import PeerAddress, site_sha1

SITE, OTHER = "1" * 30, "2" * 30
TRACKER = parse_tracker("udp://203.0.113.1:6969")
THERE = ("203.0.113.1", 6969)
PEER = PeerAddress("203.0.113.9", 6881)
PEERS = b"\xcb\x00\x71\x09\x1a\xe1"
MINE = Announcement((SITE,), 15441, frozenset({"ipv4"}), frozenset({"ipv4"}), need=30)


@attrs.define
class Port:
    """A UDP port that remembers."""

    protocol: object
    interface: str
    sent: list = attrs.field(factory=list)
    connected: tuple = ()
    closed: bool = False
    broken: bool = False
    refused: bool = False

    def connect(self, host, port):
        self.connected = (host, port)

    def write(self, data):
        if self.broken:
            raise OSError("network is down")
        self.sent.append(data)
        if self.refused:
            self.protocol.connectionRefused()

    def stopListening(self):
        self.closed = True


class Reactor:
    def __init__(self):
        self.ports = []
        self.broken = False

    def listenUDP(self, port, protocol, interface="", maxPacketSize=8192):
        if self.broken:
            raise CannotListenError(interface, port, OSError("no"))
        opened = Port(protocol, interface)
        self.ports.append(opened)
        protocol.transport = opened
        protocol.startProtocol()
        return opened


class Asked:
    """An announce under way."""

    def __init__(self, tracker=TRACKER, mine=MINE, interface="", broken=False):
        self.clock = Clock()
        self.reactor = Reactor()
        self.reactor.broken = broken
        numbers = itertools.count(100)
        announcer = UdpAnnouncer(
            reactor=self.reactor,
            resolver=Resolver(None, self.clock, False),
            clock=self.clock,
            peer_id="-UT3530-pKaCVxmqwC60",
            entropy=lambda size: next(numbers).to_bytes(size, "big"),
            interface=interface,
        )
        self.results = []
        Deferred.fromCoroutine(announcer.announce(tracker, mine)).addBoth(self.results.append)

    @property
    def port(self):
        return self.reactor.ports[-1]

    def answer(self, packet, addr=THERE):
        self.port.protocol.datagramReceived(packet, addr)

    def connect(self, transaction=100, addr=THERE):
        self.answer(struct.pack(">IIQ", 0, transaction, 777), addr)

    def announce(self, transaction=101, peers=PEERS, addr=THERE):
        self.answer(struct.pack(">IIIII", 1, transaction, 1800, 0, 1) + peers, addr)

    @property
    def result(self):
        assert self.results, "still asking"
        assert self.port.closed
        assert not self.clock.getDelayedCalls()
        if hasattr(self.results[0], "raiseException"):
            self.results[0].raiseException()
        return self.results[0]


def test_peers_are_found():
    asked = Asked()
    assert asked.port.connected == THERE
    assert asked.port.sent == [struct.pack(">QII", 0x41727101980, 0, 100)]
    asked.connect()
    request = asked.port.sent[1]
    assert request[:16] == struct.pack(">QII", 777, 1, 101)
    assert request[16:36] == site_sha1(SITE)
    assert request[36:56] == b"-UT3530-pKaCVxmqwC60"
    assert request[-2:] == (15441).to_bytes(2, "big")
    asked.announce()
    assert asked.result.peers == {SITE: (PEER,)}
    assert asked.result.interval == 1800.0


def test_each_site_is_asked_for_by_itself_and_a_closed_port_is_no_port():
    asked = Asked(mine=Announcement((SITE, OTHER), 1234, frozenset(), frozenset()))
    asked.connect()
    assert asked.port.sent[1][-2:] == b"\0\0"
    asked.announce()
    asked.connect(102)
    assert asked.port.sent[1][16:36] == site_sha1(OTHER)
    asked.announce(103, b"")
    assert asked.result.peers == {SITE: (PEER,), OTHER: ()}
    assert all(port.closed for port in asked.reactor.ports)


def test_over_ipv6_peers_are_ipv6():
    asked = Asked(parse_tracker("udp://[2001:db8::1]:80"), interface="192.0.2.7")
    there = ("2001:db8::1", 80, 0, 0)
    assert asked.port.interface == "::"
    asked.connect(addr=there)
    packed = bytes.fromhex("20010db8000000000000000000000077") + b"\x1a\xe1"
    asked.announce(peers=packed, addr=there)
    assert asked.result.peers == {SITE: (PeerAddress("2001:db8::77", 6881),)}


def test_it_sends_from_the_node_s_own_address():
    assert Asked(interface="192.0.2.7").port.interface == "192.0.2.7"
    assert Asked().port.interface == ""


def test_what_is_lost_is_sent_again_for_a_minute():
    asked = Asked()
    times = []
    for second in range(int(ANNOUNCE_SECONDS)):
        while len(times) < len(asked.port.sent):
            times.append(second)
        asked.clock.advance(1)
    assert times == [0, 15, 45]
    with pytest.raises(Unreachable, match="no answer in time"):
        asked.result  # noqa: B018


def test_a_minute_is_all_there_is_for_both_questions():
    asked = Asked()
    asked.clock.advance(FIRST_SECONDS)
    assert len(asked.port.sent) == 2
    asked.connect()
    asked.clock.advance(FIRST_SECONDS)
    assert [len(packet) for packet in asked.port.sent] == [16, 16, 98, 98]
    asked.clock.advance(ANNOUNCE_SECONDS - 2 * FIRST_SECONDS)
    with pytest.raises(Unreachable, match="no answer in time"):
        asked.result  # noqa: B018


def test_an_answer_to_the_repeated_request_counts():
    asked = Asked()
    asked.clock.advance(FIRST_SECONDS)
    asked.connect()
    asked.connect()  # the other one comes too
    asked.announce()
    assert asked.result.peers == {SITE: (PEER,)}


@pytest.mark.parametrize(
    "addr", [("203.0.113.2", 6969), ("203.0.113.1", 6970), ("::ffff:203.0.113.1", 6969)]
)
def test_answers_from_elsewhere_are_passed_over(addr):
    asked = Asked()
    asked.connect(addr=addr)
    assert len(asked.port.sent) == 1
    asked.connect()
    asked.announce(addr=addr, peers=b"\x01" * 6)
    assert not asked.results
    asked.announce()
    assert asked.result.peers == {SITE: (PEER,)}


@pytest.mark.parametrize("packet", [b"", b"short", bytes(16), struct.pack(">IIQ", 0, 99, 777)])
def test_answers_with_another_transaction_are_passed_over(packet):
    asked = Asked()
    asked.answer(packet)
    asked.answer(struct.pack(">II", 3, 4711) + b"go away")
    assert len(asked.port.sent) == 1
    asked.connect()
    asked.announce(transaction=100)
    assert not asked.results
    asked.announce()
    assert asked.result.peers == {SITE: (PEER,)}


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack(">II", 0, 100),
        struct.pack(">IIQ", 1, 100, 5),
        struct.pack(">IIQ", 9, 100, 5),
    ],
)
def test_absurd_answers(packet):
    asked = Asked()
    asked.answer(packet)
    with pytest.raises(TheirMistake):
        asked.result  # noqa: B018


def test_peers_that_are_cut_off():
    asked = Asked()
    asked.connect()
    asked.announce(peers=PEERS + b"x")
    with pytest.raises(TheirMistake):
        asked.result  # noqa: B018


def test_a_tracker_may_refuse():
    asked = Asked()
    asked.answer(struct.pack(">II", 3, 100) + b"no")
    with pytest.raises(TrackerRefused, match="no"):
        asked.result  # noqa: B018


@pytest.mark.parametrize("how", ["connectionRefused", "stopProtocol"])
def test_nobody_listens(how):
    asked = Asked()
    getattr(asked.port.protocol, how)()
    with pytest.raises(Unreachable, match="nobody listens"):
        asked.result  # noqa: B018
    asked.port.protocol.connectionRefused()  # said again for each packet


def test_nobody_listens_as_the_second_packet_is_written_finds():
    asked = Asked()
    asked.port.refused = True
    asked.clock.advance(FIRST_SECONDS)
    with pytest.raises(Unreachable, match="nobody listens"):
        asked.result  # noqa: B018


def test_the_network_is_down():
    asked = Asked()
    asked.port.broken = True
    asked.clock.advance(FIRST_SECONDS)
    with pytest.raises(Unreachable, match="cannot send"):
        asked.result  # noqa: B018


def test_no_socket():
    asked = Asked(broken=True)
    with pytest.raises(Unreachable, match="cannot open"):
        asked.results[0].raiseException()


def test_late_answers_change_nothing():
    asked = Asked()
    asked.connect()
    asked.announce()
    assert asked.result.peers
    asked.announce()
    asked.connect()
    assert len(asked.port.sent) == 2


def test_names_are_not_looked_up_where_none_may_be():
    asked = Asked(parse_tracker("udp://tracker.example:80"))
    with pytest.raises(Unreachable, match="not looked up"):
        asked.results[0].raiseException()
