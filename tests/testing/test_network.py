"""The network in memory: what its users rely on."""

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from zeromsg.service.config import PeerSettings
from zeromsg.testing import Network
from zeromsg.testing.network import EPOCH
from zeromsg.testing.transports import MemoryEndpoint, Weather
from zeromsg.wire.values import PeerAddress


def story(seed, loss=0.0):
    """Everything that clients of a busy network saw, with times."""
    told = []
    with Network(nodes=4, seed=seed, latency=0.02, loss=loss) as net:
        site = net.site()
        net.connect_line()
        net.connect(0, 3)
        net.advance(1)
        clients = [net.client(number, site, None) for number in range(4)]
        for number, client in enumerate(clients):
            take = client._take
            client._take = lambda payload, number=number, take=take: (
                told.append((net.clock.seconds(), number, payload)),
                take(payload),
            )
        clients[1].answers["q"] = "a"
        for turn in range(6):
            clients[turn % 4].call("peerBroadcast", {"message": turn, "privatekey": False})
            clients[0].call(
                "peerBroadcast", {"message": "q", "broadcast": False, "peer_count": 2, "timeout": 3}
            )
            net.advance(0.7)
        net.advance(10)
        told.append((net.nodes[0].node.peer_id, site, [node.name for node in net.nodes]))
    return told


def test_one_seed_gives_one_course_of_events():
    assert story(1) == story(1)
    assert story(7, loss=0.2) == story(7, loss=0.2)


def test_another_seed_gives_another():
    assert story(1) != story(2)


@pytest.mark.parametrize("latency", [0.0, 0.01, 0.25])
def test_latency_is_one_way(latency):
    with Network(nodes=3, seed=1, latency=latency) as net:
        site = net.site()
        net.connect_line()
        net.advance(3)
        sender, end = net.client(0, site), net.client(2, site, verdict=None)
        seen = []
        take = end._take
        end._take = lambda payload: (seen.append(net.clock.seconds()), take(payload))
        start = net.clock.seconds()
        sender.call("peerBroadcast", {"message": "x"})
        net.advance(2)
        assert seen == [pytest.approx(start + 2 * latency)]


def test_loss_takes_whole_messages_and_leaves_the_rest_readable(errors):
    with Network(nodes=2, seed=3, loss=0.3) as net:
        site = net.site()
        # A lost handshake is tried again.
        for _ in range(20):
            if not net.nodes[0].node.pool.links:
                net.connect(0, 1)
                net.advance(12)
        sender, reader = net.client(0, site), net.client(1, site)
        arrived = 0
        for number in range(60):
            sender.call("peerBroadcast", {"message": number})
            net.advance(0.1)
            arrived = len(reader.messages)
        assert 20 < arrived < 60
        assert reader.messages == sorted(set(reader.messages))
    assert errors == []


@pytest.fixture
def errors():
    caught = []

    def observe(event):
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            caught.append(event)

    globalLogPublisher.addObserver(observe)
    yield caught
    globalLogPublisher.removeObserver(observe)


def test_without_loss_nothing_is_lost():
    with Network(nodes=2, seed=3) as net:
        site = net.site()
        net.connect_all()
        sender, reader = net.client(0, site), net.client(1, site)
        for number in range(100):
            sender.call("peerBroadcast", {"message": number})
        net.advance(1)
        assert reader.messages == list(range(100))


def test_time_passes_event_by_event():
    with Network(nodes=1, seed=1) as net:
        seen = []
        start = net.clock.seconds()

        def again(left):
            seen.append(round(net.clock.seconds() - start, 6))
            if left:
                net.clock.callLater(0.3, again, left - 1)

        net.clock.callLater(0.3, again, 3)
        net.advance(1)
        assert seen == [0.3, 0.6, 0.9]
        assert net.clock.seconds() == pytest.approx(start + 1)
        assert net.wall() == pytest.approx(EPOCH + net.clock.seconds())


def test_advancing_by_nothing_runs_what_is_due():
    with Network(nodes=1, seed=1) as net:
        seen = []
        net.clock.callLater(0, seen.append, 1)
        net.advance(0)
        assert seen == [1]


# Nodes


