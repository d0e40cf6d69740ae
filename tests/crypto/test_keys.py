import hashlib
import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.crypto import keys
from zeromsg.crypto.keys import (
    ORDER,
    PrivateKey,
    address_of,
    agree_once,
    decode_address,
    hash160,
    is_address,
    is_public_key,
    recover_public_key,
)
from zeromsg.errors import BadKey

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
SIGNED = json.loads((VECTORS / "signatures.json").read_text())
CRYPT = json.loads((VECTORS / "ui" / "crypt_vectors.json").read_text())
PEERMESSAGE = json.loads((VECTORS / "peermessage.json").read_text())

WITH_WIF = [case for case in SIGNED["keys"] if "wif" in case]
secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


@pytest.mark.parametrize("case", WITH_WIF, ids=lambda case: case["address"])
def test_keys_of_zeronet(case):
    key = PrivateKey.from_wif(case["wif"])
    assert key.secret.hex() == case["hex"]
    assert key.compressed is case["compressed"]
    assert key.public_key.hex() == case["pubkey"]
    assert key.address == case["address"]
    assert key.wif == case["wif"]
    assert key == PrivateKey(bytes.fromhex(case["hex"]), case["compressed"])


def test_hex_stands_for_an_uncompressed_key():
    case = SIGNED["keys"][-1]
    assert PrivateKey.from_hex(case["hex"]).address == case["address"]
    assert PrivateKey.from_hex(case["hex"].upper()).address == case["address"]


@pytest.mark.parametrize("case", CRYPT["keys"], ids=lambda case: case["address"])
def test_both_forms_of_the_same_secret(case):
    plain = PrivateKey.from_wif(case["wif"])
    short = PrivateKey.from_wif(case["wif_compressed"])
    assert plain.secret == short.secret == bytes.fromhex(case["secret_hex"])
    assert plain.address == case["address"]
    assert short.address == case["address_of_compressed_wif"]
    assert plain.public_key.hex() == case["public_uncompressed_hex"]
    assert short.public_key.hex() == case["public_compressed_hex"]
    assert PrivateKey.from_hex(case["secret_hex"]).address == case["address_of_hex"]
    assert address_of(short.public_key) == case["eccPubToAddr_of_compressed"]


@pytest.mark.parametrize("case", PEERMESSAGE["keys"].values(), ids=lambda case: case["address"])
def test_keys_of_the_message_vectors(case):
    assert PrivateKey.from_wif(case["privatekey"]).address == case["address"]


@given(secrets, st.booleans())
def test_wif_and_back(secret, compressed):
    key = PrivateKey(secret, compressed)
    assert PrivateKey.from_wif(key.wif) == key
    assert decode_address(key.address) == hash160(key.public_key)


GOOD = WITH_WIF[0]["wif"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        GOOD[:-1],
        GOOD + "1",
        GOOD + " ",
        " " + GOOD,
        GOOD + "\n",
        GOOD.replace("A", "B", 1),
        GOOD.replace("A", "0", 1),
        WITH_WIF[0]["address"],
        WITH_WIF[0]["hex"],
        "1" * 51,
        "é" * 51,
        "\ud800" * 51,
        "5" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_what_is_no_wif(text):
    with pytest.raises(BadKey):
        PrivateKey.from_wif(text)


@pytest.mark.parametrize(
    "text",
    ["", "00", "0" * 63, "0" * 65, "g" * 64, " " * 64, "0" * 63 + "\n", "\u0660" * 64],
    ids=ascii,
)
def test_what_is_no_hex_key(text):
    with pytest.raises(BadKey):
        PrivateKey.from_hex(text)


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_secrets_outside_the_curve(number):
    with pytest.raises(BadKey):
        PrivateKey(number.to_bytes(32, "big"))
    with pytest.raises(BadKey):
        PrivateKey.from_hex(f"{number:064x}")


@given(st.text(max_size=60))
def test_text_raises_only_bad_key(text):
    for read in (PrivateKey.from_wif, PrivateKey.from_hex, decode_address):
        with pytest.raises(BadKey):
            read(text)
    assert not is_address(text)


def test_no_secret_is_shown():
    key = PrivateKey.from_wif(GOOD)
    assert key.wif
    for text in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert key.secret.hex() not in text
        assert repr(key.secret) not in text
        assert key.wif not in text


def test_errors_do_not_quote_a_mistyped_key():
    mistyped = GOOD[:-1] + ("2" if GOOD[-1] != "2" else "3")
    with pytest.raises(BadKey) as caught:
        PrivateKey.from_wif(mistyped)
    assert mistyped[5:20] not in str(caught.value)


def test_generate_uses_the_entropy_given():
    drawn = bytes(range(1, 33))
    key = PrivateKey.generate(lambda count: drawn[:count])
    assert key.secret == drawn
    assert not key.compressed
    assert PrivateKey.generate(os.urandom) != PrivateKey.generate(os.urandom)


def test_generate_skips_unusable_numbers():
    drawn = iter([bytes(32), b"\xff" * 32, bytes(31) + b"\x07"])
    assert PrivateKey.generate(lambda count: next(drawn)).secret[-1] == 7


def test_generate_does_not_trust_a_broken_source_for_ever():
    with pytest.raises(BadKey):
        PrivateKey.generate(bytes)
    with pytest.raises(BadKey):
        PrivateKey.generate(lambda count: b"short")


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D",
        "",
        "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3d",
        "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D ",
        "11HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D",
        "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",  # a right checksum, another version
        "1" * 34,
        "0" * 34,
        "1UnknownUnknownUnknownUnknownUnkn",
    ],
    ids=ascii,
)
def test_what_is_no_address(text):
    assert not is_address(text)


