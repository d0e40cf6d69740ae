"""Keeping connections for each site: whom a node dials by itself, and how often."""

from collections import Counter
from itertools import pairwise

import pytest

from zeromsg.policy.peer_book import Source
from zeromsg.service.config import PeerSettings
from zeromsg.wire.values import PeerAddress, pack_address


def links(net, number):
    return sorted(link.name for link in net.nodes[number].node.pool.links)


def dials(net, number):
    """Notes every connection that a node begins: (time, address)."""
    node = net.nodes[number].node
    noted = []
    connector = node.pool._connector

    def noting(address, face):
        noted.append((net.clock.seconds(), address))
        return connector(address, face)

    node.pool._connector = noting
    return noted


@pytest.fixture
def keeping(network):
    """Makes networks whose nodes look for peers themselves."""

    def make(nodes, outgoing=8, **more):
        return network(nodes, peers=PeerSettings(outgoing=outgoing, **more))

    return make


def tell(net, number, site, *addresses, source=Source.TRACKER, teller="tracker"):
    net.nodes[number].node.site_peers.found(site, addresses, source, teller)


def test_peers_that_are_known_are_dialled_unasked(keeping):
    net = keeping(3)
    site = net.site()
    tell(net, 0, site, net.nodes[1].address, net.nodes[2].address)
    net.advance(5)
    assert links(net, 0) == [net.nodes[1].name, net.nodes[2].name]
    peer = net.nodes[0].node.book.get(site, net.nodes[1].address)
    assert peer.proven and peer.successes == 1


def test_nobody_is_dialled_where_that_is_not_wanted(keeping):
    net = keeping(2, outgoing=0)
    site = net.site()
    tell(net, 0, site, net.nodes[1].address)
    noted = dials(net, 0)
    net.advance(120)
    assert noted == []


