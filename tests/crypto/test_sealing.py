"""Sealed messages: only who may read them can, and nothing about them can be exchanged."""

import base64
import copy
import hashlib
import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import MEMBER, open_message, read_message, seal_message
from zeromsg.crypto.sealing import (
    RECIPIENT_LIMIT,
    BadSealing,
    Opened,
    OwnKey,
    Recipient,
    SharedKey,
    read,
)
from zeromsg.errors import BadKey

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER_SITE = "1Fwms8Gymux3E7bks7fhDgxdUxFwqdxZSx"
ALICE, BOB, EVE = (PrivateKey(bytes([number]) * 32) for number in (7, 8, 9))
GROUP = SharedKey(b"g" * 32)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealing.json").read_text())

TO_BOB = (Recipient.of(BOB.public_key),)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
MOVE = {"game": 7, "move": "e2e4", "note": {"for": "bob"}}


def entropy(seed=1):
    return random.Random(seed).randbytes


def seal(message, fields=None, readers=TO_BOB, *, site=SITE, sender=ALICE.address, **more):
    more.setdefault("entropy", entropy())
    return seal_message(message, fields, readers, site=site, sender=sender, **more)


def opened(message, key=BOB, site=SITE, **more):
    reader = key if isinstance(key, SharedKey) else OwnKey(key)
    return open_message(message, read_message(message), reader, site=site, **more)


@settings(max_examples=50)
@given(JSON)
def test_any_message_comes_back_as_it_was(message):
    sealed = seal(message)
    assert list(sealed) == [MEMBER]
    assert opened(sealed) == Opened(message)


def test_some_fields_alone_are_hidden():
    sealed = seal(MOVE, ["move", "note"])
    assert sealed["game"] == 7
    assert set(sealed) == {"game", MEMBER}
    assert "e2e4" not in json.dumps(sealed)
    assert opened(sealed) == Opened(MOVE)


def test_every_kind_of_recipient_reads_the_one_body():
    readers = [Recipient.of(ALICE.public_key), *TO_BOB, GROUP]
    sealed = seal(MOVE, readers=readers)
    for key in (ALICE, BOB, GROUP):
        assert opened(sealed, key) == Opened(MOVE)
    assert opened(sealed, EVE) is None
    assert opened(sealed, SharedKey(b"h" * 32)) is None


@pytest.mark.parametrize("compressed", [False, True])
def test_both_forms_of_a_public_key_are_the_same_recipient(compressed):
    key = PrivateKey(BOB.secret, compressed)
    assert opened(seal("hi", readers=[Recipient.of(key.public_key)]), BOB) == Opened("hi")
    assert opened(seal("hi"), key) == Opened("hi")


def test_one_seal_is_never_like_another():
    source = entropy()
    first, second = seal("hi", entropy=source)[MEMBER], seal("hi", entropy=source)[MEMBER]
    assert first["key"] != second["key"]
    assert first["body"] != second["body"]
    assert first["to"] != second["to"]


# What an onlooker sees.


@pytest.mark.parametrize(("length", "bucket"), [(0, 128), (126, 128), (127, 256), (4094, 4096)])
def test_the_size_of_a_body_tells_its_bucket_alone(length, bucket):
    body = base64.b64decode(seal("x" * length)[MEMBER]["body"])
    assert len(body) == 32 + bucket + 16


def test_large_bodies_grow_in_steps_of_four_kibibytes():
    sizes = {
        len(base64.b64decode(seal("x" * n)[MEMBER]["body"])) - 48 for n in range(4095, 12287, 97)
    }
    assert sizes == {8192, 12288}


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (3, 4), (5, 8), (100, 128)])
def test_the_number_of_recipients_is_seen_to_a_power_of_two(count, shown):
    readers = [SharedKey(bytes([number]) * 32) for number in range(count)]
    sealed = seal("hi", readers=readers)
    assert len(sealed[MEMBER]["to"]) == shown
    assert all(opened(sealed, reader) == Opened("hi") for reader in readers)


def test_hidden_recipients_are_found_by_nobody_else():
    public_hint = {
        hidden: OwnKey(BOB).hint(read_message(seal("hi", hidden=hidden)).point, False)
        in [entry[:4] for entry in read_message(seal("hi", hidden=hidden)).entries]
        for hidden in (False, True)
    }
    # Without hiding, whoever knows Bob's public key finds him.
    assert public_hint == {False: True, True: False}
    assert opened(seal("hi", hidden=True)) == Opened("hi")


# What cannot be exchanged.


