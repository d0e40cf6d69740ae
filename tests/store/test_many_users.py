"""Several users in one users.json: names, finding, import, export, a passphrase over all."""

import itertools
import json
import stat
from pathlib import Path

import pytest

from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.container import is_container
from zeromsg.errors import ClientError, ConfigError
from zeromsg.store import users as users_module
from zeromsg.store.user import CERTIFICATES_LIMIT, NAME_MEMBER
from zeromsg.store.users import DOCUMENT_LIMIT, FILE_LIMIT, Imported, Users, is_sealed

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "hd.json").read_text())
SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
CERT = Certificate("web", "alice", "zeroid.bit", "c2lnbmVk")
CHEAP = 1 << 10
SECRET = "correct horse"

THEIRS = {
    user["master_address"]: {
        "master_seed": user["master_seed"],
        "sites": {},
        "certs": {},
        "settings": {"theme": "dark"},
    }
    for user in VECTORS["users"][:2]
}


def entropy_from(first):
    numbers = itertools.count(first)
    return lambda count: next(numbers).to_bytes(1) * count


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "users.json"


@pytest.fixture
def users(path):
    return Users(path, entropy_from(1))


def again(path, passphrase=None):
    return Users(path, entropy_from(200), passphrase, cost=CHEAP)


def addresses(users):
    return [user.master_address for user in users.all()]


def refused(call, *arguments):
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return str(caught.value)


# New ones


def test_a_new_user_comes_last_and_survives(path, users):
    first = users.default
    bob = users.new("bob")
    plain = users.new()
    assert len({first.master_seed, bob.master_seed, plain.master_seed}) == 3
    assert (bob.name, plain.name, first.name) == ("bob", "", "")
    reader = again(path)
    assert addresses(reader) == [user.master_address for user in (first, bob, plain)]
    assert reader.default.master_address == first.master_address
    assert reader.find("bob").master_seed == bob.master_seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_stands_where_zeronet_leaves_it_alone(path, users):
    bob = users.new("bob")
    filed = json.loads(path.read_text())[bob.master_address]
    assert filed == {
        "master_seed": bob.master_seed,
        "sites": {},
        "certs": {},
        "settings": {},
        NAME_MEMBER: "bob",
    }


def test_a_change_of_one_user_leaves_the_others(path, users):
    bob = users.new("bob")
    assert bob.add_certificate(SITE, CERT) == "added"
    bob.set_certificate(SITE, "zeroid.bit")
    users.new("carol")
    reader = again(path)
    assert reader.find("bob").certificate(SITE) == CERT
    assert reader.find("bob").name == "bob"
    assert reader.default.certificates() == {}


@pytest.mark.parametrize(
    "name", ["", " ", "-x", "x y", "x/y", "a" * 25, "ä", "x\n", ".", "<b>", "1" * 34]
)
def test_names_that_are_none(users, name):
    assert refused(users.new, name).startswith("invalid: a user's name is")
    assert len(users.all()) == 1


def test_a_name_is_given_once(users):
    users.new("Bob")
    assert refused(users.new, "bob") == "invalid: there is a user bob already"
    assert len(users.all()) == 2


def test_there_is_a_most(users, monkeypatch):
    monkeypatch.setattr(users_module, "USERS_LIMIT", 2)
    users.new()
    assert refused(users.new) == "too-big: a node has at most 2 users"
    assert len(users.all()) == 2


@pytest.mark.parametrize("name", [5, None, "", "x y", ["bob"], "1" * 34])
def test_an_unusable_name_in_the_file_is_no_name(path, name):
    (address, data), *_ = THEIRS.items()
    path.parent.mkdir()
    path.write_text(json.dumps({address: {**data, NAME_MEMBER: name}}))
    assert again(path).default.name == ""


# Finding


def test_finding(users):
    bob = users.new("bob")
    assert users.find("bob") is bob
    assert users.find(bob.master_address) is bob
    assert users.find(bob.master_address[:-1]) is bob
    for text in ("", "Bob", "bo", bob.master_address[:3], bob.master_address + "1", "x" * 500):
        assert refused(users.find, text).startswith("invalid: this node has no user")


def test_a_beginning_that_fits_two(path):
    users = Users(path, entropy_from(1))
    while True:
        new = users.new()
        same = [user for user in users.all() if user.master_address[:2] == new.master_address[:2]]
        if len(same) > 1:
            break
    users_module_length = users_module.PREFIX_LENGTH
    assert users_module_length > 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users_module, "PREFIX_LENGTH", 2)
        assert "several users" in refused(users.find, new.master_address[:2])
        assert users.find(new.master_address) is new


def test_a_name_goes_before_an_address(users):
    bob = users.new()
    other = users.new(bob.master_address[:6])
    assert users.find(bob.master_address[:6]) is other
    assert users.find(bob.master_address[:7]) is bob


