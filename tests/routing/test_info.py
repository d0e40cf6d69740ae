"""siteInfo and serverInfo: every key that zites read, and nothing that tells on the person."""

import hashlib
import json
from pathlib import Path

import pytest

from zeromsg import __version__
from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign
from zeromsg.testing.network import EPOCH

VECTOR = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ui" / "ws_client_python.json").read_text()
)


def recorded(cmd):
    """What the real node answered to the first call of a command."""
    steps = [step["msg"] for step in VECTOR["steps"] if "msg" in step]
    (call_id,) = [msg["id"] for msg in steps if msg["cmd"] == cmd][:1]
    return next(msg["result"] for msg in steps if msg["cmd"] == "response" and msg["to"] == call_id)


def shape(value):
    """Types of the leaves; numbers are one type, lists are of anything."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.fixture
def net(network):
    made = network(2)
    made.main = made.site(files={"a.txt": b"a", "dir/b.txt": b"bb"})
    made.connect_all()
    return made


def test_server_info_has_the_keys_and_types_of_a_real_node(net):
    info = net.client(0, net.main).ask("serverInfo")
    real = recorded("serverInfo")
    differing = {key for key in real if shape(info[key]) != shape(real[key])}
    # We do not know, and do not tell sites what would identify the person.
    assert differing == {"ip_external", "port_opened"}
    assert (info["ip_external"], info["port_opened"]) == (None, {"ipv4": None, "ipv6": None})
    assert set(info) - set(real) == {"zeromsg"}
    assert info["zeromsg"] == __version__


def test_server_info_says_what_zites_look_for(net):
    info = net.client(0, net.main).ask("serverInfo")
    assert "PeerMessage" in info["plugins"]
    assert (info["version"], info["rev"]) == ("0.7.2", 4555)
    assert info["fileserver_port"] == 26552
    assert (info["platform"], info["fileserver_ip"]) == ("", "")


def test_server_info_names_the_port_of_the_clients(net):
    node = net.nodes[0].node
    node.ui = ("127.0.0.1", 43110)
    info = net.client(0, net.main).ask("serverInfo")
    assert (info["ui_ip"], info["ui_port"]) == ("127.0.0.1", 43110)


def test_site_info_has_the_keys_and_types_of_a_real_node(net):
    info = net.client(0, net.main).ask("siteInfo")
    real = recorded("siteInfo")
    assert set(real) <= set(info)
    assert set(info) - set(real) == {"p2p"}
    differing = {
        key
        for key in real
        if key not in ("content", "settings") and shape(info[key]) != shape(real[key])
    }
    assert differing == {"content_updated"}  # null in the recording, a number where it is known
    settings, real_settings = info["settings"], real["settings"]
    assert set(settings) == set(real_settings)
    assert {key for key in settings if shape(settings[key]) != shape(real_settings[key])} == {
        "cache"  # "bad_files" was only there because the recorded site had some once
    }


def test_site_info_of_a_whole_site(net):
    info = net.client(0, net.main).ask("siteInfo")
    site = net.main
    assert info["address"] == site
    assert info["address_short"] == f"{site[:6]}..{site[-4:]}"
    assert info["address_hash"] == hashlib.sha256(site.encode()).hexdigest()
    assert info["auth_address"] == net.nodes[0].users.default.auth_address(site)
    assert info["privatekey"] is True
    assert info["cert_user_id"] is None
    assert (info["peers"], info["settings"]["peers"]) == (2, 1)
    assert (info["bad_files"], info["tasks"], info["workers"]) == (0, 0, 0)
    assert info["size_limit"] == pytest.approx(9.54, abs=0.01)
    assert info["settings"]["own"] is True
    assert info["settings"]["modified"] == info["content"]["modified"] == EPOCH
    rules = len('{"filter": ".*"}')
    assert info["settings"]["size"] == 3 + rules
    assert info["p2p"] == {"supported": True, "problem": ""}


def test_the_content_has_counts_and_no_signatures(net):
    content = net.client(0, net.main).ask("siteInfo")["content"]
    assert content["files"] == 3
    assert "sign" not in content and "signs" not in content
    assert content["postmessage_nonce_security"] is True
    assert content["title"] == "site0"


def test_no_key_is_told(net):
    node = net.nodes[0].node
    client = net.client(0, net.main)
    told = json.dumps([client.ask("siteInfo"), client.ask("serverInfo")])
    for secret in (
        node.key_of(net.main),
        net.site_key(net.main).wif,
        net.nodes[0].users.default.master_seed,
        net.nodes[0].users.default.master_address,
        str(net.nodes[0].folder),
    ):
        assert secret not in told


def test_a_site_of_which_nothing_is_here(network):
    net = network(1)
    site = net.site(holders=[])
    net.nodes[0].node.add_site(site, None, 10_000_000)
    info = net.client(0, site).ask("siteInfo")
    assert info["content"] == {}
    assert (info["bad_files"], info["settings"]["modified"], info["settings"]["size"]) == (1, 0, 0)
    assert info["content_updated"] is None
    assert info["settings"]["own"] is False and info["privatekey"] is False
    assert info["p2p"] == {
        "supported": False,
        "problem": "the site's content.json is not here yet",
    }


def test_a_site_without_rules_says_so(network):
    net = network(1)
    site = net.site(rules=None)
    info = net.client(0, site).ask("siteInfo")
    assert info["p2p"] == {"supported": False, "problem": "the site has no p2p.json"}


def test_the_selected_certificate_is_named(net):
    users = net.nodes[0].users.default
    issuer = PrivateKey(b"\x51" * 32)
    address = users.auth_address(net.main)
    cert = Certificate("web", "alice", "zeroid.bit", sign(f"{address}#web/alice", issuer))
    users.add_certificate(net.main, cert)
    users.set_certificate(net.main, "zeroid.bit")
    info = net.client(0, net.main).ask("siteInfo")
    assert info["cert_user_id"] == "alice@zeroid.bit"
    assert info["auth_address"] == address


@pytest.mark.parametrize(
    ("status", "event"),
    [("a.txt", ["file_done", "a.txt"]), ("content.json", ["file_done", "content.json"])],
)
def test_the_status_of_a_file_that_is_here(net, status, event):
    assert net.client(0, net.main).ask("siteInfo", [status])["event"] == event


@pytest.mark.parametrize("status", [None, "none.txt", "../a.txt"])
def test_the_status_of_a_file_that_is_not(net, status):
    assert "event" not in net.client(0, net.main).ask("siteInfo", {"file_status": status})


def test_site_info_of_odd_contents(network):
    """A content.json may hold anything beside what is checked."""
    net = network(1)
    site = net.site()
    held = net.nodes[0].node.sites.get(site)
    held._held["content.json"] = {
        "files": {"a": {"size": "big"}, "b": None, "c": {"size": 2}},
        "includes": [1, 2],
        "files_optional": None,
        "title": ["x"],
        "modified": 5,
        "signers_sign": "s",
    }
    info = net.client(0, site).ask("siteInfo")
    assert info["content"] == {
        "files": 3,
        "includes": 0,
        "files_optional": 0,
        "title": ["x"],
        "modified": 5,
    }
    assert info["settings"]["size"] == 2
