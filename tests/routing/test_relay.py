"""Handing a broadcast on: to whom, how often, and what becomes of it when a peer is gone."""

import pytest

from zeromsg.policy.peer_book import Source
from zeromsg.wire.values import PeerAddress


def test_everybody_hears_once_in_a_ring(network):
    net = network(5)
    site = net.site()
    for number in range(5):
        net.connect(number, (number + 1) % 5)
    net.advance(2)
    clients = [net.client(number, site) for number in range(5)]
    clients[0].call("peerBroadcast", {"message": "x"})
    net.advance(2)
    assert [client.messages for client in clients[1:]] == [["x"]] * 4


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.11, 0.12, 0.2, 1.0, 2.1])
def test_nothing_is_lost_while_two_nodes_that_dialled_each_other_settle(network, moment):
    """One of the two connections goes, with what was under way on it."""
    net = network(2)
    site = net.site()
    clients = [net.client(number, site) for number in range(2)]
    for client in clients:
        client.answers["q"] = "a"
    net.connect(0, 1)
    net.connect(1, 0)
    net.advance(moment)
    replies = []
    for number, client in enumerate(clients):
        question = {"ip": net.nodes[1 - number].name, "message": "q", "timeout": 9}
        client.call("peerSend", question).addCallback(replies.append)
    net.advance(0.3)
    for number, client in enumerate(clients):
        client.call("peerBroadcast", {"message": number, "peer_count": 0})
    net.advance(10)
    assert [reply.get("message") for reply in replies] == ["a", "a"]
    assert [client.messages for client in clients] == [["q", 1], ["q", 0]]
    assert [len(member.node.pool.links) for member in net.nodes] == [1, 1]


def test_relay_goes_to_all_members_whatever_peer_count_says(network):
    net = network(5)
    site = net.site()
    for number in range(1, 5):
        net.connect(0, number)
    net.advance(2)
    sender = net.client(1, site)
    clients = [net.client(number, site) for number in (2, 3, 4)]
    sender.call("peerBroadcast", {"message": "x", "peer_count": 1})
    net.advance(1)
    assert [client.messages for client in clients] == [["x"]] * 3
    assert net.nodes[0].node.inbound.counters.relayed == 3


def test_only_members_of_the_site_get_it(network, stranger):
    net = network(1)
    site = net.site()
    member = stranger(net, host="203.0.113.1")
    other = stranger(net, host="203.0.113.2", respond=lambda cmd, params: {"error": "Unknown site"})
    net.client(0, site).call("peerBroadcast", {"message": "x"})
    net.advance(1)
    assert (member.broadcasts(), other.broadcasts()) == (["x"], [])


def test_a_relay_dials_nobody(network, stranger, host_for):
    """Who relays passes on to the links there are; the sender looks for further peers."""
    net = network(1)
    site = net.site()
    listening = host_for(net, PeerAddress("203.0.113.50", 5))
    net.nodes[0].node.site_peers.found(site, [PeerAddress("203.0.113.50", 5)], Source.PEX, "t")
    one = stranger(net)
    one.ask("peerBroadcast", one.envelope(site, "x"))
    net.advance(5)
    assert listening.strangers == []


def test_peers_that_vanish_harm_nobody(network, stranger, errors):
    net = network(3)
    site = net.site()
    net.connect_all()
    sender, reader = net.client(0, site), net.client(2, site)
    dying = stranger(net)
    dying.respond = lambda cmd, params: dying.close()
    net.stop(1)
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(20)
    assert reader.messages == ["x"]
    assert dying.lost


def test_what_peers_answer_to_a_broadcast_is_not_believed(network, stranger):
    net = network(1)
    site = net.site()
    answers = [
        {"error": ["Unknown command: x"]},
        {"error": 5},
        {"error": None},
        {},
        {"ok": {}},
        # An answer to another request: of this peer nothing is known yet.
        {"to": 1},
    ]
    strangers = [
        stranger(
            net,
            host=f"203.0.113.{number + 1}",
            respond=lambda cmd, params, answer=answer: (
                dict(answer) if cmd == "peerBroadcast" else {"peers": []}
            ),
        )
        for number, answer in enumerate(answers)
    ]
    sender = net.client(0, site)
    for message in (1, 2):
        sender.call("peerBroadcast", {"message": message})
        net.advance(1)
    assert [one.broadcasts() for one in strangers] == [*[[1, 2]] * 5, [1]]


def test_messages_overtake_nobody(network):
    net = network(3, latency=0.05)
    site = net.site()
    net.connect_line()
    sender, reader = net.client(0, site), net.client(2, site)
    for number in range(50):
        sender.call("peerBroadcast", {"message": number})
        net.advance(0.001)
    net.advance(2)
    assert reader.messages == list(range(50))


@pytest.mark.parametrize("count", [1, 3])
def test_a_message_costs_each_neighbour_one_copy(network, stranger, count):
    net = network(1)
    site = net.site()
    strangers = [stranger(net, host=f"203.0.113.{n + 1}") for n in range(count)]
    net.client(0, site).call("peerBroadcast", {"message": "x", "peer_count": 50})
    net.advance(60)
    assert [one.broadcasts() for one in strangers] == [["x"]] * count