def changed(**members):
    return lambda sealed: {**sealed, MEMBER: {**sealed[MEMBER], **members}}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda sealed: {**sealed, "game": 8}, id="a clear field"),
        pytest.param(lambda sealed: {**sealed, "more": 1}, id="one more clear field"),
        pytest.param(lambda sealed: {MEMBER: sealed[MEMBER]}, id="no clear field"),
        pytest.param(changed(**{"from": EVE.address}), id="the signer"),
        pytest.param(changed(hidden=True), id="hidden"),
        pytest.param(changed(hidden=False), id="hidden, said"),
        pytest.param(changed(more=1), id="one more member"),
        pytest.param(
            lambda sealed: changed(to=sealed[MEMBER]["to"] * 2)(sealed), id="more recipients"
        ),
    ],
)
def test_what_is_bound_cannot_be_changed(change):
    sealed = seal(MOVE, ["move"])
    assert opened(sealed) == Opened(MOVE)
    assert opened(change(copy.deepcopy(sealed))) is None


def test_it_opens_on_its_site_only():
    assert opened(seal(MOVE), site=OTHER_SITE) is None


def test_without_its_signer_named_it_does_not_open():
    sealed = seal(MOVE)
    del sealed[MEMBER]["from"]
    assert opened(sealed) is None


def test_recipients_cannot_be_swapped_between_messages():
    source = entropy()
    first, second = seal("first", entropy=source), seal("second", entropy=source)
    assert opened(changed(to=second[MEMBER]["to"])(first)) is None
    assert opened(changed(body=second[MEMBER]["body"])(first)) is None
    assert opened(changed(key=second[MEMBER]["key"])(first)) is None


