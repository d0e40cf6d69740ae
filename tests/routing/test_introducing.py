"""How peers learn which sites we hold, without a ZeroNet node charging us for it."""

import pytest

from zeromsg.policy.asking import WINDOW_SECONDS
from zeromsg.policy.peer_book import Source
from zeromsg.routing.introducing import INTRODUCTION_SECONDS
from zeromsg.service.config import PeerSettings
from zeromsg.wire.values import PeerAddress

ADDRESS = PeerAddress("203.0.113.50", 5)
ABOUT_SITES = ("pex", "getPiecefields")


class Holder:
    """What a ZeroNet node of some sites answers, and what it charges for it.

    bigfile: whether it knows `getPiecefields`.
    """

    def __init__(self, *sites, bigfile=True):
        self.sites = set(sites)
        self.bigfile = bigfile
        self.points = 0

    def __call__(self, cmd, params):
        if cmd == "getPiecefields" and self.bigfile:
            held = params["site"] in self.sites
            return {"piecefields_packed": {}} if held else {"error": "Unknown site"}
        answers = {"pex": {"peers": []}, "listModified": {"modified_files": {}}}
        if cmd in ("streamFile", *answers):
            if params["site"] in self.sites:
                return dict(answers.get(cmd, {"error": "File read error"}))
            self.points += 5
            return {"error": "Unknown site"}
        others = {
            "ping": {"body": b"Pong!"},
            "checkport": {"status": "open"},
            "update": {"ok": "x"},
        }
        if cmd in others:
            return dict(others[cmd])
        if cmd in ("peerBroadcast", "peerSend"):
            return {"ok": "thx"}
        self.points += 5
        return {"error": f"Unknown command: {cmd}"}


def members(net, number, site):
    return net.nodes[number].node.site_peers.members(site)


def told(one):
    """Sites that a peer was told of, in order."""
    return [params["site"] for params in one.asked("pex")]


def dialled(net, host_for, respond, site=None):
    """A ZeroNet node that node 0 dials, for the sake of a site or of none."""
    listening = host_for(net, ADDRESS)
    listening.respond = respond
    node = net.nodes[0].node
    if site is not None:
        node.site_peers.found(site, [ADDRESS], Source.TRACKER, "tracker")
    node.pool.link_to(ADDRESS)
    net.advance(0.5)
    return listening.strangers


def test_the_shared_one_of_many_sites_is_found_at_once_and_for_nothing(network, stranger):
    net = network(1)
    sites = [net.site() for _ in range(8)]
    holder = Holder(sites[7])
    one = stranger(net, respond=holder)
    net.advance(4)
    assert told(one) == [sites[7]] and members(net, 0, sites[7])
    assert not any(members(net, 0, site) for site in sites[:7])
    net.client(0, sites[7]).call("peerBroadcast", {"message": "x"})
    net.advance(INTRODUCTION_SECONDS + 1)
    assert one.broadcasts() == ["x"]
    assert holder.points == 0


def test_a_node_that_connected_to_us_names_sites_first(network, stranger):
    net = network(1)
    sites = [net.site() for _ in range(3)]
    one = stranger(net, respond=Holder(sites[2]), greet=False)
    one.send({"cmd": "handshake", "req_id": 0, "params": one.hello})
    net.advance(0.9)
    assert told(one) == one.asked("getPiecefields") == []
    one.ask("pex", {"site": sites[2], "peers": [], "need": 5}, 0.05)
    assert told(one) == [sites[2]]
    net.advance(3)
    asked = [params["site"] for params in one.asked("getPiecefields")]
    assert told(one) == [sites[2]] and asked == sites[:2]


def test_what_a_node_is_known_for_comes_first(network, host_for):
    net = network(1)
    sites = [net.site() for _ in range(4)]
    strangers = dialled(net, host_for, Holder(sites[1], sites[2]), site=sites[2])
    assert told(strangers[0]) == [sites[2]]
    net.advance(5)
    assert told(strangers[0]) == [sites[2], sites[1]]


def test_a_node_that_was_dialled_for_a_site_is_asked_about_that_one_first(network, host_for):
    """Though it is said to hold others, too."""
    net = network(1, peers=PeerSettings(outgoing=2))
    sites = [net.site() for _ in range(12)]
    listening = host_for(net, ADDRESS)
    listening.respond = Holder()
    node = net.nodes[0].node
    wanted = []
    look_for = node.keeping._try
    node.keeping._try = lambda site, address: (wanted.append(site), look_for(site, address))
    for site in sites:
        node.site_peers.found(site, [ADDRESS], Source.TRACKER, "tracker")
    net.advance(3)
    (one,) = listening.strangers
    assert one.asked("getPiecefields")[0]["site"] == wanted[0]


