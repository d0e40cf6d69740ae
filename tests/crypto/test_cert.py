import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.crypto.cert import (
    FIELD_LIMIT,
    SIGN_LIMIT,
    Certificate,
    cert_subject,
    verify_cert,
)
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign
from zeromsg.errors import TheirMistake

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
PEERMESSAGE = json.loads((VECTORS / "peermessage.json").read_text())
CONTENT = json.loads((VECTORS / "content-json.json").read_text())

ISSUER = PrivateKey.from_wif(PEERMESSAGE["keys"]["issuer"]["privatekey"])
USER = PEERMESSAGE["keys"]["user1"]["address"]
CERT_SIGN = (
    "HHZqpqx6f1smVDCHF2d0wdiNTYe03m8LqtF9dlXGQuWFfVz8gMPBFpFalyfn3n5DiMLbX+9YWGoMLx4E3AdYEWs="
)
ALICE = Certificate("web", "alice", "rig.bit", CERT_SIGN)


def undo_bin(value):
    return bytes.fromhex(value["$bin"]) if isinstance(value, dict) else value


def issuers_of(case: dict) -> dict:
    site = json.loads(case["params"]["raw"])["site"]
    return PEERMESSAGE["sites"][site]["p2p.json"].get("cert_signers", {})


CASES = [
    case
    for case in PEERMESSAGE["cases"]
    if case["params"].get("cert") and case["params"].get("signature")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_certificates_of_peer_messages(case):
    wire = [undo_bin(item) for item in case["params"]["cert"]]
    if case["reply"] is None:
        with pytest.raises(TheirMistake):
            Certificate.from_wire(wire)
        return
    address = case["params"]["signature"].partition("|")[0]
    expected = case["reply"].get("error") != "Invalid signature certificate"
    assert verify_cert(address, Certificate.from_wire(wire), issuers_of(case)) is expected


def test_there_are_good_and_bad_certificates():
    assert {str(case["reply"]) for case in CASES} == {
        "{'ok': 'thx'}",
        "{'error': 'Invalid signature certificate'}",
        "None",
    }


def test_its_texts():
    assert ALICE.user_id == "alice@rig.bit"
    assert ALICE.text == "web/alice@rig.bit"
    assert cert_subject("1abc", ALICE) == "1abc#web/alice"
    assert ALICE.to_wire() == ["web", "alice", "rig.bit", CERT_SIGN]
    assert CERT_SIGN not in repr(ALICE)


def test_we_sign_as_the_issuer_did():
    assert sign(cert_subject(USER, ALICE), ISSUER) == CERT_SIGN


def test_from_user_id():
    assert Certificate.from_user_id("web", "alice@rig.bit", CERT_SIGN) == ALICE
    assert Certificate.from_user_id("web", "a@b@c.bit", "").auth_user_name == "a@b"
    with pytest.raises(ValueError, match="name@issuer"):
        Certificate.from_user_id("web", "alice", CERT_SIGN)


@pytest.mark.parametrize(
    "issuers",
    [
        {"rig.bit": ISSUER.address},
        {"rig.bit": [ISSUER.address]},
        {"rig.bit": (USER, ISSUER.address)},
        {"rig.bit": [None, 1, [], "no address", ISSUER.address]},
    ],
)
def test_accepted_issuers(issuers):
    assert verify_cert(USER, ALICE, issuers)


@pytest.mark.parametrize(
    "issuers",
    [
        {},
        {"rig.bit": []},
        {"rig.bit": ""},
        {"rig.bit": USER},
        {"rig.bit": None},
        {"rig.bit": 7},
        {"rig.bit": True},
        {"rig.bit": {ISSUER.address: 1}},
        {"rig.bit": [[ISSUER.address]]},
        {"RIG.bit": ISSUER.address},
        {"other.bit": ISSUER.address},
    ],
)
def test_issuers_that_are_none(issuers):
    assert not verify_cert(USER, ALICE, issuers)


def test_a_certificate_of_another_address():
    assert not verify_cert(ISSUER.address, ALICE, {"rig.bit": ISSUER.address})
    assert not verify_cert("garbage", ALICE, {"rig.bit": ISSUER.address})


@pytest.mark.parametrize(
    "wire",
    [
        None,
        "web",
        {},
        {"a": 1, "b": 2, "c": 3, "d": 4},
        [],
        ["web", "alice", "rig.bit"],
        ["web", "alice", "rig.bit", CERT_SIGN, ""],
        ["web", "alice", "rig.bit", None],
        ["web", 1, "rig.bit", CERT_SIGN],
        ["web", b"\xff", "rig.bit", CERT_SIGN],
        ["web", "\ud800", "rig.bit", CERT_SIGN],
        ["w/eb", "alice", "rig.bit", CERT_SIGN],
        ["web", "alice", "a@rig.bit", CERT_SIGN],
        ["w" * (FIELD_LIMIT + 1), "alice", "rig.bit", CERT_SIGN],
        ["web", "a" * (FIELD_LIMIT + 1), "rig.bit", CERT_SIGN],
        ["web", "alice", "r" * (FIELD_LIMIT + 1), CERT_SIGN],
        ["web", "alice", "rig.bit", "A" * (SIGN_LIMIT + 1)],
    ],
    ids=lambda wire: ascii(wire)[:60],
)
def test_hostile_wire_forms(wire):
    with pytest.raises(TheirMistake) as caught:
        Certificate.from_wire(wire)
    assert caught.value.points == 7


def test_one_signature_names_one_user():
    """`web/a` and `b` would be signed by the same text as `web` and `a/b`."""
    cert = Certificate("web", "a/b", "rig.bit", "")
    signed = Certificate("web", "a/b", "rig.bit", sign(cert_subject(USER, cert), ISSUER))
    assert verify_cert(USER, signed, {"rig.bit": ISSUER.address})
    with pytest.raises(ValueError, match="ambiguous"):
        Certificate("web/a", "b", "rig.bit", signed.cert_sign)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(anything | st.lists(st.text(max_size=10) | st.binary(max_size=10), min_size=4, max_size=4))
def test_from_wire_raises_only_their_mistake(wire):
    try:
        cert = Certificate.from_wire(wire)
    except TheirMistake:
        return
    assert Certificate.from_wire(cert.to_wire()) == cert
    assert not verify_cert(USER, cert, {cert.issuer: ISSUER.address})


@given(anything)
def test_no_list_of_issuers_raises(value):
    assert not verify_cert(USER, ALICE, {"rig.bit": value})


@given(st.integers(0, 87), st.sampled_from("ABab01+/"))
def test_a_changed_signature_fails(position, character):
    changed = CERT_SIGN[:position] + character + CERT_SIGN[position + 1 :]
    cert = Certificate("web", "alice", "rig.bit", changed)
    assert verify_cert(USER, cert, {"rig.bit": ISSUER.address}) is (changed == CERT_SIGN)


def test_the_same_certificate_is_in_content_json():
    text = CONTENT["stored"][f"data/users/{USER}/content.json"]
    content = json.loads(text)
    cert = Certificate.from_user_id(
        content["cert_auth_type"], content["cert_user_id"], content["cert_sign"]
    )
    assert cert == ALICE
