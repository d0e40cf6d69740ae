"""What the operator does with users, in a node that runs and on the file alone."""

import json
import os
from pathlib import Path

import pytest

from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import ClientError, ConfigError
from zeromsg.service.assembly import (
    FolderInUse,
    configured_passphrase,
    lock_folder,
    open_users,
    read_passphrase,
)
from zeromsg.service.config import Settings, UserSettings
from zeromsg.service.operator import operate
from zeromsg.service.user_admin import administer
from zeromsg.store.users import Users
from zeromsg.testing import Network

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "hd.json").read_text())
THEIRS = {
    user["master_address"]: {"master_seed": user["master_seed"], "sites": {}, "certs": {}}
    for user in VECTORS["users"][:2]
}
SECRET = "correct horse"
CERT = Certificate("web", "bob", "rigid.bit", "x")


@pytest.fixture
def net():
    with Network(nodes=1, seed=1) as net:
        net.main = net.site()
        yield net


@pytest.fixture
def users(net):
    return net.nodes[0].users


@pytest.fixture
def ask(net):
    def ask(cmd, **params):
        # Both ways it is JSON.
        params = json.loads(json.dumps(params))
        return json.loads(json.dumps(operate(net.nodes[0].node, cmd, params)))

    return ask


def refused(ask, cmd, **params):
    with pytest.raises(ClientError) as caught:
        ask(cmd, **params)
    return str(caught.value)


def seeds(users):
    return [user.master_seed for user in users.all()]


# Users


def test_a_new_user_can_be_used_at_once(net, users, ask):
    made = ask("user_new", name="bob")["user"]
    assert (made["name"], made["default"], made["sites"], made["certificates"]) == (
        "bob",
        False,
        0,
        [],
    )
    assert users.find("bob").master_address == made["master_address"]
    client = net.client(0, net.main, user=made["master_address"])
    assert client.ask("siteInfo")["auth_address"] == users.find("bob").auth_address(net.main)


def test_the_list_has_no_secret(users, ask):
    ask("user_new", name="bob")
    users.find("bob").add_certificate("1site", CERT)
    found = ask("user_list")
    assert [user["name"] for user in found["users"]] == ["", "bob"]
    assert [user["default"] for user in found["users"]] == [True, False]
    assert found["users"][1]["certificates"] == ["bob@rigid.bit"]
    assert found["sealed"] is False
    text = json.dumps(found)
    assert not any(seed in text for seed in seeds(users))


def test_refusals_of_new_users(ask):
    ask("user_new", name="bob")
    assert refused(ask, "user_new", name="bob").startswith("invalid: there is a user bob")
    for name in ("", "x y", 5, ["x"], "x" * 2000):
        assert refused(ask, "user_new", name=name).startswith("invalid: ")


def test_import_tells_what_became_of_each(users, ask):
    (first, data), (second, other) = THEIRS.items()
    assert ask("user_import", document={first: data})["users"] == [
        {"master_address": first, "outcome": "added", "reason": ""}
    ]
    found = ask("user_import", document={first: {**data, "certs": []}, second: other, "x": {}})
    outcomes = {user["master_address"]: user["outcome"] for user in found["users"]}
    assert outcomes == {first: "refused", second: "added", "x": "refused"}
    assert all(bool(user["reason"]) == (user["outcome"] == "refused") for user in found["users"])
    for document in (None, [], "x", {}):
        assert refused(ask, "user_import", document=document).startswith("invalid: ")


def test_export_gives_one_user_or_all(users, ask):
    bob = ask("user_new", name="bob")["user"]["master_address"]
    assert list(ask("user_export", user="bob")["document"]) == [bob]
    document = ask("user_export")["document"]
    assert [entry["master_seed"] for entry in document.values()] == seeds(users)
    assert refused(ask, "user_export", user="carol").startswith("invalid: this node has no user")


def test_only_export_gives_seeds(users, ask):
    for answer in (
        ask("user_list"),
        ask("user_new", name="bob"),
        ask("user_import", document=THEIRS),
        ask("user_passphrase", new=SECRET),
        ask("cert_list"),
    ):
        assert not any(seed in json.dumps(answer) for seed in seeds(users))


# The passphrase


