"""What clients send: broadcasts, questions to one or many, replies; and the own rules."""

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy import capability
from zeromsg.policy.peer_book import Source
from zeromsg.routing import replies
from zeromsg.wire.values import PeerAddress

KEY = PrivateKey(b"\x21" * 32)


def results(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


def mesh(network, nodes=3, rules=None):
    net = network(nodes)
    site = net.site(rules or {"filter": ".*"})
    net.connect_all()
    return net, site


# peerBroadcast


def test_a_broadcast_tells_its_hash_and_how_many_peers_it_went_to(network):
    net, site = mesh(network, 4)
    sender, reader = net.client(0, site), net.client(1, site)
    answer = sender.ask("peerBroadcast", {"message": "x"})
    net.advance(1)
    assert answer == {"sent": True, "hash": reader.received()[0]["hash"], "peers": 3}


def test_nothing_is_called_sent_where_nobody_was_there(network):
    net = network(1)
    site = net.site()
    answer = net.client(0, site).ask("peerBroadcast", {"message": "x"})
    assert (answer["sent"], answer["peers"]) == (False, 0)
    assert len(answer["hash"]) == 64


def test_nothing_is_called_sent_that_a_full_connection_does_not_take(network):
    """Whoever is told can send again."""
    net, site = mesh(network, 2)
    sender, reader = net.client(0, site), net.client(1, site)
    net.advance(5)  # the nodes ask each other what is new
    for link in net.nodes[0].node.pool.links:
        link._conversation._in_flight_limit = 50
    answers = [
        sender.ask("peerBroadcast", {"message": number, "peer_count": 0}) for number in range(60)
    ]
    net.advance(2)
    assert [answer["peers"] for answer in answers] == [1] * 50 + [0] * 10
    assert [answer["sent"] for answer in answers] == [True] * 50 + [False] * 10
    assert reader.messages == list(range(50))
    assert sender.ask("peerBroadcast", {"message": "again"})["sent"]


def test_the_order_at_the_sender_is_receive_answer_send(network):
    net, site = mesh(network)
    sender, other = net.client(0, site), net.client(0, site)
    order = []
    take = sender._take
    sender._take = lambda payload: (order.append(payload), take(payload))
    sender.call("peerBroadcast", {"message": "x"})
    kinds = [payload[:20].split(b'"')[3] for payload in order]
    assert kinds == [b"peerReceive", b"response", b"peerSend"]
    # The site's other clients see both events.
    assert [cmd for cmd, _ in other.events] == ["peerReceive", "peerSend"]


def test_the_events_of_an_own_message(network):
    net, site = mesh(network)
    sender = net.client(0, site)
    answer = sender.ask("peerBroadcast", {"message": {"a": 1}, "privatekey": False})
    address = net.nodes[0].users.default.auth_address(site)
    common = {
        "hash": answer["hash"],
        "message": {"a": 1},
        "signed_by": address,
        "cert": "",
        "site": site,
        "broadcast": True,
        "timestamp": None,
        "user": {"address": address, "id": None, "provider": None},
    }
    assert sender.events == [("peerReceive", {"ip": "self", **common}), ("peerSend", common)]


@pytest.mark.parametrize(
    ("privatekey", "who"),
    [(None, "nobody"), (False, "user"), ("stored", "site"), (KEY.wif, "key")],
)
def test_who_signs(network, privatekey, who):
    net, site = mesh(network)
    sender, reader = net.client(0, site), net.client(1, site)
    sender.call("peerBroadcast", {"message": "x", "privatekey": privatekey})
    net.advance(1)
    signer = {
        "nobody": "",
        "user": net.nodes[0].users.default.auth_address(site),
        "site": site,
        "key": KEY.address,
    }[who]
    assert reader.received()[0]["signed_by"] == signer


@pytest.mark.parametrize(
    ("privatekey", "error"),
    [
        ("stored", "denied: this node has no key of the site"),
        ("not a key", "invalid: privatekey is no private key"),
        ("\ud800", "invalid: privatekey is no private key"),
        (0, "invalid: privatekey must be"),
        (True, "invalid: privatekey must be"),
        ("", "invalid: privatekey must be"),
        ({}, "invalid: privatekey must be"),
        ("5" * 65, "invalid: privatekey must be"),
    ],
)
def test_a_key_that_is_none_is_refused(network, privatekey, error):
    net = network(2)
    site = net.site(holders=[0])
    net.connect_all()
    net.join(1, site)  # without the site's key
    client = net.client(1, site)
    answer = client.ask("peerBroadcast", {"message": "x", "privatekey": privatekey})
    assert answer["error"].startswith(error)
    assert client.events == []


def test_what_goes_over_the_wire(network, stranger):
    net, site = mesh(network, 1)
    one = stranger(net)
    sender = net.client(0, site)
    sender.call("peerBroadcast", {"message": "é", "privatekey": False, "timestamp": True})
    net.advance(0.2)
    (params,) = one.asked("peerBroadcast")
    address = net.nodes[0].users.default.auth_address(site)
    assert params["raw"].isascii()
    assert params["raw"] == (
        '{"message": "\\u00e9", "peer_count": 5, "broadcast": true, "immediate": false, '
        f'"site": "{site}", "timestamp": {net.wall() - 0.2!r}, "signer": "{address}"}}'
    )
    assert params["nonce"].isdigit()
    assert params["signature"].startswith(f"{address}|")
    assert params["cert"] is None
    assert "trace" not in params
    sender.call("peerBroadcast", {"message": 1, "immediate": True, "peer_count": 7, "trace": True})
    net.advance(0.2)
    params = one.asked("peerBroadcast")[1]
    assert params["raw"] == (
        '{"message": 1, "peer_count": 7, "broadcast": true, "immediate": true, '
        f'"site": "{site}", "signer": ""}}'
    )
    assert (params["signature"], params["trace"]) == ("", [])


def test_nonces_differ(network, stranger):
    net, site = mesh(network, 1)
    one = stranger(net)
    sender = net.client(0, site)
    for _ in range(20):
        sender.call("peerBroadcast", {"message": "same"})
    net.advance(0.5)
    assert len({params["nonce"] for params in one.asked("peerBroadcast")}) == 20


def test_peers_that_are_known_but_not_connected_are_dialled(network, host_for):
    net, site = mesh(network, 1)
    address = PeerAddress("203.0.113.9", 7)
    listening = host_for(net, address)
    net.nodes[0].node.site_peers.found(site, [address], Source.PEX, "t")
    net.client(0, site).call("peerBroadcast", {"message": "x"})
    net.advance(2)
    assert [one.broadcasts() for one in listening.strangers] == [["x"]]


def test_no_more_are_dialled_than_peer_count_lacks(network, host_for):
    net, site = mesh(network, 2)
    listening = [host_for(net, PeerAddress(f"203.0.113.{n}", 7)) for n in range(1, 9)]
    addresses = [PeerAddress(f"203.0.113.{n}", 7) for n in range(1, 9)]
    net.nodes[0].node.site_peers.found(site, addresses, Source.PEX, "t")
    net.client(0, site).call("peerBroadcast", {"message": "x", "peer_count": 4})
    net.advance(2)
    assert sum(bool(one.strangers) for one in listening) == 3


def test_a_peer_that_does_not_know_peer_messages_gets_one_and_no_more(
    network, stranger, monkeypatch
):
    monkeypatch.setattr(capability, "DEAF_SECONDS", 600.0)  # a day is long on a fake clock, too
    net, site = mesh(network, 1)
    one = stranger(net)
    one.respond = lambda cmd, params: {"error": f"Unknown command: {cmd}"}
    sender = net.client(0, site)
    for number in range(3):
        sender.call("peerBroadcast", {"message": number})
        net.advance(1)
    assert one.broadcasts() == [0]
    net.advance(500)
    sender.call("peerBroadcast", {"message": "still deaf"})
    net.advance(100)
    # It may have learnt it by now; the link is another one.
    again = stranger(net)
    sender.call("peerBroadcast", {"message": "later"})
    net.advance(1)
    assert again.broadcasts() == ["later"]


def test_who_sends_a_peer_message_knows_them(network, stranger):
    net, site = mesh(network, 1)
    one = stranger(net)
    one.respond = lambda cmd, params: {"error": f"Unknown command: {cmd}"}
    sender = net.client(0, site)
    sender.call("peerBroadcast", {"message": 0})
    net.advance(1)
    one.ask("peerBroadcast", one.envelope(site, "so I do"))
    sender.call("peerBroadcast", {"message": 1})
    net.advance(1)
    assert one.broadcasts() == [0, 1]


# The own rules


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"message": {"a": "no"}}, 'invalid: Invalid message for site SITE: {"a": "no"} ('),
        ({"message": "no"}, 'invalid: Invalid message for site SITE: "no" ('),
        ({"message": "ok" + "x" * 57}, "too-big: Too big message: 61 characters"),
        ({"message": "ok é"}, "unsigned: Not signed message: "),
    ],
)
def test_own_messages_are_held_to_the_rules(network, params, error):
    net, site = mesh(network, 2, {"filter": ".*ok.*", "size_limit": 60, "signed_only": True})
    sender, reader = net.client(0, site), net.client(1, site)
    for cmd, more in (
        ("peerBroadcast", {}),
        ("peerBroadcast", {"broadcast": False}),
        ("peerSend", {"ip": net.nodes[1].name}),
        ("peerSend", {"ip": "self"}),
    ):
        refused = sender.ask(cmd, {**params, **more})
        assert refused["error"].startswith(error.replace("SITE", site))
    net.advance(1)
    assert reader.messages == [] and sender.events == []
    # A refusal costs nothing.
    assert sender.ask("peerBroadcast", {"message": "ok", "privatekey": False})["sent"] is True
    host = net.nodes[0].address.host
    assert net.nodes[1].node.scoring.points(host, net.wall()) == 0


