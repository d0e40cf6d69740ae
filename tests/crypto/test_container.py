"""Documents under a passphrase: what goes in comes out, and nothing else does."""

import base64
import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zeromsg.crypto.container import (
    PASSPHRASE_LIMIT,
    BadContainer,
    ContainerKey,
    WrongPassphrase,
    is_container,
    unseal,
)

CHEAP = 1 << 10
SALT = b"s" * 16
KEY = ContainerKey.derive("correct horse", SALT, CHEAP, 8, 1)


def counting(count: int) -> bytes:
    return bytes(range(count))


SEALED = json.loads(KEY.seal(b'{"a": 1}', counting))


def changed(**members):
    return json.dumps({**SEALED, **members})


def with_kdf(**members):
    return changed(kdf={**SEALED["kdf"], **members})


@given(st.binary(max_size=2000), st.text(min_size=1, max_size=30).filter(str.isprintable))
def test_what_goes_in_comes_out(document, passphrase):
    key = ContainerKey.new(passphrase, counting, CHEAP)
    text = key.seal(document, counting)
    assert unseal(text, passphrase) == (document, key)
    assert is_container(json.loads(text))


def test_the_form(monkeypatch):
    assert {name: SEALED[name] for name in SEALED if name != "data"} == {
        "zeromsg_sealed": 1,
        "kdf": {"name": "scrypt", "n": CHEAP, "r": 8, "p": 1, "salt": SALT.hex()},
        "cipher": "chacha20-poly1305",
        "nonce": bytes(range(12)).hex(),
    }
    # Fixed for good: files that are on disk must still open.
    assert SEALED["data"] == FIXED
    assert unseal(changed(), "correct horse")[0] == b'{"a": 1}'


FIXED = "FSZ82HUPFW5MMJyoPn0qzEkBKYs/Gpnn"


def test_what_a_new_one_costs():
    drawn = []

    def entropy(count):
        drawn.append(count)
        return bytes(count)

    key = ContainerKey.new("x", entropy)
    assert (key.n, key.r, key.p, drawn) == (65536, 8, 1, [16])
    key.seal(b"", entropy)
    assert drawn == [16, 12]


def test_no_key_in_its_text():
    assert KEY.key.hex() not in repr(KEY) and repr(KEY.key) not in repr(KEY)


def test_the_key_does_for_later_versions():
    _, key = unseal(changed(), "correct horse")
    later = key.seal(b"later", lambda count: b"\x09" * count)
    assert unseal(later, "correct horse")[0] == b"later"


@pytest.mark.parametrize(
    "wrong", ["", "correct hors", "Correct horse", "correct horse ", "\ud800", "x" * 2000]
)
def test_wrong_passphrases_get_one_answer(wrong):
    with pytest.raises(WrongPassphrase) as caught:
        unseal(changed(), wrong)
    assert str(caught.value) == "the passphrase is wrong, or the file was damaged"
    assert not KEY.opens_with(wrong)


def test_the_right_passphrase_is_known():
    assert KEY.opens_with("correct horse")


def test_letters_may_be_composed_in_either_way():
    key = ContainerKey.new("gr\u00fc\u00dfe", counting, CHEAP)
    assert unseal(key.seal(b"x", counting), "gru\u0308\u00dfe")[0] == b"x"


def test_a_passphrase_has_a_longest_length():
    longest = "x" * PASSPHRASE_LIMIT
    key = ContainerKey.new(longest, counting, CHEAP)
    assert key.opens_with(longest)
    with pytest.raises(WrongPassphrase):
        ContainerKey.new(longest + "x", counting, CHEAP)


@given(st.integers(0, 23), st.integers(0, 7))
def test_no_bit_of_the_data_may_change(place, bit):
    data = bytearray(base64.b64decode(SEALED["data"]))
    data[place] ^= 1 << bit
    with pytest.raises(WrongPassphrase):
        unseal(changed(data=base64.b64encode(data).decode()), "correct horse")


@pytest.mark.parametrize(
    "text",
    [
        with_kdf(n=CHEAP * 2),
        with_kdf(r=4),
        with_kdf(p=2),
        with_kdf(salt="00" * 16),
        changed(nonce="00" * 12),
        changed(data=""),
        changed(data=SEALED["data"][:8]),
    ],
)
def test_everything_beside_the_data_is_bound_to_it(text):
    with pytest.raises(WrongPassphrase):
        unseal(text, "correct horse")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "[" * 5000,
        changed(zeromsg_sealed=2),
        changed(zeromsg_sealed=True),
        changed(zeromsg_sealed="1"),
        changed(zeromsg_sealed=None),
        changed(cipher="none"),
        changed(cipher=5),
        changed(data="!"),
        changed(data=5),
        changed(nonce="00"),
        changed(nonce="zz" * 12),
        changed(nonce="00" * 13),
        changed(nonce="AB" * 12),
        changed(kdf=None),
        changed(kdf={}),
        changed(more=1),
        with_kdf(more=1),
        with_kdf(name="pbkdf2"),
        with_kdf(n=0),
        with_kdf(n=-CHEAP),
        with_kdf(n=CHEAP + 1),
        with_kdf(n=512),
        with_kdf(n=1 << 19),
        with_kdf(n=1 << 62),
        with_kdf(n=1 << 200),
        with_kdf(n=65536.0),
        with_kdf(n="65536"),
        with_kdf(n=True),
        with_kdf(r=0),
        with_kdf(r=17),
        with_kdf(r=1 << 30),
        with_kdf(p=0),
        with_kdf(p=5),
        with_kdf(p=1 << 30),
        with_kdf(n=1 << 18, r=16),
        with_kdf(salt=""),
        with_kdf(salt="00" * 15),
        with_kdf(salt="00" * 65),
        with_kdf(salt="0" * 33),
    ],
)
def test_what_is_no_container_costs_nothing(text, monkeypatch):
    monkeypatch.setattr(
        "zeromsg.crypto.container.Scrypt",
        lambda **_: (
            pytest.fail("no key is derived for it")
            if '"data": "!"' not in text and '"data": 5' not in text
            else Cheap()
        ),
    )
    tracemalloc.start()
    with pytest.raises(BadContainer):
        unseal(text, "correct horse")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


class Cheap:
    def derive(self, secret):
        return bytes(32)


@given(st.text(max_size=300))
@example('{"zeromsg_sealed": 1}')
def test_any_text_is_refused_or_opened(text):
    with pytest.raises(BadContainer):
        unseal(text, "x")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(SEALED)), _values)
def test_any_value_in_a_member_is_refused(member, value):
    if value == SEALED[member] and type(value) is type(SEALED[member]):
        return
    with pytest.raises((BadContainer, WrongPassphrase)):
        unseal(changed(**{member: value}), "correct horse")


@given(st.sampled_from(sorted(SEALED["kdf"])), _values.filter(lambda v: v not in (2048, 4096)))
def test_any_value_in_the_kdf_is_refused(member, value):
    if value == SEALED["kdf"][member] and type(value) is type(SEALED["kdf"][member]):
        return
    with pytest.raises((BadContainer, WrongPassphrase)):
        unseal(with_kdf(**{member: value}), "correct horse")


@pytest.mark.parametrize("value", [None, 5, "zeromsg_sealed", ["zeromsg_sealed"], {}, {"a": 1}])
def test_other_json_is_no_container(value):
    assert not is_container(value)
    assert is_container({"zeromsg_sealed": "of a later version"})
