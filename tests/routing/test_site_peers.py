"""Introductions, membership, addresses of further peers."""

import msgpack
import pytest

from zeromsg.policy.peer_book import RANGE_SHARE, TELLER_SHARE, Source
from zeromsg.routing.site_peers import ANSWER_BURST, PEX_LIMIT
from zeromsg.service.config import PeerSettings
from zeromsg.wire.values import PeerAddress, pack_address

ONION = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"


def members(net, number, site):
    return net.nodes[number].node.site_peers.members(site)


def known(net, number, site):
    return [str(address) for address in net.nodes[number].node.book.known(site)]


def pex(one, site, peers=(), need=5, **more):
    packed = [pack_address(PeerAddress.parse(peer)) for peer in peers]
    return one.ask("pex", {"site": site, "peers": packed, "need": need, **more})


def test_each_connection_is_introduced_for_every_site(network, stranger):
    net = network(1)
    sites = [net.site() for _ in range(3)]
    one = stranger(net)
    assert [params["site"] for params in one.asked("pex")] == sites
    assert all(
        isinstance(params["peers"], list) and params["need"] == 5 for params in one.asked("pex")
    )


def test_an_introduction_waits_until_the_handshake_has_stood_alone(network, stranger):
    """ZeroNet nodes miscount what arrives together with it, and corrupt a later file."""
    net = network(1)
    net.site()
    one = stranger(net, greet=False)
    one.hello["zeromsg"] = {"version": 1}
    ping = msgpack.packb({"cmd": "ping", "req_id": 1, "params": {}})
    hello = msgpack.packb({"cmd": "handshake", "req_id": 0, "params": one.hello})
    one.write(hello + ping)
    net.advance(1)
    (at, handshake), (later, rest) = one.chunks[:2]
    assert msgpack.unpackb(handshake)["to"] == 0
    assert later - at == pytest.approx(0.1)
    assert b"Pong!" in rest and b"pex" in rest


def test_an_introduction_makes_members_on_both_sides(network):
    net = network(2)
    shared, alone = net.site(), net.site(holders=[0])
    net.connect_all()
    assert [len(members(net, number, shared)) for number in (0, 1)] == [1, 1]
    assert members(net, 0, alone) == []


def test_a_zeromsg_node_is_asked_for_all(network, stranger):
    net = network(1)
    for _ in range(6):
        net.site()
    one = stranger(
        net, respond=lambda cmd, params: {"error": "Unknown site"}, zeromsg={"version": 1}
    )
    assert len(one.asked("pex")) == 6


def test_sites_that_a_zeromsg_peer_does_not_hold_cost_nothing_between_them(network):
    net = network(2)
    for number in range(8):
        net.site(holders=[number % 2])
    net.connect_all()
    for number in (0, 1):
        scoring = net.nodes[number].node.scoring
        other = net.nodes[1 - number].address.host
        assert scoring.points(other, net.wall()) == 0


