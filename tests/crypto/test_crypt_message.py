"""ECIES and AES as the CryptMessage plugin writes and reads them."""

import base64
import hashlib
import hmac
import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.crypto.crypt_message import (
    BOX_LIMIT,
    TEXT_LIMIT,
    aes_decrypt,
    aes_encrypt,
    open_sealed,
    seal,
)
from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import BadKey

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "ui" / "crypt_vectors.json"
CRYPT = json.loads(VECTORS.read_text())
ECIES, AES = CRYPT["ecies"], CRYPT["aes"]
KEY = PrivateKey.from_wif(CRYPT["keys"][0]["wif"])
OTHER = PrivateKey.from_wif(CRYPT["keys"][1]["wif"])


def decode(text: str) -> bytes:
    return base64.b64decode(text)


def spelled(text: str | dict) -> str:
    return text if isinstance(text, str) else text["repeat"] * text["times"]


def by_case(case: dict) -> str:
    return case["case"]


# To a public key


@pytest.mark.parametrize("pair", ECIES["pairs"], ids=lambda pair: pair["length"])
def test_boxes_of_zeronet_open(pair):
    box = decode(pair["ciphertext_b64"])
    assert open_sealed(box, KEY) == spelled(pair["text"])
    split = pair["split"]
    public_key = b"\x04" + bytes.fromhex(split["x_hex"] + split["y_hex"])
    secret = KEY.shared_secret(public_key)
    assert hashlib.sha512(secret).digest()[:32] == decode(pair["aes_key_b64"])


@pytest.mark.parametrize("pair", ECIES["pairs"], ids=lambda pair: pair["length"])
def test_our_boxes_have_the_form_of_zeronet(pair):
    sealed = seal(spelled(pair["text"]), KEY.compressed_public_key, os.urandom)
    box, theirs = sealed.box, decode(pair["ciphertext_b64"])
    assert len(box) == len(theirs) == pair["length"]
    assert (box[16:20], box[52:54]) == (theirs[16:20], theirs[52:54])
    assert open_sealed(box, KEY) == spelled(pair["text"])
    # The key that is told on request opens the middle.
    text = spelled(pair["text"])
    assert aes_decrypt(box[:16], box[86:-32], sealed.aes_key) == (text or None)


@pytest.mark.parametrize("case", ECIES["verdicts"], ids=by_case)
def test_verdicts_of_zeronet(case):
    try:
        key = PrivateKey.from_wif(case["privatekey"])
    except BadKey:
        assert case["result"] is None
        return
    try:
        box = decode(case["ciphertext_b64"])
    except ValueError:
        box = b""
    assert open_sealed(box, key) == case["result"]


def test_the_recipient_may_be_uncompressed():
    case = ECIES["recipient_may_be_uncompressed"]
    public_key = decode(case["publickey_b64"])
    assert public_key == KEY.public_key
    assert open_sealed(decode(case["ciphertext_b64"]), KEY) == case["text"]
    assert open_sealed(seal("x", public_key, os.urandom).box, KEY) == "x"


@pytest.mark.parametrize("case", ECIES["bad_public_keys"], ids=by_case)
def test_bad_public_keys(case):
    with pytest.raises(BadKey):
        seal("x", decode(case["publickey_b64"]), os.urandom)


@given(st.text(), st.booleans())
def test_what_was_sealed_opens(text, compressed):
    public_key = KEY.compressed_public_key if compressed else KEY.public_key
    sealed = seal(text, public_key, os.urandom)
    assert open_sealed(sealed.box, KEY) == text
    assert open_sealed(sealed.box, OTHER) is None
    assert "aes_key" not in repr(sealed)


