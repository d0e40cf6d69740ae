"""Messages of sites with a `freq_limit`, on their way to nodes that count by neighbour."""

import hashlib

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.routing import pacing
from zeromsg.routing.pacing import MARGIN_SECONDS

HOST = "203.0.113.9"


class Plugin:
    """What a ZeroNet node answers to messages of a site, and how often we were too fast for it.

    holds: hashes that it has from elsewhere.
    """

    def __init__(self, net, seconds):
        self.net = net
        self.seconds = seconds
        self.last = float("-inf")
        self.too_fast = 0
        self.seen = set()
        self.taken = []

    def __call__(self, cmd, params):
        if cmd in ("pex", "getPiecefields"):
            return {"peers": []}
        if cmd == "listModified":
            return {"modified_files": {}}
        if cmd == "update":
            return {"ok": "File not changed"}
        if cmd in ("ping", "checkport"):
            return {"body": b"Pong!", "status": "open"}
        digest = hashlib.sha256(f"{params['nonce']},{params['raw']}".encode()).hexdigest()
        if digest in self.seen:
            return {"warning": "Already received, thanks"}
        self.seen.add(digest)
        now = self.net.clock.seconds()
        if now - self.last < self.seconds:
            self.too_fast += 1
            return {"error": "Too fast messages from x"}
        self.last = now
        self.taken.append((cmd, now))
        return {"ok": "thx"}


def node_with_plugin(network, stranger, seconds=1.0, nodes=3, **more):
    net = network(nodes)
    site = net.site({"filter": ".*", "freq_limit": seconds})
    net.connect_all()
    plugin = Plugin(net, seconds)
    one = stranger(net, port=15441, respond=plugin, **more)
    return net, site, plugin, one


def say(net, site, number, message, **more):
    net.client(number, site).call("peerBroadcast", {"message": message, "peer_count": 0, **more})


def test_what_many_say_reaches_a_zeronet_node_no_faster_than_it_takes_it(network, stranger):
    net, site, plugin, one = node_with_plugin(network, stranger)
    authors = [net.client(number, site) for number in range(3)]
    for turn in range(30):
        for number, author in enumerate(authors):
            message = {"message": [turn, number], "peer_count": 0, "privatekey": False}
            author.call("peerBroadcast", message)
        net.advance(1.1)
    assert plugin.too_fast == 0
    # It takes one a second, so it is sent about that, and what is newest.
    assert 27 <= len(plugin.taken) <= 33
    net.advance(30)
    assert plugin.too_fast == 0 and one.broadcasts()[-1][0] == 29
    # The others hear everything.
    assert len(authors[0].messages) == 60


def test_one_that_comes_alone_goes_at_once(network, stranger):
    net, site, plugin, one = node_with_plugin(network, stranger, nodes=1)
    for number in range(3):
        say(net, site, 0, number)
        net.advance(0.1)
        assert one.broadcasts()[-1] == number
        net.advance(2)
    assert plugin.too_fast == 0


def test_the_waiting_time_begins_with_the_answer(network, stranger):
    net, site, _, one = node_with_plugin(network, stranger, nodes=2)
    say(net, site, 0, "makes it known")
    net.advance(2)
    one.respond = lambda cmd, params: None
    say(net, site, 0, 1, privatekey=False)
    say(net, site, 1, 2, privatekey=False)
    net.advance(5)
    assert one.broadcasts()[1:] == [1]
    one.send({"cmd": "response", "to": one.unanswered[-1], "ok": "thx"})
    net.advance(0.99)
    assert one.broadcasts()[1:] == [1]
    net.advance(MARGIN_SECONDS + 0.05)
    assert one.broadcasts()[1:] == [1, 2]


def test_what_the_node_had_already_makes_nobody_wait(network, stranger):
    net, site, _, one = node_with_plugin(network, stranger)
    say(net, site, 0, 1)
    net.advance(2)
    for number in range(3):
        say(net, site, number, number, privatekey=False)
    net.advance(0.3)
    assert len(one.broadcasts()) == 2
    # It hears the others elsewhere, before it hears them of us.
    one.respond = lambda cmd, params: {"warning": "Already received, thanks"}
    net.advance(1.1)
    assert len(one.broadcasts()) == 4


def test_questions_and_replies_count_as_well(network, stranger):
    net, site, plugin, _ = node_with_plugin(network, stranger, nodes=2)
    say(net, site, 0, 1)
    net.client(0, site).call(
        "peerSend", {"ip": f"{HOST}:15441", "message": "q", "privatekey": False, "timeout": 20}
    )
    say(net, site, 1, 2, privatekey=False)
    net.advance(5)
    assert plugin.too_fast == 0
    assert sorted(cmd for cmd, _ in plugin.taken) == ["peerBroadcast", "peerBroadcast", "peerSend"]