def test_own_messages_may_be_too_fast(network):
    net, site = mesh(network, 2, {"filter": ".*", "freq_limit": 1})
    sender, reader = net.client(0, site), net.client(1, site)
    assert sender.ask("peerBroadcast", {"message": 1})["sent"]
    refused = sender.ask("peerBroadcast", {"message": 2})
    assert refused["error"].startswith("too-fast: Too fast messages: ")
    # The user's key has a time of its own.
    assert sender.ask("peerBroadcast", {"message": 3, "privatekey": False})["sent"]
    net.advance(1.1)
    assert sender.ask("peerBroadcast", {"message": 4})["sent"]
    net.advance(1)
    assert reader.messages == [1, 3, 4]


def test_a_signer_who_may_not_write_is_told(network):
    net, site = mesh(network, 2, {"filter": ".*", "signed_only": [KEY.address]})
    sender = net.client(0, site)
    user = net.nodes[0].users.default.auth_address(site)
    assert sender.ask("peerBroadcast", {"message": 1, "privatekey": False}) == {
        "error": f"unsigned: Message signature is invalid: {user} not in ['{KEY.address}']"
    }
    assert sender.ask("peerBroadcast", {"message": 1, "privatekey": KEY.wif})["sent"]


def test_a_message_that_takes_too_many_bytes_is_refused(network):
    net, site = mesh(network, 2)
    sender = net.client(0, site)
    answer = sender.ask("peerBroadcast", {"message": "x" * 65_536})
    assert answer["error"].startswith("too-big: ")
    assert sender.ask("peerBroadcast", {"message": "x" * 65_000})["sent"]