def test_every_node_has_a_public_address_of_its_own():
    with Network(nodes=252, seed=1) as net:  # more than a net of one byte has
        addresses = [member.address for member in net.nodes]
        assert len({address.host for address in addresses}) == 252
        assert not any(address.is_private for address in addresses)
        assert [member.number for member in net.nodes] == list(range(252))


def test_nodes_are_strangers_to_one_another():
    with Network(nodes=3, seed=1) as net:
        assert len({member.node.peer_id for member in net.nodes}) == 3
        assert len({member.users.default.master_address for member in net.nodes}) == 3
        assert len({member.folder for member in net.nodes}) == 3


def test_connect_all_and_connect_line():
    with Network(nodes=4, seed=1) as net:
        net.site()
        net.connect_all()
        assert [len(member.node.pool.links) for member in net.nodes] == [3] * 4
    with Network(nodes=4, seed=1) as net:
        net.site()
        net.connect_line()
        assert [len(member.node.pool.links) for member in net.nodes] == [1, 2, 2, 1]


def test_a_stopped_node_is_not_reached_and_comes_back():
    with Network(nodes=2, seed=1) as net:
        site = net.site()
        net.connect_all()
        before = net.nodes[1].node
        net.stop(1)
        net.advance(1)
        assert list(net.nodes[0].node.pool.links) == []
        net.connect(0, 1)
        net.advance(1)
        assert list(net.nodes[0].node.pool.links) == []
        net.restart(1)
        assert net.nodes[1].node is not before
        assert net.nodes[1].node.key_of(site) == before.key_of(site)
        net.connect_all()
        sender, reader = net.client(0, site), net.client(1, site)
        sender.call("peerBroadcast", {"message": "x"})
        net.advance(1)
        assert reader.messages == ["x"]


def test_closing_leaves_nothing_behind():
    net = Network(nodes=3, seed=1)
    net.site()
    net.connect_all()
    folder = net.nodes[0].folder.parent
    assert folder.is_dir()
    net.stop(2)
    net.close()
    net.advance(10)
    assert not folder.exists()
    assert net.clock.getDelayedCalls() == []


# Sites and clients


def test_a_site_is_held_by_whom_it_should():
    with Network(nodes=3, seed=1) as net:
        everywhere = net.site({"filter": "^1$"}, files={"dir/a.txt": b"a"})
        somewhere = net.site(holders=[1])
        silent = net.site(rules=None)
        held = [member.node.sites.addresses() for member in net.nodes]
        assert held == [
            [everywhere, silent],
            [everywhere, somewhere, silent],
            [everywhere, silent],
        ]
        assert net.site_key(everywhere).address == everywhere
        assert net.nodes[0].node.sites.get(everywhere).read("dir/a.txt", 0, 9) == (b"a", 1)
        assert net.client(0, everywhere).ask("peerBroadcast", ["x"])["error"]
        assert net.client(0, silent).ask("peerBroadcast", ["x"])["error"]


def test_join_fetches_a_site():
    with Network(nodes=2, seed=1) as net:
        site = net.site(holders=[0], files={"a.txt": b"a"})
        net.connect_all()
        net.join(1, site)
        assert net.client(1, site).ask("fileGet", ["a.txt"]) == "a"
        net.restart(1)
        assert net.client(1, site).ask("fileGet", ["a.txt"]) == "a"


def test_what_a_client_of_the_network_offers():
    with Network(nodes=2, seed=1) as net:
        site = net.site()
        net.connect_all()
        client, other = net.client(0, site), net.client(1, site)
        assert client.site == site
        assert client.ask("ping") == "pong"
        results = []
        client.call("ping", {}).addCallback(results.append)
        assert results == ["pong"]
        other.answers["q"] = {"any": ["json"]}
        client.call("peerBroadcast", {"message": "q", "broadcast": False}).addCallback(
            results.append
        )
        with pytest.raises(AssertionError, match="not answered at once"):
            client.ask("peerBroadcast", {"message": "q", "broadcast": False})
        client.call("peerBroadcast", {"message": "x"})
        net.advance(1)
        assert results[1][0]["reply"] == {"any": ["json"]}
        assert other.messages == ["q", "q", "x"]
        assert [event["ip"] for event in other.received()] == [net.nodes[0].name] * 3
        client.close()
        assert net.nodes[0].node.delivery.count(site) == 0


