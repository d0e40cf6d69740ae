"""Messages that arrive from peers: once each, checked, judged, and blamed on who is proven."""

import base64
import json
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeromsg.crypto.cert import Certificate, cert_subject
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign
from zeromsg.policy.rules import parse_rules
from zeromsg.testing import Network
from zeromsg.wire.values import PeerAddress

KEY = PrivateKey(b"\x11" * 32)
OTHER_KEY = PrivateKey(b"\x12" * 32)
ISSUER = PrivateKey(b"\x13" * 32)


def results(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


def points(net, number, identity):
    return net.nodes[number].node.scoring.points(identity, net.wall())


def spoilt(params):
    """The same message with a signature that does not fit."""
    address, _, signature = params["signature"].partition("|")
    body = bytearray(base64.b64decode(signature))
    body[40] ^= 1
    return {**params, "signature": f"{address}|{base64.b64encode(body).decode()}"}


# Everybody, once


@pytest.mark.parametrize("nodes", [2, 3, 6])
def test_a_broadcast_reaches_every_client_of_a_mesh_exactly_once(network, nodes):
    net = network(nodes)
    site = net.site()
    net.connect_all()
    clients = [net.client(number, site) for number in range(nodes) for _ in range(2)]
    clients[0].call("peerBroadcast", {"message": "hello"})
    net.advance(3)
    assert [client.messages for client in clients[2:]] == [["hello"]] * (2 * nodes - 2)
    # The sender's own clients see it as from themselves, the caller too.
    for own in clients[:2]:
        assert own.messages == []
        assert [params["ip"] for cmd, params in own.events if cmd == "peerReceive"] == ["self"]


def test_a_broadcast_passes_along_a_line(network):
    net = network(6)
    site = net.site()
    net.connect_line()
    clients = [net.client(number, site) for number in range(6)]
    clients[0].call("peerBroadcast", {"message": "hello"})
    net.advance(3)
    for number, client in enumerate(clients[1:], 1):
        assert client.messages == ["hello"]
        # Everybody names the neighbour it came from.
        assert client.received()[0]["ip"] == net.nodes[number - 1].name


def test_nodes_without_clients_relay_at_once(network):
    net = network(4)
    site = net.site()
    net.connect_line()
    sender, reader = net.client(0, site), net.client(3, site)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    assert reader.messages == ["hello"]


def test_a_duplicate_is_answered_with_a_warning_and_never_sent_back(network, stranger):
    net = network(1)
    site = net.site()
    author, second = stranger(net), stranger(net, host="203.0.113.10")
    for one in (author, second):
        assert one.ask("pex", {"site": site, "peers": [], "need": 5}) is not None
    params = author.envelope(site, "x")
    assert author.ask("peerBroadcast", params) == {"ok": "thx"}
    assert second.broadcasts() == ["x"]
    assert author.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    assert second.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    assert author.broadcasts() == []
    assert second.broadcasts() == ["x"]
    assert net.nodes[0].node.inbound.counters.duplicates == 2


def test_who_sent_a_copy_while_the_verdict_was_awaited_gets_none(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site, verdict=None)
    author, holder, third = (stranger(net, host=f"203.0.113.{n}") for n in (1, 2, 3))
    for one in (author, holder, third):
        one.ask("pex", {"site": site, "peers": [], "need": 5})
    params = author.envelope(site, "x")
    author.ask("peerBroadcast", params)
    assert holder.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    client.call("peerValid", [author.hash(params)])
    net.advance(1)
    assert third.broadcasts() == ["x"]
    assert holder.broadcasts() == author.broadcasts() == []


def test_the_params_are_relayed_as_they_came(network, stranger):
    net = network(1)
    site = net.site()
    author, other = stranger(net), stranger(net, host="203.0.113.10")
    params = author.envelope(site, {"a": "é"}, nonce="0077", key=KEY)
    # Another spelling of the same JSON: the hash covers the text.
    params["raw"] = params["raw"].replace(", ", " ,  ")
    text = f"{KEY.address}|{author.hash(params)}|{params['raw']}"
    params["signature"] = f"{KEY.address}|{sign(text, KEY)}"
    assert author.ask("peerBroadcast", {**params, "trace": ["1.2.3.4:5"]}) == {"ok": "thx"}
    (relayed,) = other.asked("peerBroadcast")
    assert {key: relayed[key] for key in ("raw", "nonce", "signature", "cert")} == params
    assert relayed["trace"] == ["1.2.3.4:5", "203.0.113.9:40000"]


def test_no_trace_is_invented(network, stranger):
    net = network(1)
    site = net.site()
    author, other = stranger(net), stranger(net, host="203.0.113.10")
    client = net.client(0, site)
    author.ask("peerBroadcast", author.envelope(site, "x"))
    assert "trace" not in other.asked("peerBroadcast")[0]
    assert client.received()[0]["trace"] is None


def test_a_full_trace_grows_no_further(network, stranger):
    net = network(1)
    site = net.site()
    author, other = stranger(net), stranger(net, host="203.0.113.10")
    hops = [f"10.0.0.{n}:1" for n in range(200)]
    author.ask("peerBroadcast", {**author.envelope(site, "x"), "trace": hops})
    assert other.asked("peerBroadcast")[0]["trace"] == hops[:32]


# The verdict


def line_of_three(network, verdict, rules=None):
    """Sender, a node with one client that says `verdict`, and a node behind it."""
    net = network(3)
    site = net.site(rules or {"filter": ".*"})
    net.connect_line()
    return net, net.client(0, site), net.client(1, site, verdict), net.client(2, site)


def test_a_silent_client_holds_a_message_for_five_seconds(network):
    net, sender, middle, end = line_of_three(network, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(4.9)
    assert middle.messages == ["hello"]
    assert end.messages == []
    net.advance(0.3)
    assert end.messages == ["hello"]
    assert net.nodes[1].node.delivery.waiting == 0


@pytest.mark.parametrize("seconds", [0, 0.5, 30])
def test_the_rules_say_how_long_a_verdict_is_awaited(network, seconds):
    net, sender, _, end = line_of_three(network, None, {"filter": ".*", "valid_timeout": seconds})
    sender.call("peerBroadcast", {"message": "hello"})
    if seconds:
        net.advance(seconds - 0.1)
        assert end.messages == []
    net.advance(0.3)
    assert end.messages == ["hello"]


def test_peer_valid_relays_at_once(network):
    net, sender, _, end = line_of_three(network, "peerValid")
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    assert end.messages == ["hello"]


def test_peer_invalid_stops_the_relay_and_charges_an_unsigned_message_to_the_neighbour(network):
    net, sender, _, end = line_of_three(network, "peerInvalid")
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    assert points(net, 1, net.nodes[0].address.host) == pytest.approx(10, abs=0.1)
    net.advance(10)
    assert end.messages == []


def test_peer_invalid_charges_a_signed_message_to_its_signer(network, stranger):
    """A ZeroNet node that passes it on can judge no more than we could."""
    net = network(2)
    site = net.site()
    net.connect_all()
    net.client(0, site, "peerInvalid")
    far, relay = net.client(1, site), stranger(net)
    relay.ask("peerBroadcast", relay.envelope(site, "hello", key=KEY))
    assert points(net, 0, f"key:{KEY.address}") == pytest.approx(10, abs=0.1)
    assert points(net, 0, "203.0.113.9") <= 0
    net.advance(10)
    assert far.messages == []


def test_peer_ignore_stops_the_relay_without_blame(network):
    net, sender, _, end = line_of_three(network, "peerIgnore")
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(10)
    assert end.messages == []
    assert points(net, 1, net.nodes[0].address.host) == 0


@pytest.mark.parametrize(
    ("verdicts", "relayed"),
    [
        (["peerInvalid", "peerValid", "peerValid"], True),
        (["peerInvalid", "peerInvalid", "peerValid"], False),
        (["peerInvalid", "peerValid"], True),  # half is not more than half
        (["peerInvalid", None], False),  # of those that judged
        (["peerIgnore", None], False),
        (["peerIgnore", "peerValid"], True),
        ([None, None, None], True),
    ],
)
def test_reject_needs_more_than_half_of_those_that_judged(network, verdicts, relayed):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    for verdict in verdicts:
        net.client(1, site, verdict)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(6)
    assert end.messages == (["hello"] if relayed else [])


def test_one_client_has_one_vote(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    loud, other = net.client(1, site, None), net.client(1, site, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    hash = loud.received()[0]["hash"]
    for _ in range(5):
        loud.call("peerInvalid", [hash])
    other.call("peerValid", [hash])
    net.advance(6)
    assert end.messages == ["hello"]


def test_a_client_of_another_site_has_no_vote(network):
    net = network(3)
    site, elsewhere = net.site(), net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    judge, meddler = net.client(1, site, None), net.client(1, elsewhere, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    hash = judge.received()[0]["hash"]
    assert meddler.ask("peerInvalid", [hash]) == "ok"
    net.advance(6)
    assert end.messages == ["hello"]
    assert points(net, 1, net.nodes[0].address.host) == 0


def test_a_client_that_leaves_is_not_waited_for(network):
    net, sender, middle, end = line_of_three(network, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(1)
    assert end.messages == []
    middle.close()
    net.advance(0.2)
    assert end.messages == ["hello"]


def test_a_vote_stays_when_its_client_leaves(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender, end = net.client(0, site), net.client(2, site)
    first, second = net.client(1, site, None), net.client(1, site, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    first.call("peerInvalid", [first.received()[0]["hash"]])
    first.close()
    second.close()
    net.advance(6)
    assert end.messages == []


def test_a_late_verdict_changes_nothing(network):
    net, sender, middle, end = line_of_three(network, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(6)
    assert middle.ask("peerInvalid", [middle.received()[0]["hash"]]) == "ok"
    assert end.messages == ["hello"]
    assert points(net, 1, net.nodes[0].address.host) == 0


def test_own_messages_need_no_verdict(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender, reader = net.client(0, site), net.client(1, site)
    net.client(0, site, None)
    sender.call("peerBroadcast", {"message": "hello"})
    net.advance(0.1)
    assert reader.messages == ["hello"]
    hash = sender.events[0][1]["hash"]
    assert sender.ask("peerInvalid", [hash]) == "ok"


# Spoilt and stripped copies


def test_a_spoilt_signature_first_does_not_shadow_the_good_copy(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    attacker, honest = stranger(net, host="203.0.113.66"), stranger(net)
    params = honest.envelope(site, "x", key=KEY)
    assert attacker.ask("peerBroadcast", spoilt(params)) == {"error": "Invalid signature"}
    assert honest.ask("peerBroadcast", params) == {"ok": "thx"}
    assert [event["signed_by"] for event in client.received()] == [KEY.address]
    assert points(net, 0, "203.0.113.66") == pytest.approx(7, abs=0.1)
    assert points(net, 0, "203.0.113.9") <= 0


def test_a_signature_in_anothers_name_is_refused(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    params = one.envelope(site, "x", key=KEY)
    signature = params["signature"].partition("|")[2]
    for bad in (f"{OTHER_KEY.address}|{signature}", f"{KEY.address}|", "|", signature, "x|y"):
        assert one.ask("peerBroadcast", {**params, "signature": bad}) == {
            "error": "Invalid signature"
        }
    assert one.ask("peerBroadcast", params) == {"ok": "thx"}


def test_a_stripped_signature_of_our_own_nodes_is_refused(network, stranger):
    net = network(2)
    site = net.site()
    net.connect_all()
    eavesdropper = stranger(net, 0)
    sender, reader = net.client(0, site), net.client(1, site)
    # The other node is not told, so that the stripped copy comes first.
    for link in list(net.nodes[1].node.pool.links):
        link.drop("test")
    net.advance(1)
    sender.call("peerBroadcast", {"message": "hello", "privatekey": False, "peer_count": 0})
    net.advance(0.5)
    (params,) = eavesdropper.asked("peerBroadcast")
    attacker = stranger(net, 1, host="203.0.113.66")
    # No error, and no points: a node with the plugin would pass it on in good faith.
    assert attacker.ask("peerBroadcast", {**params, "signature": ""}) == {
        "warning": "Invalid signature"
    }
    resigned = {
        **params,
        "signature": attacker.envelope(site, "", key=OTHER_KEY)["signature"],
    }
    assert attacker.ask("peerBroadcast", resigned) == {"warning": "Invalid signature"}
    assert points(net, 1, "203.0.113.66") == 0
    assert reader.messages == []
    assert attacker.ask("peerBroadcast", params) == {"ok": "thx"}
    assert reader.received()[0]["signed_by"] == net.nodes[0].users.default.auth_address(site)


def test_what_was_taken_as_unsigned_is_told_again_as_signed(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    one, witness = stranger(net), stranger(net, host="203.0.113.10")
    signed = one.envelope(site, "x", key=KEY)
    unsigned = {**signed, "signature": ""}
    assert one.ask("peerBroadcast", unsigned) == {"ok": "thx"}
    assert one.ask("peerBroadcast", unsigned) == {"warning": "Already received, thanks"}
    assert one.ask("peerBroadcast", spoilt(signed)) == {"error": "Invalid signature"}
    assert one.ask("peerBroadcast", signed) == {"ok": "thx"}
    assert one.ask("peerBroadcast", signed) == {"warning": "Already received, thanks"}
    assert one.ask("peerBroadcast", unsigned) == {"warning": "Already received, thanks"}
    assert [event["signed_by"] for event in client.received()] == ["", KEY.address]
    assert len({event["hash"] for event in client.received()}) == 1
    assert [params["signature"] for params in witness.asked("peerBroadcast")] == [
        "",
        signed["signature"],
    ]


def test_the_signed_copy_has_its_own_five_seconds(network, stranger):
    net = network(1)
    site = net.site()
    net.client(0, site, verdict=None)
    one, witness = stranger(net), stranger(net, host="203.0.113.10")
    signed = one.envelope(site, "x", key=KEY)
    one.request("peerBroadcast", {**signed, "signature": ""})
    net.advance(4)
    one.request("peerBroadcast", signed)
    net.advance(4)
    # Eight seconds after the first copy, four after the second.
    assert signed["signature"] not in [p["signature"] for p in witness.asked("peerBroadcast")]
    net.advance(1.5)
    assert signed["signature"] in [p["signature"] for p in witness.asked("peerBroadcast")]


def test_who_brought_the_unsigned_copy_pays_for_a_rejection_too(network, stranger):
    """Or each bad message could be shown twice for the price of one."""
    net = network(1)
    site = net.site()
    client = net.client(0, site, None)
    one = stranger(net, host="203.0.113.1")
    other = stranger(net, host="203.0.113.2", zeromsg={"version": 1})
    signed = one.envelope(site, "bad", key=KEY)
    assert one.ask("peerBroadcast", {**signed, "signature": ""}) == {"ok": "thx"}
    assert other.ask("peerBroadcast", signed) == {"ok": "thx"}
    assert client.messages == ["bad", "bad"]
    client.call("peerInvalid", [one.hash(signed)])
    net.advance(0.1)
    charged = {
        name: net.nodes[0].node.scoring.points(name, net.wall())
        for name in ("203.0.113.1", "203.0.113.2", f"key:{KEY.address}")
    }
    assert charged == dict.fromkeys(charged, 10.0)
    net.advance(6)
    assert net.nodes[0].node.delivery.waiting == 0


def test_one_message_has_one_signer_the_one_that_came_first(network, stranger):
    """A plugin node's raw names none; docs/protocol.md says why the other is not told."""
    net = network(1)
    site = net.site()
    client = net.client(0, site, None)
    one = stranger(net, host="203.0.113.1", zeromsg={"version": 1})
    other = stranger(net, host="203.0.113.2", zeromsg={"version": 1})
    first, second = (one.envelope(site, "x", key=key) for key in (OTHER_KEY, KEY))
    assert one.hash(first) == one.hash(second)
    assert one.ask("peerBroadcast", first) == {"ok": "thx"}
    assert other.ask("peerBroadcast", second) == {"warning": "Already received, thanks"}
    # The copy neither calls the verdict off nor has it fall on the author.
    client.call("peerInvalid", [one.hash(first)])
    points = net.nodes[0].node.scoring.points
    assert points("203.0.113.1", net.wall()) == points(f"key:{OTHER_KEY.address}", net.wall()) == 10
    assert points("203.0.113.2", net.wall()) == points(f"key:{KEY.address}", net.wall()) == 0
    assert [event["signed_by"] for event in client.received()] == [OTHER_KEY.address]


def test_another_form_of_the_same_signature_is_a_duplicate(network, stranger):
    """Signatures are malleable; they identify nothing."""
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    one = stranger(net)
    params = one.envelope(site, "x", key=KEY)
    address, _, signature = params["signature"].partition("|")
    body = base64.b64decode(signature)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = (order - int.from_bytes(body[33:])).to_bytes(32)
    flipped = bytes([27 + ((body[0] - 27) ^ 1)]) + body[1:33] + high_s
    other = {**params, "signature": f"{address}|{base64.b64encode(flipped).decode()}"}
    assert one.ask("peerBroadcast", other) == {"ok": "thx"}
    assert one.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    assert len(client.messages) == 1


def test_a_refusal_that_lies_in_raw_is_remembered(network, stranger):
    net = network(1)
    site = net.site({"filter": "^1$"})
    one = stranger(net)
    params = one.envelope(site, 2)
    assert "Invalid message" in one.ask("peerBroadcast", params)["error"]
    assert one.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    assert points(net, 0, "203.0.113.9") == pytest.approx(5, abs=0.1)


def test_a_rate_limit_does_not_shadow_a_message(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "freq_limit": 10})
    client = net.client(0, site)
    fast, other = stranger(net), stranger(net, host="203.0.113.10")
    fast.ask("peerBroadcast", fast.envelope(site, "1"))
    second = fast.envelope(site, "2")
    assert fast.ask("peerBroadcast", second) == {"warning": f"Too fast messages from {site}"}
    assert other.ask("peerBroadcast", second) == {"ok": "thx"}
    assert client.messages == ["1", "2"]


def test_a_question_may_not_be_broadcast_by_who_received_it(network, stranger):
    net = network(2)
    site = net.site()
    net.connect_all()
    asked = stranger(net, 0, port=1)
    sender, reader = net.client(0, site), net.client(1, site)
    sender.call("peerSend", {"ip": "203.0.113.9:1", "message": "for you alone"})
    net.advance(0.2)
    (params,) = asked.asked("peerSend")
    leak = stranger(net, 1)
    answer = leak.ask("peerBroadcast", params)
    assert answer == {"warning": "This message was not meant to be broadcast"}
    assert reader.messages == []
    # The plugin does not look at that: somebody else may have begun it.
    assert points(net, 1, "203.0.113.9") == 0


def test_a_broadcast_sent_as_a_question_does_not_stop_the_broadcast(network, stranger):
    """Taken as a question it would count as seen, and the node would not relay the real one."""
    net = network(2)
    site = net.site()
    net.connect_all()
    reader, far = net.client(0, site), net.client(1, site)
    attacker, honest = stranger(net, host="203.0.113.66"), stranger(net)
    params = honest.envelope(site, "x")
    answer = attacker.ask("peerSend", params)
    assert answer == {"warning": "This message was meant to be broadcast"}
    assert honest.ask("peerBroadcast", params) == {"ok": "thx"}
    assert reader.messages == far.messages == ["x"]
    assert reader.received()[0]["broadcast"] is True


# peerSend


def test_a_question_is_shown_but_not_relayed(network, stranger):
    net = network(2)
    site = net.site()
    net.connect_all()
    client, far = net.client(0, site), net.client(1, site)
    one = stranger(net)
    params = one.envelope(site, "q", broadcast=None)
    assert one.ask("peerSend", params) == {"ok": "thx"}
    net.advance(10)
    (event,) = client.received()
    assert event == {
        "ip": "203.0.113.9:40000",
        "hash": one.hash(params),
        "message": "q",
        "signed_by": "",
        "cert": "",
        "site": site,
        "broadcast": False,
        "timestamp": None,
        "user": None,
    }
    assert far.messages == []


def test_peer_invalid_on_a_question_is_charged_too(network, stranger):
    net = network(1)
    site = net.site()
    net.client(0, site, "peerInvalid")
    one = stranger(net)
    one.ask("peerSend", one.envelope(site, "q", broadcast=False))
    assert points(net, 0, "203.0.113.9") == pytest.approx(10, abs=0.1)


def test_a_reply_to_nothing_is_taken_and_not_shown(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    one = stranger(net)
    assert one.ask("peerSend", one.envelope(site, "r", to="0" * 64, broadcast=False)) == {
        "ok": "thx"
    }
    assert client.messages == []


# The site's rules


NOT_ALLOWED = f"Message signature is invalid: {OTHER_KEY.address} not in ['{KEY.address}']"

STRICT = {
    "filter": ".*ok.*",
    "size_limit": 20,
    "freq_limit": 5,
    "signed_only": [KEY.address],
    "cert_signers": {"zeroid.bit": [ISSUER.address]},
}


@pytest.mark.parametrize(
    ("message", "key", "text", "cost"),
    [
        ("no", KEY, "Invalid message for site {site}: no", 5),
        ({"a": None}, KEY, "Invalid message for site {site}: {{'a': None}}", 5),
        ("ok" + "x" * 20, KEY, "Too big message from {site}", 7),
        ("ok", OTHER_KEY, NOT_ALLOWED, 5),
    ],
)
def test_each_rule_has_its_text_and_points(network, stranger, message, key, text, cost):
    net = network(1)
    site = net.site(STRICT)
    one = stranger(net)
    answer = one.ask("peerBroadcast", one.envelope(site, message, key=key))
    assert answer == {"error": text.format(site=site)}
    assert points(net, 0, "203.0.113.9") == pytest.approx(cost, abs=0.1)


def test_an_unsigned_message_is_refused_where_all_must_sign(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "signed_only": True})
    one = stranger(net)
    answer = one.ask("peerBroadcast", one.envelope(site, "ok"))
    assert answer == {"error": "Not signed message"}
    assert points(net, 0, "203.0.113.9") == pytest.approx(5, abs=0.1)
    assert one.ask("peerBroadcast", one.envelope(site, "ok", key=OTHER_KEY)) == {"ok": "thx"}


def test_size_counts_the_message_as_pythons_json(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "size_limit": 8})
    one = stranger(net)
    assert one.ask("peerBroadcast", one.envelope(site, "é")) == {"ok": "thx"}  # "\u00e9" is 8
    assert one.ask("peerBroadcast", one.envelope(site, {"a": 1})) == {"ok": "thx"}
    assert "error" in one.ask("peerBroadcast", one.envelope(site, "éa"))
    assert "error" in one.ask("peerBroadcast", one.envelope(site, {"a": 10}))


def test_a_signed_sender_is_rated_by_its_key_and_not_by_the_neighbour(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "freq_limit": 5})
    one = stranger(net)
    assert one.ask("peerBroadcast", one.envelope(site, "1", key=KEY)) == {"ok": "thx"}
    assert one.ask("peerBroadcast", one.envelope(site, "2", key=OTHER_KEY)) == {"ok": "thx"}
    refused = one.ask("peerBroadcast", one.envelope(site, "3", key=KEY))
    assert refused == {"warning": f"Too fast messages from {site}"}
    net.advance(5)
    assert one.ask("peerBroadcast", one.envelope(site, "3", key=KEY)) == {"ok": "thx"}


def certified(one, site, message, issuer=ISSUER, name="alice", domain="zeroid.bit"):
    cert = Certificate("web", name, domain, "")
    cert = attrs.evolve(cert, cert_sign=sign(cert_subject(KEY.address, cert), issuer))
    return {**one.envelope(site, message, key=KEY), "cert": cert.to_wire()}


def test_a_certificate_names_the_user(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "cert_signers": {"zeroid.bit": [ISSUER.address]}})
    client = net.client(0, site)
    one = stranger(net)
    assert one.ask("peerBroadcast", certified(one, site, "x")) == {"ok": "thx"}
    (event,) = client.received()
    assert event["cert"] == "web/alice@zeroid.bit"
    assert event["user"] == {
        "address": KEY.address,
        "id": "alice@zeroid.bit",
        "provider": "zeroid.bit",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": OTHER_KEY},
        {"domain": "other.bit"},
        {"name": "alice/bob"},
    ],
)
def test_a_certificate_of_nobody_accepted_is_refused(network, stranger, change):
    net = network(1)
    site = net.site({"filter": ".*", "cert_signers": {"zeroid.bit": [ISSUER.address]}})
    one = stranger(net)
    good = certified(one, site, "x")
    bad = certified(one, site, "x", **change)
    if change == {"name": "alice/bob"}:
        bad["cert"] = ["web/alice", *good["cert"][1:]]
    assert one.ask("peerBroadcast", bad) == {"error": "Invalid signature certificate"}
    assert points(net, 0, "203.0.113.9") == pytest.approx(7, abs=0.1)
    # It lay in the certificate, not in the message.
    assert one.ask("peerBroadcast", good) == {"ok": "thx"}


@pytest.mark.parametrize("cert", [b"\xff", ["a"], "text", {"a": 1}, [None] * 4, [b"\xff"] * 4, 5])
def test_a_certificate_beside_no_signature_is_nobodys_business(network, stranger, cert):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    one, other = stranger(net), stranger(net, host="203.0.113.10")
    assert one.ask("peerBroadcast", {**one.envelope(site, "x"), "cert": cert}) == {"ok": "thx"}
    assert client.received()[0]["cert"] == ""
    assert other.asked("peerBroadcast")[0]["cert"] is None


def test_sites_without_rules_take_nothing(network, stranger):
    net = network(1)
    site = net.site(rules=None)
    one = stranger(net)
    text = f"Site {site} doesn't support P2P messages"
    assert one.ask("peerBroadcast", one.envelope(site, "x")) == {"error": text}
    assert one.ask("peerSend", one.envelope(site, "x", broadcast=False)) == {"error": text}
    assert points(net, 0, "203.0.113.9") == pytest.approx(10, abs=0.1)


def test_an_unknown_site_costs_nothing(network, stranger):
    net = network(1)
    net.site()
    one = stranger(net)
    answer = one.ask("peerBroadcast", one.envelope("1" + "a" * 30, "x"))
    assert answer == {"error": "Unknown site"}
    assert points(net, 0, "203.0.113.9") == 0


def test_a_site_that_comes_later_gets_the_message(network, stranger):
    net = network(1)
    site = net.site(holders=[])
    one = stranger(net)
    params = one.envelope(site, "x")
    assert one.ask("peerBroadcast", params) == {"error": "Unknown site"}
    folder = net._folder / "site0"
    net.nodes[0].node.add_site(site, folder, 10_000_000)
    client = net.client(0, site)
    assert one.ask("peerBroadcast", params) == {"ok": "thx"}
    assert client.messages == ["x"]


# What is no message


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"raw": 5, "nonce": "1", "signature": ""},
        {"raw": "{}", "signature": ""},
        {"raw": "{}", "nonce": "1", "signature": ["x"]},
        {"raw": "{}", "nonce": "1", "signature": "é"},
        {"raw": "{}", "nonce": "é", "signature": ""},
        {"raw": '"é"', "nonce": "1", "signature": ""},
        {"raw": "{}", "nonce": "1", "signature": "", "trace": None},
        {"raw": "{}", "nonce": "1", "signature": "", "trace": "1.2.3.4:5"},
        {"raw": "{}", "nonce": "1", "signature": ""},
        {"raw": "[]", "nonce": "1", "signature": ""},
        {"raw": "not json", "nonce": "1", "signature": ""},
        {"raw": '{"message": 1, "site": 5}', "nonce": "1", "signature": ""},
        {"raw": '{"message": ' + "9" * 9000 + ', "site": "x"}', "nonce": "1"},
    ],
)
def test_what_is_no_message_is_answered_and_costs_seven_points(network, stranger, params):
    net = network(1)
    net.site()
    one = stranger(net)
    for cmd in ("peerBroadcast", "peerSend"):
        answer = one.ask(cmd, params)
        assert set(answer) in ({"error"}, {"warning"})
    assert points(net, 0, "203.0.113.9") >= 6.9
    assert not one.lost


@pytest.mark.parametrize(
    "params",
    [
        {"raw": b"{}", "nonce": "1", "signature": ""},
        {"raw": "{}", "nonce": None, "signature": ""},
        {"raw": "{}", "nonce": "1" * 200, "signature": ""},
        {"raw": "{}", "nonce": "1,2", "signature": ""},
        {"raw": "{}", "nonce": "1", "signature": [], "trace": []},
        {"raw": "{}", "nonce": "1", "signature": "x" * 300},
        {"raw": "{}", "nonce": "1", "signature": "", "trace": [5]},
        {"raw": "x" * (64 * 1024 + 1), "nonce": "1", "signature": ""},
        {"raw": '{"message": NaN, "site": "x"}', "nonce": "1", "signature": ""},
        {"raw": '{"message": 1e999, "site": "x"}', "nonce": "1", "signature": ""},
        {"raw": '{"message": ' + "[" * 300 + "]" * 300 + ', "site": "x"}', "nonce": "1"},
        {"raw": '{"message": 1, "site": "x", "to": 5}', "nonce": "1", "signature": ""},
    ],
)
def test_what_the_plugin_takes_for_a_message_costs_who_passes_it_on_nothing(
    network, stranger, params
):
    net = network(1)
    net.site()
    plugin, ours = stranger(net), stranger(net, host="203.0.113.10", zeromsg={"version": 1})
    assert set(plugin.ask("peerBroadcast", params)) == {"warning"}
    assert points(net, 0, "203.0.113.9") == 0
    ours.ask("peerBroadcast", params)
    # A zeromsg node is as strict as we are.
    assert points(net, 0, "203.0.113.10") >= 6.9


def test_while_its_rules_are_on_their_way_a_site_charges_nobody(network, stranger):
    net = network(2)
    site = net.site(holders=[1])
    node = net.nodes[0].node
    node.add_site(site, None, 10_000_000)
    one = stranger(net, zeromsg={"version": 1})
    assert one.ask("peerBroadcast", one.envelope(site, "x")) == {"error": "Unknown site"}
    held = net.nodes[1].node.sites.get(site)
    node.sites.get(site).store_content("content.json", held.read("content.json", 0, 10_000)[0])
    assert one.ask("peerBroadcast", one.envelope(site, "x")) == {"error": "Unknown site"}
    assert points(net, 0, "203.0.113.9") == 0
    net.connect_all()
    net.advance(2)
    assert one.ask("peerBroadcast", one.envelope(site, "x")) == {"ok": "thx"}


def test_the_hash_may_have_an_integer_nonce(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    one = stranger(net)
    params = one.envelope(site, "x", nonce="77")
    assert one.ask("peerBroadcast", {**params, "nonce": 77}) == {"ok": "thx"}
    assert client.received()[0]["hash"] == one.hash(params)


# Blame


def test_a_hundred_points_cut_the_link_and_last_an_hour(network, stranger):
    net = network(1)
    site = net.site()
    attacker = stranger(net)
    for number in range(14):
        assert not attacker.lost
        bad = spoilt(attacker.envelope(site, number, key=KEY))
        assert attacker.ask("peerBroadcast", bad, 0.05) == {"error": "Invalid signature"}, number
    # The fifteenth is answered, so that the sender learns why.
    bad = spoilt(attacker.envelope(site, "x", key=KEY))
    assert attacker.ask("peerBroadcast", bad) == {"error": "Invalid signature"}
    net.advance(2)
    assert attacker.lost
    assert stranger(net) is None
    net.advance(3590)
    assert stranger(net) is None
    assert stranger(net, host="203.0.113.10") is not None
    net.advance(15)
    back = stranger(net)
    assert back is not None and back.ask("ping", {}) == {"body": b"Pong!"}


def test_a_ban_cuts_every_link_of_the_host(network, stranger):
    net = network(1)
    site = net.site()
    first, second = stranger(net), stranger(net, source_port=40001)
    other = stranger(net, host="203.0.113.10")
    for number in range(15):
        first.request("peerBroadcast", spoilt(first.envelope(site, number, key=KEY)))
    net.advance(3)
    assert first.lost and second.lost and not other.lost


def test_a_banned_peer_is_not_dialled_either(network, stranger, host_for):
    net = network(1)
    net.site()
    attacker = stranger(net, port=5)
    for _ in range(21):
        attacker.request("noSuchCommand", {})
    net.advance(3)
    assert attacker.lost
    accepting = host_for(net, PeerAddress.parse("203.0.113.9:5"))
    failures = []
    net.nodes[0].node.pool.link_to(PeerAddress.parse("203.0.113.9:5")).addErrback(failures.append)
    net.advance(1)
    assert "banned" in str(failures[0].value)
    assert accepting.strangers == []


def test_points_halve_in_ten_minutes(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    for number in range(14):  # 98 points
        one.request("peerBroadcast", spoilt(one.envelope(site, number, key=KEY)))
    net.advance(601)
    assert points(net, 0, "203.0.113.9") == pytest.approx(49, abs=0.5)
    one = stranger(net)
    for number in range(7):
        one.request("peerBroadcast", spoilt(one.envelope(site, f"again {number}", key=KEY)))
    net.advance(1)
    assert not one.lost


def test_the_clients_reject_a_signer_until_nobody_hears_it_any_more(network, stranger):
    """Cut off within ten messages, whoever passes them on, and no relay is blamed."""
    net = network(1)
    site = net.site()
    client = net.client(0, site, "peerInvalid")
    relay = stranger(net)
    for number in range(15):
        params = relay.envelope(site, number, nonce=str(number), key=KEY)
        assert relay.ask("peerBroadcast", params, 0.05) is not None
    assert len(client.messages) <= 10
    assert points(net, 0, "203.0.113.9") == 0 and not relay.lost
    honest = relay.envelope(site, "honest", key=OTHER_KEY)
    assert relay.ask("peerBroadcast", honest) == {"ok": "thx"}
    assert client.messages[-1] == "honest"


def test_replays_after_a_restart_are_still_duplicates(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    params = one.envelope(site, "x")
    assert one.ask("peerBroadcast", params) == {"ok": "thx"}
    net.advance(2)
    net.restart(0)
    client = net.client(0, site)
    again = stranger(net)
    assert again.ask("peerBroadcast", params) == {"warning": "Already received, thanks"}
    assert client.messages == []


# Anything at all

_leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
_anything = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_raw = st.fixed_dictionaries(
    {},
    optional={
        "message": st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=3),
        "site": st.sampled_from(["SITE", "1abc", ""]) | st.none(),
        "immediate": st.booleans() | st.none() | st.text(max_size=3),
        "peer_count": st.integers() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "broadcast": st.booleans() | st.none(),
        "timestamp": st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
        "to": st.text(max_size=70) | st.none() | st.integers(),
        "signer": st.text(max_size=40) | st.none() | st.integers(),
        "encrypted": st.none(),
    },
)  # fmt: skip
_envelope = st.fixed_dictionaries(
    {"raw": _raw.map(json.dumps) | _anything, "nonce": st.text(max_size=5) | _anything},
    optional={
        "signature": st.text(max_size=20) | _anything | st.just(f"{KEY.address}|AAAA"),
        "cert": _anything,
        "trace": st.lists(st.text(max_size=9), max_size=3) | _anything,
        "extra": _anything,
    },
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    params=st.lists(_envelope, min_size=1, max_size=4),
    cmd=st.sampled_from(["peerBroadcast", "peerSend"]),
)
def test_any_parameters_are_answered_without_an_error_in_the_log(stranger, errors, params, cmd):
    with Network(nodes=1, seed=1) as net:
        site = net.site()
        net.client(0, site)
        one = stranger(net)
        stranger(net, host="203.0.113.10")
        numbers = []
        for values in params:
            if isinstance(values["raw"], str):
                values = {**values, "raw": values["raw"].replace("SITE", site)}
            numbers.append(one.request(cmd, values))
        net.advance(6)
        assert all(number in one.answers for number in numbers)
        assert not one.lost
    assert errors == []


# What a real node said to 68 requests

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "peermessage.json").read_text())

UNANSWERED = "the real node's handler fails and it never answers; we say what is wrong"
SHADOWED = "a copy that somebody else spoilt does not make the good one a duplicate"
OWN_RATE = "a refused message starts no waiting time, and signed messages are rated by signer"
NO_BLAME = "who passes on messages of many cannot keep to the rate for all of them"

DELIBERATE = {
    "sig without pipe": ("Invalid signature", 7, UNANSWERED),
    "sig bad base64": ("Invalid signature", 7, UNANSWERED),
    "signature missing": ("ok", 0, "what is missing is not signed"),
    "nonce missing": ("nonce is no short text or whole number", 7, UNANSWERED),
    "raw as bin": ("raw is no text", 0, "its hash would be that of b'...', which nobody else has"),
    "raw as bin, signed": ("raw is no text", 0, "as without a signature"),
    "raw non-ascii": ("raw and nonce must be ASCII", 7, UNANSWERED),
    "raw not json": ("raw is no JSON", 7, UNANSWERED),
    "unknown site": ("Unknown site", 0, UNANSWERED),
    "unsafe filter pattern": ("Invalid message for site", 5, "RE2 runs any pattern in safety"),
    "cert 3 items": ("Invalid signature certificate", 7, UNANSWERED),
    "trace None": ("trace is no list", 7, UNANSWERED),
    "raw without message": ("raw is no JSON map with message and site", 7, UNANSWERED),
    "raw without site": ("raw is no JSON map with message and site", 7, UNANSWERED),
    "freq second at once": ("Too fast messages", 0, NO_BLAME),
    "freq: next valid one is too fast": ("ok", 0, OWN_RATE),
    "then the genuine copy": ("ok", 0, SHADOWED),
    "then the signed original": ("ok", 0, SHADOWED),
}


@attrs.define
class RuledSite:
    """A site of which only the rules matter (`interfaces.ISite`)."""

    address: str
    rules: object
    content: object = attrs.field(factory=dict)
    rules_problem: str = ""
    size_limit: int = 10_000_000
    own: bool = True

    def missing(self):
        return ()

    def missing_contents(self):
        return ()

    def version(self, inner_path):
        return None

    def modified_since(self, since):
        return {}

    def reload_if_changed(self):
        return False


def with_params(value):
    """msgpack bin is written as {"$bin": hex} in the vectors."""
    if isinstance(value, dict):
        if set(value) == {"$bin"}:
            return bytes.fromhex(value["$bin"])
        return {key: with_params(item) for key, item in value.items()}
    return [with_params(item) for item in value] if isinstance(value, list) else value


def test_what_a_real_node_answered(network, stranger):
    net = network(1)
    node = net.nodes[0].node
    for address, told in VECTORS["sites"].items():
        rules = told["p2p.json"]
        usable = rules is not None and "filter" in rules
        node.sites._sites[address] = RuledSite(address, parse_rules(rules) if usable else None)
    shared = stranger(net, host="203.0.113.200")
    met = set()
    for number, case in enumerate(VECTORS["cases"]):
        name = case["name"]
        one = shared
        if case["connection"] == "own":
            one = stranger(net, host=f"203.0.113.{number + 1}")
        if "after 3.1s" in name or name == "freq: bad signature still starts the clock":
            net.advance(3.1)
        host = one.transport.getHost().host
        before = points(net, 0, host)
        answer = one.ask(case["cmd"], with_params(case["params"]), seconds=0.1)
        cost = points(net, 0, host) - before
        assert answer is not None, name
        if name in DELIBERATE:
            text, expected_cost, _ = DELIBERATE[name]
            met.add(name)
            ((kind, said),) = answer.items()
            assert text in (kind if kind == "ok" else said), name
            if case["reply"] and "ok" in case["reply"]:
                # What it takes it passes on, and must not pay for.
                assert (kind, expected_cost) == ("warning", 0), name
            assert cost == pytest.approx(expected_cost, abs=0.05), name
            assert answer != case["reply"], f"{name} is no difference any more"
        else:
            assert answer == case["reply"], name
            assert cost == pytest.approx(case["bad_points"], abs=0.05), name
        if case["connection"] == "own":
            one.close()
    assert met == set(DELIBERATE)
