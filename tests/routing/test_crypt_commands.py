"""The CryptMessage commands: vectors of the real plugin, bounds, and whatever a client may send."""

import base64
import json
import os
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeromsg.crypto.crypt_message import TEXT_LIMIT, aes_encrypt
from zeromsg.routing import crypt_commands
from zeromsg.routing.crypt_commands import CryptCommands

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "ui" / "crypt_vectors.json"
CRYPT = json.loads(VECTORS.read_text())
FIRST, SECOND = CRYPT["keys"]
COMMANDS = [
    *("userPublickey", "eciesEncrypt", "eciesDecrypt", "aesEncrypt", "aesDecrypt"),
    *("ecdsaSign", "ecdsaVerify", "eccPrivToPub", "eccPubToAddr"),
]
SHARED = base64.b64encode(bytes(32)).decode()


def by_case(case):
    return case["case"]


def spelled(text):
    return text if isinstance(text, str) else text["repeat"] * text["times"]


def encrypted(text, key=bytes(32)):
    return [base64.b64encode(part).decode() for part in aes_encrypt(text, key, os.urandom)]


@pytest.fixture
def net(network):
    made = network(2)
    made.main = made.site()
    made.other = made.site()
    return made


@pytest.fixture
def client(net):
    return net.client(0, net.main)


@pytest.fixture
def asked(net, client):
    """Asks, and lets lists be worked on."""

    def ask(cmd, params):
        found = []
        client.call(cmd, params).addCallback(found.append)
        net.advance(0.1)
        (result,) = found
        return result

    return ask


def error_of(result):
    assert set(result) == {"error"}
    return result["error"]


# Vectors of the plugin


@pytest.mark.parametrize("case", CRYPT["ecies"]["verdicts"], ids=by_case)
def test_ecies_verdicts(asked, case):
    box, key = case["ciphertext_b64"], case["privatekey"]
    assert asked("eciesDecrypt", [box, key]) == case["result"]
    assert asked("eciesDecrypt", {"param": [box, box], "privatekey": key}) == [case["result"]] * 2


@pytest.mark.parametrize("pair", CRYPT["ecies"]["pairs"], ids=lambda pair: pair["length"])
def test_ecies_pairs(asked, pair):
    text = spelled(pair["text"])
    assert asked("eciesDecrypt", [pair["ciphertext_b64"], FIRST["wif"]]) == text
    box = asked("eciesEncrypt", [text, FIRST["public_compressed_b64"]])
    assert len(box) == len(pair["ciphertext_b64"])
    assert asked("eciesDecrypt", [box, FIRST["wif"]]) == text


@pytest.mark.parametrize("case", CRYPT["ecies"]["bad_public_keys"], ids=by_case)
def test_bad_public_keys(asked, case):
    refused = error_of(asked("eciesEncrypt", ["x", case["publickey_b64"]]))
    assert refused.startswith("invalid: publickey is no public key: ")


@pytest.mark.parametrize("case", CRYPT["aes"]["verdicts"], ids=by_case)
def test_aes_verdicts(asked, case):
    iv, text, key = case["iv_b64"], case["ciphertext_b64"], case["key_b64"]
    assert asked("aesDecrypt", [iv, text, key]) == case["result"]
    assert asked("aesDecrypt", {"iv": iv, "encrypted_text": text, "key": key}) == case["result"]
    assert asked("aesDecrypt", [[[iv, text]], [key]]) == [case["result"]]


@pytest.mark.parametrize("case", CRYPT["ecdsa"]["signatures"], ids=lambda case: case["sign_wif"])
def test_signatures(asked, case):
    text = spelled(case["text"])
    for wif, signature, address in (
        (FIRST["wif"], case["sign_wif"], case["address_wif"]),
        (FIRST["wif_compressed"], case["sign_wif_compressed"], case["address_compressed"]),
    ):
        assert asked("ecdsaSign", [text, wif]) == signature
        assert asked("ecdsaVerify", [text, address, signature]) is True