def test_sites_without_rules_and_unknown_sites(network):
    net = network(2)
    site = net.site(rules=None)
    net.connect_all()
    client = net.client(0, site)
    text = f"unsupported: Site {site} doesn't support P2P messages"
    for cmd, params in (
        ("peerBroadcast", {"message": 1}),
        ("peerBroadcast", {"message": 1, "broadcast": False}),
        ("peerSend", {"message": 1, "ip": "self"}),
        ("peerSend", {"message": 1, "ip": "1.2.3.4:5", "to": "0" * 64}),
    ):
        assert client.ask(cmd, params) == {"error": text}
    unknown = "1" + "b" * 30
    answer = client.ask("as", [unknown, "peerBroadcast", ["x"]])
    assert answer == {"error": f"unsupported: this node does not hold the site {unknown}"}


# broadcast=False


def test_replies_are_gathered_as_soon_as_all_are_in(network):
    net, site = mesh(network, 4)
    sender = net.client(0, site)
    for number in (1, 2, 3):
        net.client(number, site).answers["q"] = f"answer {number}"
    got = results(sender.call("peerBroadcast", {"message": "q", "broadcast": False}))
    net.advance(0.2)
    (entries,) = got
    assert {entry["ip"]: entry["reply"] for entry in entries} == {
        net.nodes[number].name: f"answer {number}" for number in (1, 2, 3)
    }
    for entry in entries:
        assert set(entry) == {"ip", "reply", "hash", "signed_by", "cert"}
        assert (len(entry["hash"]), entry["signed_by"], entry["cert"]) == (64, "", "")
    # A question is no broadcast: it is not echoed, nor shown at home.
    assert sender.events == []
    assert len(net.nodes[0].node.replies) == 0


