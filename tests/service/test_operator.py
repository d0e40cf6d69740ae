"""What the operator of a node can ask of it, and tell it."""

import json

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import ClientError
from zeromsg.policy.capability import Evidence
from zeromsg.policy.peer_book import Source
from zeromsg.policy.scoring import BAN_SECONDS, LONGEST_BAN
from zeromsg.service.operator import operate
from zeromsg.testing import Network
from zeromsg.testing.network import EPOCH
from zeromsg.wire.values import PeerAddress

HOST = "203.0.113.9"


@pytest.fixture
def net():
    with Network(nodes=2, seed=1) as net:
        yield net


@pytest.fixture
def ask(net):
    def ask(cmd, **params):
        answer = operate(net.nodes[1].node, cmd, params)
        # It goes out as JSON.
        return json.loads(json.dumps(answer))

    return ask


def refused(ask, cmd, **params):
    with pytest.raises(ClientError) as caught:
        ask(cmd, **params)
    return str(caught.value)


def test_why_shows_everything(net, ask):
    site = net.site()
    net.connect_all()
    net.client(1, site)
    sent = net.client(0, site).ask("peerBroadcast", {"message": "x"})
    net.advance(1)
    found = ask("why", hash=sent["hash"])
    assert (found["site"], found["fate"], found["verdict"]) == (site, "accepted", "accept")
    assert found["from"] == [net.nodes[0].name]
    assert [check["check"] for check in found["checks"]][:2] == ["seen", "site"]


@pytest.mark.parametrize("hash", ["0" * 64, "0" * 8])
def test_why_of_an_unknown_message(ask, hash):
    assert refused(ask, "why", hash=hash).startswith("invalid: this node knows nothing")


@pytest.mark.parametrize("hash", ["zz" * 8, "0", "0" * 7, "0" * 65])
def test_why_of_what_is_no_hash(ask, hash):
    assert refused(ask, "why", hash=hash).startswith("invalid: hash must be 64 hex digits")


def test_why_takes_the_beginning_of_a_hash(net, ask):
    node = net.nodes[1].node
    for digest in ("1234567890" + "0" * 54, "12345678ab" + "0" * 54, "ab" * 32):
        node.recorder.record(bytes.fromhex(digest), 5.0)
    assert ask("why", hash="ABABABAB")["hash"] == "ab" * 32
    assert ask("why", hash="123456789")["hash"].startswith("1234567890")
    assert "several messages" in refused(ask, "why", hash="12345678")


def test_a_ban_by_hand_cuts_off_at_once_and_survives_a_restart(net, ask):
    net.site()
    net.connect_all()
    host = net.nodes[0].address.host
    assert ask("bans") == {"bans": []}
    assert ask("ban", identity=host, seconds=100, reason="noise") == {"banned": host}
    net.advance(1)
    assert not net.nodes[0].node.pool.links
    (ban,) = ask("bans")["bans"]
    until = net.wall() - 1 + 100
    assert ban == {"identity": host, "until": until, "strikes": 1, "reason": "noise"}
    net.restart(1)
    assert ask("bans")["bans"] == [ban]
    net.connect(0, 1)
    net.advance(3)
    assert not net.nodes[1].node.pool.links
    net.advance(110)
    assert ask("bans") == {"bans": []}
    net.connect(0, 1)
    net.advance(3)
    assert net.nodes[1].node.pool.links


def test_a_pardon_ends_it_for_good(net, ask):
    net.site()
    host = net.nodes[0].address.host
    ask("ban", identity=host)
    assert ask("pardon", identity=host) == {"pardoned": True}
    assert ask("pardon", identity=host) == {"pardoned": False}
    net.restart(1)
    assert ask("bans") == {"bans": []}
    net.connect(0, 1)
    net.advance(3)
    assert net.nodes[1].node.pool.links


def test_a_pardon_forgets_points(net, ask):
    node = net.nodes[1].node
    node.blame.charge(HOST, 90, "test")
    assert ask("pardon", identity=HOST) == {"pardoned": False}
    node.blame.charge(HOST, 90, "test")
    assert ask("bans") == {"bans": []}


def test_a_signer_can_be_banned(net, ask):
    site = net.site()
    net.connect_all()
    author, reader = net.client(0, site), net.client(1, site)
    ask("ban", identity=f"key:{net.nodes[0].node.users.default.auth_address(site)}")
    author.call("peerBroadcast", {"message": "x", "privatekey": False})
    author.call("peerBroadcast", {"message": "y"})
    net.advance(1)
    assert reader.messages == ["y"]


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(1, 1.0), (0.5, 0.5), (1e300, LONGEST_BAN), (10**400, LONGEST_BAN), (None, BAN_SECONDS)],
)
def test_seconds_of_a_ban(net, ask, seconds, kept):
    ask("ban", identity=HOST, **({} if seconds is None else {"seconds": seconds}))
    (ban,) = ask("bans")["bans"]
    assert ban["until"] - net.wall() == kept
    assert ban["reason"] == "by hand"


@pytest.mark.parametrize("seconds", [0, -1, True, "60", None, [60], float("nan"), -(10**400)])
def test_seconds_that_are_none(ask, seconds):
    assert refused(ask, "ban", identity=HOST, seconds=seconds).startswith("invalid: seconds")
    assert ask("bans") == {"bans": []}