def test_a_passphrase_is_set_changed_and_removed(users, ask):
    assert ask("user_passphrase", new=SECRET) == {"sealed": True}
    assert ask("user_list")["sealed"] is True
    assert refused(ask, "user_passphrase", new=None).startswith("denied: the users are under")
    assert refused(ask, "user_passphrase", old="wrong", new=None) == (
        "denied: the passphrase is wrong"
    )
    assert refused(ask, "user_passphrase", old=SECRET, new="short").startswith("invalid: ")
    assert users.opens_with(SECRET)
    assert ask("user_passphrase", old=SECRET, new="another horse") == {"sealed": True}
    assert users.opens_with("another horse")
    assert ask("user_passphrase", old="another horse", new=None) == {"sealed": False}


def test_seeds_of_a_sealed_file_take_the_passphrase(users, ask):
    ask("user_passphrase", new=SECRET)
    assert refused(ask, "user_export").startswith("denied: the users are under a passphrase")
    assert refused(ask, "user_export", passphrase="x") == "denied: the passphrase is wrong"
    assert ask("user_export", passphrase=SECRET)["document"] == users.export_users(users.all())


# Certificates


def test_certificates_are_listed_chosen_and_removed(net, users, ask):
    bob = users.new("bob")
    bob.add_certificate(net.main, CERT)
    watcher = net.client(0, net.main, user=bob.master_address)
    watcher.ask("channelJoin", ["siteChanged"])
    watcher.events.clear()
    assert ask("cert_list") == {"certificates": []}
    (entry,) = ask("cert_list", user="bob", site=net.main)["certificates"]
    assert (entry["domain"], entry["auth_user_name"], entry["selected"]) == (
        "rigid.bit",
        "bob",
        False,
    )
    assert ask("cert_select", user="bob", site=net.main, domain="rigid.bit") == {
        "selected": "rigid.bit"
    }
    assert bob.certificate(net.main) == CERT
    assert ask("cert_list", user="bob", site=net.main)["certificates"][0]["selected"] is True
    assert [params["event"] for cmd, params in watcher.events] == [["cert_changed", "rigid.bit"]]
    ask("cert_select", user="bob", site=net.main, domain=None)
    assert bob.certificate(net.main) is None
    assert ask("cert_remove", user="bob", domain="rigid.bit") == {"removed": "rigid.bit"}
    assert ask("cert_list", user="bob") == {"certificates": []}


def test_refusals_about_certificates(net, ask):
    assert refused(ask, "cert_select", site=net.main, domain="x.bit").startswith("invalid: no cert")
    assert refused(ask, "cert_remove", domain="x.bit").startswith("invalid: no cert")
    for params in ({}, {"site": 5}, {"site": net.main, "domain": 5}, {"user": "carol"}):
        assert refused(ask, "cert_select", **params).startswith("invalid: ")


# Keys and prompts


def test_the_key_of_a_site_is_kept(users, ask):
    key = PrivateKey(b"\x07" * 32)
    assert ask("site_key_add", key=key.wif) == {"site": key.address}
    assert users.default.site_key(key.address) == key
    for wrong in (None, "", "x", 5, key.wif[:-1]):
        answer = refused(ask, "site_key_add", key=wrong)
        assert answer.startswith("invalid: key") and key.wif[:-1] not in answer


def test_the_key_of_a_user(net, users, ask):
    node = net.nodes[0].node
    bob = users.new("bob").master_address
    default = users.default.master_address
    assert ask("user_key", site=net.main, user="bob") == {
        "key": node.key_of(net.main, bob),
        "master_address": bob,
    }
    for user in (None, default, default[:8]):
        assert ask("user_key", site=net.main, user=user)["key"] == node.key_of(net.main)
    assert refused(ask, "user_key", site=net.main, user="carol").startswith("invalid: this node")
    assert refused(ask, "user_key", site="1" + "e" * 30, user="bob").startswith("unsupported: ")
    assert refused(ask, "user_key", user="bob").startswith("invalid: site")