def test_one_address_is_enough_to_find_everybody(keeping):
    """Each node is told of one other alone; pex does the rest."""
    net = keeping(12)
    site = net.site()
    for number in range(1, 12):
        tell(net, number, site, net.nodes[number // 2].address)
    net.advance(30)
    for number in range(12):
        assert len(net.nodes[number].node.site_peers.members(site)) >= 6
    clients = [net.client(number, site) for number in range(12)]
    for number, client in enumerate(clients):
        client.call("peerBroadcast", {"message": number})
        net.advance(1)
    for number, client in enumerate(clients):
        assert sorted(client.messages) == [n for n in range(12) if n != number]


def test_after_half_of_the_nodes_are_gone_and_back_the_network_heals(keeping):
    net = keeping(10)
    site = net.site()
    for number in range(1, 10):
        tell(net, number, site, net.nodes[0].address)
    net.advance(30)
    for number in range(5):
        net.stop(number)
    net.advance(20)
    for number in range(5):
        net.restart(number)
    net.advance(60)
    clients = [net.client(number, site) for number in range(10)]
    clients[0].call("peerBroadcast", {"message": "all well"})
    net.advance(2)
    assert [client.messages for client in clients[1:]] == [["all well"]] * 9


def test_known_peers_survive_a_restart(keeping):
    net = keeping(2)
    site = net.site()
    tell(net, 0, site, net.nodes[1].address)
    net.advance(5)
    net.restart(0)
    net.advance(5)
    assert links(net, 0) == [net.nodes[1].name]
    assert net.nodes[0].node.book.get(site, net.nodes[1].address).successes == 2


def test_a_lost_peer_is_dialled_again_with_growing_pauses(keeping):
    net = keeping(2)
    site = net.site()
    tell(net, 0, site, net.nodes[1].address)
    net.advance(5)
    noted = dials(net, 0)
    net.stop(1)
    net.advance(120)
    pauses = [after - before for (before, _), (after, _) in pairwise(noted)]
    assert len(noted) <= 6
    assert all(later > earlier for earlier, later in pairwise(pauses))
    net.restart(1)
    net.advance(200)
    assert links(net, 0) == [net.nodes[1].name]


def test_no_more_than_outgoing_connections_are_made(keeping):
    net = keeping(12, outgoing=3)
    site = net.site()
    tell(net, 0, site, *(member.address for member in net.nodes[1:]))
    for member in net.nodes[1:]:
        member.node.keeping.stop()
    net.advance(60)
    assert len(links(net, 0)) == 3


def test_dials_are_spread_and_few_at_a_time(keeping):
    net = keeping(1)
    sites = [net.site() for _ in range(3)]
    for index, site in enumerate(sites):
        addresses = [PeerAddress(f"{30 + n}.{index}.0.1", 5) for n in range(60)]
        tell(net, 0, site, *addresses)
    noted = dials(net, 0)
    net.advance(20)
    for second in range(20):
        assert sum(second <= at < second + 1 for at, _ in noted) <= 4
    assert len({address for _, address in noted}) == len(noted) > 20


def test_a_host_is_never_dialled_more_than_six_times_in_fifteen_seconds(keeping):
    net = keeping(1)
    sites = [net.site() for _ in range(5)]
    for site in sites:
        ports = [PeerAddress("203.0.113.9", port) for port in range(1, 5)]
        tell(net, 0, site, *ports)
    client = net.client(0, sites[0])
    noted = dials(net, 0)
    for _ in range(60):
        for port in range(10):
            ask = {"ip": f"203.0.113.9:{port + 10}", "message": "x", "timeout": 1}
            client.call("peerSend", ask)
        net.advance(1)
    times = [at for at, address in noted if address.host == "203.0.113.9"]
    assert len(times) > 12
    for begin in times:
        assert sum(begin <= at < begin + 15 for at in times) <= 6


def test_a_second_port_of_a_connected_host_is_not_dialled(keeping):
    """ZeroNet nodes keep one connection to an address."""
    net = keeping(2)
    site = net.site()
    host = net.nodes[1].address.host
    tell(net, 0, site, net.nodes[1].address)
    net.advance(5)
    noted = dials(net, 0)
    tell(net, 0, site, PeerAddress(host, 5), PeerAddress(host, 6))
    net.advance(60)
    assert links(net, 0) == [net.nodes[1].name] and noted == []


def test_a_peer_that_does_not_hold_the_site_sinks(keeping, host_for):
    net = keeping(1)
    site = net.site()
    address = PeerAddress("203.0.113.50", 5)
    elsewhere = host_for(net, address)
    elsewhere.respond = lambda cmd, params: {"error": "Unknown site"}
    tell(net, 0, site, address)
    net.advance(15)
    assert len(elsewhere.strangers) == 1
    assert net.nodes[0].node.book.get(site, address).failures == 1
    assert not net.nodes[0].node.book.get(site, address).proven


def test_strangers_that_connect_are_not_all_we_talk_to(keeping, stranger):
    """A crowd that comes in does not keep a node from going out."""
    net = keeping(5)
    site = net.site()
    for number in range(20):
        stranger(net, host=f"203.0.{number}.9", port=5)
    tell(net, 0, site, *(member.address for member in net.nodes[1:]))
    net.advance(10)
    assert {member.name for member in net.nodes[1:]} <= set(links(net, 0))


def test_oneself_is_dialled_once_and_forgotten(keeping):
    net = keeping(1)
    site = net.site()
    tell(net, 0, site, net.nodes[0].address)
    noted = dials(net, 0)
    net.advance(60)
    tell(net, 0, site, net.nodes[0].address)
    net.advance(60)
    assert len(noted) == 1
    assert net.nodes[0].node.book.known(site) == []


def test_banned_hosts_and_onions_are_not_dialled(keeping):
    net = keeping(1)
    site = net.site()
    onion = PeerAddress.parse("duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion:5")
    tell(net, 0, site, onion, PeerAddress("203.0.113.9", 5))
    net.nodes[0].node.ban("203.0.113.9", 3600, "test")
    noted = dials(net, 0)
    net.advance(60)
    assert noted == []
    # Who can reach them is still told of them.
    assert onion in net.nodes[0].node.book.known(site)


def test_a_stranger_does_not_make_us_dial_our_own_network(keeping, stranger):
    net = keeping(1)
    site = net.site()
    noted = dials(net, 0)
    hosts = ["127.0.0.1", "10.0.0.5", "192.168.0.1", "169.254.1.1", "224.0.0.1", "::1", "fe80::1"]
    one = stranger(net)
    for host in hosts:
        packed = pack_address(PeerAddress(host, 80))
        one.ask("pex", {"site": site, "peers": [packed], "need": 5})
    net.advance(60)
    assert noted == []


@pytest.mark.parametrize("host", ["203.0.113.9", "127.0.0.9"])
def test_private_addresses_are_taken_from_private_peers_where_allowed(keeping, stranger, host):
    net = keeping(1, allow_private=True)
    site = net.site()
    noted = dials(net, 0)
    one = stranger(net, host=host)
    packed = pack_address(PeerAddress("127.0.0.10", 80))
    one.ask("pex", {"site": site, "peers": [packed], "need": 5})
    net.advance(30)
    expected = {"127.0.0.10"} if host == "127.0.0.9" else set()
    assert {address.host for _, address in noted} == expected


@pytest.mark.parametrize("first", ["liars", "honest"])
def test_a_range_of_liars_does_not_eclipse_a_node(keeping, stranger, host_for, first):
    """Every address of a /16 answers, names all the others, and holds the site."""
    net = keeping(5)
    site = net.site()
    honest = [member.address for member in net.nodes[1:]]
    for member in net.nodes[1:]:
        member.node.keeping.stop()
    liars = [PeerAddress(f"203.0.{n // 250}.{n % 250 + 1}", 5) for n in range(400)]
    packed = [pack_address(address) for address in liars]

    def lie(cmd, params):
        return {"peers": net.rng.sample(packed, 50)} if cmd == "pex" else {"ok": "thx"}

    for address in liars:
        host_for(net, address).respond = lie
    if first == "honest":
        tell(net, 0, site, *honest, teller="198.51.100.1")
    for number in range(6):
        stranger(net, host=f"203.0.200.{number + 1}", respond=lie)
    net.advance(60)
    if first == "liars":
        tell(net, 0, site, *honest, teller="198.51.100.1")
    assert set(honest) <= set(net.nodes[0].node.book.known(site))
    # As it comes up with them, and as it starts anew.
    for _ in range(2):
        net.advance(30)
        links_now = Counter(name.startswith("203.0.") for name in links(net, 0))
        assert links_now[False] == 4
        net.restart(0)


def test_candidates_run_out_quietly(keeping, errors):
    net = keeping(2)
    site = net.site()
    net.connect(0, 1)
    net.advance(600)
    assert links(net, 0) == [net.nodes[1].name]
    assert len(net.nodes[0].node.site_peers.members(site)) == 1
    assert errors == []


def test_a_broadcast_dials_who_delivers_first(keeping, host_for):
    net = keeping(1, outgoing=0)
    site = net.site()
    addresses = [PeerAddress(f"{40 + n}.0.0.1", 5) for n in range(5)]
    hosts = [host_for(net, address) for address in addresses]
    tell(net, 0, site, *addresses)
    node = net.nodes[0].node
    node.book.reached(site, addresses[3], net.wall())
    net.client(0, site).call("peerBroadcast", {"message": "x", "peer_count": 1})
    net.advance(2)
    assert [len(host.strangers) for host in hosts] == [0, 0, 0, 1, 0]