def test_introductions_are_repeated_every_twenty_minutes(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    net.advance(INTRODUCTION_SECONDS - net.clock.seconds() - 0.1)
    assert told(one) == [site]
    net.advance(0.3)
    assert told(one) == [site] * 2
    net.advance(INTRODUCTION_SECONDS)
    assert told(one) == [site] * 3


def test_a_new_site_is_told_to_the_links_there_are(network, stranger):
    net = network(2)
    site = net.site(holders=[0])
    one = stranger(net, 1)
    net.connect_all()
    net.join(1, site)
    assert told(one) == [site]


def test_of_two_connections_to_a_node_the_one_that_stays_takes_over_its_sites(
    network, stranger, host_for
):
    """Both sides dialled at once."""
    net = network(1)
    sites = [net.site() for _ in range(2)]
    listening = host_for(net, ADDRESS)
    holder = listening.respond = Holder(sites[0])
    net.nodes[0].node.pool.link_to(ADDRESS)
    incoming = stranger(net, host=ADDRESS.host, port=ADDRESS.port, respond=holder, greet=False)
    incoming.send({"cmd": "handshake", "req_id": 0, "params": incoming.hello})
    # It gets a second site, and says so on the connection that will end.
    net.advance(1.5)
    holder.sites.add(sites[1])
    incoming.ask("listModified", {"site": sites[1], "since": 0}, 0.2)
    assert len(members(net, 0, sites[1])) == 1 and not incoming.lost
    net.advance(5)
    (dialled,) = listening.strangers
    assert incoming.lost and not dialled.lost
    assert [len(members(net, 0, site)) for site in sites] == [1, 1]
    net.client(0, sites[1]).call("peerBroadcast", {"message": "once"})
    net.advance(1)
    assert dialled.broadcasts() == ["once"]


# Nodes that charge for every question.


def test_a_node_without_the_free_question_is_charged_to_us_now_and_then(network, stranger):
    net = network(1)
    sites = [net.site() for _ in range(6)]
    holder = Holder(bigfile=False)
    one = stranger(net, respond=holder)
    net.advance(10)
    assert len(one.asked("getPiecefields")) == 1 and told(one) == []
    worst = 0
    for _ in range(10):
        before = holder.points
        net.advance(WINDOW_SECONDS - 1)
        worst = max(worst, holder.points - before)
    assert worst <= 5
    # In four hours each of them once, and the free question, too.
    assert sorted(told(one)) == sorted(sites)
    assert len(one.asked("getPiecefields")) == 1


def test_a_refusal_is_remembered_over_connections(network, stranger):
    net = network(1)
    net.site()
    holder = Holder(bigfile=False)
    one = stranger(net, port=7, respond=holder)
    net.advance(2 * INTRODUCTION_SECONDS + 10)
    assert len(told(one)) == 1
    for number in range(3):
        one.close()
        net.advance(60)
        one = stranger(net, port=7, respond=holder, source_port=40001 + number)
        net.advance(INTRODUCTION_SECONDS)
        assert told(one) == one.asked("getPiecefields") == []


@pytest.mark.parametrize("known", [True, False])
def test_a_site_that_it_likely_holds_is_worth_a_second_charge(network, host_for, known):
    net = network(1)
    sites = [net.site() for _ in range(3)]
    holder = Holder(sites[1], bigfile=False)
    strangers = dialled(net, host_for, holder, site=sites[1] if known else None)
    net.advance(5)
    assert told(strangers[0]) == ([sites[1]] if known else [])
    assert holder.points == 5


def test_lies_about_a_node_cost_us_ten_points_there_at_most(network, host_for):
    """Somebody says that it is a peer of all our sites."""
    net = network(1)
    sites = [net.site() for _ in range(9)]
    holder = Holder(bigfile=False)
    for site in sites:
        net.nodes[0].node.site_peers.found(site, [ADDRESS], Source.PEX, "198.51.100.7")
    dialled(net, host_for, holder)
    net.advance(60)
    assert holder.points == 10


def test_a_node_that_refuses_what_it_asked_for_is_told_once(network, stranger):
    net = network(1)
    site = net.site()
    holder = Holder()
    one = stranger(net, respond=holder)
    one.ask("listModified", {"site": site, "since": 0})
    net.advance(INTRODUCTION_SECONDS + 1)
    # It takes part all the same, and gets the messages.
    assert told(one) == [site] and len(members(net, 0, site)) == 1
    # Now it holds it, and says so on its next connection.
    one.close()
    holder.sites.add(site)
    again = stranger(net, respond=holder, source_port=40001)
    again.ask("listModified", {"site": site, "since": 0})
    net.advance(INTRODUCTION_SECONDS)
    assert len(told(again)) == 2


# Joining.


def test_a_site_is_not_asked_for_at_nodes_that_lack_it(network, stranger):
    net = network(1)
    node = net.nodes[0].node
    for number in range(5):
        node.add_site("1" + "A" * 32 + "BCDEF"[number], None, 10_000_000)
    holder = Holder()
    one = stranger(net, respond=holder)
    net.advance(INTRODUCTION_SECONDS + 1)
    assert one.asked("streamFile") == [] and holder.points == 0


def test_what_is_to_be_joined_is_asked_for_before_what_is_held(network, stranger):
    net = network(1)
    for _ in range(6):
        net.site()
    wanted = "1" + "A" * 33
    net.nodes[0].node.add_site(wanted, None, 10_000_000)
    one = stranger(net, respond=Holder(wanted))
    assert one.asked("getPiecefields")[0]["site"] == wanted
    assert {params["site"] for params in one.asked("streamFile")} == {wanted}


def test_stopping_amid_introductions_leaves_no_timer(network, stranger):
    net = network(1)
    for _ in range(6):
        net.site()
    stranger(net, respond=Holder())
    net.stop(0)
    net.advance(60)
    assert net.clock.getDelayedCalls() == []