def test_prompts_are_shown_and_answered(net, ask):
    client = net.client(0, net.main)
    results = []
    client.call("certSelect").addCallback(results.append)
    (prompt,) = ask("prompts")["prompts"]
    assert (prompt["kind"], prompt["site"]) == ("select", net.main)
    assert refused(ask, "prompt_answer", id=prompt["id"], answer="x").startswith("invalid: ")
    assert refused(ask, "prompt_answer", id="x").startswith("invalid: no such question")
    assert refused(ask, "prompt_answer").startswith("invalid: id")
    # There is a choice, so it must be made.
    assert refused(ask, "prompt_answer", id=prompt["id"]) == (
        "invalid: the answers to choose from are ''"
    )
    assert ask("prompt_answer", id=prompt["id"], answer="") == {"answered": prompt["id"]}
    assert results == ["ok"]
    assert ask("prompts") == {"prompts": []}


def test_a_confirmation_needs_no_answer_spelled_out(net, users, ask):
    client = net.client(0, net.main)
    client.ask("certAdd", ["rigid.bit", "web", "bob", "first"])
    results = []
    for sign in ("second", "third"):
        client.call("certAdd", ["rigid.bit", "web", "bob", sign]).addCallback(results.append)
    second, third = (prompt["id"] for prompt in ask("prompts")["prompts"])
    ask("prompt_answer", id=third, no=True)
    ask("prompt_answer", id=second)
    assert results == [{"error": "denied: the person did not agree"}, "ok"]
    owned = users.default.certificates()["rigid.bit"]
    assert owned.certificate.cert_sign == "second"


def test_a_file_that_cannot_be_written_is_no_crash(users, ask, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zeromsg.store.users.write_private", fail)
    assert "cannot be written: No space" in refused(ask, "user_new", name="bob")
    assert len(users.all()) == 1


# Without a node


def test_the_file_alone(tmp_path):
    users = Users(tmp_path / "users.json", os.urandom, create=False)
    assert administer(users, "user_list", {}) == {"users": [], "sealed": False}
    with pytest.raises(ClientError, match="there is no user to export"):
        administer(users, "user_export", {})
    with pytest.raises(ClientError, match="there is no user yet"):
        administer(users, "cert_list", {})
    made = administer(users, "user_new", {"name": "bob"})
    assert made is not None and made["user"]["default"] is True
    assert administer(users, "bans", {}) is None


# Where the passphrase comes from


def settings_for(folder, **users):
    return Settings(data_dir=folder / "data", users=UserSettings(**users))


def secret_file(folder, content=None, mode=0o600):
    path = folder / "secret"
    path.write_bytes(SECRET.encode() if content is None else content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_file_holds_it(tmp_path, end, mode):
    path = secret_file(tmp_path, f"{SECRET} ü{end}".encode(), mode)
    settings = settings_for(tmp_path, passphrase_file=path)
    assert configured_passphrase(settings) == f"{SECRET} ü"
    assert configured_passphrase(settings_for(tmp_path)) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected a passphrase"),
        (b"\n", "expected a passphrase"),
        (b"a\nb", "on one line"),
        (b"x" * 1025, "at most 1024"),
        (b"x" * 10_000_000, "at most 1024"),
        (b"\xff", "UTF-8"),
    ],
    ids=["empty", "blank", "lines", "long", "huge", "bytes"],
)
def test_files_that_hold_none(tmp_path, content, complaint):
    path = secret_file(tmp_path, content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_passphrase(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_file_that_everybody_may_read(tmp_path, mode):
    path = secret_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match="everybody may read it: chmod o-rwx it"):
        read_passphrase(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        open_users(settings_for(tmp_path, passphrase_file=tmp_path / "none"))


def test_a_node_opens_a_sealed_file(tmp_path):
    plain = settings_for(tmp_path)
    sealed = settings_for(tmp_path, passphrase_file=secret_file(tmp_path))
    seed = open_users(plain).default.master_seed
    open_users(plain).set_passphrase(SECRET)
    assert open_users(sealed).default.master_seed == seed
    assert open_users(plain, SECRET).default.master_seed == seed
    with pytest.raises(ConfigError, match="it is under a passphrase"):
        open_users(plain)
    # What somebody said goes before what a file says.
    with pytest.raises(ConfigError, match="the passphrase is wrong"):
        open_users(sealed, "wrong horse")


def test_a_folder_is_held_once(tmp_path):
    held = lock_folder(tmp_path)
    with pytest.raises(FolderInUse):
        lock_folder(tmp_path)
    held.close()
    lock_folder(tmp_path).close()
