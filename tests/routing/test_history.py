"""`peerHistory`: recent messages of sites whose rules keep them."""

import pytest

from zeromsg.routing.history import SITE_BYTES

RULES = {"filter": ".*", "history": {"count": 5, "seconds": 60}}


def messages(client, **params):
    return [event["message"] for event in client.ask("peerHistory", params)]


def say(net, client, message, **more):
    client.call("peerBroadcast", {"message": message, "peer_count": 0, **more})
    net.advance(0.1)


@pytest.fixture
def pair(network):
    """Two connected nodes, a site that keeps history, a client at each."""

    def make(rules=RULES):
        net = network(2)
        site = net.site(rules)
        net.connect_all()
        return net, site, net.client(0, site), net.client(1, site)

    return make


def test_a_newcomer_learns_what_was_said(pair):
    net, site, author, reader = pair()
    say(net, author, "one", privatekey=False)
    say(net, reader, "two")
    for number in (0, 1):
        newcomer = net.client(number, site)
        assert newcomer.messages == []
        assert messages(newcomer) == ["one", "two"]
    heard = net.client(1, site).ask("peerHistory")[0]
    event = dict(reader.received()[0])
    assert heard.pop("received") == pytest.approx(net.wall(), abs=1)
    assert heard == event
    own, other = net.client(0, site).ask("peerHistory")
    assert (own["ip"], other["ip"]) == ("self", net.nodes[1].name)


def test_it_is_kept_where_nobody_listens(pair):
    net, site, author, reader = pair()
    reader.close()
    say(net, author, "x")
    assert messages(net.client(1, site)) == ["x"]


def test_there_is_none_by_default(pair):
    net, _, author, reader = pair({"filter": ".*"})
    say(net, author, "x")
    assert messages(author) == messages(reader) == []


def test_a_site_without_rules_says_so(network):
    net = network(1)
    client = net.client(0, net.site(None))
    assert client.ask("peerHistory")["error"].startswith("unsupported: ")


def test_it_is_bounded_by_count(pair):
    net, _, author, reader = pair()
    for number in range(8):
        say(net, author, number)
    assert messages(reader) == messages(author) == [3, 4, 5, 6, 7]


def test_it_is_bounded_by_seconds(pair):
    net, _, author, reader = pair()
    say(net, author, "old")
    net.advance(40)
    say(net, author, "new")
    assert messages(reader) == ["old", "new"]
    net.advance(25)
    assert messages(reader) == ["new"]
    net.advance(60)
    assert messages(reader) == []


def test_a_count_of_zero_keeps_nothing(pair):
    net, _, author, reader = pair({"filter": ".*", "history": {"count": 0}})
    say(net, author, "x")
    assert messages(reader) == []


def test_it_is_bounded_in_bytes_whatever_the_rules_say(pair):
    net, _, author, reader = pair({"filter": ".*", "history": {}})
    size = 50_000
    for number in range(100):
        say(net, author, f"{number}" + "x" * size)
    kept = messages(reader)
    assert sum(len(text) for text in kept) <= SITE_BYTES
    assert len(kept) >= SITE_BYTES // size - 2
    assert kept[-1].startswith("99x")


def test_since_and_limit_choose_the_newest(pair):
    net, _, author, reader = pair()
    for number in range(4):
        say(net, author, number)
        net.advance(1)
    assert messages(reader, limit=2) == [2, 3]
    second = reader.ask("peerHistory")[1]["received"]
    assert messages(reader, since=second) == [2, 3]
    assert messages(reader, since=second, limit=1) == [3]
    assert messages(reader, since=net.wall() + 1) == []
    assert messages(reader, since=None) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 1001},
        {"limit": True},
        {"limit": 1.5},
        {"limit": None},
        {"since": "now"},
        {"since": True},
        {"since": [1]},
        {"since": 10**400},
        {"since": -(10**400)},
        {"until": 1},
    ],
)
def test_bad_parameters_are_refused(pair, params):
    _, _, author, _ = pair()
    assert author.ask("peerHistory", params)["error"].startswith("invalid: ")


def test_only_accepted_broadcasts_are_kept(pair):
    net, _, author, reader = pair({**RULES, "filter": '"good'})
    say(net, author, "good")
    author.call("peerBroadcast", {"message": "bad", "peer_count": 0})
    author.call("peerSend", {"ip": net.nodes[1].name, "message": "good question", "timeout": 1})
    net.advance(2)
    assert "good question" in reader.messages
    assert messages(reader) == messages(author) == ["good"]


def test_a_copy_is_not_kept_twice(pair, stranger):
    net, site, author, _ = pair()
    peer = stranger(net)
    params = peer.envelope(site, "x")
    for _ in range(3):
        peer.ask("peerBroadcast", params)
    assert messages(author) == ["x"]


def test_sites_are_apart(pair):
    net, _, author, _ = pair()
    other = net.client(0, net.site(RULES))
    say(net, author, "x")
    assert messages(other) == []
    assert "error" in other.ask("as", [author.site, "peerHistory", {}])


def test_what_clients_reject_is_not_remembered(network):
    net = network(2)
    site = net.site({"filter": ".*", "history": {"count": 10}})
    net.connect_all()
    sender = net.client(0, site)
    reader = net.client(1, site, verdict="peerInvalid")
    sender.call("peerBroadcast", {"message": "nonsense"})
    net.advance(1)
    assert reader.messages == ["nonsense"]
    assert reader.ask("peerHistory") == []