@given(st.text(max_size=40), st.data())
def test_what_was_changed_does_not_open(text, data):
    box = seal(text, KEY.public_key, os.urandom).box
    place = data.draw(st.integers(0, len(box) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = box[:place] + bytes([box[place] ^ flip]) + box[place + 1 :]
    assert open_sealed(changed, KEY) is None
    assert open_sealed(box[:place], KEY) is None
    assert open_sealed(box + changed[:1], KEY) is None


def test_no_flipped_bit_anywhere_opens():
    box = seal("hello", KEY.public_key, os.urandom).box
    for bit in range(8 * len(box)):
        changed = bytearray(box)
        changed[bit // 8] ^= 1 << bit % 8
        assert open_sealed(bytes(changed), KEY) is None


@given(st.binary(max_size=400))
def test_no_bytes_raise(data):
    assert open_sealed(data, KEY) is None


def boxed(head: bytes, mac_key: bytes, ciphertext: bytes = bytes(16)) -> bytes:
    body = bytes(16) + head + ciphertext
    return body + hmac.digest(mac_key, body, "sha256")


@pytest.mark.parametrize(
    "point",
    [bytes(64), b"\xff" * 64, (1).to_bytes(32, "big") * 2, KEY.public_key[1:-1] + b"\0"],
    ids=["zeros", "over the field", "weak curve", "beside the curve"],
)
def test_boxes_to_invalid_points_do_not_open(point):
    # With any MAC key that a reader who did the sum all the same could come to at zero.
    head = b"\x02\xca\x00\x20" + point[:32] + b"\x00\x20" + point[32:]
    for secret in (bytes(32), point[:32]):
        assert open_sealed(boxed(head, hashlib.sha512(secret).digest()[32:]), KEY) is None


@pytest.mark.parametrize(
    ("x_size", "y_size"), [(0, 0), (0, 32), (32, 0), (33, 31), (65535, 65535), (32, 65535)]
)
def test_other_lengths_of_coordinates(x_size, y_size):
    x, y = OTHER.public_key[1:33], OTHER.public_key[33:]
    head = b"\x02\xca" + x_size.to_bytes(2, "big") + x + y_size.to_bytes(2, "big") + y
    mac_key = hashlib.sha512(KEY.shared_secret(OTHER.public_key)).digest()[32:]
    assert open_sealed(boxed(head, mac_key), KEY) is None


@pytest.mark.parametrize("coordinate", [0, 1])
def test_leading_zeros_may_be_left_out(coordinate):
    """Of X and of Y, as older writers did."""
    for number in range(1, 3000):
        once = PrivateKey(number.to_bytes(32, "big"))
        if once.public_key[1 + 32 * coordinate] == 0:
            break
    parts = [once.public_key[1:33], once.public_key[33:]]
    parts[coordinate] = parts[coordinate].lstrip(b"\0")
    both = hashlib.sha512(once.shared_secret(KEY.public_key)).digest()
    iv, ciphertext = aes_encrypt("zero", both[:32], bytes)
    assert iv == bytes(16)
    head = b"\x02\xca" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    assert len(head) < 70
    assert open_sealed(boxed(head, both[32:], ciphertext), KEY) == "zero"


@pytest.mark.parametrize("plain", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"])
def test_what_is_no_text_does_not_open(plain):
    both = hashlib.sha512(OTHER.shared_secret(KEY.public_key)).digest()
    head = b"\x02\xca\x00\x20" + OTHER.public_key[1:33] + b"\x00\x20" + OTHER.public_key[33:]
    padded = plain + bytes([16 - len(plain)]) * (16 - len(plain))
    box = boxed(head, both[32:], cbc(padded, both[:32]))
    assert open_sealed(box, KEY) is None


def cbc(padded: bytes, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def test_texts_are_bounded():
    longest = "x" * TEXT_LIMIT
    sealed = seal(longest, KEY.public_key, os.urandom)
    assert len(sealed.box) == BOX_LIMIT
    assert open_sealed(sealed.box, KEY) == longest
    assert open_sealed(sealed.box + b"\0", KEY) is None
    with pytest.raises(ValueError, match="1048576"):
        seal(longest + "x", KEY.public_key, os.urandom)
    with pytest.raises(ValueError, match="1048576"):
        aes_encrypt("é" * (TEXT_LIMIT // 2) + "x", bytes(32), os.urandom)
    iv, ciphertext = aes_encrypt(longest, bytes(32), os.urandom)
    assert aes_decrypt(iv, ciphertext, bytes(32)) == longest
    assert aes_decrypt(iv, ciphertext + bytes(16), bytes(32)) is None


def test_lone_surrogates_are_no_text():
    with pytest.raises(UnicodeEncodeError):
        seal("\ud800", KEY.public_key, os.urandom)
    with pytest.raises(UnicodeEncodeError):
        aes_encrypt("\ud800", bytes(32), os.urandom)


def test_boxes_are_made_of_the_entropy_given():
    assert seal("x", KEY.public_key, lambda n: b"\7" * n) == seal(
        "x", KEY.public_key, lambda n: b"\7" * n
    )
    assert seal("x", KEY.public_key, os.urandom) != seal("x", KEY.public_key, os.urandom)
    with pytest.raises(BadKey):
        seal("x", KEY.public_key, bytes)


# With a shared key


@pytest.mark.parametrize("pair", AES["pairs"], ids=lambda pair: pair["text"])
def test_texts_of_zeronet(pair):
    key, iv, ciphertext = (decode(pair[f"{name}_b64"]) for name in ("key", "iv", "ciphertext"))
    assert aes_decrypt(iv, ciphertext, key) == pair["text"]
    assert aes_encrypt(pair["text"], key, lambda count: iv[:count]) == (iv, ciphertext)


@pytest.mark.parametrize("case", AES["verdicts"], ids=by_case)
def test_aes_verdicts_of_zeronet(case):
    arguments = (decode(case[f"{name}_b64"]) for name in ("iv", "ciphertext", "key"))
    assert aes_decrypt(*arguments) == case["result"]


@given(st.text(), st.binary(min_size=32, max_size=32))
def test_what_was_encrypted_decrypts(text, key):
    iv, ciphertext = aes_encrypt(text, key, os.urandom)
    assert aes_decrypt(iv, ciphertext, key) == (text or None)
    assert (iv == ciphertext == b"") is (text == "")


@given(st.binary(max_size=40), st.binary(max_size=80), st.binary(max_size=40))
def test_no_bytes_raise_without_a_mac(iv, ciphertext, key):
    assert isinstance(aes_decrypt(iv, ciphertext, key), str | None)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_shared_keys_have_32_bytes(size):
    with pytest.raises(BadKey):
        aes_encrypt("x", bytes(size), os.urandom)
    with pytest.raises(BadKey):
        aes_encrypt("", bytes(size), os.urandom)