def test_two_of_one_name_in_the_file_are_ambiguous(path):
    path.parent.mkdir()
    document = {address: {**data, NAME_MEMBER: "bob"} for address, data in THEIRS.items()}
    path.write_text(json.dumps(document))
    assert "several users" in refused(again(path).find, "bob")


# Without a file


def test_nothing_is_made_unasked(path):
    users = Users(path, entropy_from(1), create=False)
    assert users.all() == []
    assert not path.exists()
    first = users.new("bob")
    assert again(path).default.master_address == first.master_address


# Import and export


def test_import_of_a_zeronet_file(path, users):
    first = users.default.master_address
    results = users.import_users(THEIRS)
    assert results == [Imported(address, "added") for address in THEIRS]
    reader = again(path)
    assert addresses(reader) == [first, *THEIRS]
    vector = VECTORS["users"][1]
    imported = reader.find(vector["master_address"])
    assert imported.auth_address(vector["sites"][0]["site"]) == vector["sites"][0]["auth_address"]
    assert (
        json.loads(path.read_text())[vector["master_address"]] == THEIRS[vector["master_address"]]
    )
    assert users.import_users(THEIRS) == [Imported(address, "here") for address in THEIRS]


def test_what_is_here_is_never_overwritten(path, users):
    users.import_users(THEIRS)
    (address, data), (second, _) = THEIRS.items()
    users.find(address).add_certificate(SITE, CERT)
    before = path.read_text()
    results = users.import_users({address: data, second: {**THEIRS[second], NAME_MEMBER: "x"}})
    assert [result.outcome for result in results] == ["refused", "here"]
    assert results[0].reason == "this user is here with other keys or certificates, which stay"
    assert path.read_text() == before


def test_unusable_users_are_refused_and_the_others_taken(path, users):
    (address, data), (second, other) = THEIRS.items()
    document = {
        address: {**data, "master_seed": other["master_seed"]},
        "x": 5,
        "1" * 200: {},
        second: other,
    }
    results = {result.name: result for result in users.import_users(document)}
    assert results[second].outcome == "added"
    assert results[address].reason.endswith("master_seed belongs to another address")
    assert results["x"].reason == "this is no object"
    assert results["1" * 80].outcome == "refused"
    assert addresses(again(path))[1:] == [second]
    text = " ".join(result.reason for result in results.values())
    assert data["master_seed"] not in text and other["master_seed"] not in text


@pytest.mark.parametrize("name", ["Bob", 5, "x y", None])
def test_a_name_that_cannot_stay_goes(users, name):
    users.new("bob")
    (address, data), *_ = THEIRS.items()
    (result,) = users.import_users({address: {**data, NAME_MEMBER: name}})
    assert (result.outcome, bool(result.reason)) == ("added", True)
    assert users.find(address).name == ""


def test_two_of_one_name_in_one_import(users):
    document = {address: {**data, NAME_MEMBER: "bob"} for address, data in THEIRS.items()}
    results = users.import_users(document)
    assert [(result.outcome, bool(result.reason)) for result in results] == [
        ("added", False),
        ("added", True),
    ]
    assert users.find("bob").master_address == next(iter(THEIRS))


@pytest.mark.parametrize("document", [None, [], {}, "x", 5, [THEIRS]])
def test_what_is_no_users_file(users, document):
    assert refused(users.import_users, document).startswith("invalid: this is no users.json")


def test_a_sealed_file_is_not_imported(users):
    answer = refused(users.import_users, {"zeromsg_sealed": 1})
    assert "under a passphrase" in answer


def test_export_goes_back_in(tmp_path, path, users):
    users.import_users(THEIRS)
    bob = users.new("bob")
    bob.add_certificate(SITE, CERT)
    document = json.loads(json.dumps(users.export_users(users.all())))
    assert document == json.loads(path.read_text())
    elsewhere = Users(tmp_path / "other.json", entropy_from(99), create=False)
    assert {result.outcome for result in elsewhere.import_users(document)} == {"added"}
    assert addresses(elsewhere) == addresses(users)
    assert elsewhere.find("bob").certificates() == bob.certificates()
    assert list(users.export_users([bob])) == [bob.master_address]


def test_what_is_exported_is_a_copy(users):
    document = users.export_users(users.all())
    document[users.default.master_address]["master_seed"] = "x"
    assert users.default.master_seed == "01" * 32


# Certificates


def test_certificates_have_a_most(users):
    bob = users.new("bob")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeromsg.store.user.CERTIFICATES_LIMIT", 2)
        for domain in ("a.bit", "b.bit"):
            bob.add_certificate(SITE, Certificate("web", "x", domain, ""))
        answer = refused(bob.add_certificate, SITE, Certificate("web", "x", "c.bit", ""))
        assert answer.startswith("too-big")
        # Of those that are there one may still be replaced.
        other = Certificate("web", "y", "a.bit", "")
        assert bob.add_certificate(SITE, other, replace=True) == "added"
    assert CERTIFICATES_LIMIT == 200