@pytest.mark.parametrize("case", CRYPT["ecdsa"]["verdicts"], ids=by_case)
def test_ecdsa_verdicts(asked, case):
    # Where the plugin's libraries disagree the stricter one counts; an error is a false.
    expected = case["result"]["libsecp256k1"] is True and case["result"]["sslcrypto"] is True
    verified = asked("ecdsaVerify", [case["text"], case["address"], case["signature"]])
    assert verified is expected


@pytest.mark.parametrize("case", CRYPT["keys"], ids=lambda case: case["address"])
def test_keys_and_addresses(asked, case):
    for wif, form in (("wif", "uncompressed"), ("wif_compressed", "compressed")):
        public_key = case[f"eccPrivToPub_of_{wif}_bytes_hex"]
        assert asked("eccPrivToPub", [case[wif]]) == public_key
        assert asked("eccPubToAddr", [public_key]) == case[f"eccPubToAddr_of_{form}"]


def test_the_signature_of_a_peer_message(asked):
    message = CRYPT["peermessage"]
    address, signature = message["signature"].split("|")
    assert asked("ecdsaVerify", [message["signed_text"], address, signature]) is True


# Whose keys


def test_keys_are_of_the_person_and_the_site(net, client):
    other, far = net.client(0, net.other), net.client(1, net.main)
    keys = {
        tuple(one.ask("userPublickey", [index]) for index in (0, 1, 1000))
        for one in (client, other, far)
    }
    assert len({key for three in keys for key in three}) == 9
    assert client.ask("userPublickey") == client.ask("userPublickey", [0])
    user = net.nodes[0].users.default
    expected = base64.b64encode(user.encryption_key(net.main, 1).compressed_public_key)
    assert client.ask("userPublickey", [1]) == expected.decode()


def test_between_two_people(net, client):
    far = net.client(1, net.main)
    box, aes_key = client.ask("eciesEncrypt", ["for you", far.ask("userPublickey", [7]), True])
    assert far.ask("eciesDecrypt", [box, 7]) == "for you"
    assert far.ask("eciesDecrypt", [box]) is None
    assert client.ask("eciesDecrypt", [box, 7]) is None
    raw = base64.b64decode(box)
    parts = [base64.b64encode(part).decode() for part in (raw[:16], raw[86:-32])]
    assert far.ask("aesDecrypt", [*parts, aes_key]) == "for you"


def test_own_keys_by_index(client):
    box = client.ask("eciesEncrypt", {"text": "é", "publickey": 5})
    assert client.ask("eciesDecrypt", {"param": box, "privatekey": 5}) == "é"
    assert client.ask("eciesDecrypt", {"param": box, "privatekey": 0}) is None


def test_signing_without_a_key_signs_as_the_person_of_the_site(net, client):
    signature = client.ask("ecdsaSign", ["data"])
    address = client.ask("siteInfo")["auth_address"]
    assert client.ask("ecdsaVerify", ["data", ["1x", address], signature]) is True
    assert client.ask("ecdsaVerify", ["datb", address, signature]) is False
    assert client.ask("ecdsaSign", {"data": "data", "privatekey": None}) == signature
    assert net.client(0, net.other).ask("ecdsaSign", ["data"]) != signature


@pytest.mark.parametrize("cmd", COMMANDS)
def test_no_keys_of_other_sites(net, client, cmd):
    refused = error_of(client.ask("as", [net.other, cmd, ["x"]]))
    assert refused == f"denied: No permission for site {net.other}"


def test_as_the_own_site(net, client):
    assert client.ask("as", [net.main, "userPublickey", [3]]) == client.ask("userPublickey", [3])


def test_zites_see_that_it_is_there(client):
    assert "CryptMessage" in client.ask("serverInfo")["plugins"]


# AES with many texts and keys