def test_a_client_may_be_silent_or_judge():
    with Network(nodes=3, seed=1) as net:
        site = net.site()
        net.connect_line()
        sender, end = net.client(0, site), net.client(2, site)
        judge = net.client(1, site, "peerInvalid")
        sender.call("peerBroadcast", {"message": "x"})
        net.advance(10)
        assert (judge.messages, end.messages) == (["x"], [])


def test_messages_that_are_no_text_may_be_answered_too():
    """A message may be anything JSON is, a list or a map among it."""
    with Network(nodes=2, seed=1) as net:
        site = net.site()
        net.connect_all()
        sender, other = net.client(0, site), net.client(1, site)
        other.answers[5] = "five"
        for message in ([1], {"a": 1}, None, 5):
            sender.call("peerBroadcast", {"message": message})
        net.advance(1)
        assert json.dumps(other.messages) == '[[1], {"a": 1}, null, 5]'


# Transports


class Noting(Protocol):
    def __init__(self):
        self.data = []
        self.lost = None

    def dataReceived(self, data):
        self.data.append(data)

    def connectionLost(self, reason):
        self.lost = reason


@pytest.fixture
def ends():
    """Two connected protocols, with a tenth of a second between them."""
    clock, far = Clock(), Noting()
    endpoint = endpoint_to(clock, lambda source: far)
    found = []
    endpoint.connect(Factory.forProtocol(Noting)).addCallback(found.append)
    return clock, found[0], far


def endpoint_to(clock, accept):
    return MemoryEndpoint(
        clock,
        None,
        Weather(latency=0.1),
        PeerAddress("203.0.113.1", 40000),
        PeerAddress("203.0.113.2", 26552),
        lambda target: accept,
    )


def test_writes_arrive_later_and_in_order(ends):
    clock, near, far = ends
    near.transport.write(b"one")
    near.transport.writeSequence([b"t", b"wo"])
    far.transport.write(b"back")
    clock.advance(0.09)
    assert near.data == far.data == []
    clock.advance(0.02)
    assert (near.data, far.data) == ([b"back"], [b"one", b"two"])


def test_each_end_knows_the_other(ends):
    _, near, far = ends
    assert near.transport.getPeer().host == far.transport.getHost().host == "203.0.113.2"
    assert far.transport.getPeer().port == near.transport.getHost().port == 40000


def test_what_was_written_before_a_close_arrives(ends):
    clock, near, far = ends
    near.transport.write(b"last")
    near.transport.loseConnection()
    near.transport.write(b"too late")
    for _ in range(5):
        clock.advance(0.1)
    assert far.data == [b"last"]
    assert far.lost.check(ConnectionDone) and near.lost.check(ConnectionDone)


def test_an_abort_loses_what_was_under_way_back(ends):
    clock, near, far = ends
    far.transport.write(b"under way")
    near.transport.abortConnection()
    assert near.lost is not None
    for _ in range(5):
        clock.advance(0.1)
    assert near.data == [] and far.lost is not None


@pytest.mark.parametrize("listener", [None, lambda source: None])
def test_nobody_listens(listener):
    problems = []
    refused: Deferred = endpoint_to(Clock(), listener).connect(Factory.forProtocol(Noting))
    refused.addErrback(lambda failure: problems.append(failure.check(ConnectionRefusedError)))
    assert problems == [ConnectionRefusedError]


def test_closed_nodes_dial_and_are_not_dialled():
    with Network(nodes=2, seed=1, closed=[0]) as net:
        site = net.site()
        net.connect(1, 0)
        net.advance(2)
        assert not net.nodes[0].node.pool.links
        net.connect(0, 1)
        net.advance(2)
        (link,) = net.nodes[1].node.pool.links
        assert link.address is None and link.theirs.port_opened is False
        net.restart(0)
        net.connect(1, 0)
        net.advance(2)
        assert not net.nodes[0].node.pool.links
        assert net.nodes[1].node.site_peers.members(site) == []


def test_nodes_find_one_another_where_their_settings_say_so():
    with Network(nodes=4, seed=1, peers=PeerSettings(outgoing=3)) as net:
        net.site()
        net.connect_line()
        net.advance(20)
        assert [len(member.node.pool.links) for member in net.nodes] == [3] * 4
