"""Who pays for a refused message: a ZeroNet node only for what its plugin would have refused."""

import msgpack
import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.shared_keys import group_key, shared_key
from zeromsg.policy.lenience import BURST, PER_SECOND
from zeromsg.policy.repeats import REPEAT_SECONDS
from zeromsg.routing.blame import key_identity

KEY = PrivateKey(b"\7" * 32)
HOST = "203.0.113.9"
ZEROMSG = {"zeromsg": {"version": 1}}


def points(net, identity=HOST):
    return net.nodes[0].node.scoring.points(identity, net.wall())


def group_rule():
    key = group_key(shared_key("11" * 32, "1" + "A" * 33), "1" + "A" * 33)
    return {"signed_only": {"group": key.compressed_public_key.hex()}}


RULES = {
    "schema": {"schema": {"type": "object"}},
    "group": group_rule(),
    "program": {"program": "size > 1000"},
    "age": {"max_age": 60},
    "rate": {"rate": {"per_peer": [1, 0.0001]}},
}
"""By the check, rules that the plugin does not know."""


def old(peer, site, number, **more):
    return peer.envelope(site, number, nonce=str(number + 1), timestamp=1.0, **more)


@pytest.mark.parametrize("check", RULES)
def test_a_zeronet_node_pays_nothing_for_rules_that_its_plugin_does_not_know(
    network, stranger, check
):
    net = network(1)
    site = net.site({"filter": ".*", **RULES[check]})
    one = stranger(net)
    answers = [one.ask("peerBroadcast", old(one, site, number), 0.05) for number in range(41)]
    assert all(set(answer) == {"warning"} for answer in answers[1:])
    assert net.nodes[0].node.inbound.counters.refused[check] >= 40
    assert points(net) <= 0 and not one.lost
    assert net.nodes[0].node.bans() == []


@pytest.mark.parametrize("check", ["schema", "group", "program"])
def test_a_zeromsg_node_knows_them_and_pays(network, stranger, check):
    net = network(1)
    site = net.site({"filter": ".*", **RULES[check]})
    one = stranger(net, **ZEROMSG)
    assert set(one.ask("peerBroadcast", old(one, site, 1))) == {"error"}
    assert points(net) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("rules", [{"size_limit": 2}, {"filter": "x"}, {"signed_only": True}])
def test_a_zeronet_node_pays_for_rules_that_its_plugin_knows(network, stranger, rules):
    net = network(1)
    site = net.site({"filter": ".*", **rules})
    one = stranger(net)
    assert set(one.ask("peerBroadcast", old(one, site, 1000))) == {"error"}
    assert points(net) >= 4.9


def test_who_signed_what_a_program_refuses_pays_for_it(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "program": "size > 1000"})
    one = stranger(net)
    for number in range(19):
        one.ask("peerBroadcast", old(one, site, number, key=KEY), 0.05)
    assert points(net, key_identity(KEY.address)) == pytest.approx(95, abs=0.5)
    one.ask("peerBroadcast", old(one, site, 19, key=KEY))
    assert [ban.identity for ban in net.nodes[0].node.bans()] == [key_identity(KEY.address)]
    answer = one.ask("peerBroadcast", old(one, site, 20, key=KEY))
    assert answer == {"warning": "The signer is banned here"}
    assert points(net) <= 0 and not one.lost


def test_nobody_pays_for_a_program_that_looks_at_the_past(network, stranger):
    net = network(1)
    program = {"accept": "message > counters.n", "counters": {"n": "message"}}
    site = net.site({"filter": ".*", "program": program})
    one = stranger(net)
    assert one.ask("peerBroadcast", old(one, site, 9, key=KEY)) == {"ok": "thx"}
    assert set(one.ask("peerBroadcast", old(one, site, 8, key=KEY))) == {"warning"}
    assert points(net) <= 0 and points(net, key_identity(KEY.address)) <= 0


# The same once more


def spoilt(peer, site, number):
    params = peer.envelope(site, number, nonce=str(number + 1), key=KEY)
    return {**params, "signature": params["signature"][:-8] + "AAAAAAA="}


def test_a_repeat_of_the_same_bytes_costs_nothing(network, stranger):
    """ZeroNet nodes send what is their own twice."""
    net = network(1)
    site = net.site({"filter": ".*", "signed_only": True})
    one = stranger(net)
    for number in range(5):
        params = old(one, site, number)
        assert one.ask("peerBroadcast", params, 0.05) == {"error": "Not signed message"}
        assert one.ask("peerBroadcast", params, 0.05) == {"warning": "Not signed message"}
    assert points(net) == pytest.approx(25, abs=0.5)


