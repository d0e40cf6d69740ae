"""A question between two peers with closed ports, over a neighbour of both."""

import msgpack
import pytest

from zeromsg.routing import carrying
from zeromsg.service.config import PeerSettings
from zeromsg.testing import Network
from zeromsg.wire.names import CARRIED


@pytest.fixture
def closed_pair():
    """Nodes 0 and 2 are closed, and connected to node 1 alone."""
    opened = []

    def make(nodes=3, closed=(0, 2), **settings):
        peers = PeerSettings(outgoing=0, **settings)
        net = Network(nodes, seed=1, peers=peers, closed=closed)
        opened.append(net)
        site = net.site()
        for number in closed:
            net.connect(number, 1)
            net.advance(1)
        net.advance(1)
        return net, site

    yield make
    for net in opened:
        net.close()


def name_of(net, number, at=1):
    """How a node is called by the one it is connected to."""
    links, peer_id = net.nodes[at].node.pool.links, net.nodes[number].node.peer_id
    return next(link.name for link in links if link.theirs.peer_id == peer_id)


def send(net, number, site, ip, message="q", seconds=30.0, timeout=20, **more):
    results = []
    client = net.client(number, site)
    call = client.call("peerSend", {"ip": ip, "message": message, "timeout": timeout, **more})
    call.addCallback(results.append)
    net.advance(seconds)
    return results[0] if results else None


def test_a_question_between_closed_nodes_is_answered(closed_pair):
    net, site = closed_pair()
    target = net.client(2, site)
    target.answers["q"] = "a"
    reply = send(net, 0, site, name_of(net, 2), privatekey=False, seconds=2)
    assert reply["message"] == "a"
    (event,) = target.received()
    # The author is proven by the signature; the neighbour brought it.
    assert event["signed_by"] == net.nodes[0].users.default.auth_address(site)
    assert event["ip"] == net.nodes[1].name and event["broadcast"] is False
    # The neighbour's own clients hear nothing of it.
    assert net.nodes[1].node.inbound.counters.received == 1


def test_in_the_other_direction_too(closed_pair):
    net, site = closed_pair()
    net.client(0, site).answers["q"] = "b"
    assert send(net, 2, site, name_of(net, 0), seconds=2)["message"] == "b"


def test_the_neighbour_tells_who_it_is_connected_to(closed_pair):
    """Who joined first learns of the later one when it asks again."""
    net, site = closed_pair()
    client = net.client(2, site)
    assert name_of(net, 0) in [entry["ip"] for entry in client.ask("peerList")]
    net.advance(20 * 60)
    client = net.client(0, site)
    assert name_of(net, 2) in [entry["ip"] for entry in client.ask("peerList")]


def test_a_trace_tells_too(closed_pair):
    net, site = closed_pair()
    reader, writer = net.client(0, site), net.client(2, site)
    writer.answers["q"] = "a"
    writer.call("peerBroadcast", {"message": "here I am", "trace": True})
    net.advance(1)
    (event,) = reader.received()
    closed, neighbour = event["trace"]
    assert closed == name_of(net, 2) and neighbour == event["ip"] == net.nodes[1].name
    assert net.nodes[0].node.site_peers.neighbours.links(site, closed)
    assert send(net, 0, site, closed, seconds=2)["message"] == "a"


def test_the_silence_of_a_closed_node_is_a_timeout(closed_pair):
    net, site = closed_pair()
    net.client(2, site)
    assert send(net, 0, site, name_of(net, 2), timeout=5)["error"].startswith("timeout: ")


def test_who_refuses_to_carry_is_not_asked(closed_pair):
    net, site = closed_pair(relay_sends=False)
    net.client(2, site).answers["q"] = "a"
    assert send(net, 0, site, name_of(net, 2))["error"].startswith("no-peer: ")
    assert net.nodes[0].node.pool.named(net.nodes[1].name).features == frozenset()
    # One who asks all the same is told so, and pays nothing.
    answers = []
    link = net.nodes[0].node.pool.named(net.nodes[1].name)
    link.ask("peerCarry", {"to": name_of(net, 2)}).addCallback(answers.append)
    net.advance(1)
    assert answers[0]["error"] == "This node carries nothing"
    assert net.nodes[1].node.scoring.points("198.18.0.1", net.wall()) == 0


def test_a_peer_behind_a_firewall_is_answered_without_waiting_for_its_port(network):
    """Its port says nothing for ten seconds; the asker cannot know that a neighbour reaches it."""
    net = network(3, closed=(0,), filtered=(2,))
    site = net.site()
    net.connect(0, 1)
    net.advance(2)
    net.connect(2, 1)
    net.advance(2)
    assert not net.nodes[0].node.site_peers.neighbours.links(site, net.nodes[2].name)
    target = net.client(2, site)
    target.answers["q"] = "a"
    reply = send(net, 0, site, net.nodes[2].name, privatekey=False, seconds=2)
    assert reply["message"] == "a"
    # Nothing comes of the port later on, nor a second time.
    net.advance(30)
    assert [event["message"] for event in target.received()] == ["q"]


