"""users.json: keys as ZeroNet derives and stores them, and a file that is never half written."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import ClientError, ConfigError
from zeromsg.store.user import CHOSEN_LIMIT, CHOSEN_MEMBER, User
from zeromsg.store.users import Users

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FOLDER / "hd.json").read_text())
CRYPT = json.loads((FOLDER / "ui" / "crypt_vectors.json").read_text())["user"]
SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER = "1Fwms8Gymux3E7bks7fhDgxdUxFwqdxZSx"
KEY = PrivateKey(b"\x07" * 32)
OTHER_KEY = PrivateKey(b"\x08" * 32, compressed=True)
CERT = Certificate("web", "alice", "zeroid.bit", "c2lnbmVk")

VECTOR_SITES = [
    pytest.param(user, site, id=f"{user['master_address'][:6]}-{site['site'][:6]}")
    for user in VECTORS["users"]
    for site in user["sites"]
]


def no_entropy(count: int) -> bytes:
    pytest.fail("a stored user needs no entropy")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "users.json"


@pytest.fixture
def users(path):
    return Users(path, lambda count: b"\x05" * count).default


def again(path: Path) -> User:
    return Users(path, no_entropy).default


def stored(path: Path) -> dict:
    return json.loads(path.read_text())


def put(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def document_of(user: dict, **members: object) -> dict:
    return {user["master_address"]: {"master_seed": user["master_seed"], **members}}


USER = VECTORS["users"][0]
NAME = USER["master_address"]
SEED = USER["master_seed"]


# Making and keeping


def test_the_first_start_makes_a_user(path, users):
    assert users.master_seed == "05" * 32
    assert stored(path) == {
        users.master_address: {
            "master_seed": "05" * 32,
            "sites": {},
            "certs": {},
            "settings": {},
        }
    }


def test_the_user_stays_the_same(path, users):
    assert again(path).master_address == users.master_address
    assert again(path).auth_address(SITE) == users.auth_address(SITE)


def test_an_empty_object_gets_a_user(path):
    put(path, {})
    assert Users(path, lambda count: b"\x05" * count).default.master_address in stored(path)


def test_only_the_owner_reads_it(path, users):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["users.json"]


def test_an_imported_file_is_made_private(path):
    put(path, document_of(USER))
    path.chmod(0o644)
    again(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Keys


@pytest.mark.parametrize(("user", "site"), VECTOR_SITES)
def test_keys_are_those_of_zeronet(path, user, site):
    put(path, document_of(user))
    users = again(path)
    assert users.master_address == user["master_address"]
    assert users.auth_address(site["site"]) == site["auth_address"]
    assert users.auth_key(site["site"]).wif == site["auth_privatekey"]
    assert stored(path) == document_of(user)


def test_a_stored_auth_key_goes_before_the_derived_one(path):
    entry = {"auth_address": KEY.address, "auth_privatekey": KEY.wif}
    put(path, document_of(USER, sites={SITE: entry}))
    assert again(path).auth_key(SITE) == KEY
    assert again(path).auth_address(OTHER) != KEY.address


def test_the_first_of_several_users_acts(path):
    first, second = VECTORS["users"][1], VECTORS["users"][0]
    put(path, {**document_of(first), **document_of(second)})
    users = again(path)
    users.set_site_key(SITE, KEY)
    assert users.master_address == first["master_address"]
    assert again(path).master_address == first["master_address"]


def test_site_keys(path, users):
    assert users.site_key(SITE) is None
    users.set_site_key(SITE, KEY)
    users.set_site_key(OTHER, OTHER_KEY)
    for reader in (users, again(path)):
        assert reader.site_key(SITE) == KEY
        assert reader.site_key(OTHER) == OTHER_KEY


@pytest.mark.parametrize("forgotten", ["", None])
def test_a_key_that_zeronet_forgot_is_none(path, forgotten):
    put(path, document_of(USER, sites={SITE: {"privatekey": forgotten}}))
    assert again(path).site_key(SITE) is None


def test_an_entry_has_what_zeronet_needs(path):
    put(path, document_of(USER))
    vector = USER["sites"][0]
    again(path).set_site_key(vector["site"], KEY)
    assert stored(path)[NAME]["sites"] == {
        vector["site"]: {
            "auth_address": vector["auth_address"],
            "auth_privatekey": vector["auth_privatekey"],
            "privatekey": KEY.wif,
        }
    }


# Certificates


def test_a_certificate_is_filed_and_selected(path, users):
    address = users.auth_address(SITE)
    assert users.certificate(SITE) is None
    assert users.add_certificate(SITE, CERT) == "added"
    assert users.certificate(SITE) is None
    users.set_certificate(SITE, "zeroid.bit")
    for reader in (users, again(path)):
        assert reader.certificate(SITE) == CERT
        assert reader.certificate(OTHER) is None
        assert reader.auth_address(SITE) == address
    assert stored(path)[users.master_address]["certs"] == {
        "zeroid.bit": {
            "auth_address": address,
            "auth_privatekey": users.auth_key(SITE).wif,
            "auth_type": "web",
            "auth_user_name": "alice",
            "cert_sign": "c2lnbmVk",
        }
    }


def test_a_selected_certificate_brings_its_own_key(path, users):
    own = users.auth_key(OTHER)
    users.add_certificate(SITE, CERT)
    users.set_certificate(OTHER, "zeroid.bit")
    for reader in (users, again(path)):
        assert reader.auth_key(OTHER) == reader.auth_key(SITE) != own
        assert reader.auth_address(OTHER) == reader.auth_address(SITE)
    users.set_certificate(OTHER, None)
    assert users.certificate(OTHER) is None
    assert users.auth_key(OTHER) == own
    assert "cert" not in stored(path)[users.master_address]["sites"][OTHER]


def test_messages_are_read_with_certificates_that_were_chosen_on_the_site_alone(path, users):
    plain = {site: users.auth_key(site) for site in (SITE, OTHER)}
    users.add_certificate(SITE, CERT)
    users.set_certificate(SITE, "zeroid.bit")
    # Another site does not find out whose certificate this is.
    assert users.reading_keys(OTHER) == [plain[OTHER]]
    users.set_certificate(OTHER, "zeroid.bit")
    assert users.reading_keys(OTHER) == [plain[SITE], plain[OTHER]]
    users.set_certificate(OTHER, "")
    for reader in (users, again(path)):
        assert reader.reading_keys(OTHER) == [plain[OTHER], plain[SITE]]
    users.remove_certificate("zeroid.bit")
    assert users.reading_keys(OTHER) == [plain[OTHER]]


def test_the_certificates_that_were_chosen_before_are_not_too_many(users):
    for number in range(CHOSEN_LIMIT + 3):
        users.add_certificate(SITE, Certificate("web", "alice", f"{number}.bit", "c2lnbmVk"))
        users.set_certificate(SITE, f"{number}.bit")
        users.set_certificate(SITE, f"{number}.bit")
    chosen = users.data["sites"][SITE][CHOSEN_MEMBER]
    assert chosen == [f"{number}.bit" for number in range(2, CHOSEN_LIMIT + 2)]


@pytest.mark.parametrize("chosen", ["zeroid.bit", 7, [7], {}, ["gone.bit"]])
def test_what_is_no_list_of_chosen_certificates_is_none(path, chosen):
    put(path, document_of(USER, sites={SITE: {CHOSEN_MEMBER: chosen}}))
    user = again(path)
    assert user.reading_keys(SITE) == [user.auth_key(SITE)]
    user.add_certificate(SITE, CERT)
    user.set_certificate(SITE, "zeroid.bit")


def public_keys(user: User, site: str, cases: list[dict]) -> list[str]:
    keys = [user.encryption_key(site, case["param_index"]) for case in cases]
    return [base64.b64encode(key.compressed_public_key).decode() for key in keys]


def test_encryption_keys_are_those_of_zeronet(path):
    put(path, document_of(CRYPT))
    user = again(path)
    for case in CRYPT["sites"]:
        expected = [entry["publickey_b64"] for entry in case["encrypt"]]
        assert public_keys(user, case["site"], case["encrypt"]) == expected
    # With a certificate they follow its domain, on every site where it is selected.
    cert = Certificate("web", "tester", CRYPT["with_cert"]["cert_domain"], "c2lnbmVk")
    user.add_certificate(CRYPT["with_cert"]["site"], cert)
    for case in (CRYPT["with_cert"], CRYPT["other_site_same_cert"]):
        user.set_certificate(case["site"], cert.issuer)
        assert user.auth_address(case["site"]) == case["auth_address"]
        expected = [entry["publickey_b64"] for entry in case["encrypt"]]
        assert public_keys(again(path), case["site"], case["encrypt"]) == expected
    user.set_certificate(CRYPT["with_cert"]["site"], None)
    (plain,) = (case for case in CRYPT["sites"] if case["site"] == CRYPT["with_cert"]["site"])
    assert public_keys(user, plain["site"], plain["encrypt"]) == [
        entry["publickey_b64"] for entry in plain["encrypt"]
    ]


def test_the_domain_counts_where_the_certificate_is_gone(path):
    case = CRYPT["with_cert"]
    put(path, document_of(CRYPT, sites={case["site"]: {"cert": case["cert_domain"]}}))
    expected = [entry["publickey_b64"] for entry in case["encrypt"]]
    assert public_keys(again(path), case["site"], case["encrypt"]) == expected


@pytest.mark.parametrize("index", [-1, 1001])
def test_encryption_keys_end(users, index):
    with pytest.raises(ValueError, match="0 to 1000"):
        users.encryption_key(SITE, index)


def test_a_new_certificate_speaks_for_the_address_the_page_sees(users):
    users.add_certificate(SITE, CERT)
    users.set_certificate(OTHER, "zeroid.bit")
    users.add_certificate(OTHER, Certificate("web", "alice", "kaffie.bit", "c2lnbmVk"))
    assert users.certificates()["kaffie.bit"].key == users.auth_key(SITE)


def test_the_same_certificate_again_changes_nothing(path, users):
    users.add_certificate(SITE, CERT)
    before = path.stat().st_ino
    assert users.add_certificate(SITE, CERT) == "unchanged"
    assert path.stat().st_ino == before


def test_another_certificate_of_a_domain_needs_replace(path, users):
    bob = Certificate("web", "bob", "zeroid.bit", "c2lnbmVk")
    users.add_certificate(SITE, CERT)
    assert users.add_certificate(SITE, bob) == "conflict"
    assert users.certificates()["zeroid.bit"].certificate == CERT
    assert users.add_certificate(SITE, bob, replace=True) == "added"
    assert again(path).certificates()["zeroid.bit"].certificate == bob


def test_a_certificate_of_another_key_is_a_conflict(users):
    users.add_certificate(SITE, CERT)
    assert users.add_certificate(OTHER, CERT) == "conflict"


def test_an_unknown_domain_cannot_be_selected(path, users):
    before = path.read_bytes()
    with pytest.raises(ClientError, match=r"^invalid: no certificate of zeroid\.bit$"):
        users.set_certificate(SITE, "zeroid.bit")
    users.set_certificate(SITE, "")
    users.set_certificate(SITE, None)
    assert path.read_bytes() == before


def test_a_selection_whose_certificate_is_gone_selects_nothing(path):
    vector = USER["sites"][0]
    put(path, document_of(USER, sites={vector["site"]: {"cert": "gone.bit"}}))
    users = again(path)
    assert users.certificate(vector["site"]) is None
    assert users.auth_address(vector["site"]) == vector["auth_address"]


def test_secrets_are_in_no_repr(users):
    users.add_certificate(SITE, CERT)
    text = repr(users) + repr(users.certificates()) + repr(users.auth_key(SITE))
    assert users.auth_key(SITE).wif not in text
    assert users.auth_key(SITE).secret.hex() not in text
    assert repr(users.auth_key(SITE).secret) not in text
    assert users.master_seed not in text


# The file


def test_what_we_do_not_know_is_preserved(path):
    document = {
        NAME: {
            "master_seed": SEED,
            "sites": {SITE: {"settings": {"dark": True}, "follow": {}}, OTHER: {"index": 5}},
            "settings": {"theme": "dark", "list": [1, 2.5, None, "\ud83d", "é"]},
            "plugin_data": {"nested": [{"a": 1}]},
        },
        "1AnotherUser": {"master_seed": "not even a seed", "sites": 5},
    }
    put(path, document)
    again(path).set_site_key(SITE, KEY)
    after = stored(path)
    entry = after[NAME]["sites"][SITE]
    assert entry.pop("privatekey") == KEY.wif
    assert set(entry) == {"settings", "follow", "auth_address", "auth_privatekey"}
    after[NAME]["sites"][SITE] = document[NAME]["sites"][SITE]
    assert after == document
    assert list(after) == list(document)


def good_entry(**changes: object) -> dict:
    return {"auth_address": KEY.address, "auth_privatekey": KEY.wif, **changes}


def good_cert(**changes: object) -> dict:
    return {
        **good_entry(),
        "auth_type": "web",
        "auth_user_name": "alice",
        "cert_sign": "c2lnbmVk",
        **changes,
    }


BROKEN = [
    ("", "this is no JSON: Expecting value: line 1 column 1"),
    ('{"a": {},}', "this is no JSON: "),
    ("[" * 100_000, "nests too deep"),
    (f'{{"a": {"9" * 5000}}}', "numbers too long"),
    ("[]", "expected an object with one member for each user"),
    ("null", "expected an object with one member for each user"),
    ({"1User": []}, "1User is no object"),
    ({**document_of(USER), "1User": 5}, "1User is no object"),
    ({"1User": {}}, "1User: master_seed is missing"),
    ({"1User": {"master_seed": 5}}, "1User: master_seed is missing"),
    ({"1User": {"master_seed": "abc"}}, "1User: master_seed: "),
    ({"1User": {"master_seed": "00" * 32}}, "1User: master_seed: "),
    ({"1User": {"master_seed": SEED}}, "1User: master_seed belongs to another address"),
    (document_of(USER, sites=[]), "sites is not an object of objects"),
    (document_of(USER, sites={SITE: None}), "sites is not an object of objects"),
    (document_of(USER, certs={"a.bit": "x"}), "certs is not an object of objects"),
    (document_of(USER, sites={SITE: {"cert": []}}), f"sites: {SITE}: cert is no text"),
    (document_of(USER, sites={SITE: {"privatekey": 5}}), f"{SITE}: privatekey is no text"),
    (document_of(USER, sites={SITE: {"privatekey": "5abc"}}), f"{SITE}: privatekey: "),
    (
        document_of(USER, sites={SITE: good_entry(auth_address=OTHER_KEY.address)}),
        f"sites: {SITE}: auth_privatekey belongs to another address than auth_address",
    ),
    (
        document_of(USER, certs={"a.bit": good_cert(auth_address=OTHER_KEY.address)}),
        "certs: a.bit: auth_privatekey belongs to another address than auth_address",
    ),
    (document_of(USER, certs={"a.bit": good_entry()}), "certs: a.bit: auth_type is no text"),
    (document_of(USER, certs={"a.bit": good_cert(cert_sign=None)}), "cert_sign is no text"),
    (document_of(USER, certs={"a.bit": good_cert(auth_privatekey="")}), "auth_privatekey"),
    (document_of(USER, certs={"a.bit": good_cert(auth_type="a/b")}), "certs: a.bit: "),
]


@pytest.mark.parametrize(("document", "reason"), BROKEN)
def test_a_broken_file_is_refused_and_left_alone(path, document, reason):
    put(path, document)
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        again(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    for secret in (KEY.wif, SEED, "5abc"):
        assert secret not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_text_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b'{"\xff\xfe": 1}')
    with pytest.raises(ConfigError, match=r"users\.json: this is no UTF-8 text"):
        again(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(KEY.wif),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cert", "privatekey", "auth_address", "auth_privatekey", SITE]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {}, optional={"sites": _JSON, "certs": _JSON, "settings": _JSON, "master_seed": _JSON}
    )
)
def test_any_user_is_taken_or_refused_as_config(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("users") / "users.json"
    put(path, {NAME: {"master_seed": SEED, **members}})
    try:
        users = again(path)
    except ConfigError:
        return
    for site in (SITE, *members.get("sites", {})):
        assert users.auth_key(site).address == users.auth_address(site)
        users.site_key(site)
        users.certificate(site)
    users.set_site_key(SITE, KEY)
    users.add_certificate(SITE, CERT, replace=True)
    users.set_certificate(SITE, CERT.issuer)
    assert again(path).certificate(SITE) == CERT


def test_a_folder_in_the_way_is_told(path):
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"users\.json: cannot be read"):
        again(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be"):
        Users(tmp_path / "file" / "users.json", bytes)


def test_leftovers_of_a_crash_are_replaced(path, users):
    leftover = path.with_name("users.json.new")
    leftover.write_text("half a fi")
    leftover.chmod(0o644)
    users.set_site_key(SITE, KEY)
    assert not leftover.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again(path).site_key(SITE) == KEY


def test_a_crash_before_the_rename_leaves_the_old_file(path, users, monkeypatch):
    before = path.read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        users.set_site_key(SITE, KEY)
    assert path.read_bytes() == before


def test_a_change_that_cannot_be_written_has_not_happened(path, users, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match=r"cannot be written: No space left on device"):
            users.set_site_key(SITE, KEY)
    assert users.site_key(SITE) is None
    assert again(path).site_key(SITE) is None
    users.set_site_key(SITE, KEY)
    assert users.site_key(SITE) == KEY


def test_the_file_is_on_the_disk_before_it_takes_the_name(users, monkeypatch):
    steps = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append("rename"), rename(a, b))[1])
    users.set_site_key(SITE, KEY)
    assert steps == ["sync", "rename", "sync"]