def test_a_key_is_made_where_none_is_given(client):
    first, second = client.ask("aesEncrypt", ["x"]), client.ask("aesEncrypt", ["x", ""])
    assert first[0] != second[0]
    for key, iv, text in (first, second):
        assert len(base64.b64decode(key)) == 32
        assert client.ask("aesDecrypt", [iv, text, key]) == "x"


def test_every_key_is_tried(asked):
    keys = [bytes([number]) * 32 for number in range(3)]
    texts = [encrypted(str(number), key) for number, key in enumerate(keys)]
    shared = [base64.b64encode(key).decode() for key in keys]
    assert asked("aesDecrypt", [texts, shared]) == ["0", "1", "2"]
    assert asked("aesDecrypt", [texts, shared[:2]]) == ["0", "1", None]
    assert asked("aesDecrypt", [texts, []]) == [None] * 3
    assert asked("aesDecrypt", [[], shared]) == []
    # What is no key and what is no Base64 opens nothing, and spoils nothing.
    assert asked("aesDecrypt", [[["%", "="], *texts], ["", "AAAA", "a", *shared]])[1:] == [
        "0",
        "1",
        "2",
    ]


def test_the_last_key_that_fits_counts(asked):
    # The first key below 2^256 that gives a text too, by chance.
    right, by_chance = b"\7" * 32, (472065).to_bytes(32, "big")
    pair = [base64.b64encode(part).decode() for part in aes_encrypt("a" * 15, right, bytes)]
    keys = [base64.b64encode(key).decode() for key in (right, by_chance)]
    chance = "e\u021cpOg\x0e\x1dE'\r<\u01d7z"
    assert asked("aesDecrypt", [[pair], keys]) == [chance]
    assert asked("aesDecrypt", [[pair], keys[::-1]]) == ["a" * 15]
    assert asked("aesDecrypt", [*pair, keys[1]]) == chance


# What clients send that is wrong


WRONG = [None, True, False, 5, 1.5, -1, [], [[]], [5], {}, {"a": 1}, [None, "x"], "\ud800", "é"]
GOOD = {
    "userPublickey": [0],
    "eciesEncrypt": ["x", 0, False],
    "eciesDecrypt": ["x", 0],
    "aesEncrypt": ["x", SHARED],
    "aesDecrypt": ["x", "x", SHARED],
    "ecdsaSign": ["x", FIRST["wif"]],
    "ecdsaVerify": ["x", FIRST["address"], "x"],
    "eccPrivToPub": [FIRST["wif"]],
    "eccPubToAddr": [FIRST["public_compressed_hex"]],
}


@pytest.mark.parametrize("wrong", WRONG, ids=json.dumps)
@pytest.mark.parametrize("cmd", COMMANDS)
def test_parameters_of_every_wrong_type(asked, cmd, wrong):
    for place in range(len(GOOD[cmd])):
        params = [*GOOD[cmd]]
        params[place] = wrong
        result = asked(cmd, params)
        text = result["error"] if isinstance(result, dict) else ""
        assert not isinstance(result, dict) or text.startswith("invalid: "), text
        if cmd in ("userPublickey", "eccPrivToPub", "eccPubToAddr") and wrong != 5:
            assert text
        if place == 0 and cmd in ("eciesEncrypt", "aesEncrypt", "ecdsaSign", "ecdsaVerify"):
            assert bool(text) is (wrong != "é")