@pytest.mark.parametrize("filtered", [(), (2,)], ids=["refused", "silent"])
def test_a_peer_that_no_way_leads_to(network, filtered):
    net = network(3, closed=(0,), filtered=filtered)
    site = net.site()
    net.connect(0, 1)
    net.advance(2)
    if not filtered:
        net.stop(2)
    error = send(net, 0, site, net.nodes[2].name)["error"]
    assert error == f"no-peer: Could not find peer {net.nodes[2].name}"


def test_a_name_that_nobody_has(closed_pair):
    net, site = closed_pair()
    assert send(net, 0, site, "203.0.113.77:4")["error"] == (
        "no-peer: Could not find peer 203.0.113.77:4"
    )


def test_it_goes_over_one_neighbour_only(closed_pair):
    """A line of four with closed ends: nobody is connected to both."""
    net, site = closed_pair(nodes=4, closed=(0, 3))
    # Node 3 is connected to node 2 instead.
    for link in list(net.nodes[3].node.pool.links):
        link.drop("test")
    net.connect(3, 2)
    net.connect(1, 2)
    net.advance(2)
    net.client(3, site).answers["q"] = "a"
    name = name_of(net, 3, at=2)
    assert send(net, 0, site, name)["error"].startswith("no-peer: ")


def carried_params(net, number, site, message="q", **more):
    """The parameters that a node would send for a question, sealed by that node itself."""
    noted = []
    link = net.nodes[number].node.pool.named(net.nodes[1].name)
    ask = link.ask

    def noting(cmd, params, timeout=10.0):
        noted.append((cmd, params))
        return ask("ping", {})

    link.ask = noting
    send(net, number, site, more.get("to", name_of(net, 2)), message, seconds=0.5)
    link.ask = ask
    return next(params for cmd, params in noted if cmd == "peerCarry")


def ask_to_carry(net, params, number=0):
    answers = []
    link = net.nodes[number].node.pool.named(net.nodes[1].name)
    link.ask("peerCarry", params).addCallback(answers.append)
    net.advance(6)
    return {key: value for key, value in answers[0].items() if key not in ("cmd", "to")}


def test_what_does_not_pass_the_rules_is_not_carried_and_is_paid_for(closed_pair):
    net, site = closed_pair()
    target = net.client(2, site)
    params = carried_params(net, 0, site)
    points = net.nodes[1].node.scoring.points
    broken = {**params, "raw": params["raw"].replace('"q"', '"x"'), "signature": "1abc|AAAA"}
    assert "error" in ask_to_carry(net, broken)
    assert points("198.18.0.1", net.wall()) > 5
    assert target.messages == []
    # Nothing of it reaches the target, so it charges nobody.
    assert net.nodes[2].node.scoring.points("198.18.0.2", net.wall()) == 0


@pytest.mark.parametrize(
    "change",
    [{"to": None}, {"to": 5}, {"to": "x" * 101}, {"raw": 5}, {"raw": "x"}, {"nonce": None}],
)
def test_malformed_requests_are_answered(closed_pair, change):
    net, site = closed_pair()
    params = {**carried_params(net, 0, site), **change}
    assert "error" in ask_to_carry(net, params)
    assert net.nodes[1].node.scoring.points("198.18.0.1", net.wall()) > 0


def test_broadcasts_replies_and_foreign_sites_are_not_carried(closed_pair):
    net, site = closed_pair()
    params = carried_params(net, 0, site)
    for old, new in [
        ('"broadcast": false', '"broadcast": true'),
        ('"broadcast": false', '"broadcast": false, "to": "00"'),
        (site, "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"),
    ]:
        answer = ask_to_carry(net, {**params, "raw": params["raw"].replace(old, new)})
        assert "error" in answer
    assert net.nodes[1].node.scoring.points("198.18.0.1", net.wall()) == 0


def test_the_same_question_is_carried_once(closed_pair):
    net, site = closed_pair()
    target = net.client(2, site)
    params = carried_params(net, 0, site)
    assert ask_to_carry(net, params) == {"ok": "thx"}
    assert ask_to_carry(net, params) == {"warning": "Already received, thanks"}
    assert target.messages == ["q"]


def test_so_much_is_carried_for_one_neighbour(closed_pair, monkeypatch):
    net, site = closed_pair()
    target = net.client(2, site)
    client = net.client(0, site)
    name = name_of(net, 2)
    for number in range(carrying.BURST + 10):
        client.call("peerSend", {"ip": name, "message": number, "timeout": 1})
    net.advance(0.5)
    assert len(target.messages) == carrying.BURST
    assert net.nodes[1].node.scoring.points("198.18.0.1", net.wall()) == 0
    net.advance(30)
    client.call("peerSend", {"ip": name, "message": "later", "timeout": 1})
    net.advance(1)
    assert target.messages[-1] == "later"