@settings(max_examples=200)
@given(st.sampled_from(["key", "body", "to"]), st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_opens_to_anything(member, position, bit):
    sealed = seal(MOVE, ["move"])
    inner = sealed[MEMBER]
    text = inner[member][0] if member == "to" else inner[member]
    data = bytearray(base64.b64decode(text))
    data[position % len(data)] ^= 1 << bit
    spoilt = base64.b64encode(data).decode()
    inner[member] = [spoilt] if member == "to" else spoilt
    try:
        assert opened(sealed) is None
    except BadSealing:
        # Another point may be none of the curve, which is plain to see.
        assert member == "key"


@settings(max_examples=100)
@given(st.integers(0, 300))
def test_no_shortened_body_opens_to_anything(length):
    sealed = seal(MOVE)
    body = base64.b64decode(sealed[MEMBER]["body"])
    short = changed(body=base64.b64encode(body[: length % len(body)]).decode())(sealed)
    try:
        assert opened(short) is None
    except BadSealing as problem:
        assert "too short" in str(problem)


def test_a_member_may_not_stand_on_both_sides():
    sealed = seal({"a": 1}, None)
    point, values = sealed[MEMBER]["key"], {"a": 2}
    assert point
    # Whoever has the key of the message can bind it so; the reader refuses it nevertheless.
    twice = {**values, MEMBER: _seal_beside({"a": 1}, values)}
    assert opened(twice) is None
    no_map = {**values, MEMBER: _seal_beside([1], values)}
    assert opened(no_map) is None


def _seal_beside(inner, clear):
    from zeromsg.crypto.sealing import seal as seal_value

    return seal_value(inner, clear, TO_BOB, site=SITE, sender=ALICE.address, entropy=entropy())


def test_pages_may_hand_numbers_back_as_floats():
    sealed = seal({"x": 1.0, "y": 10**15, "z": "s"}, ["z"])
    assert opened({**sealed, "x": 1}) == Opened({"x": 1, "y": 10**15, "z": "s"})
    assert opened({**sealed, "y": 1e15}) == Opened({"x": 1.0, "y": 1e15, "z": "s"})


# Bounds, and what is no sealed message at all.


def test_what_has_another_hint_costs_no_decryption():
    def never():
        pytest.fail("nothing is for this key")

    assert opened(seal(MOVE), EVE, allowed=never) is None


def test_what_may_not_be_decrypted_now_is_not():
    assert opened(seal(MOVE), allowed=lambda: False) is None


@pytest.mark.parametrize("readers", [[], [GROUP] * (RECIPIENT_LIMIT + 1)])
def test_there_are_some_recipients_but_not_too_many(readers):
    with pytest.raises(ValueError, match="1 to 128 recipients"):
        seal("hi", readers=readers)


@pytest.mark.parametrize("fields", [[], ["nothing"], ["move", "nothing"]])
def test_fields_are_those_of_the_message(fields):
    with pytest.raises(ValueError, match="members of the message"):
        seal(MOVE, fields)


@pytest.mark.parametrize("message", ["text", None, [1], 7])
def test_only_a_map_has_fields(message):
    with pytest.raises(ValueError, match="members of the message"):
        seal(message, ["move"])


def test_a_message_may_not_bring_a_seal_of_its_own_beside_the_fields():
    with pytest.raises(ValueError, match="of its own"):
        seal({"move": 1, MEMBER: {}}, ["move"])


@pytest.mark.parametrize(
    "key", [b"", b"\2" + b"\0" * 31 + b"\5", b"\4" * 65, b"\0" * 33, b"\2" + b"\xff" * 32]
)
def test_a_recipient_is_a_point_of_the_curve(key):
    with pytest.raises(BadKey):
        Recipient.of(key)


GOOD = seal("hi")[MEMBER]


@pytest.mark.parametrize(
    "encrypted",
    [
        None,
        [],
        "text",
        {},
        {**GOOD, "v": 2},
        {**GOOD, "v": True},
        {**GOOD, "v": "1"},
        {**GOOD, "key": None},
        {**GOOD, "key": "AAAA"},
        {**GOOD, "key": base64.b64encode(b"\2" + b"\xff" * 32).decode()},
        {**GOOD, "key": base64.b64encode(BOB.public_key).decode()},
        {**GOOD, "to": GOOD["to"][0]},
        {**GOOD, "to": []},
        {**GOOD, "to": [7]},
        {**GOOD, "to": ["AAAA"]},
        {**GOOD, "to": ["not base64 at all"]},
        {**GOOD, "to": GOOD["to"] * (RECIPIENT_LIMIT + 1)},
        {**GOOD, "from": 7},
        {**GOOD, "from": None},
        {**GOOD, "hidden": 1},
        {**GOOD, "body": None},
        {**GOOD, "body": ""},
        {**GOOD, "body": "é"},
    ],
)
def test_what_is_malformed_is_said_to_be(encrypted):
    with pytest.raises(BadSealing):
        read(encrypted)


@given(st.dictionaries(st.sampled_from(list(GOOD)), JSON) | JSON)
def test_whatever_a_stranger_sends_is_read_or_refused(encrypted):
    merged = {**GOOD, **encrypted} if isinstance(encrypted, dict) else encrypted
    try:
        found = read(merged)
    except BadSealing:
        return
    if merged != GOOD:
        assert open_message({MEMBER: merged}, found, OwnKey(BOB), site=SITE) is None


def test_messages_without_a_seal_are_told_apart():
    for message in (None, [], "encrypted", {"a": 1}):
        assert read_message(message) is None


def test_many_entries_with_the_right_hint_are_not_all_tried():
    sealed = seal("hi", readers=[GROUP] * 5)
    hint = GROUP.hint(read_message(sealed).point, False)
    entries = [base64.b64encode(hint + bytes(48)).decode()] * RECIPIENT_LIMIT
    assert opened(changed(to=entries)(sealed), GROUP) is None


def test_keys_do_not_show_themselves():
    assert b"g" * 32 not in repr(GROUP).encode()
    assert "g" * 32 not in repr(GROUP)


# The written format, read by other code than ours.


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_vectors_are_made_the_same_again(case):
    stream = bytes.fromhex(case["entropy"])
    taken = 0

    def replay(count):
        nonlocal taken
        taken += count
        return stream[taken - count : taken]

    readers = [
        SharedKey(bytes.fromhex(reader["shared"]))
        if "shared" in reader
        else Recipient.of(bytes.fromhex(reader["public"]))
        for reader in case["readers"]
    ]
    sealed = seal_message(
        case["message"],
        case["fields"],
        readers,
        site=case["site"],
        sender=case["sender"],
        hidden=case["hidden"],
        entropy=replay,
    )
    assert sealed == case["sealed"]
    assert taken == len(stream)


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_vectors_open_by_the_written_format(case):
    for reader in case["readers"]:
        assert _open_by_the_book(case["sealed"], case["site"], reader) == case["message"]


def _hkdf(secret, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def _open_by_the_book(message, site, reader):
    """docs/encryption.md, step by step, on another implementation of the curve."""
    encrypted = message["encrypted"]
    point = base64.b64decode(encrypted["key"])
    if "shared" in reader:
        wrapping = _hkdf(
            bytes.fromhex(reader["shared"]), point, b"zeromsg sealing 1 wrap shared", 32
        )
    else:
        own = ec.derive_private_key(int(reader["private"], 16), ec.SECP256K1())
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point)
        x = own.exchange(ec.ECDH(), theirs)
        # The parity of y is in nothing that ECDH gives, so both are tried.
        public = bytes.fromhex(reader["public"])
        secrets = [hashlib.sha256(parity + x).digest() for parity in (b"\2", b"\3")]
        wrapping = [_hkdf(s, point + public, b"zeromsg sealing 1 wrap", 32) for s in secrets]
    content_key = None
    for entry in map(base64.b64decode, encrypted["to"]):
        for key in wrapping if isinstance(wrapping, list) else [wrapping]:
            try:
                content_key = ChaCha20Poly1305(key).decrypt(bytes(12), entry[4:], None)
            except Exception:
                continue
    assert content_key is not None
    both = _hkdf(content_key, point, b"zeromsg sealing 1 body", 64)
    body = base64.b64decode(encrypted["body"])
    assert body[:32] == both[32:]
    bound = {
        "site": site,
        "encrypted": {name: value for name, value in encrypted.items() if name != "body"},
        "clear": {name: value for name, value in message.items() if name != "encrypted"},
    }
    text = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()
    inner = json.loads(ChaCha20Poly1305(both[:32]).decrypt(bytes(12), body[32:], text))
    return {**bound["clear"], **inner} if bound["clear"] else inner