def test_only_so_many_are_asked(network):
    net, site = mesh(network, 6)
    sender = net.client(0, site)
    others = [net.client(number, site) for number in range(1, 6)]
    for other in others:
        other.answers["q"] = "a"
    got = results(
        sender.call("peerBroadcast", {"message": "q", "broadcast": False, "peer_count": 2})
    )
    net.advance(1)
    assert [entry["reply"] for entry in got[0]] == ["a", "a"]
    assert sum(len(other.messages) for other in others) == 2


def test_after_the_timeout_there_is_what_came(network):
    net, site = mesh(network, 4)
    sender, quick = net.client(0, site), net.client(1, site)
    net.client(2, site)
    quick.answers["q"] = "a"
    got = results(sender.call("peerBroadcast", {"message": "q", "broadcast": False, "timeout": 30}))
    net.advance(29.9)
    assert got == []
    net.advance(0.2)
    by_name = {entry["ip"]: entry["reply"] for entry in got[0]}
    assert by_name == {
        net.nodes[1].name: "a",
        net.nodes[2].name: {"error": "timeout: no reply within 30 seconds"},
        net.nodes[3].name: {"error": "timeout: no reply within 30 seconds"},
    }
    assert len(net.nodes[0].node.replies) == 0


def test_the_default_timeout_is_a_minute(network):
    net, site = mesh(network, 2)
    got = results(net.client(0, site).call("peerBroadcast", {"message": "q", "broadcast": False}))
    net.advance(59.9)
    assert got == []
    net.advance(0.2)
    assert "60 seconds" in got[0][0]["reply"]["error"]


def test_a_late_reply_is_ignored(network):
    net, site = mesh(network, 2)
    sender, other = net.client(0, site), net.client(1, site)
    got = results(sender.call("peerBroadcast", {"message": "q", "broadcast": False, "timeout": 1}))
    net.advance(2)
    assert "timeout" in got[0][0]["reply"]["error"]
    late = results(other.call("peerReply", [other.received()[0]["hash"], "too late"]))
    net.advance(1)
    assert late == [{"sent": True}]
    assert len(got) == 1 and sender.messages == []


def test_dead_peers_have_their_entries(network, stranger):
    net, site = mesh(network, 3)
    sender, other = net.client(0, site), net.client(1, site)
    other.answers["q"] = "a"
    dying = stranger(net, port=7)
    dying.respond = lambda cmd, params: dying.close()
    net.nodes[0].node.site_peers.found(site, [PeerAddress("203.0.113.77", 7)], Source.PEX, "t")
    net.stop(2)
    got = results(
        sender.call("peerBroadcast", {"message": "q", "broadcast": False, "peer_count": 9})
    )
    net.advance(61)
    replies = {entry["ip"]: entry["reply"] for entry in got[0]}
    gone = {"error": "no-peer: Connection error"}
    assert replies.pop(net.nodes[1].name) == "a"
    assert replies.pop("203.0.113.9:7") == gone
    assert replies.pop("203.0.113.77:7") == gone
    assert replies.pop(net.nodes[2].name) == gone
    assert replies == {}


def test_a_peer_that_refuses_has_its_entry_too(network, stranger):
    net, site = mesh(network, 1)
    one = stranger(net, port=7)
    one.respond = lambda cmd, params: {"error": "Too fast messages from \udcff"}
    got = results(net.client(0, site).call("peerBroadcast", {"message": 1, "broadcast": False}))
    net.advance(1)
    ((entry,),) = got
    assert entry["reply"]["error"].startswith("denied: Too fast messages")


def test_with_nobody_to_ask_the_list_is_empty(network):
    net, site = mesh(network, 1)
    params = {"message": 1, "broadcast": False}
    assert net.client(0, site).ask("peerBroadcast", params) == []
    net, site = mesh(network, 3)
    assert net.client(0, site).ask("peerBroadcast", {**params, "peer_count": 0}) == []


