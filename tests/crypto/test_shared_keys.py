"""Keys that several hold, and the signatures of a group."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.crypto.keys import ORDER, PrivateKey
from zeromsg.crypto.sealing import SharedKey
from zeromsg.crypto.shared_keys import (
    TEXT_LIMIT,
    check_text,
    group_key,
    group_signed,
    is_group_signed,
    is_random_key,
    random_key,
    shared_key,
)
from zeromsg.crypto.signing import recover_public_key
from zeromsg.errors import BadKey

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealing.json").read_text())
SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER_SITE = "1Fwms8Gymux3E7bks7fhDgxdUxFwqdxZSx"
RAW = '{"message": "hi", "site": "1..."}'
MEMBERS = group_key(SharedKey(b"m" * 32), SITE)
SIGNED = group_signed(RAW, "5", MEMBERS)


@pytest.mark.parametrize("case", VECTORS["shared_keys"], ids=lambda case: case["text"][:12])
def test_text_stands_for_the_same_key_everywhere(case):
    key = shared_key(case["text"], case["site"])
    assert key.secret.hex() == case["secret"]
    pair = group_key(key, case["site"])
    assert (pair.secret.hex(), pair.public_key.hex()) == (
        case["group_private"],
        case["group_public"],
    )


@pytest.mark.parametrize("case", VECTORS["groups"])
def test_group_signatures_are_made_the_same_again(case):
    public_key = bytes.fromhex(case["group_public"])
    assert is_group_signed(case["signed"], case["nonce"], public_key)
    assert json.loads(case["signed"]).items() >= json.loads(case["raw"]).items()


def test_a_fresh_key_is_a_key_and_no_passphrase():
    text = random_key(lambda count: b"\x05" * count)
    assert is_random_key(text)
    assert shared_key(text, SITE).secret == b"\x05" * 32
    assert shared_key("05" * 32, OTHER_SITE).secret == b"\x05" * 32


def test_a_passphrase_gives_another_key_on_each_site():
    assert not is_random_key("correct horse")
    assert shared_key("correct horse", SITE) == shared_key("correct horse", SITE)
    assert shared_key("correct horse", SITE) != shared_key("correct horse", OTHER_SITE)


@pytest.mark.parametrize("text", ["", "seven77", "x" * (TEXT_LIMIT + 1), "lone surrogate \ud800"])
def test_what_is_no_good_passphrase_is_refused(text):
    with pytest.raises(BadKey):
        check_text(text)
    with pytest.raises(BadKey):
        shared_key(text, SITE)


def test_base64_of_another_length_is_a_passphrase():
    text = base64.b64encode(b"x" * 31).decode()
    assert not is_random_key(text)
    assert shared_key(text, SITE).secret != b"x" * 31


# Groups


def test_a_groups_key_differs_by_site():
    shared = SharedKey(b"m" * 32)
    assert group_key(shared, SITE) != group_key(shared, OTHER_SITE)


def test_a_signed_raw_is_the_same_json_and_one_member_more():
    assert json.loads(SIGNED) == {**json.loads(RAW), "group": json.loads(SIGNED)["group"]}
    assert is_group_signed(SIGNED, "5", MEMBERS.public_key)


@pytest.mark.parametrize(
    ("raw", "nonce"),
    [
        pytest.param(SIGNED, "6", id="another nonce"),
        pytest.param(SIGNED.replace('"hi"', '"ho"'), "5", id="another message"),
        pytest.param(RAW, "5", id="none"),
        pytest.param("", "5", id="nothing"),
        pytest.param(SIGNED[:-1] + ', "a": 1}', "5", id="a member behind it"),
        pytest.param(SIGNED[:-1] + " }", "5", id="a space"),
        pytest.param('{"a": 1, ' + SIGNED[1:], "5", id="a member before"),
        pytest.param(
            group_signed(RAW, "5", PrivateKey(b"\1" * 32, compressed=True)), "5", id="an outsider"
        ),
    ],
)
def test_what_the_group_did_not_sign_is_not_the_groups(raw, nonce):
    assert not is_group_signed(raw, nonce, MEMBERS.public_key)


def rewritten(signed, change):
    """The same with another spelling of its signature."""
    head, signature = signed[:-90], base64.b64decode(signed[-90:-2])
    return head + change(signature) + '"}'


def high(signature):
    """The other s, with the recovery id that goes with it."""
    other = (ORDER - int.from_bytes(signature[33:], "big")).to_bytes(32, "big")
    header = bytes([31 + ((signature[0] - 31) ^ 1)])
    return base64.b64encode(header + signature[1:33] + other).decode()


def loose(signature):
    """Base64 whose last bits are not zero, which decoders pass over."""
    text = base64.b64encode(signature).decode()
    following = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-2] + following[following.index(text[-2]) + 1] + "="


@pytest.mark.parametrize("change", [high, loose])
def test_an_outsider_cannot_write_a_members_signature_in_another_way(change):
    assert rewritten(SIGNED, lambda data: base64.b64encode(data).decode()) == SIGNED
    other = rewritten(SIGNED, change)
    text = f"zeromsg group 1|5|{RAW}"
    assert recover_public_key(text, other[-90:-2]) == MEMBERS.public_key
    assert not is_group_signed(other, "5", MEMBERS.public_key)


@settings(max_examples=300)
@given(st.integers(0, len(SIGNED) - 1), st.characters(codec="ascii"))
def test_no_character_can_be_changed(position, character):
    spoilt = SIGNED[:position] + character + SIGNED[position + 1 :]
    if spoilt != SIGNED:
        assert not is_group_signed(spoilt, "5", MEMBERS.public_key)


@given(st.text(st.characters(codec="ascii"), max_size=200))
def test_any_text_is_judged(raw):
    assert not is_group_signed(raw, "1", MEMBERS.public_key)
    assert not is_group_signed(raw + SIGNED[-101:], "1", MEMBERS.public_key)