def test_what_differs_in_a_byte_is_no_repeat(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "cert_signers": {"a.bit": [KEY.address]}})
    one, other = stranger(net), stranger(net, host="203.0.113.10")
    good = one.envelope(site, "x", key=KEY)
    for signature in (spoilt(one, site, 1)["signature"], good["signature"][:-6] + "AAAAA="):
        params = {**good, "signature": signature}
        for answer in ("error", "warning"):
            assert set(one.ask("peerBroadcast", params, 0.05)) == {answer}
    certs = [["web", "a", "a.bit", "x"], ["web", "b", "a.bit", "x"]]
    for cert in certs:
        for answer in ("error", "warning"):
            assert set(one.ask("peerBroadcast", {**good, "cert": cert}, 0.05)) == {answer}
    assert set(other.ask("peerBroadcast", {**good, "cert": certs[0]})) == {"error"}
    assert points(net) == pytest.approx(28, abs=0.5)
    # A refusal does not stand in the way of the good one.
    assert one.ask("peerBroadcast", good) == {"ok": "thx"}


def test_a_repeat_is_one_for_a_minute(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    params = spoilt(one, site, 1)
    for answer in ("error", "warning"):
        assert set(one.ask("peerBroadcast", params)) == {answer}
    net.advance(REPEAT_SECONDS)
    assert set(one.ask("peerBroadcast", params)) == {"error"}
    assert points(net) == pytest.approx(14, abs=0.5)


def test_what_was_too_fast_or_too_early_is_looked_at_again(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "freq_limit": 2})
    one = stranger(net)
    one.ask("peerBroadcast", old(one, site, 1))
    later = old(one, site, 2)
    assert set(one.ask("peerBroadcast", later)) == {"warning"}
    net.advance(2)
    assert one.ask("peerBroadcast", later) == {"ok": "thx"}


def test_a_message_sent_by_the_wrong_command_is_taken_by_the_right_one(network, stranger):
    net = network(1)
    site = net.site()
    one = stranger(net)
    params = one.envelope(site, "x")
    assert set(one.ask("peerSend", params)) == {"warning"}
    assert one.ask("peerBroadcast", params) == {"ok": "thx"}


def test_a_zeromsg_node_does_not_repeat_itself(network, stranger):
    net = network(1)
    one = stranger(net, **ZEROMSG)
    params = spoilt(one, net.site(), 1)
    for _ in range(2):
        assert set(one.ask("peerBroadcast", params)) == {"error"}
    assert points(net) == pytest.approx(14, abs=0.5)


# Who hides behind that


@pytest.mark.parametrize("same", [False, True])
def test_who_brings_too_much_of_what_costs_nothing_has_to_wait(network, stranger, same):
    net = network(2)
    site = net.site({"filter": ".*", "schema": {"type": "object"}})
    net.connect_all()
    sender, reader = net.client(1, site), net.client(0, site)
    one = stranger(net)
    counters = net.nodes[0].node.inbound.counters
    written = 0
    for second in range(20):
        for _ in range(100):
            number = 0 if same else written
            one.request("peerBroadcast", one.envelope(site, number, nonce=str(number + 1)))
            written += 1
        net.advance(1)
        sender.call("peerBroadcast", {"message": {"n": second}, "peer_count": 0})
    net.advance(1)
    assert written == 2000
    # Two hundred at once, and twenty a second.
    assert counters.refused["schema"] <= BURST + PER_SECOND * 21 + 10
    assert [message["n"] for message in reader.messages] == list(range(20))
    # It is no ban: once it is quiet it is heard again, and what was refused shadows nothing.
    net.advance(90)
    assert net.nodes[0].node.bans() == [] and not one.lost
    assert counters.refused["schema"] == 2000
    assert one.ask("peerBroadcast", one.envelope(site, {"n": "good"})) == {"ok": "thx"}
    assert len(net.nodes[0].node.seen) == 21


def in_one_piece(one, site, count):
    one.write(
        b"".join(
            msgpack.packb(
                {
                    "cmd": "peerBroadcast",
                    "req_id": number + 1,
                    "params": one.envelope(site, number, nonce=str(number + 1)),
                }
            )
            for number in range(count)
        )
    )


def test_what_comes_in_one_piece_waits_too_and_is_answered_in_order(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "schema": {"type": "object"}})
    one = stranger(net)
    in_one_piece(one, site, 1000)
    net.advance(1)
    # Fewer where the machine took its time over them.
    assert 0 < net.nodes[0].node.inbound.counters.refused["schema"] <= BURST + PER_SECOND + 2
    net.advance(60)
    assert list(one.answers) == [0, *range(1, 1001)]


def test_who_leaves_while_it_has_to_wait_leaves_nothing_behind(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "schema": {"type": "object"}})
    one = stranger(net)
    in_one_piece(one, site, 1000)
    net.advance(1)
    one.close()
    net.advance(60)
    assert net.nodes[0].node.inbound.counters.refused["schema"] < 300
    assert not net.nodes[0].node.pool.links


def test_an_honest_relay_of_some_of_it_does_not_have_to_wait(network, stranger):
    net = network(1)
    site = net.site({"filter": ".*", "schema": {"type": "object"}})
    one = stranger(net)
    for number in range(300):
        assert one.ask("peerBroadcast", old(one, site, number), 0.06) is not None