@pytest.mark.parametrize(
    ("cmd", "params", "refused"),
    [
        ("userPublickey", [1001], "invalid: index must be a whole number from 0 to 1000"),
        ("userPublickey", [-1], "invalid: index must be a whole number from 0 to 1000"),
        ("eciesEncrypt", ["x", 1001], "invalid: publickey must be a whole number from 0 to 1000"),
        ("eciesEncrypt", ["x", True], "invalid: publickey must be a whole number from 0 to 1000"),
        ("eciesEncrypt", ["x", "a"], "invalid: publickey is no public key: "),
        ("eciesEncrypt", ["x", "A" * 1025], "invalid: publickey must be a text of at most"),
        ("eciesEncrypt", [], "invalid: eciesEncrypt needs the parameter text"),
        ("eciesEncrypt", ["x" * (TEXT_LIMIT + 1)], "too-big: text takes over 1048576 bytes"),
        ("eciesEncrypt", ["é" * (TEXT_LIMIT // 2 + 1)], "too-big: text takes over 1048576 bytes"),
        ("eciesEncrypt", ["\ud800"], "invalid: text has characters that are none in UTF-8"),
        ("eciesDecrypt", ["x", 1001], "invalid: privatekey must be a whole number from 0 to 1000"),
        ("eciesDecrypt", ["x" * 2**21], "too-big: a ciphertext has over 1398"),
        ("eciesDecrypt", [["x" * 2**20] * 5], "too-big: the ciphertexts have over 4194304"),
        ("eciesDecrypt", [["x"] * 5001], "too-big: param has over 5000 entries"),
        ("aesEncrypt", ["x" * (TEXT_LIMIT + 1)], "too-big: text takes over 1048576 bytes"),
        ("aesEncrypt", ["x", "a"], "invalid: key is none: a shared key has 32 bytes"),
        ("aesDecrypt", ["x", "x"], "invalid: aesDecrypt needs the parameter key, or two lists"),
        ("aesDecrypt", ["x", ["x"], SHARED], "invalid: iv and encrypted text must be two texts"),
        ("aesDecrypt", ["x", "x" * 2**21, SHARED], "too-big: a ciphertext has over 1398"),
        ("aesDecrypt", [[], [], SHARED], "invalid: aesDecrypt takes one iv with one key, or two"),
        ("aesDecrypt", [[], SHARED], "invalid: the list of keys must be a list"),
        ("aesDecrypt", [[["x"]], []], "invalid: iv and encrypted text must be two texts"),
        ("aesDecrypt", [[], [5]], "invalid: a key must be a text of at most 1024 characters"),
        ("aesDecrypt", [[["", ""]] * 5001, []], "too-big: the list of texts has over 5000"),
        ("aesDecrypt", [[], [""] * 5001], "too-big: the list of keys has over 5000"),
        ("aesDecrypt", [[["", ""]] * 1001, [""] * 100], "too-big: too many keys for so many"),
        ("aesDecrypt", [[["", "x" * 2**20]] * 3, [""] * 22], "too-big: too many keys for so"),
        ("ecdsaSign", ["x" * (TEXT_LIMIT + 1)], "too-big: data takes over 1048576 bytes"),
        ("ecdsaSign", ["x", ""], "invalid: privatekey is no private key"),
        ("ecdsaVerify", ["x", ["1"] * 5001, ""], "too-big: address has over 5000 entries"),
        ("eccPrivToPub", [FIRST["secret_hex"]], "invalid: privatekey is no private key"),
        ("eccPubToAddr", ["04" + "00" * 64], "invalid: publickey is no public key"),
        ("eccPubToAddr", ["07" + FIRST["public_uncompressed_hex"][2:]], "invalid: publickey is no"),
        ("eccPubToAddr", [FIRST["public_compressed_b64"]], "invalid: publickey must be in hex"),
    ],
)
def test_refusals(asked, cmd, params, refused):
    assert error_of(asked(cmd, params)).startswith(refused)


def test_items_that_are_none_are_null(asked):
    box = asked("eciesEncrypt", ["x"])
    wrong = [None, 5, [], {}, [box], "\ud800", "é", "=", ""]
    assert asked("eciesDecrypt", [[*wrong, box]]) == [None] * len(wrong) + ["x"]


_leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.binary(max_size=150).map(lambda data: base64.b64encode(data).decode())
    | st.sampled_from(
        [
            *(0, 1, 1000, SHARED, FIRST["wif"], FIRST["address"], FIRST["public_compressed_b64"]),
            *(FIRST["public_uncompressed_hex"], CRYPT["ecies"]["pairs"][1]["ciphertext_b64"]),
            *(CRYPT["ecdsa"]["signatures"][0]["sign_wif"], CRYPT["aes"]["pairs"][0]["iv_b64"]),
        ]
    )
)
_value = st.recursive(_leaf, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
_names = ["text", "publickey", "return_aes_key", "param", "privatekey", "key", "iv", "data"]
_names += ["encrypted_text", "address", "signature", "index", "bogus"]


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cmd=st.sampled_from(COMMANDS),
    params=_value | st.dictionaries(st.sampled_from(_names), _value, max_size=4),
)
def test_any_call_is_answered_without_an_error_of_ours(asked, errors, cmd, params):
    result = asked(cmd, params)
    if isinstance(result, dict):
        assert error_of(result).startswith(("invalid: ", "too-big: "))
    assert errors == []


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), data=st.data())
def test_round_trips(asked, text, data):
    if any("\ud800" <= character <= "\udfff" for character in text):
        assert error_of(asked("eciesEncrypt", [text])).startswith("invalid: ")
        return
    box = asked("eciesEncrypt", [text])
    assert asked("eciesDecrypt", [box]) == text
    key, iv, ciphertext = asked("aesEncrypt", [text])
    assert asked("aesDecrypt", [iv, ciphertext, key]) == (text or None)
    changed = bytearray(base64.b64decode(box))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert asked("eciesDecrypt", [base64.b64encode(changed).decode()]) is None