def test_only_who_was_asked_may_answer(network, stranger):
    net, site = mesh(network, 1)
    asked = stranger(net, port=7)
    meddler = stranger(net, host="203.0.113.66", port=7, respond=lambda cmd, params: {"error": ""})
    sender = net.client(0, site)
    got = results(sender.call("peerBroadcast", {"message": "q", "broadcast": False, "timeout": 9}))
    single = results(sender.call("peerSend", {"ip": "203.0.113.9:7", "message": "q2"}))
    net.advance(0.5)
    questions = asked.asked("peerSend")
    for number, question in enumerate(questions):
        to = asked.hash(question)
        for one, text in ((meddler, "forged"), (asked, "true"), (meddler, "forged again")):
            reply = one.envelope(site, text, nonce=f"{number}{text}", to=to, broadcast=None)
            # It is told nothing, the hash is no secret.
            assert one.ask("peerSend", reply) == {"ok": "thx"}
    assert [entry["reply"] for entry in got[0]] == ["true"]
    assert [answer["message"] for answer in single] == ["true"]


def test_the_first_reply_of_a_peer_counts(network, stranger):
    net, site = mesh(network, 2)
    one = stranger(net, port=7)
    got = results(
        net.client(0, site).call("peerBroadcast", {"message": 1, "broadcast": False, "timeout": 5})
    )
    net.advance(0.5)
    to = one.hash(one.asked("peerSend")[0])
    for number in (1, 2):
        one.ask("peerSend", one.envelope(site, number, to=to, broadcast=False))
    net.advance(5)
    assert {entry["ip"]: entry["reply"] for entry in got[0]}["203.0.113.9:7"] == 1


def test_a_reply_is_held_to_the_rules(network, stranger):
    net, site = mesh(network, 1, {"filter": '^"q'})
    one = stranger(net, port=7)
    got = results(
        net.client(0, site).call("peerSend", {"ip": "203.0.113.9:7", "message": "q", "timeout": 5})
    )
    net.advance(0.5)
    to = one.hash(one.asked("peerSend")[0])
    refused = one.ask("peerSend", one.envelope(site, "no", to=to, broadcast=False))
    assert "Invalid message" in refused["error"]
    net.advance(5)
    assert got == [{"error": "timeout: no reply within 5 seconds"}]


def test_a_client_that_leaves_takes_its_question_along(network):
    net, site = mesh(network, 2)
    sender = net.client(0, site)
    for _ in range(3):
        sender.call("peerBroadcast", {"message": 1, "broadcast": False})
        sender.call("peerSend", {"ip": net.nodes[1].name, "message": 1})
    net.advance(1)
    assert len(net.nodes[0].node.replies) == 6
    sender.close()
    assert len(net.nodes[0].node.replies) == 0
    net.advance(61)


def test_only_so_many_questions_wait(network, monkeypatch):
    monkeypatch.setattr(replies, "PENDING_LIMIT", 2)
    net, site = mesh(network, 2)
    sender = net.client(0, site)
    for _ in range(2):
        sender.call("peerSend", {"ip": net.nodes[1].name, "message": 1})
    answer = sender.ask("peerSend", {"ip": net.nodes[1].name, "message": 1})
    assert answer["error"].startswith("too-fast: ")
    net.advance(61)
    got = results(sender.call("peerSend", {"ip": net.nodes[1].name, "message": 1, "timeout": 1}))
    net.advance(1.1)
    assert got == [{"error": "timeout: no reply within 1 seconds"}]


# peerSend


def test_a_question_brings_the_reply(network):
    net, site = mesh(network, 3)
    sender, asked, third = (net.client(number, site) for number in range(3))
    asked.answers["q"] = {"a": 1}
    got = results(sender.call("peerSend", {"ip": net.nodes[1].name, "message": "q"}))
    net.advance(0.5)
    (reply,) = got
    assert set(reply) == {"hash", "message", "signed_by", "cert", "timestamp"}
    assert (reply["message"], reply["signed_by"], reply["cert"]) == ({"a": 1}, "", "")
    assert third.messages == []
    # The question is echoed to the site's clients once it was answered.
    ((cmd, params),) = sender.events
    assert (cmd, params["ip"], params["message"]) == ("peerSend", net.nodes[1].name, "q")
    assert params["broadcast"] is False


