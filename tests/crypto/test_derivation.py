import base64
import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.crypto.derivation import (
    CHILDREN,
    auth_key,
    child_key,
    encryption_key,
    master_address,
    new_seed,
    text_index,
)
from zeromsg.crypto.keys import ORDER
from zeromsg.errors import BadKey

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
HD = json.loads((VECTORS / "hd.json").read_text())
USER = json.loads((VECTORS / "ui" / "crypt_vectors.json").read_text())["user"]

SEED = HD["users"][0]["master_seed"]
SITES = [(user["master_seed"], site) for user in HD["users"] for site in user["sites"]]


@pytest.mark.parametrize("user", HD["users"], ids=lambda user: user["master_address"])
def test_master_addresses(user):
    assert master_address(user["master_seed"]) == user["master_address"]


@pytest.mark.parametrize(("seed", "site"), SITES)
def test_auth_keys(seed, site):
    key = auth_key(seed, site["site"])
    assert key.wif == site["auth_privatekey"]
    assert key.address == site["auth_address"]
    assert text_index(site["site"]) == int(site["auth_index"])
    assert text_index(site["site"]) % CHILDREN == site["child"]


@pytest.mark.parametrize("case", HD["new_sites"])
def test_keys_of_own_sites(case):
    key = child_key(case["master_seed"], case["index"])
    assert key.wif == case["privatekey"]
    assert key.address == case["address"]
    assert child_key(case["master_seed"], case["child"]) == key


WITH_CERT = [USER["with_cert"], {**USER["other_site_same_cert"], "cert_domain": "rigid.bit"}]


@pytest.mark.parametrize("site", [*USER["sites"], *WITH_CERT], ids=lambda site: site["site"])
def test_encryption_keys_are_children_too(site):
    seed = USER["master_seed"]
    if "auth_privatekey" in site:
        assert auth_key(seed, site["site"]).wif == site["auth_privatekey"]
    for case in site["encrypt"]:
        domain = site.get("cert_domain", "")
        key = encryption_key(seed, site["site"], domain, case["param_index"])
        assert key.wif == case.get("privatekey", key.wif)
        assert base64.b64encode(key.compressed_public_key).decode() == case["publickey_b64"]
        if "child_mod_1e8" in case:
            assert child_key(seed, case["child_mod_1e8"]) == key


@pytest.mark.parametrize("case", USER["children_of_seed"], ids=lambda case: case["child"])
def test_children(case):
    assert child_key(USER["master_seed"], case["child"]).wif == case["privatekey_wif"]


@pytest.mark.parametrize("index", [-1, 1001, 10**30])
def test_encryption_keys_end(index):
    assert encryption_key(SEED, "1site", "", 1000) != encryption_key(SEED, "1site", "", 0)
    with pytest.raises(ValueError, match="0 to 1000"):
        encryption_key(SEED, "1site", "", index)


BAD_SEEDS = ["", "0", "x" * 64, SEED[:-1], SEED + "0", SEED + "\n", "0" * 64, f"{ORDER:x}"]


@pytest.mark.parametrize("seed", BAD_SEEDS)
def test_bad_seeds(seed):
    with pytest.raises(BadKey):
        master_address(seed)
    with pytest.raises(BadKey):
        child_key(seed, 1)
    with pytest.raises(BadKey):
        auth_key(seed, "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D")


def test_a_new_seed_has_children():
    seed = new_seed(os.urandom)
    assert len(seed) == 64
    assert seed != new_seed(os.urandom)
    assert child_key(seed, 0).address != master_address(seed)


def test_the_seed_is_made_of_the_entropy_given():
    assert new_seed(lambda count: bytes(range(count))) == SEED[:32] + bytes(range(16, 32)).hex()


@given(st.integers(0, 2**300))
def test_children_repeat(index):
    assert child_key(SEED, index) == child_key(SEED, index % CHILDREN)


def test_the_digits_count_not_their_value():
    # Not useful, but how it is: a seed in capitals is another user.
    seed = HD["users"][1]["master_seed"]
    assert master_address(seed) == master_address(seed.upper())
    assert child_key(seed, 1) != child_key(seed.upper(), 1)