# Long work


TURN = 0.01


class SlowClock:
    """A clock on which everything takes a millisecond, and other work has its turn between."""

    def __init__(self, clock):
        self._clock = clock
        self._now = 0.0

    def seconds(self):
        self._now += 0.001
        return self._now

    def callLater(self, delay, step):
        return self._clock.callLater(delay + TURN, step)


def started(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


@pytest.fixture
def slow(net):
    """The node of the clients takes a millisecond for each step of a list."""
    node = net.nodes[0].node
    node.commands._table |= CryptCommands(os.urandom, SlowClock(net.clock)).table()


def test_lists_do_not_hold_others_up(net, client, slow):
    box = client.ask("eciesEncrypt", ["x"])
    first = started(client.call("eciesDecrypt", [[box] * 23]))
    second = started(client.call("aesDecrypt", [[encrypted("y")] * 3, [SHARED]]))
    turns = 0
    while not first:
        assert client.ask("ping") == "pong"
        net.clock.advance(TURN)
        turns += 1
        assert bool(second) is (turns > 2), "the short list waits for the long one"
    assert 5 <= turns <= 8  # of five steps each
    assert first == [["x"] * 23] and second == [["y"] * 3]


def test_lists_at_a_time_are_bounded(net, client):
    box = client.ask("eciesEncrypt", ["x"])
    running = [started(client.call("eciesDecrypt", [[box]])) for _ in range(9)]
    assert [bool(found) for found in running] == [False] * 8 + [True]
    assert error_of(running[8][0]) == "too-fast: 8 lists are being worked on already"
    # Others are not meant, and single texts neither.
    other = started(net.client(0, net.main).call("eciesDecrypt", [[box]]))
    assert client.ask("eciesDecrypt", [box]) == "x"
    net.advance(0.1)
    assert [found[0] for found in running[:8]] == [["x"]] * 8 and other == [["x"]]
    again = started(client.call("eciesDecrypt", [[box]]))
    net.advance(0.1)
    assert again == [["x"]]


def test_the_work_ends_with_its_client(net, client, slow, monkeypatch):
    box = client.ask("eciesEncrypt", ["x"])
    opened = []
    monkeypatch.setattr(crypt_commands, "_open", lambda item, key: opened.append(item))
    client.call("eciesDecrypt", [[box] * 100])
    net.clock.advance(TURN)
    assert 0 < len(opened) < 10
    client.close()
    so_far = len(opened)
    net.advance(1)
    assert len(opened) == so_far


def test_an_empty_list(asked):
    assert asked("eciesDecrypt", [[]]) == []