def test_only_who_was_asked_answers_a_carried_question(closed_pair):
    """A third closed node learns the hash, and replies to it as well."""
    net, site = closed_pair(nodes=4, closed=(0, 2, 3))
    target = net.client(2, site, verdict=None)
    liar = net.client(3, site)
    results = []
    client = net.client(0, site)
    call = client.call("peerSend", {"ip": name_of(net, 2), "message": "q", "timeout": 20})
    call.addCallback(results.append)
    net.advance(1)
    hash = target.received()[0]["hash"]
    liar.call("peerSend", {"ip": net.nodes[1].name, "message": "lie", "to": hash})
    net.advance(1)
    assert results == []
    target.call("peerReply", {"hash": hash, "message": "truth"})
    # A second reply goes nowhere.
    target.call("peerReply", {"hash": hash, "message": "again"})
    net.advance(1)
    assert results[0]["message"] == "truth"


def test_blame_passes_by_the_neighbour_to_the_author(closed_pair):
    net, site = closed_pair()
    net.client(2, site, verdict="peerInvalid")
    for _ in range(3):
        send(net, 0, site, name_of(net, 2), "nonsense", timeout=1, seconds=2)
    judge, neighbour = net.nodes[2].node.scoring, net.nodes[1].node.scoring
    assert judge.points("198.18.0.2", net.wall()) == 0
    assert neighbour.points("198.18.0.1", net.wall()) > 20


def test_who_calls_everything_carried_pays_beyond_the_bound(closed_pair, monkeypatch):
    monkeypatch.setattr(carrying, "BURST", 2)
    net, site = closed_pair()
    net.client(2, site, verdict="peerInvalid")
    node = net.nodes[1].node
    ask_packed = type(next(iter(node.pool.links))).ask_packed

    # Node 1 marks its own questions, too.
    def marked(self, cmd, packed, timeout=10.0):
        if cmd == "peerSend":
            packed = msgpack.packb({**msgpack.unpackb(packed), CARRIED: True})
        return ask_packed(self, cmd, packed, timeout)

    for link in node.pool.links:
        link.ask_packed = marked.__get__(link)
    for _ in range(8):
        send(net, 1, site, name_of(net, 2), "nonsense", timeout=1, seconds=0.2)
    assert net.nodes[2].node.scoring.points("198.18.0.2", net.wall()) > 10


def test_a_target_that_is_slow_to_take_it_does_not_cost_the_neighbour_its_link(
    closed_pair, monkeypatch
):
    net, site = closed_pair()
    client = net.client(2, site)
    target = net.nodes[2].node
    requested = target.requests.requested
    late = []
    monkeypatch.setattr(
        target.requests,
        "requested",
        lambda link, req_id, cmd, params: (
            late.append((link, req_id, cmd, params))
            if cmd == "peerSend"
            else requested(link, req_id, cmd, params)
        ),
    )
    params = carried_params(net, 0, site)
    assert ask_to_carry(net, params) == {"ok": "thx"}
    assert len(late) == 1 and client.messages == []
    net.advance(1)
    requested(*late[0])
    net.advance(1)
    assert client.messages == ["q"]
    assert len(net.nodes[0].node.pool.links) == 1


@pytest.mark.parametrize("names", [5, "x", {"a": 1}, [5], ["x" * 101], [None]])
def test_names_that_are_none_cost_the_connection(network, stranger, names):
    net = network(1)
    site = net.site()
    one = stranger(net, zeromsg={"version": 1, "features": ["carry"]})
    assert one.ask("pex", {"site": site, "peers": [], "need": 5, "carries": names}) is None
    assert one.lost


def test_names_are_bounded_and_forgotten_with_the_neighbour(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net, zeromsg={"version": 1, "features": ["carry"]})
    for start in range(0, 500, 50):
        names = [f"203.0.113.7:{start + n}" for n in range(100)]
        one.ask("pex", {"site": site, "peers": [], "need": 5, "carries": names})
    neighbours = net.nodes[0].node.site_peers.neighbours
    assert len(neighbours.names(site)) == 200
    assert neighbours.links(site, "203.0.113.7:499") and not neighbours.links(
        site, "203.0.113.7:40"
    )
    one.close()
    net.advance(1)
    assert neighbours.names(site) == []
    # A ZeroNet node is not believed in this.
    two = stranger(net, host="203.0.113.10")
    two.ask("pex", {"site": site, "peers": [], "need": 5, "carries": ["203.0.113.7:1"]})
    assert neighbours.names(site) == []