@pytest.mark.parametrize("timeout", [0, 0.5, 60])
def test_a_question_without_a_reply_ends_in_an_error(network, timeout):
    net, site = mesh(network, 2)
    sender = net.client(0, site)
    got = results(
        sender.call("peerSend", {"ip": net.nodes[1].name, "message": 1, "timeout": timeout})
    )
    if timeout:
        net.advance(timeout - 0.1)
        assert got == []
    net.advance(0.2)
    assert got == [{"error": f"timeout: no reply within {timeout:g} seconds"}]


def test_a_peer_that_is_not_connected_is_dialled(network, host_for):
    net, site = mesh(network, 1)
    listening = host_for(net, PeerAddress("203.0.113.9", 7))
    got = results(net.client(0, site).call("peerSend", {"ip": "203.0.113.9:7", "message": "q"}))
    net.advance(1)
    (one,) = listening.strangers
    to = one.hash(one.asked("peerSend")[0])
    one.ask("peerSend", one.envelope(site, "a", to=to, broadcast=None))
    assert got[0]["message"] == "a"


def test_a_peer_that_answers_over_another_connection_is_the_same_peer(network, stranger, host_for):
    net, site = mesh(network, 1)
    listening = host_for(net, PeerAddress("203.0.113.9", 7))
    got = results(net.client(0, site).call("peerSend", {"ip": "203.0.113.9:7", "message": "q"}))
    net.advance(1)
    to = listening.strangers[0].hash(listening.strangers[0].asked("peerSend")[0])
    listening.strangers[0].close()
    back = stranger(net, port=7)
    back.ask("peerSend", back.envelope(site, "a", to=to, broadcast=None))
    assert got[0]["message"] == "a"


@pytest.mark.parametrize("ip", ["203.0.113.250:9", "0.0.0.0:5", "[2001:db8::5]:9"])
def test_a_peer_that_cannot_be_reached(network, ip):
    net, site = mesh(network, 2)
    got = results(net.client(0, site).call("peerSend", {"ip": ip, "message": 1}))
    net.advance(1)
    assert got == [{"error": f"no-peer: Could not find peer {ip}"}]


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "example.com:80", "1.2.3.4:", "1.2.3.4:99999", "", "\ud800", "::1:5", "Self"],
)
def test_an_address_that_is_none(network, ip):
    net, site = mesh(network, 2)
    answer = net.client(0, site).ask("peerSend", {"ip": ip, "message": 1})
    assert answer["error"].startswith("invalid: ip: ")


def test_port_zero_is_nobody(network):
    net, site = mesh(network, 2)
    answer = net.client(0, site).ask("peerSend", {"ip": "1.2.3.4:0", "message": 1})
    assert answer == {"error": "no-peer: Could not find peer 1.2.3.4:0"}


def test_a_node_does_not_talk_to_itself_over_the_network(network):
    net, site = mesh(network, 1)
    got = results(net.client(0, site).call("peerSend", {"ip": net.nodes[0].name, "message": 1}))
    net.advance(1)
    assert got == [{"error": f"no-peer: Could not find peer {net.nodes[0].name}"}]


def test_self_is_the_sites_own_clients(network):
    net, site = mesh(network, 2)
    sender, other, far = net.client(0, site), net.client(0, site), net.client(1, site)
    got = results(sender.call("peerSend", {"ip": "self", "message": "q"}))
    (question,) = [params for cmd, params in other.events if cmd == "peerReceive"]
    assert (question["ip"], question["broadcast"]) == ("self", False)
    answer = other.ask("peerSend", {"ip": "self", "message": "a", "to": question["hash"]})
    assert (answer["sent"], len(answer["hash"])) == (True, 64)
    assert got[0]["message"] == "a"
    assert set(got[0]) == {"hash", "message", "signed_by", "cert", "timestamp"}
    net.advance(1)
    assert far.messages == []


def test_peer_reply_answers_ones_own_question_too(network):
    net, site = mesh(network, 1)
    sender, other = net.client(0, site), net.client(0, site)
    got = results(sender.call("peerSend", {"ip": "self", "message": "q"}))
    hash = other.events[0][1]["hash"]
    assert other.ask("peerReply", [hash, "a", False]) == {"sent": True}
    assert got[0]["message"] == "a"
    assert got[0]["signed_by"] == net.nodes[0].users.default.auth_address(site)