def test_a_certificate_can_be_forgotten(path, users):
    bob = users.new("bob")
    plain = bob.auth_address(SITE)
    bob.add_certificate(SITE, CERT)
    bob.set_certificate(SITE, "zeroid.bit")
    bob.remove_certificate("zeroid.bit")
    for user in (bob, again(path).find("bob")):
        assert (user.certificates(), user.certificate(SITE)) == ({}, None)
        assert user.auth_address(SITE) == plain
    assert refused(bob.remove_certificate, "zeroid.bit") == "invalid: no certificate of zeroid.bit"


# Under a passphrase


def test_a_passphrase_hides_everything(path, users):
    seed = users.default.master_seed
    users.set_passphrase(SECRET)
    text = path.read_text()
    assert users.sealed and is_sealed(path) and is_container(json.loads(text))
    assert seed not in text and users.default.master_address not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["users.json"]
    assert again(path, SECRET).default.master_seed == seed


@pytest.fixture
def sealed(path):
    users = Users(path, entropy_from(1), cost=CHEAP)
    users.set_passphrase(SECRET)
    return users


def test_it_stays_through_changes(path, sealed):
    sealed.new("bob")
    sealed.default.add_certificate(SITE, CERT)
    nonce = json.loads(path.read_text())["nonce"]
    reader = again(path, SECRET)
    assert reader.find("bob").master_address == sealed.find("bob").master_address
    reader.new("carol")
    assert is_sealed(path)
    assert json.loads(path.read_text())["nonce"] != nonce
    assert again(path, SECRET).find("carol")


def test_it_can_be_changed_and_taken_away(path, sealed):
    seed = sealed.default.master_seed
    sealed.set_passphrase("another horse")
    assert sealed.opens_with("another horse") and not sealed.opens_with(SECRET)
    with pytest.raises(ConfigError, match="the passphrase is wrong"):
        again(path, SECRET)
    assert again(path, "another horse").default.master_seed == seed
    sealed.set_passphrase(None)
    assert not sealed.sealed and not is_sealed(path) and not sealed.opens_with(SECRET)
    assert again(path).default.master_seed == seed


@pytest.mark.parametrize("passphrase", ["", "1234567", "x" * 1025])
def test_passphrases_that_are_refused(path, users, passphrase):
    before = path.read_text()
    assert refused(users.set_passphrase, passphrase).startswith("invalid: a passphrase has 8 to")
    assert path.read_text() == before and not users.sealed


@pytest.mark.parametrize("wrong", ["", "correct horsE", "x" * 5000, "\ud800"])
def test_a_wrong_passphrase_is_one_clear_error(path, sealed, wrong):
    before = path.read_text()
    with pytest.raises(ConfigError) as caught:
        again(path, wrong)
    assert str(caught.value) == f"{path}: the passphrase is wrong, or the file was damaged"
    assert path.read_text() == before


def test_without_a_passphrase_the_start_says_what_to_do(path, sealed):
    with pytest.raises(ConfigError, match="it is under a passphrase: name a file") as caught:
        again(path)
    assert "passphrase_file in [users]" in str(caught.value)


def test_a_new_file_is_under_the_passphrase_that_is_there(path):
    users = again(path, SECRET)
    assert users.sealed and is_sealed(path)
    assert again(path, SECRET).default.master_address == users.default.master_address


def test_a_plain_file_stays_plain_whatever_is_given(path, users):
    reader = again(path, SECRET)
    assert not reader.sealed and not is_sealed(path)


def test_a_failed_write_changes_nothing(path, sealed, monkeypatch):
    before = path.read_text()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(users_module, "write_private", fail)
    for change in (
        lambda: sealed.set_passphrase(None),
        lambda: sealed.new("bob"),
        lambda: sealed.import_users(THEIRS),
    ):
        with pytest.raises(ConfigError, match="cannot be written: No space"):
            change()
    assert sealed.sealed and len(sealed.all()) == 1
    assert path.read_text() == before


def test_a_hostile_container_costs_nothing(path, sealed, monkeypatch):
    container = json.loads(path.read_text())
    container["kdf"]["n"] = 1 << 40
    path.write_text(json.dumps(container))
    with pytest.raises(ConfigError, match=r"users\.json: kdf\.n is not between"):
        again(path, SECRET)


def test_files_have_a_most(path):
    path.parent.mkdir()
    path.write_bytes(b" " * (FILE_LIMIT + 1))
    with pytest.raises(ConfigError, match="it has over"):
        again(path)
    assert not is_sealed(path)


def test_documents_have_a_most(path, users):
    (address, data), *_ = THEIRS.items()
    before = path.read_text()
    big = {address: {**data, "settings": {"x": "y" * DOCUMENT_LIMIT}}}
    assert refused(users.import_users, big).startswith("too-big")
    assert path.read_text() == before and len(users.all()) == 1


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "5", "[" * 100_000])
def test_other_files_are_under_no_passphrase(path, text):
    assert not is_sealed(path)
    path.parent.mkdir()
    path.write_text(text)
    assert not is_sealed(path)
