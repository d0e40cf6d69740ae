"""Whether our own port is open: what peers say of it, and what we then tell."""

import pytest

from zeromsg.routing.port_check import AGAIN_SECONDS, FIRST_SECONDS, SOON_SECONDS
from zeromsg.service.config import PeerSettings
from zeromsg.wire.values import PeerAddress


def says(status):
    """A peer with an opinion about ports."""

    def respond(cmd, params):
        if cmd == "checkport":
            return {"status": status, "ip_external": "198.18.0.1"}
        return {"peers": []}

    return respond


def reach(net, host_for, statuses, kind="ipv4", start=0):
    """Lets node 0 dial peers with these opinions, each of a range of its own."""
    hosts = []
    for number, status in enumerate(statuses, start):
        host = f"{40 + number}.0.0.1" if kind == "ipv4" else f"2001:db8:{number + 1:x}::1"
        address = PeerAddress(host, 5)
        listening = host_for(net, address)
        listening.respond = says(status)
        net.nodes[0].node.pool.link_to(address)
        hosts.append(listening)
    net.advance(1)
    return hosts


def asked(hosts):
    return sum(len(one.asked("checkport")) for host in hosts for one in host.strangers)


def told(net, stranger, host="203.0.113.99"):
    """What the node says of its port to who connects."""
    one = stranger(net, host=host)
    return one.answers[0]["port_opened"]


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        (["open"], True),
        (["closed"], False),
        (["closed", "closed", "closed"], False),
        (["closed", "open", "closed"], True),
        ([None, "nonsense"], None),
        ([5, {"a": 1}], None),
        ([], None),
    ],
)
def test_what_peers_say(network, host_for, statuses, found):
    net = network(1)
    reach(net, host_for, statuses)
    node = net.nodes[0].node
    assert node.port_check.is_open("ipv4") is None
    net.advance(FIRST_SECONDS + 15)
    assert node.port_check.all() == {"ipv4": found, "ipv6": None}
    assert node.status()["port_opened"]["ipv4"] is found
    client = net.client(0, net.site())
    assert client.ask("serverInfo")["port_opened"] == {"ipv4": found, "ipv6": None}


def test_the_truth_is_told_in_the_handshake(network, host_for):
    net = network(1)
    reach(net, host_for, ["closed", "closed"])
    net.advance(60)
    (later,) = reach(net, host_for, ["closed"], start=5)
    assert later.strangers[0].greeted_by["port_opened"] is False


def test_both_families_are_asked_about(network, host_for):
    net = network(1)
    reach(net, host_for, ["open", "open"])
    reach(net, host_for, ["closed", "closed"], kind="ipv6")
    net.advance(FIRST_SECONDS + 15)
    assert net.nodes[0].node.port_check.all() == {"ipv4": True, "ipv6": False}


def test_a_few_peers_are_asked_and_rarely_again(network, host_for):
    net = network(1)
    hosts = reach(net, host_for, ["open"] * 8)
    net.site()  # so that the links are in use
    net.nodes[0].node.site_peers.introduce(net.nodes[0].node.sites.addresses()[0])
    net.advance(FIRST_SECONDS + 15)
    assert asked(hosts) == 3
    net.advance(AGAIN_SECONDS - 60)
    assert asked(hosts) == 3
    net.advance(120)
    assert asked(hosts) == 6


def test_one_opinion_alone_is_soon_looked_at_again(network, host_for):
    net = network(1)
    hosts = reach(net, host_for, ["closed"])
    net.site()
    net.nodes[0].node.site_peers.introduce(net.nodes[0].node.sites.addresses()[0])
    net.advance(FIRST_SECONDS + 15)
    assert asked(hosts) == 1
    net.advance(SOON_SECONDS + 15)
    assert asked(hosts) == 2


def test_one_range_has_one_voice(network, host_for):
    net = network(1)
    for number in range(6):
        address = PeerAddress(f"203.0.113.{number + 1}", 5)
        host_for(net, address).respond = says("closed")
        net.nodes[0].node.pool.link_to(address)
    reach(net, host_for, ["open"])
    net.advance(FIRST_SECONDS + 15)
    assert net.nodes[0].node.port_check.is_open("ipv4") is True


def test_who_connects_proves_that_the_port_is_open(network, host_for, stranger):
    net = network(1)
    hosts = reach(net, host_for, ["closed", "closed"])
    stranger(net)
    net.advance(60)
    assert net.nodes[0].node.port_check.is_open("ipv4") is True
    assert asked(hosts) == 0
    assert told(net, stranger) is True


@pytest.mark.parametrize("private", [True, False])
def test_connections_within_a_private_network_count_there_alone(network, stranger, private):
    net = network(1, peers=PeerSettings(outgoing=0, allow_private=private))
    stranger(net, host="127.0.0.9")
    net.advance(60)
    assert net.nodes[0].node.port_check.is_open("ipv4") is (True if private else None)


def test_a_node_that_does_not_listen_asks_nobody(network, host_for):
    net = network(1, closed=(0,))
    hosts = reach(net, host_for, ["open", "open"])
    net.advance(60)
    assert asked(hosts) == 0
    assert net.nodes[0].node.port_check.all() == {"ipv4": False, "ipv6": False}
    assert hosts[0].strangers[0].greeted_by["port_opened"] is False


def test_nodes_find_out_about_one_another(network):
    """Both listen; the one that was dialled tries the other's port."""
    net = network(2)
    net.site()
    net.connect(0, 1)
    net.advance(60)
    assert net.nodes[0].node.port_check.is_open("ipv4") is True
    assert net.nodes[1].node.port_check.is_open("ipv4") is True


def test_peers_that_go_while_they_are_asked(network, host_for, errors):
    net = network(1)
    (host,) = reach(net, host_for, ["open"])
    one = host.strangers[0]
    one.respond = lambda cmd, params: one.close() if cmd == "checkport" else {"peers": []}
    net.advance(60)
    assert net.nodes[0].node.port_check.is_open("ipv4") is None
    assert errors == []


def test_stopping_while_somebody_is_asked(network, host_for, errors):
    net = network(1)
    hosts = reach(net, host_for, ["open", "open", "open"])
    for host in hosts:
        host.strangers[0].respond = lambda cmd, params: None
    net.advance(FIRST_SECONDS + 11)
    assert asked(hosts) == 3
    net.stop(0)
    net.advance(20)
    assert errors == []