@pytest.mark.parametrize(("seconds", "waiting"), [(1, 20), (10, 6), (300, 1)])
def test_of_what_waits_the_oldest_falls_out(network, stranger, seconds, waiting):
    net, site, plugin, one = node_with_plugin(network, stranger, seconds, nodes=1)
    writer = stranger(net, host="203.0.113.77", zeromsg={"version": 1})
    for number in range(40):
        key = PrivateKey(bytes([number + 1]) * 32)
        writer.request("peerBroadcast", writer.envelope(site, number, nonce=str(number), key=key))
    net.advance(1 + waiting * (seconds + 1))
    assert one.broadcasts() == [0, *range(40 - waiting, 40)]
    assert plugin.too_fast == 0


def test_a_question_that_falls_out_is_answered_with_an_error(network, stranger):
    net, site, _, _ = node_with_plugin(network, stranger, 60, nodes=1)
    client = net.client(0, site)
    answers = []
    for number in range(3):
        key = PrivateKey(bytes([number + 1]) * 32).wif
        params = {"ip": f"{HOST}:15441", "message": number, "timeout": 30, "privatekey": key}
        client.call("peerSend", params).addCallback(answers.append)
    net.advance(1)
    assert answers == [{"error": "no-peer: Connection error"}]


def test_zeromsg_nodes_and_other_sites_are_not_paced(network, stranger):
    net = network(2)
    paced, free = net.site({"filter": ".*", "freq_limit": 5}), net.site()
    net.connect_all()
    plugin, ours = (
        stranger(net, port=15441),
        stranger(net, host="203.0.113.7", zeromsg={"version": 1}),
    )
    for one in (plugin, ours):
        for site in (paced, free):
            one.ask("pex", {"site": site, "peers": [], "need": 0})
    for number in range(3):
        say(net, free, 0, f"free {number}")
    for number in range(2):
        say(net, paced, number, f"paced {number}", privatekey=False)
    net.advance(1)
    assert sorted(ours.broadcasts()) == ["free 0", "free 1", "free 2", "paced 0", "paced 1"]
    assert len(plugin.broadcasts()) == 4
    net.advance(5)
    assert sorted(plugin.broadcasts()) == sorted(ours.broadcasts())


def test_a_node_that_comes_again_is_waited_for_as_before(network, stranger):
    """It counts by our address, not by the connection."""
    net, site, plugin, one = node_with_plugin(network, stranger, 5, nodes=1)
    say(net, site, 0, 1)
    net.advance(0.5)
    one.close()
    again = stranger(net, port=15441, respond=plugin, source_port=40009)
    assert again.ask("pex", {"site": site, "peers": [], "need": 0}) is not None
    writer = stranger(net, host="203.0.113.77", zeromsg={"version": 1})
    writer.ask("peerBroadcast", writer.envelope(site, 2), 0.2)
    assert again.broadcasts() == []
    net.advance(5)
    assert again.broadcasts() == [2] and plugin.too_fast == 0


def test_new_rules_hold_for_what_waits(network, stranger):
    net, site, _, one = node_with_plugin(network, stranger, 1000, nodes=1)
    writer = stranger(net, host="203.0.113.77", zeromsg={"version": 1})
    for number in range(3):
        # Unsigned ones of one host are too fast for us, too.
        key = PrivateKey(bytes([number + 1]) * 32)
        writer.ask("peerBroadcast", writer.envelope(site, number, nonce=str(number), key=key))
    assert one.broadcasts() == [0]
    net.set_rules(site, {"filter": ".*"})
    say(net, site, 0, "free")
    net.advance(1)
    assert one.broadcasts() == [0, "free"]


def test_a_node_without_the_plugin_gets_one_message(network, stranger):
    net, site, plugin, one = node_with_plugin(network, stranger, 1)
    known = plugin.__call__

    def deaf(cmd, params):
        return (
            {"error": f"Unknown command: {cmd}"} if cmd.startswith("peer") else known(cmd, params)
        )

    one.respond = deaf
    for turn in range(5):
        for number in range(3):
            say(net, site, number, [turn, number], privatekey=False)
        net.advance(1)
    assert len(one.asked("peerBroadcast")) == 1


def test_stopping_leaves_no_timer_and_answers_who_waits(network, stranger):
    net, site, _, _ = node_with_plugin(network, stranger, 60, nodes=2)
    for number in range(2):
        say(net, site, number, number, privatekey=False)
    net.advance(1)
    for number in range(2):
        net.stop(number)
    net.advance(90)
    assert net.clock.getDelayedCalls() == []


def test_lanes_are_bounded(network, stranger, monkeypatch):
    monkeypatch.setattr(pacing, "LANES_LIMIT", 3)
    net, site, _, _ = node_with_plugin(network, stranger, 60, nodes=1)
    for number in range(6):
        made = stranger(net, host=f"203.0.113.{20 + number}", port=15441)
        made.ask("pex", {"site": site, "peers": [], "need": 0})
    say(net, site, 0, 1)
    net.advance(1)
    lanes = net.nodes[0].node.site_peers._pacing._lanes
    assert len(lanes) == 3
    net.advance(61)
    assert not lanes
