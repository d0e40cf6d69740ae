"""Clients: what they are shown, what waits for them, and what a restart keeps of it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.site_state import QUEUE_BYTES, QUEUE_MESSAGES, Queue
from zeromsg.routing import delivery as delivery_module
from zeromsg.service.config import Settings
from zeromsg.testing import Network
from zeromsg.testing.websocket import WebSocketClient


def pair(network, **rules):
    net = network(2)
    site = net.site({"filter": ".*", **rules})
    net.connect_all()
    return net, site, net.client(0, site)


def send_all(net, client, messages, **more):
    for message in messages:
        client.call("peerBroadcast", {"message": message, **more})
    net.advance(2)


# The queue


def test_immediate_messages_wait_for_the_next_client_in_order(network):
    net, site, sender = pair(network)
    send_all(net, sender, ["1", "2", "3"], immediate=True)
    reader = net.client(1, site)
    assert reader.messages == ["1", "2", "3"]
    # They come as they would have come, and are the first that the client hears.
    assert reader.events[0][1]["ip"] == net.nodes[0].name
    assert [event[1]["broadcast"] for event in reader.events] == [True] * 3


def test_the_first_client_alone_gets_them(network):
    net, site, sender = pair(network)
    send_all(net, sender, ["1"], immediate=True)
    first, second = net.client(1, site), net.client(1, site)
    assert (first.messages, second.messages) == (["1"], [])
    first.close()
    assert net.client(1, site).messages == []


def test_messages_that_are_not_immediate_do_not_wait(network):
    net, site, sender = pair(network)
    send_all(net, sender, ["1"], immediate=False)
    send_all(net, sender, ["2"])
    assert net.client(1, site).messages == []


def test_immediate_messages_outlast_a_disk_that_is_full_for_a_while(network):
    net, site, sender = pair(network)
    database = net.nodes[1].database
    (pages,) = database._connection.execute("PRAGMA page_count").fetchone()
    database._connection.execute(f"PRAGMA max_page_count = {pages}")
    texts = [f"{number}{'x' * 9000}" for number in range(5)]
    send_all(net, sender, texts, immediate=True)
    # The link that brought them lives, and the operator sees what is wrong.
    assert len(net.nodes[1].node.pool.links) == 1
    storage = net.nodes[1].node.status()["storage"]
    assert "disk is full" in storage["problem"] and storage["waiting"] >= 5
    database._connection.execute("PRAGMA max_page_count = 1000000")
    net.advance(2)
    assert net.nodes[1].node.status()["storage"] == {"problem": "", "waiting": 0}
    assert len(database.queue_load(site)) == 5
    assert net.client(1, site).messages == texts
    assert database.queue_load(site) == []


def test_questions_wait_too_and_can_be_answered_later(network):
    net, site, sender = pair(network)
    answers = []
    sender.call(
        "peerSend", {"ip": net.nodes[1].name, "message": "q", "immediate": True, "timeout": 600}
    ).addCallback(answers.append)
    net.advance(60)
    reader = net.client(1, site, verdict=None)
    assert reader.messages == ["q"]
    reader.call("peerReply", {"hash": reader.received()[0]["hash"], "message": "a"})
    net.advance(1)
    assert answers[0]["message"] == "a"


def test_own_messages_wait_too_where_the_site_has_no_client(network):
    """A program may speak for another site, of which no page is open."""
    net = network(1)
    site, other = net.site(), net.site()
    program = net.client(0, other)
    program.call("as", [site, "peerBroadcast", {"message": "1", "immediate": True}])
    page = net.client(0, site)
    ((cmd, params),) = page.events
    assert (cmd, params["ip"], params["message"]) == ("peerReceive", "self", "1")
    assert page.messages == []


def test_a_client_of_another_site_gets_nothing(network):
    net, site, sender = pair(network)
    other = net.site()
    send_all(net, sender, ["1"], immediate=True)
    assert net.client(1, other).events == []
    assert net.client(1, site).messages == ["1"]


def test_the_queue_survives_a_restart(network):
    net, site, sender = pair(network)
    send_all(net, sender, ["1", "2"], immediate=True)
    net.restart(1)
    net.restart(1)
    reader = net.client(1, site)
    assert reader.messages == ["1", "2"]
    net.restart(1)
    assert net.client(1, site).messages == []


def test_what_was_acknowledged_is_on_disk_before_the_answer(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    rows = []

    def answered(cmd, params):
        return None

    one.respond = answered
    original = one.dataReceived

    def watching(data):
        rows.append(len(net.nodes[0].database.queue_load(site)))
        original(data)

    one.dataReceived = watching
    one.ask("peerBroadcast", one.envelope(site, "x", immediate=True))
    assert rows[-1] == 1


def test_the_oldest_fall_out_over_a_thousand(network):
    net, site, sender = pair(network)
    for number in range(QUEUE_MESSAGES + 5):
        sender.call("peerBroadcast", {"message": number, "immediate": True})
        if number % 500 == 0:
            net.advance(0.1)
    net.advance(2)
    kept = net.nodes[1].node.status()["sites"][0]["queued"]
    assert kept == QUEUE_MESSAGES == len(net.nodes[1].database.queue_load(site))
    net.restart(1)
    assert net.client(1, site).messages == list(range(5, QUEUE_MESSAGES + 5))


def test_the_oldest_fall_out_over_eight_mebibytes(network):
    net, site, sender = pair(network)
    message = "x" * 60_000
    count = QUEUE_BYTES // 60_000 + 10
    for number in range(count):
        sender.call("peerBroadcast", {"message": f"{number:04}{message}", "immediate": True})
        if number % 20 == 0:
            net.advance(0.1)
    net.advance(2)
    rows = net.nodes[1].database.queue_load(site)
    assert QUEUE_BYTES - 61_000 < sum(len(row.event) for row in rows) <= QUEUE_BYTES
    reader = net.client(1, site)
    numbers = [int(text[:4]) for text in reader.messages]
    assert numbers == list(range(count - len(rows), count))
    assert net.nodes[1].database.queue_load(site) == []


def slow_client(net, number, site):
    """A client over a TCP transport of which nothing leaves before it is unstuck."""
    ui = Settings().ui
    limits = ClientLimits(message=10**6, unsent=ui.unsent_limit, clients=ui.max_clients)
    factory = ClientFactory(net.clock, net.nodes[number].node.commands, limits)
    return WebSocketClient(factory.build(site), {"User-Agent": "test"}, stuck=True)


def big_queue(network):
    """Six megabytes wait at the second node: more than a client may leave unread."""
    net, site, sender = pair(network)
    for number in range(120):
        message = f"{number:03}" + "x" * 50_000
        sender.call("peerBroadcast", {"message": message, "immediate": True})
        net.advance(0.01)
    net.advance(1)
    return net, site


def numbers(client):
    return [int(event["params"]["message"][:3]) for event in client.messages()]


def test_a_full_queue_reaches_a_client_that_reads(network):
    net, site = big_queue(network)
    client = slow_client(net, 1, site)
    while client.wire.connected and client.wire.unread:
        client.wire.unstick()
        net.advance(0.01)
    assert numbers(client) == list(range(120))
    assert net.nodes[1].database.queue_load(site) == []


def test_what_a_client_does_not_read_stays_for_the_next(network):
    net, site = big_queue(network)
    slow = slow_client(net, 1, site)
    net.advance(1)
    assert slow.wire.connected
    left = len(net.nodes[1].database.queue_load(site))
    assert 110 <= left < 120
    slow.wire.loseConnection()
    net.restart(1)
    assert [int(text[:3]) for text in net.client(1, site).messages] == list(range(120 - left, 120))


def test_a_queue_of_a_time_with_wider_bounds_is_cut_at_the_start(network, monkeypatch):
    net, site, sender = pair(network)
    send_all(net, sender, range(10), immediate=True)
    make = Queue.__init__
    monkeypatch.setattr(Queue, "__init__", lambda queue: make(queue, 4))
    net.restart(1)
    assert len(net.nodes[1].database.queue_load(site)) == 4
    assert net.client(1, site).messages == [6, 7, 8, 9]


# Who listens


def test_a_client_of_a_site_without_rules_hears_after_it_joined_the_channel(network):
    net = network(1)
    site = net.site(rules=None)
    client = net.client(0, site)
    delivery = net.nodes[0].node.delivery
    assert delivery.listeners(site) == ()
    assert client.ask("channelJoin", {"channels": ["peerReceive"]}) == "ok"
    assert delivery.listeners(site) == (client,)


def test_rules_that_come_later_make_listeners_of_the_clients_there_are(network):
    net = network(2)
    site = net.site(holders=[0])
    net.connect_all()
    net.nodes[1].node.add_site(site, None, 10_000_000)
    page = net.client(1, site)
    net.join(1, site)
    sender = net.client(0, site)
    send_all(net, sender, ["1"])
    assert page.messages == ["1"]


def test_what_was_kept_goes_to_the_client_that_joins_the_channel(network):
    net, site, sender = pair(network)
    send_all(net, sender, ["1"], immediate=True)
    held = net.nodes[1].node.sites.get(site)
    rules, held.rules = held.rules, None
    client = net.client(1, site)
    assert client.messages == []
    held.rules = rules
    client.ask("channelJoin", "peerReceive")
    assert client.messages == ["1"]


def test_clients_are_counted(network):
    net = network(1)
    site, other = net.site(), net.site()
    first, second, third = net.client(0, site), net.client(0, site), net.client(0, other)
    delivery = net.nodes[0].node.delivery
    assert (delivery.count(), delivery.count(site), delivery.count(other)) == (3, 2, 1)
    assert delivery.clients(site) == (first, second)
    second.close()
    third.close()
    third.close()
    assert (delivery.count(), delivery.count(other)) == (1, 0)


# Waiting for verdicts


def test_only_so_many_messages_wait_for_verdicts(network, monkeypatch):
    monkeypatch.setattr(delivery_module, "WAITING_LIMIT", 2)
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    net.client(1, site, verdict=None)
    for number in range(4):
        sender.call("peerBroadcast", {"message": number})
    net.advance(1)
    # The further ones are taken as accepted at once.
    assert end.messages == [2, 3]
    net.advance(5)
    assert sorted(end.messages) == [0, 1, 2, 3]


def test_a_verdict_may_be_given_while_the_message_is_being_shown(network):
    """The client of this test answers within the very call that shows it the message."""
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    net.client(1, site, verdict="peerValid")
    net.client(1, site, verdict="peerValid")
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(0.05)
    assert end.messages == ["x"]
    assert net.nodes[1].node.delivery.waiting == 0


def test_stopping_the_node_forgets_what_waits(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender = net.client(0, site)
    net.client(1, site, verdict=None)
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(1)
    net.stop(1)
    relayed = net.nodes[1].node.inbound.counters.relayed
    net.advance(10)
    assert net.nodes[1].node.inbound.counters.relayed == relayed == 0


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["open", "close", "send", "vote", "wait"]),
            st.integers(0, 5),
            st.sampled_from(list(Verdict)),
        ),
        max_size=25,
    )
)
def test_every_message_is_settled_whatever_clients_do(errors, steps):
    names = {
        Verdict.ACCEPT: "peerValid",
        Verdict.REJECT: "peerInvalid",
        Verdict.IGNORE: "peerIgnore",
    }
    with Network(nodes=2, seed=3) as net:
        site = net.site()
        net.connect_all()
        sender = net.client(0, site)
        clients, sent = [], 0
        for what, number, verdict in steps:
            if what == "open":
                clients.append(net.client(1, site, verdict=None))
            elif what == "close" and clients:
                clients.pop(number % len(clients)).close()
            elif what == "send":
                sender.call("peerBroadcast", {"message": sent, "immediate": True})
                sent += 1
                net.advance(0.1)
            elif what == "vote" and clients:
                client = clients[number % len(clients)]
                for event in client.received()[number:]:
                    client.call(names[verdict], [event["hash"]])
            else:
                net.advance(number)
        net.advance(6)
        delivery = net.nodes[1].node.delivery
        assert delivery.waiting == 0
        late = net.client(1, site)
        told = [event["message"] for client in [*clients, late] for event in client.received()]
        # Whatever was sent was shown to a client, unless all that saw it have left.
        if not any(what == "close" for what, _, _ in steps):
            assert set(told) == set(range(sent))
        assert len(late.messages) == len(set(late.messages))
    assert errors == []


# Events


def test_the_message_is_given_as_it_was_sent(network):
    message = {"ü": [1.0, 1e-7, 12345678901234567890, None, True, ""], "nested": {"b": 1, "a": 2}}
    net, site, sender = pair(network)
    reader = net.client(1, site)
    send_all(net, sender, [message])
    (got,) = reader.messages
    assert json.dumps(got) == json.dumps(message)


@pytest.mark.parametrize("trace", [True, False])
def test_the_trace_is_given_where_the_sender_asked_for_one(network, trace):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    sender.call("peerBroadcast", {"message": "x", "trace": trace})
    net.advance(1)
    hops = [net.nodes[0].name, net.nodes[1].name]
    assert end.received()[0]["trace"] == (hops if trace else None)
    assert "trace" not in sender.events[0][1]


def test_a_timestamp_is_unix_time_at_the_sender_and_shown_to_it_too(network):
    net, site, sender = pair(network)
    reader = net.client(1, site)
    at = net.wall()
    send_all(net, sender, ["x"], timestamp=True)
    send_all(net, sender, ["y"])
    assert [event["timestamp"] for event in reader.received()] == [at, None]
    assert [params["timestamp"] for _, params in sender.events] == [at, at, None, None]