def test_a_member_that_leaves_is_none_any_more(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    net.stop(1)
    net.advance(1)
    assert members(net, 0, site) == []


@pytest.mark.parametrize(
    ("cmd", "params"),
    [
        ("pex", {"peers": [], "need": 1}),
        ("listModified", {"since": 0}),
        ("getFile", {"inner_path": "content.json", "location": 0}),
        ("streamFile", {"inner_path": "content.json", "location": 0}),
        ("getHashfield", {}),
        ("setHashfield", {"hashfield_raw": b""}),
        ("update", {"inner_path": "content.json", "body": b"{}"}),
    ],
)
def test_whoever_asks_about_a_site_takes_part_in_it(network, stranger, cmd, params):
    net = network(1)
    site, other = net.site(), net.site()
    one = stranger(net, respond=lambda cmd, params: {"error": "Unknown site"})
    assert members(net, 0, site) == []
    one.ask(cmd, {"site": site, **params})
    assert len(members(net, 0, site)) == 1
    assert members(net, 0, other) == []


def test_a_node_that_asked_is_told_of_messages_even_with_a_closed_port(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, respond=lambda cmd, params: {"error": "Unknown site"})
    pex(one, site)
    net.client(0, site).call("peerBroadcast", {"message": "x"})
    net.advance(1)
    assert one.broadcasts() == ["x"]
    # It can't be dialled, so nobody is told of it.
    assert known(net, 0, site) == []


def test_addresses_are_learnt_from_requests_and_answers(network, stranger):
    net = network(1)
    site = net.site()
    told = pack_address(PeerAddress.parse("203.0.113.50:5"))

    def respond(cmd, params):
        return {"peers": [told], "peers_ipv6": [], "peers_onion": []}

    one = stranger(net, port=7, respond=respond)
    assert known(net, 0, site) == ["203.0.113.50:5", "203.0.113.9:7"]
    pex(
        one,
        site,
        ["203.0.113.51:5"],
        peers_ipv6=[pack_address(PeerAddress.parse("[2001:db8::7]:5"))],
        peers_onion=[pack_address(PeerAddress.parse(f"{ONION}:5"))],
    )
    assert known(net, 0, site)[:3] == [f"{ONION}:5", "[2001:db8::7]:5", "203.0.113.51:5"]


@pytest.mark.parametrize(
    "peer", ["127.0.0.1:80", "10.1.2.3:80", "192.168.1.1:80", "169.254.1.1:80", "203.0.113.5:0"]
)
def test_private_addresses_and_closed_ports_are_not_learnt(network, stranger, peer):
    net = network(1)
    site = net.site()
    one = stranger(net)
    assert pex(one, site, [peer])["peers"] == []
    assert known(net, 0, site) == []


def test_what_is_learnt_is_bounded(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    peers = [f"{30 + n % 100}.{n // 100}.0.1:9" for n in range(600)]
    for start in range(0, 600, 100):
        pex(one, site, peers[start : start + 100])
    # Fifty of each message, and only so many of one host in a short time.
    assert peers[349] in known(net, 0, site) and peers[449] not in known(net, 0, site)
    assert len(known(net, 0, site)) == TELLER_SHARE
    assert len(pex(one, site, need=10_000)["peers"]) == PEX_LIMIT


def test_one_range_of_addresses_has_its_share_whoever_names_it(network, stranger):
    net = network(1)
    site = net.site()
    for number in range(5):
        one = stranger(net, host=f"{50 + number}.0.0.1")
        pex(one, site, [f"203.0.{number}.{n + 1}:9" for n in range(50)])
    assert len(known(net, 0, site)) == RANGE_SHARE


@pytest.mark.parametrize(
    "params",
    [
        {"peers": "x"},
        {"peers": [b"12345"]},
        {"peers": ["1.2.3.4:5"]},
        {"peers": [None]},
        {"peers": [b"1" * 70]},
        {"peers_onion": [b"1" * 18]},
        {"peers_ipv6": {}},
        {"need": -1},
        {"need": "5"},
        {"need": True},
        {"need": None},
        {"site": 5},
        {"site": b"\xff"},
    ],
)
def test_a_malformed_pex_costs_the_connection(network, stranger, params):
    net = network(1)
    site = net.site()
    one = stranger(net)
    assert one.ask("pex", {"site": site, "peers": [], "need": 5, **params}) is None
    net.advance(2)
    assert one.lost
    assert net.nodes[0].node.scoring.points("203.0.113.9", net.wall()) > 6


def test_a_malformed_pex_answer_costs_the_connection(network, stranger):
    net = network(1)
    net.site()
    one = stranger(net, respond=lambda cmd, params: {"peers": [b"123"]})
    net.advance(2)
    assert one.lost


@pytest.mark.parametrize("where", ["request", "answer"])
def test_an_onion_with_a_wrong_checksum_is_passed_over(network, stranger, where):
    """ZeroNet nodes pass onions on unchecked: who names one need not have made it up."""
    net = network(1)
    site = net.site()
    bad = b"\x01" * 35 + b"\x05\x00"
    good = pack_address(PeerAddress.parse("203.0.113.50:5"))
    told = {"peers_onion": [bad], "peers": [good]}
    if where == "answer":
        one = stranger(net, respond=lambda cmd, params: dict(told))
    else:
        one = stranger(net)
        assert one.ask("pex", {"site": site, "need": 5, **told}) is not None
    net.advance(2)
    assert not one.lost
    assert known(net, 0, site) == ["203.0.113.50:5"]


def test_peers_are_told_of_one_another(network, stranger):
    net = network(1)
    site = net.site()
    first = stranger(net, host="203.0.113.1", port=7)
    second = stranger(net, host="203.0.113.2", port=8)
    stranger(net, host="10.0.0.5", port=9)
    stranger(net, host="203.0.113.3")
    pex(second, site, ["203.0.113.50:5", "[2001:db8::7]:5"][:1])
    answer = pex(first, site)
    # Connected ones first; nobody is told of itself, of private hosts, of closed ports.
    assert answer["peers"] == [
        pack_address(PeerAddress.parse("203.0.113.2:8")),
        pack_address(PeerAddress.parse("203.0.113.50:5")),
    ]
    assert (answer["peers_ipv6"], answer["peers_onion"]) == ([], [])
    assert len(pex(first, site, need=1)["peers"]) == 1
    assert pex(first, site, need=0)["peers"] == []


def test_the_ends_of_a_line_learn_of_one_another(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    net.advance(20 * 60 + 1)
    assert net.nodes[2].name in known(net, 0, site)


def test_the_list_for_clients(network, stranger):
    net = network(2)
    site = net.site()
    net.connect_all()
    one = stranger(net)
    pex(one, site, ["203.0.113.50:5"])
    client = net.client(0, site)
    connected = {"connected": True, "capable": True, "last_seen": net.wall()}
    assert client.ask("peerList") == [
        {"ip": net.nodes[1].name, **connected},
        {"ip": "203.0.113.9:40000", **connected, "capable": None},
        {"ip": "203.0.113.50:5", "connected": False, "capable": None, "last_seen": None},
    ]
    one.respond = lambda cmd, params: {"error": f"Unknown command: {cmd}"}
    client.call("peerBroadcast", {"message": "x"})
    net.advance(1)
    entries = {entry["ip"]: entry for entry in client.ask("peerList")}
    assert entries["203.0.113.9:40000"]["capable"] is False
    # Who was connected is remembered as such.
    net.stop(1)
    net.advance(5)
    gone = {entry["ip"]: entry for entry in client.ask("peerList")}[net.nodes[1].name]
    assert (gone["connected"], gone["capable"]) == (False, True)
    assert net.wall() - 10 < gone["last_seen"] < net.wall()


def test_a_zeromsg_node_is_asked_about_all(network, host_for):
    net = network(1)
    sites = [net.site() for _ in range(4)]
    address = PeerAddress("203.0.113.50", 5)
    listening = host_for(net, address, zeromsg={"version": 1, "features": []})
    node = net.nodes[0].node
    node.site_peers.found(sites[2], [address], Source.TRACKER, "tracker")
    node.pool.link_to(address)
    net.advance(1)
    assert [params["site"] for params in listening.strangers[0].asked("pex")] == sites


def test_we_name_at_most_five_connected_peers(network, stranger):
    net = network(1)
    site = net.site()
    for number in range(9):
        pex(stranger(net, host=f"{60 + number}.0.0.1", port=7), site)
    late = stranger(net, host="203.0.113.200", port=9)
    (asked,) = late.asked("pex")
    assert len(asked["peers"]) == 5 and "peers_ipv6" not in asked and "carries" not in asked


def test_private_addresses_are_passed_on_within_private_networks_alone(network, stranger):
    net = network(1, peers=PeerSettings(outgoing=0, allow_private=True))
    site = net.site()
    stranger(net, host="127.0.0.8", port=7)
    near, far = stranger(net, host="127.0.0.9"), stranger(net, host="203.0.113.9")
    assert pex(near, site)["peers"] == [pack_address(PeerAddress("127.0.0.8", 7))]
    assert pex(far, site)["peers"] == []


def test_a_handshake_with_our_own_id_blackens_nobody(network, stranger):
    """ZeroNet nodes put the address that such a handshake declares on a list of their own."""
    net = network(2)
    site = net.site()
    node = net.nodes[0].node
    honest = net.nodes[1].address
    stranger(net, peer_id=node.peer_id, port=honest.port, target_ip=honest.host)
    net.advance(2)
    assert [link.name for link in node.pool.links] == []
    assert not node.pool.is_us(honest) and not node.pool.is_us(PeerAddress("203.0.113.9", 26552))
    net.connect(0, 1)
    net.advance(2)
    assert len(node.pool.links) == 1
    assert node.site_peers.book.known(site) == [honest]


def test_who_answers_with_our_own_id_loses_its_own_address_only(network, host_for):
    net = network(2)
    site = net.site()
    node = net.nodes[0].node
    liar = PeerAddress("203.0.113.50", 5)
    host_for(net, liar, peer_id=node.peer_id, target_ip=net.nodes[1].address.host)
    node.site_peers.found(site, [liar], Source.PEX, "203.0.113.60")
    node.keeping.dial(liar, site).addErrback(lambda failure: None)
    net.advance(5)
    assert node.pool.is_us(liar) and not node.pool.is_us(net.nodes[1].address)
    assert node.book.known(site) == []


def test_a_host_with_many_ports_is_one_of_many(network, stranger):
    """A peer that claims to be everybody: six connections, each with another port."""
    net = network(1)
    site = net.site()
    six = [
        stranger(net, port=number + 1, source_port=40001 + number, zeromsg={"version": 1})
        for number in range(6)
    ]
    for one in six:
        pex(one, site)
    assert len([name for name in known(net, 0, site) if name.startswith("203.0.113.9:")]) == 4
    assert stranger(net, port=9, source_port=40009) is None


def test_a_flood_of_questions_is_answered_from_the_connected_peers(network, stranger):
    net = network(1)
    site = net.site()
    pex(stranger(net, host="50.0.0.1", port=7), site, ["60.0.0.1:5"])
    one = stranger(net)
    answers = [len(pex(one, site)["peers"]) for _ in range(30)]
    assert answers[:ANSWER_BURST] == [2] * ANSWER_BURST and answers[-1] == 1
    net.advance(10)
    assert len(pex(one, site)["peers"]) == 2