@pytest.mark.parametrize(
    "identity",
    [
        "nonsense!!",
        "192.0.2.7:26552",
        "node.example",
        "key:",
        "key:nobody",
        "192.0.2.0/24",
        "a.onion",
    ],
)
def test_what_is_nobodys_identity_cannot_be_banned(net, ask, identity):
    assert refused(ask, "ban", identity=identity).startswith("invalid: identity: ")
    assert ask("bans") == {"bans": []}
    # What an older version took can still be taken back.
    assert ask("pardon", identity=identity) == {"pardoned": False}


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("2001:DB8::0:7", "2001:db8::7"),
        (f"{'B' * 56}.onion", None),
        ("65fmn45keaxuul7n.onion", "65fmn45keaxuul7n.onion"),
        ("key:1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D", "key:1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"),
        (
            "VWW6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion",
            "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion",
        ),
    ],
)
def test_bans_are_kept_as_peers_are_known(net, ask, text, identity):
    if identity is None:
        refused(ask, "ban", identity=text)
        return
    assert ask("ban", identity=text) == {"banned": identity}
    assert ask("pardon", identity=text) == {"pardoned": True}


@pytest.mark.parametrize("identity", ["", "x" * 101, None, 5, ["x"], {}])
@pytest.mark.parametrize("cmd", ["ban", "pardon"])
def test_identities_that_are_none(ask, cmd, identity):
    assert refused(ask, cmd, identity=identity).startswith("invalid: identity")


def test_what_is_missing_or_too_long(ask):
    assert refused(ask, "why").startswith("invalid: hash")
    assert refused(ask, "ban").startswith("invalid: identity")
    assert refused(ask, "ban", identity=HOST, reason="x" * 201).startswith("invalid: reason")
    assert ask("bans") == {"bans": []}


@pytest.mark.parametrize("cmd", ["", "Why", "stop", "peerBroadcast"])
def test_other_commands_do_not_exist(ask, cmd):
    assert refused(ask, cmd) == "unsupported: the operator has no such command"


def test_user_ids_are_listed_and_settled(net, ask):
    site = net.site()
    signers = net.nodes[1].node.signers
    bob, eve = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
    for number, key in enumerate((bob, eve)):
        signers.met(site, key.address, key.public_key, "bob@a.bit", float(number))
    assert ask("identities", site=site)["identities"] == [
        {"id": "bob@a.bit", "address": bob.address, "first": 0.0},
        {"id": "bob@a.bit", "address": eve.address, "first": 1.0},
    ]
    kept = {"site": site, "id": "bob@a.bit", "address": eve.address}
    assert ask("identity_keep", **kept) == {"kept": eve.address}
    assert len(ask("identities", site=site)["identities"]) == 1
    assert refused(ask, "identity_keep", **kept).startswith("invalid: ")
    assert refused(ask, "identities").startswith("invalid: ")


def test_the_longest_user_id_can_be_settled(net, ask):
    site, longest = net.site(), f"{'b' * 255}@{'a' * 255}"
    keys = [PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)]
    for key in keys:
        net.nodes[1].node.signers.met(site, key.address, key.public_key, longest, 0.0)
    kept = {"site": site, "id": longest, "address": keys[0].address}
    assert ask("identity_keep", **kept) == {"kept": keys[0].address}


def test_peers_of_a_site(net, ask):
    site, other = net.site(), net.site()
    net.connect_all()
    node = net.nodes[1].node
    told = PeerAddress("203.0.113.50", 5)
    node.site_peers.found(site, [told], Source.TRACKER, "a tracker")
    node.capabilities.learn(told, Evidence.UNKNOWN, net.wall())
    node.book.failed(told, net.rng, net.wall())
    net.advance(100)
    connected, heard = ask("peers", site=site)["peers"]
    assert connected["peer"] == net.nodes[0].name and connected["site"] == site
    assert (connected["connected"], connected["capable"]) == (True, True)
    assert connected["how"] == "handshake" and connected["last_seen"] == net.wall()
    assert set(connected["sources"]) & {"connected", "asked-us"}
    assert heard == {
        "site": site,
        "peer": str(told),
        "connected": False,
        "capable": False,
        "how": "answered-unknown",
        "sources": {"tracker": [EPOCH + 2, EPOCH + 2]},
        "since": EPOCH + 2,
        "last_seen": None,
        "told_by": "a tracker",
        "successes": 0,
        "failures": 1,
        "retry_at": heard["retry_at"],
    }
    assert EPOCH < heard["retry_at"] < EPOCH + 20
    assert {entry["site"] for entry in ask("peers")["peers"]} == {site, other}
    assert refused(ask, "peers", site="1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D").startswith(
        "unsupported: "
    )
    assert refused(ask, "peers", site=5).startswith("invalid: ")


def test_a_peer_with_a_closed_port_is_shown_too():
    with Network(nodes=2, seed=1, closed=[0]) as net:
        site = net.site()
        net.connect(0, 1)
        net.advance(2)
        (entry,) = operate(net.nodes[1].node, "peers", {"site": site})["peers"]
        assert entry["connected"] and entry["capable"] and entry["since"] is None
        assert entry["sources"] == {} and entry["peer"].startswith("198.18.0.1:")
