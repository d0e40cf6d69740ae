"""Who is sent peer messages: one to whom nobody knows, none to whom does not know them."""

import pytest

from zeromsg.policy.capability import DEAF_SECONDS, Evidence
from zeromsg.routing import speaking
from zeromsg.wire.values import PeerAddress

NODE = PeerAddress("203.0.113.9", 15441)


ABOUT_SITES = ("pex", "getPiecefields")


def deaf(cmd, params):
    return {"peers": []} if cmd in ABOUT_SITES else {"error": f"Unknown command: {cmd}"}


def silent(cmd, params):
    return {"peers": []} if cmd in ABOUT_SITES else None


def shout(net, site, *messages, peer_count=5):
    client = net.client(0, site)
    results = []
    for message in messages:
        call = client.call("peerBroadcast", {"message": message, "peer_count": peer_count})
        call.addCallback(results.append)
    return results


def known(net):
    return net.nodes[0].node.capabilities.of(NODE, net.wall())


def test_a_burst_brings_a_node_without_the_plugin_one_message(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, *range(20))
    net.advance(1)
    assert one.broadcasts() == [0]
    assert known(net).how is Evidence.UNKNOWN
    shout(net, site, "later")
    net.client(0, site).call("peerSend", {"ip": str(NODE), "message": "q", "timeout": 1})
    net.advance(60)
    assert len(one.asked("peerBroadcast")) == 1 and one.asked("peerSend") == []
    assert not one.lost


def test_a_node_without_the_plugin_is_a_peer_all_the_same(network, stranger):
    """It has the files, and is shown among the peers."""
    net = network(1)
    site = net.site()
    stranger(net, port=NODE.port, respond=deaf)
    client = net.client(0, site)
    for known in (0, 1):
        (shown,) = net.nodes[0].node.status()["sites"]
        assert (shown["peers"], shown["peers_without_messages"]) == (1, known)
        assert client.ask("siteInfo")["peers"] == 2
        shout(net, site, 1)
        net.advance(1)


@pytest.mark.parametrize("cmd", ["peerSend", "peerBroadcast"])
def test_a_question_to_a_node_without_the_plugin_is_not_sent(network, stranger, cmd):
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 1)
    net.advance(1)
    before = len(one.requests)
    params = {"message": "q", "timeout": 5, "ip": str(NODE)}
    if cmd == "peerBroadcast":
        params = {"message": "q", "timeout": 5, "broadcast": False}
    results = []
    net.client(0, site).call(cmd, params).addCallback(results.append)
    net.advance(0.5)
    assert len(one.requests) == before
    # And who asked hears at once that nobody answers.
    assert results == ([{"error": "no-peer: Connection error"}] if cmd == "peerSend" else [[]])


def test_a_burst_reaches_a_node_with_the_plugin_whole_and_in_order(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port)
    shout(net, site, *range(20))
    net.advance(0.015)
    assert one.broadcasts() == [0]
    net.advance(1)
    assert one.broadcasts() == list(range(20))
    assert known(net).how is Evidence.TOOK


def test_who_connects_again_with_its_port_closed_is_still_known(network, stranger):
    """ZeroNet nodes find out late whether their port is open."""
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 1)
    net.advance(1)
    one.close()
    net.advance(1)
    again = stranger(net, port=NODE.port, port_opened=False, respond=deaf, source_port=40001)
    shout(net, site, 2)
    net.advance(5)
    assert again.broadcasts() == []


def test_the_memory_survives_a_restart_and_ends_after_a_day(network, stranger):
    net = network(1)
    site = net.site()
    stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 1)
    net.advance(2)
    net.restart(0)
    again = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 2)
    net.advance(5)
    assert again.broadcasts() == []
    again.close()
    net.stop(0)
    net.clock.advance(DEAF_SECONDS)
    net.restart(0)
    third = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 3, 4)
    net.advance(5)
    assert third.broadcasts() == [3]


def test_a_deaf_node_that_speaks_is_heard_and_spoken_to(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port, respond=deaf)
    shout(net, site, 1)
    net.advance(1)
    one.ask("peerBroadcast", one.envelope(site, "I know them after all"))
    assert known(net).how is Evidence.SENT
    shout(net, site, 2)
    net.advance(1)
    assert one.broadcasts() == [1, 2]


def test_a_zeromsg_node_is_known_by_its_handshake(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    node = net.nodes[0].node
    assert node.capabilities.of(net.nodes[1].address, net.wall()).how is Evidence.HANDSHAKE
    reader = net.client(1, site)
    shout(net, site, *range(20))
    net.advance(0.1)
    assert reader.messages == list(range(20))


def test_who_does_not_answer_at_all_is_left_alone_for_a_while(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port, respond=silent)
    shout(net, site, 1, 2)
    net.advance(13)
    assert one.broadcasts() == [1] and one.lost
    again = stranger(net, port=NODE.port, source_port=40001)
    shout(net, site, 3)
    net.advance(1)
    assert again.broadcasts() == []
    net.advance(speaking.UNANSWERED_SECONDS)
    third = stranger(net, port=NODE.port, source_port=40002)
    shout(net, site, 4)
    net.advance(1)
    assert third.broadcasts() == [4]


def test_what_waits_for_a_first_answer_is_bounded(network, stranger, monkeypatch):
    monkeypatch.setattr(speaking, "WAITING_LIMIT", 3)
    net = network(1)
    site = net.site()
    one = stranger(net, port=NODE.port)
    results = shout(net, site, *range(10), peer_count=0)
    assert [result["peers"] for result in results] == [1] * 4 + [0] * 6
    net.advance(1)
    assert one.broadcasts() == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["Invalid message for site x: y", "Too fast", "no"])
def test_a_refusal_shows_that_a_node_knows_messages(network, stranger, text):
    net = network(1)
    site = net.site()
    one = stranger(
        net,
        port=NODE.port,
        respond=lambda cmd, params: {"peers": []} if cmd in ABOUT_SITES else {"error": text},
    )
    shout(net, site, 1, 2)
    net.advance(1)
    assert one.broadcasts() == [1, 2]