def test_a_short_address_is_one_too():
    assert is_address("1DPUWYcgnYDFp3MKseXRbaTRavH8D9dyC")
    assert decode_address("1111111111111111111114oLvT2") == bytes(20)


def openssl_has_ripemd160() -> bool:
    try:
        hashlib.new("ripemd160", usedforsecurity=False)
    except ValueError:
        return False
    return True


@pytest.mark.skipif(not openssl_has_ripemd160(), reason="this OpenSSL has no RIPEMD160")
@given(st.binary(max_size=200))
def test_both_ripemd160_agree(data):
    assert keys._ripemd160_openssl(data) == keys._ripemd160_pycryptodome(data)


def test_ripemd160_is_the_published_one():
    digest = "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"  # of "abc", by its authors
    assert keys._ripemd160_pycryptodome(b"abc").hex() == digest
    assert keys._ripemd160(b"abc").hex() == digest


def test_without_openssl_the_other_ripemd160_is_taken(monkeypatch):
    def refuse(data: bytes) -> bytes:
        raise ValueError("unsupported hash type")

    monkeypatch.setattr(keys, "_ripemd160_openssl", refuse)
    assert keys._choose_ripemd160() is keys._ripemd160_pycryptodome


@given(secrets, st.booleans(), st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_recovered(secret, compressed, digest):
    key = PrivateKey(secret, compressed)
    signature = key.sign_digest(digest)
    assert len(signature) == 65
    assert recover_public_key(digest, signature) == key.public_key


@given(st.binary(max_size=70), st.binary(min_size=32, max_size=32))
def test_recovering_never_raises(signature, digest):
    public_key = recover_public_key(digest, signature)
    assert public_key is None or len(public_key) in (33, 65)


# Agreeing on a secret


@given(secrets, secrets)
def test_both_sides_agree(first, second):
    one, other = PrivateKey(first), PrivateKey(second, compressed=True)
    secret = one.shared_secret(other.public_key)
    assert len(secret) == 32
    assert other.shared_secret(one.public_key) == secret
    assert other.shared_secret(one.compressed_public_key) == secret


@given(secrets, secrets, st.booleans())
def test_a_key_for_once_agrees_with_a_lasting_one(lasting, once, compressed):
    key = PrivateKey(lasting, compressed)
    public_key, secret = agree_once(key.public_key, lambda count: once[:count])
    assert public_key == PrivateKey(once).public_key
    assert key.shared_secret(public_key) == secret


def test_the_secret_is_x_of_the_product():
    # Times one is the point itself, its X with leading zeros too.
    one = PrivateKey((1).to_bytes(32, "big"))
    numbers = (number.to_bytes(32, "big") for number in range(1, 1000))
    point = next(point for point in (PrivateKey(n).public_key for n in numbers) if point[1] == 0)
    assert one.shared_secret(point) == point[1:33]
    assert agree_once(point, lambda count: one.secret)[1] == point[1:33]


RECIPIENT = PrivateKey(b"\x07" * 32)
NO_POINTS = {
    "empty": b"",
    "infinity": b"\0",
    "zeros": b"\x04" + bytes(64),
    "short": RECIPIENT.public_key[:-1],
    "long": RECIPIENT.public_key + b"\0",
    "compressed, short": RECIPIENT.compressed_public_key[:-1],
    "hybrid": bytes([6 + RECIPIENT.public_key[-1] % 2]) + RECIPIENT.public_key[1:],
    "foreign prefix": b"\x05" + RECIPIENT.public_key[1:],
    "without prefix": RECIPIENT.public_key[1:],
    "uncompressed prefix on 33 bytes": b"\x04" + RECIPIENT.compressed_public_key[1:],
    "beside the curve": RECIPIENT.public_key[:-1] + bytes([RECIPIENT.public_key[-1] ^ 1]),
    "x not on the curve": b"\x02" + (5).to_bytes(32, "big"),
    "x over the field": b"\x02" + b"\xff" * 32,
    # (1, 1) is on y^2 = x^3, a curve on which secrets are easily found.
    "of a weak curve": b"\x04" + (1).to_bytes(32, "big") + (1).to_bytes(32, "big"),
}


@pytest.mark.parametrize("point", NO_POINTS.values(), ids=NO_POINTS)
def test_bad_points_are_refused(point):
    assert not is_public_key(point)
    with pytest.raises(BadKey):
        RECIPIENT.shared_secret(point)
    with pytest.raises(BadKey):
        agree_once(point, os.urandom)


@given(st.binary(max_size=70) | st.binary(min_size=32, max_size=32).map(lambda x: b"\x02" + x))
def test_the_two_libraries_agree_on_what_a_point_is(data):
    if is_public_key(data):
        assert len(RECIPIENT.shared_secret(data)) == 32
    else:
        with pytest.raises(BadKey):
            RECIPIENT.shared_secret(data)


def test_public_keys_are_public_keys():
    assert is_public_key(RECIPIENT.public_key)
    assert is_public_key(RECIPIENT.compressed_public_key)
    assert (
        RECIPIENT.compressed_public_key == PrivateKey(RECIPIENT.secret, compressed=True).public_key
    )