def test_a_reply_with_to_is_told_once_it_was_taken(network):
    net, site = mesh(network, 2)
    sender, other = net.client(0, site), net.client(1, site, verdict=None)
    got = results(sender.call("peerSend", {"ip": net.nodes[1].name, "message": "q"}))
    net.advance(0.5)
    (event,) = other.received()
    sent = results(other.call("peerSend", {"ip": event["ip"], "message": "a", "to": event["hash"]}))
    assert sent == []
    net.advance(0.5)
    assert sent[0]["sent"] is True and sent[0]["hash"] == got[0]["hash"]


def test_a_reply_that_is_refused_over_there(network, stranger):
    net, site = mesh(network, 1)
    one = stranger(net, port=7)
    client = net.client(0, site, verdict=None)
    one.ask("peerSend", one.envelope(site, "q", broadcast=None))
    one.respond = lambda cmd, params: {"error": "Too big message"}
    got = results(client.call("peerReply", [client.received()[0]["hash"], "a"]))
    net.advance(1)
    assert got == [{"error": "denied: Too big message"}]


# peerReply


def test_peer_reply_goes_to_who_delivered_the_message(network):
    net, site = mesh(network, 3)
    sender, reader, third = (net.client(number, site) for number in range(3))
    reader.answers["q"] = "a"
    third.answers["q"] = "b"
    got = results(sender.call("peerBroadcast", {"message": "q", "broadcast": False}))
    net.advance(0.5)
    assert sorted(entry["reply"] for entry in got[0]) == ["a", "b"]


def test_a_reply_to_a_broadcast_reaches_nobody_who_waits(network):
    """Nobody asked: the neighbour takes it and that is all."""
    net, site = mesh(network, 2)
    sender, reader = net.client(0, site), net.client(1, site)
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(0.5)
    got = results(reader.call("peerReply", [reader.received()[0]["hash"], "a"]))
    net.advance(0.5)
    assert got == [{"sent": True}]
    assert sender.messages == []


@pytest.mark.parametrize("hash", ["0" * 64, "", "x" * 1024, "\ud800"])
def test_a_reply_to_nothing(network, hash):
    net, site = mesh(network, 2)
    answer = net.client(0, site).ask("peerReply", [hash, "a"])
    assert answer["error"].startswith("no-peer: no message with hash")


def test_a_reply_to_a_peer_that_has_gone(network, stranger):
    net, site = mesh(network, 1)
    client = net.client(0, site, verdict=None)
    one = stranger(net)  # with a closed port
    one.ask("peerSend", one.envelope(site, "q", broadcast=None))
    one.close()
    net.advance(1)
    got = results(client.call("peerReply", [client.received()[0]["hash"], "a"]))
    net.advance(1)
    assert got == [{"error": "no-peer: Could not find peer 203.0.113.9:40000"}]


def test_a_closed_port_is_answered_over_its_own_connection(network, stranger):
    net, site = mesh(network, 1)
    client = net.client(0, site, verdict=None)
    one = stranger(net)
    question = one.envelope(site, "q", broadcast=None)
    one.ask("peerSend", question)
    got = results(client.call("peerReply", [client.received()[0]["hash"], "a"]))
    net.advance(1)
    assert got == [{"sent": True}]
    (reply,) = one.asked("peerSend")
    assert f'"to": "{one.hash(question)}"' in reply["raw"]


def test_signed_replies_name_their_signer(network):
    net, site = mesh(network, 2)
    sender, other = net.client(0, site), net.client(1, site, verdict=None)
    got = results(
        sender.call("peerSend", {"ip": net.nodes[1].name, "message": "q", "timestamp": True})
    )
    net.advance(0.5)
    (event,) = other.received()
    assert event["timestamp"] == pytest.approx(net.wall() - 0.5)
    other.call(
        "peerSend",
        {
            "ip": event["ip"],
            "message": "a",
            "to": event["hash"],
            "privatekey": False,
            "timestamp": True,
        },
    )
    net.advance(0.5)
    assert got[0]["signed_by"] == net.nodes[1].users.default.auth_address(site)
    assert got[0]["timestamp"] == pytest.approx(net.wall() - 0.5)
