import base64
import hashlib
import json
import pathlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.crypto.onion import OnionKey, onion_of, proven_onion, public_of
from zeromsg.errors import BadKey
from zeromsg.wire.values import PeerAddress

VECTORS = json.loads(
    (pathlib.Path(__file__).parents[1] / "vectors" / "onion-sign.json").read_text()
)
V2, V3 = VECTORS["v2"], VECTORS["v3"]
DUCK = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad"
PUBLIC, SIGNATURE = bytes.fromhex(V3["publickey"]), bytes.fromhex(V3["sign"])
CHALLENGE = V3["onion_sign_this"].encode()

seeds = st.binary(min_size=32, max_size=32)


def test_signs_as_zeronetx():
    key = OnionKey.from_tor(V3["privatekey"])
    assert key.public == PUBLIC
    assert key.onion == V3["onion"] == V3["tor_service_id"]
    assert key.sign(CHALLENGE) == SIGNATURE


def test_the_proof_of_a_version_3_onion_holds():
    assert proven_onion(PUBLIC, SIGNATURE, CHALLENGE) == V3["onion"]
    assert proven_onion(PUBLIC, SIGNATURE, b"1795326700") is None


def test_the_proof_of_a_version_2_onion_holds():
    public, signature = bytes.fromhex(V2["publickey_der"]), bytes.fromhex(V2["sign"])
    challenge = V2["onion_sign_this"].encode()
    assert proven_onion(public, signature, challenge) == V2["onion"]
    assert proven_onion(public, signature, b"1795326700") is None
    assert proven_onion(public, signature[:-1] + b"\0", challenge) is None


@settings(max_examples=30)
@given(seeds, st.binary(max_size=40))
def test_the_library_agrees(seed, message):
    """What we sign by hand is what Ed25519 signs from the same seed."""
    theirs = Ed25519PrivateKey.from_private_bytes(seed)
    ours = OnionKey.from_seed(seed)
    assert ours.public == theirs.public_key().public_bytes_raw()
    assert ours.sign(message) == theirs.sign(message)
    assert proven_onion(ours.public, ours.sign(message), message) == ours.onion


@given(seeds)
def test_an_onion_gives_its_key_back(seed):
    key = OnionKey.from_seed(seed)
    assert public_of(key.onion) == public_of(key.onion + ".onion") == key.public
    assert PeerAddress(key.onion + ".onion", 1).kind == "onion"
    assert OnionKey.from_tor(key.to_tor()) == key


def test_a_well_known_onion():
    assert onion_of(public_of(DUCK)) == DUCK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        V2["onion"],
        DUCK[:-1],
        DUCK + "a",
        "a" + DUCK[1:],
        DUCK[:-1] + "e",
        "é" * 56,
        "1" * 56,
        DUCK.upper(),
    ],
)
def test_what_is_no_onion(text):
    with pytest.raises(BadKey):
        public_of(text)


@pytest.mark.parametrize("public", [b"", b"x" * 31, b"x" * 33])
def test_what_is_no_public_key(public):
    with pytest.raises(BadKey):
        onion_of(public)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!" * 88,
        "ED25519-V3:",
        "RSA1024:" + V3["privatekey"],
        V3["privatekey"][:-4],
        base64.b64encode(b"\xff" * 64).decode(),
        base64.b64encode(b"@" * 65).decode(),
    ],
)
def test_what_is_no_key_of_tor(text):
    with pytest.raises(BadKey):
        OnionKey.from_tor(text)


def test_a_seed_has_32_bytes():
    with pytest.raises(BadKey):
        OnionKey.from_seed(b"x" * 31)


def test_a_key_does_not_show_itself():
    assert V3["privatekey"][:10] not in repr(OnionKey.from_tor(V3["privatekey"]))
    assert "expanded" not in repr(OnionKey.from_tor(V3["privatekey"]))


def rsa_key(bits):
    key = rsa.generate_private_key(65537, bits)
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    return key, der


def test_a_key_of_version_2_is_neither_small_nor_huge():
    for bits, holds in ((2048, True), (1024, True)):
        key, der = rsa_key(bits)
        signature = key.sign(b"1", padding.PKCS1v15(), hashes.SHA256())
        expected = base64.b32encode(hashlib.sha1(der).digest()[:10]).decode().lower()
        assert (proven_onion(der, signature, b"1") == expected) is holds
    # 8,200 bits: checking signatures of such a key could keep a node busy.
    modulus = (1 << 8200) + 1
    huge = (
        rsa.RSAPublicNumbers(65537, modulus)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    )
    assert proven_onion(huge, b"s" * 1025, b"1") is None


def test_other_kinds_of_keys_prove_nothing():
    der = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert proven_onion(der, b"s" * 64, b"1") is None


def test_a_signature_that_was_rewritten_is_none():
    """S plus the order of the group verifies in careless libraries."""
    scalar = int.from_bytes(SIGNATURE[32:], "little") + 2**252
    scalar += 27742317777372353535851937790883648493
    assert proven_onion(PUBLIC, SIGNATURE[:32] + scalar.to_bytes(32, "little"), CHALLENGE) is None


@given(st.binary(max_size=80) | seeds, st.binary(max_size=80), st.binary(max_size=20))
def test_hostile_proofs_are_answered(public, signature, message):
    assert proven_onion(public, signature, message) is None
