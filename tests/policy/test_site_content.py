import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.crypto.cert import Certificate, cert_subject
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign, verify
from zeromsg.errors import ContentRefused
from zeromsg.policy.site_content import (
    DEPTH_LIMIT,
    PATH_LIMIT,
    ContentUnchanged,
    FileEntry,
    canonical,
    content_bytes,
    file_digest,
    file_entries,
    is_safe_path,
    new_content,
    optional_entries,
    parse_content,
    sign_content,
    verify_content,
)

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
CONTENT = json.loads((VECTORS / "content-json.json").read_text())

SITE = CONTENT["site_address"]
KEYS = {address: PrivateKey.from_wif(wif) for address, wif in CONTENT["keys"].items()}
ISSUER, _, ALICE, BOB = (key for address, key in KEYS.items() if address != SITE)
STORED = {path: json.loads(text) for path, text in CONTENT["stored"].items()}
ROOT = STORED["content.json"]
USERS = STORED["data/users/content.json"]
ALICES = f"data/users/{ALICE.address}/content.json"
BOBS = f"data/users/{BOB.address}/content.json"
NOW = 1795327145.0 + 3600
DIGEST = "0" * 64

# What our sentences say where ZeroNet's say something else.
REASONS = {
    "VerifyError: Valid signs: 0/1": "no valid signature",
    "Error: Incorrect padding": "no valid signature",
    "VerifyError: Invalid signers_sign!": "signers_sign",
    "VerifyError: Wrong site address": "another site",
    "VerifyError: Wrong inner_path": "another place",
    "VerifyError: Modify timestamp": "future",
    "VerifyError: We have newer": "older",
    "VerifyError: Invalid old-style sign": "no signs",
    "VerifyError: Invalid relative path": "unsafe",
    "VerifyError: File not allowed": "not among the files allowed",
    "VerifyError: Include too large": "too large",
    "VerifyError: Includes not allowed": "no includes",
    "VerifyError: Invalid cert!": "not signed by its issuer",
    "VerifyError: Invalid cert signer": "accepts no certificates",
    "VerifyError: Missing cert_user_id": "cert_user_id is missing",
}


def reason_of(verdict: str) -> str:
    return next(ours for theirs, ours in REASONS.items() if verdict.startswith(theirs))


def held_for(case: dict) -> dict:
    """What the node held, a second older where it held this very `modified`.

    The vectors were judged with the shortcut for unchanged files off.
    """
    if not case["stored"]:
        return {}
    held = dict(STORED)
    before = held.get(case["inner_path"])
    if before and before["modified"] == json.loads(case["text"])["modified"]:
        held[case["inner_path"]] = before | {"modified": before["modified"] - 1}
    return held


@pytest.mark.parametrize("case", CONTENT["cases"], ids=lambda case: case["name"])
def test_verdicts(case):
    data = case["text"].encode()
    assert canonical(json.loads(data)) == case["canonical"]
    if case["verdict"] is True:
        content = verify_content(SITE, case["inner_path"], data, held_for(case), NOW)
        assert content == json.loads(data)
        return
    with pytest.raises(ContentRefused, match=reason_of(case["verdict"])) as caught:
        verify_content(SITE, case["inner_path"], data, held_for(case), NOW)
    assert not isinstance(caught.value, ContentUnchanged)


@pytest.mark.parametrize("path", STORED)
def test_the_very_same_file_is_unchanged(path):
    with pytest.raises(ContentUnchanged) as caught:
        verify_content(SITE, path, CONTENT["stored"][path].encode(), STORED, NOW)
    assert caught.value.points == 1


@pytest.mark.parametrize("case", CONTENT["files"], ids=lambda case: case["text"])
def test_files(case):
    assert file_digest(case["text"].encode()) == case["sha512_256"]
    listed = [
        entry.sha512
        for path, content in STORED.items()
        for entry in file_entries(path, content)
        if entry.inner_path == case["inner_path"]
    ]
    assert (listed == [case["sha512_256"]]) is (case["verdict"] is True)


# Signing


def test_signing_gives_the_bytes_that_zeronet_gave():
    assert sign_content(ROOT, KEYS[SITE]) == ROOT
    assert sign_content(STORED[ALICES], ALICE) == STORED[ALICES]
    assert ROOT["signers_sign"] == sign(CONTENT["signers_sign_input"], KEYS[SITE])
    assert content_bytes(ROOT) == CONTENT["stored"]["content.json"].encode()


def test_signing_replaces_old_signatures():
    signed = sign_content(ROOT | {"sign": ["old"], "title": "new"}, ALICE)
    assert "sign" not in signed
    assert list(signed["signs"]) == [ALICE.address]
    assert signed["signers_sign"] == ROOT["signers_sign"]
    assert "sign" not in ROOT


def root(**changes) -> bytes:
    """The stored root file, changed and signed anew by the site."""
    content = {key: value for key, value in (ROOT | changes).items() if value is not None}
    return content_bytes(sign_content(content | {"modified": NOW}, KEYS[SITE]))


def test_a_new_site_signs_for_itself():
    key = PrivateKey(bytes(31) + b"\x07")
    entry = FileEntry("p2p.json", file_digest(b"{}"), 2)
    content = new_content(key.address, [entry], NOW, title="a site", postmessage=True)
    signed = sign_content(content, key)
    assert "signers_sign" not in signed
    data = content_bytes(signed)
    accepted = verify_content(key.address, "content.json", data, {}, NOW)
    assert file_entries("content.json", accepted) == [entry]
    assert accepted["title"] == "a site"
    assert accepted["postmessage"] is True


def test_new_content_refuses_unsafe_names():
    with pytest.raises(ValueError, match="unsafe"):
        new_content(SITE, [FileEntry("../x", DIGEST, 1)], NOW)


def test_a_changed_list_of_signers_is_confirmed_by_the_list_before():
    """Nodes look at the list they hold, so that is what has to be confirmed."""
    changed = ROOT | {"signers": [ALICE.address, BOB.address], "modified": NOW}
    lost = content_bytes(sign_content(changed, KEYS[SITE]))
    with pytest.raises(ContentRefused, match="signers_sign"):
        verify_content(SITE, "content.json", lost, STORED, NOW)
    signed = sign_content(changed, KEYS[SITE], before=ROOT)
    kept = verify_content(SITE, "content.json", content_bytes(signed), STORED, NOW)
    again = sign_content(kept | {"modified": NOW + 1}, BOB)
    with pytest.raises(ContentRefused, match="signers_sign"):
        verify_content(SITE, "content.json", content_bytes(again), {"content.json": kept}, NOW)
    third = sign_content(kept | {"modified": NOW + 1}, KEYS[SITE], before=kept)
    verify_content(SITE, "content.json", content_bytes(third), {"content.json": kept}, NOW)


def test_the_first_list_of_signers_is_confirmed_for_later():
    before = {key: value for key, value in ROOT.items() if key not in ("signers", "signers_sign")}
    signed = sign_content(ROOT, KEYS[SITE], before=before)
    text = f"1:{ALICE.address},{SITE}"
    assert verify(text, SITE, signed["signers_sign"])


# Text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff{}", "no UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        ("{}".encode("utf-16"), "no UTF-8"),
        (b"{", "no JSON"),
        (b"{} {}", "no JSON"),
        (b"[]", "no map"),
        (b"null", "no map"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": Infinity}', "no JSON"),
        (b'{"a": -Infinity}', "no JSON"),
        (b'{"a": 1e999}', "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"a": "\n"}', "no JSON"),
        (b'{"a": ' * DEPTH_LIMIT + b"{}" + b"}" * DEPTH_LIMIT, "deeply"),
        (b'{"a": [' + b"[]," * 200_000 + b"0]}", "maps and lists"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeply"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "deeply"),
    ],
    ids=lambda item: ascii(item)[:30],
)
def test_what_is_no_content(data, reason):
    with pytest.raises(ContentRefused, match=reason):
        parse_content(data)


def test_sizes_and_depths_up_to_the_bound_pass():
    assert parse_content(b'{"a": 1}', 8) == {"a": 1}
    with pytest.raises(ContentRefused, match="larger than 7"):
        parse_content(b'{"a": 1}', 7)
    deep = b'{"a": ' * (DEPTH_LIMIT - 1) + b"{}" + b"}" * (DEPTH_LIMIT - 1)
    assert parse_content(deep)
    wide = b'{"a": [' + b"[]," * 1000 + b"[]]}"
    assert len(parse_content(wide)["a"]) == 1001


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "a/b/c.json",
        ".hidden",
        "..a/b",
        "a..b",
        "CONsole.txt",
        "icon.png",
        "a/com10",
        "é/☃",
        "a b/c",
        "x" * PATH_LIMIT,
        "-~!@#$%^&()[]{}',;=+`",
    ],
)
def test_safe_paths(path):
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "//a",
        "a//b",
        "a/",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        "\\a",
        "a\\b",
        "C:/a",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a.",
        "a ",
        "a*",
        "a?",
        'a"',
        "a<b",
        "a>b",
        "a|b",
        "CON",
        "con.txt",
        "a/NUL",
        "a/nul/b",
        "COM1",
        "lpt9.tar.gz",
        "aux .txt",
        "x" * (PATH_LIMIT + 1),
        "\ud800",
    ],
    ids=ascii,
)
def test_unsafe_paths(path):
    assert not is_safe_path(path)


@given(st.text(max_size=30) | st.from_regex(r"[a./\\ ]{0,10}", fullmatch=True))
def test_safe_paths_stay_inside(path):
    if not is_safe_path(path):
        return
    pure = pathlib.PurePosixPath("site") / path
    assert str(pure) == "site/" + path
    assert ".." not in pure.parts
    assert path.encode()


# Files


def test_entries_are_told_from_the_root():
    content = {
        "files": {"a.json": {"sha512": DIGEST, "size": 1}, "b/c": {"sha512": DIGEST, "size": 0}},
        "files_optional": {"d": {"sha512": DIGEST, "size": 5, "piece_size": 1}},
    }
    assert file_entries("data/x/content.json", content) == [
        FileEntry("data/x/a.json", DIGEST, 1),
        FileEntry("data/x/b/c", DIGEST, 0),
    ]
    assert optional_entries("content.json", content) == [FileEntry("d", DIGEST, 5)]
    assert file_entries("content.json", {}) == []


def test_a_listed_content_json_is_no_file():
    fact = {"sha512": DIGEST, "size": 1}
    content = {"files": {"content.json": fact, "x/content.json": fact, "mycontent.json": fact}}
    assert [entry.inner_path for entry in file_entries("content.json", content)] == [
        "mycontent.json"
    ]


GOOD_FACT = {"sha512": DIGEST, "size": 1}


@pytest.mark.parametrize(
    "files",
    [
        None,
        [],
        "x",
        {"a": None},
        {"a": []},
        {"a": {}},
        {"a": {"size": 1}},
        {"a": {"sha512": DIGEST}},
        {"a": {"sha512": 1, "size": 1}},
        {"a": {"sha512": DIGEST[1:], "size": 1}},
        {"a": {"sha512": "A" * 64, "size": 1}},
        {"a": {"sha512": DIGEST + "\n", "size": 1}},
        {"a": {"sha512": DIGEST, "size": -1}},
        {"a": {"sha512": DIGEST, "size": 1.0}},
        {"a": {"sha512": DIGEST, "size": True}},
        {"a": {"sha512": DIGEST, "size": "1"}},
        {"a": {"sha512": DIGEST, "size": 2**60}},
        {"../a": GOOD_FACT},
        {"\ud800": GOOD_FACT},
    ],
    ids=ascii,
)
def test_ill_formed_files(files):
    with pytest.raises(ContentRefused):
        file_entries("content.json", {"files": files})
    with pytest.raises(ContentRefused):
        optional_entries("content.json", {"files_optional": files})
    with pytest.raises(ContentRefused):
        verify_content(SITE, "content.json", root(files=files or []), STORED, NOW)


# The root file


@pytest.mark.parametrize("modified", [None, "1", True, [], {}])
def test_modified_is_a_number(modified):
    content = ROOT | {"modified": modified}
    data = json.dumps(sign_content(content, KEYS[SITE])).encode()
    with pytest.raises(ContentRefused, match="modified"):
        verify_content(SITE, "content.json", data, {}, NOW)


def test_a_day_ahead_is_the_most():
    day = 86400.0
    data = root()
    assert verify_content(SITE, "content.json", data, {}, NOW - day)
    with pytest.raises(ContentRefused, match="future"):
        verify_content(SITE, "content.json", data, {}, NOW - day - 1)


def test_an_older_file_is_stale_not_malicious():
    held = {"content.json": ROOT | {"modified": NOW + 1}}
    with pytest.raises(ContentRefused, match="older") as caught:
        verify_content(SITE, "content.json", root(), held, NOW)
    assert caught.value.points == 1


@pytest.mark.parametrize("signs", [[], "x", {}, {SITE: None}, {SITE: 1}, {SITE: ""}, {SITE: []}])
def test_signatures_of_wrong_types(signs):
    data = content_bytes(ROOT | {"signs": signs})
    with pytest.raises(ContentRefused, match="sign"):
        verify_content(SITE, "content.json", data, {}, NOW)


def test_one_garbage_signature_does_not_spoil_another():
    content = json.loads(root())
    content["signs"][ALICE.address] = "garbage"
    assert verify_content(SITE, "content.json", content_bytes(content), STORED, NOW)


@pytest.mark.parametrize("signers", ["x", {}, [1], [None]])
def test_a_root_file_with_ill_formed_signers_would_lock_the_site(signers):
    content = ROOT | {"signers": signers}
    signed = content | {"signs": {SITE: sign(canonical(content), KEYS[SITE])}}
    with pytest.raises(ContentRefused, match="signers"):
        verify_content(SITE, "content.json", content_bytes(signed), {}, NOW)


def test_labels_of_wrong_types():
    with pytest.raises(ContentRefused, match="another site"):
        verify_content(SITE, "content.json", root(address=[SITE]), STORED, NOW)
    with pytest.raises(ContentRefused, match="another place"):
        verify_content(SITE, "content.json", root(inner_path=1), STORED, NOW)


@pytest.mark.parametrize(
    "path",
    ["", "p2p.json", "../content.json", "/content.json", "a/xcontent.json", "a//content.json"],
)
def test_places_where_no_content_lies(path):
    with pytest.raises(ContentRefused, match="no place"):
        verify_content(SITE, path, root(), STORED, NOW)


def test_the_size_limit_is_a_parameter():
    data = root()
    assert verify_content(SITE, "content.json", data, {}, NOW, len(data))
    with pytest.raises(ContentRefused, match="larger"):
        verify_content(SITE, "content.json", data, {}, NOW, len(data) - 1)


# Includes


def include(path: str, signer: PrivateKey, rules, **content) -> dict:
    """Judge an include of a root file with these rules."""
    held = {"content.json": ROOT | {"includes": {path: rules}}}
    full = {"files": {}, "modified": NOW} | content
    data = content_bytes(sign_content(full, signer))
    return verify_content(SITE, path, data, held, NOW)


def test_an_include_needs_rules():
    data = content_bytes(sign_content({"modified": NOW}, KEYS[SITE]))
    with pytest.raises(ContentRefused, match="speaks of"):
        verify_content(SITE, "data/content.json", data, {}, NOW)
    with pytest.raises(ContentRefused, match="speaks of"):
        verify_content(SITE, "data/content.json", data, STORED, NOW)


def test_an_include_of_an_include():
    inner = sign_content({"files": {}, "modified": NOW}, BOB)
    held = STORED | {
        "data/include/content.json": {"includes": {"deep/content.json": {"signers": [BOB.address]}}}
    }
    path = "data/include/deep/content.json"
    assert verify_content(SITE, path, content_bytes(inner), held, NOW) == inner


def test_sizes_of_an_include():
    files = {"a": {"sha512": DIGEST, "size": 100}}
    length = len(json.dumps({"files": files, "modified": NOW}, indent=1))
    assert include("a/content.json", KEYS[SITE], {"max_size": length + 100}, files=files)
    with pytest.raises(ContentRefused, match=f"too large.*{length + 100} bytes"):
        include("a/content.json", KEYS[SITE], {"max_size": length + 99}, files=files)
    optional = {"files_optional": files}
    assert include("a/content.json", KEYS[SITE], {"max_size_optional": 100}, **optional)
    with pytest.raises(ContentRefused, match="optional"):
        include("a/content.json", KEYS[SITE], {"max_size_optional": 99}, **optional)


def test_names_in_an_include():
    files = {"a.json": GOOD_FACT, "b/c.png": GOOD_FACT}
    for allowed in ("a.json|b/.*png", ".*", r"[a-z]\.json|b/c\.png"):
        assert include("x/content.json", KEYS[SITE], {"files_allowed": allowed}, files=files)
    for allowed in ("a.json", "a.json|b/", "a.json|/c.png", "A.JSON|.*png"):
        with pytest.raises(ContentRefused, match="not among"):
            include("x/content.json", KEYS[SITE], {"files_allowed": allowed}, files=files)
    with pytest.raises(ContentRefused, match="not among"):
        include("x/content.json", BOB, BOBS_OPTIONAL, files_optional=files)


BOBS_OPTIONAL = {"signers": [BOB.address], "files_allowed_optional": "a.json"}


@pytest.mark.parametrize(
    "rules",
    [
        None,
        [],
        "x",
        {"signers": "x"},
        {"signers": [1]},
        {"max_size": "1"},
        {"max_size": True},
        {"max_size_optional": []},
        {"files_allowed": 1},
        {"files_allowed": "("},
        {"files_allowed": "(?!x).*"},
        {"files_allowed": "a" * 256},
        {"files_allowed": "\ud800"},
        {"files_allowed_optional": "["},
    ],
    ids=ascii,
)
def test_rules_that_cannot_be_used_refuse_everything(rules):
    with pytest.raises(ContentRefused):
        include("x/content.json", KEYS[SITE], rules)


def test_a_slow_expression_is_not_slow():
    rules = {"files_allowed": "(a|a)*(a|a)*(a|a)*b"}
    with pytest.raises(ContentRefused, match="not among"):
        include("x/content.json", KEYS[SITE], rules, files={"a" * 250: GOOD_FACT})


def test_an_expression_that_takes_long_to_compile_is_refused():
    """RE2 took a quarter of a second for each of these, and a site may have thousands."""
    for pattern in ("(?:.{0,1000})" * 10, r"[\pL\pN]{1000}"):
        with pytest.raises(ContentRefused, match="cannot be used"):
            include("x/content.json", KEYS[SITE], {"files_allowed": pattern})


def test_an_expression_is_not_matched_with_more_names_than_there_is_time_for():
    files = {f"{number:03}{'a' * 240}": GOOD_FACT for number in range(500)}
    assert include("x/content.json", KEYS[SITE], {"files_allowed": "[a-z0-9]+"}, files=files)
    for rules in (
        {"files_allowed": "(?:a?){1000}.*"},
        {"files_allowed_optional": "(?:a?){1000}.*"},
    ):
        key = "files" if "files_allowed" in rules else "files_optional"
        with pytest.raises(ContentRefused, match=f"^{key} are too many"):
            include("x/content.json", KEYS[SITE], rules, **{key: files})


def test_what_is_too_large_is_not_looked_at_further():
    rules = {"max_size": 1000, "files_allowed": "x"}
    with pytest.raises(ContentRefused, match="too large"):
        include("x/content.json", KEYS[SITE], rules, files={"a" * 200: GOOD_FACT}, more=[0] * 1000)


# Users


def certified(user: PrivateKey, name: str = "bob", kind: str = "web") -> dict:
    """The three keys of content.json that a certificate takes."""
    subject = cert_subject(user.address, Certificate(kind, name, "rig.bit", ""))
    return {
        "cert_auth_type": kind,
        "cert_user_id": f"{name}@rig.bit",
        "cert_sign": sign(subject, ISSUER),
    }


def users(signer: PrivateKey = BOB, path: str = BOBS, cert=None, files=None, **changes) -> dict:
    """Judge a user's file below changed user_contents."""
    content = {"modified": NOW, "files": files or {}}
    content |= certified(BOB) if cert is None else cert
    data = content_bytes(sign_content(content, signer))
    above = USERS | {"user_contents": USERS["user_contents"] | changes}
    return verify_content(SITE, path, data, STORED | {"data/users/content.json": above}, NOW)


def test_a_user_with_a_certificate():
    assert users()["cert_user_id"] == "bob@rig.bit"
    assert users(signer=KEYS[SITE])
    with pytest.raises(ContentRefused, match="no valid signature"):
        users(signer=ALICE)


@pytest.mark.parametrize(
    "permissions",
    [{BOB.address: False}, {"bob@rig.bit": False}, {BOB.address: {}, "bob@rig.bit": False}],
)
def test_the_banned_write_nothing_but_the_site_still_may(permissions):
    with pytest.raises(ContentRefused, match="no valid signature"):
        users(permissions=permissions)
    assert users(signer=KEYS[SITE], permissions=permissions)


def test_permissions_may_name_further_signers():
    assert users(signer=ALICE, permissions={BOB.address: {"signers": [ALICE.address]}})
    assert users(signer=ALICE, permission_rules={".*": {"signers": [ALICE.address]}})
    with pytest.raises(ContentRefused, match="no valid signature"):
        users(signer=ALICE, permission_rules={"other/.*": {"signers": [ALICE.address]}})


def test_very_many_permission_rules_are_refused():
    few = {f"web/b{number}": {"max_size": number} for number in range(1000)}
    assert users(permission_rules=few)
    with pytest.raises(ContentRefused, match="permission_rules are too many"):
        users(permission_rules={f"web/b{number}": {} for number in range(10_000)})
    with pytest.raises(ContentRefused, match="permission_rules are too many"):
        users(permission_rules={f"(?:a?){{1000}}{number}": {} for number in range(100)})


def test_permission_rules_are_not_matched_with_a_very_long_user():
    cert = {**certified(BOB), "cert_auth_type": "x" * 2000}
    with pytest.raises(ContentRefused, match="too long"):
        users(cert=cert, permission_rules={"(?:a?){1000}": {}})


def test_joined_lists_of_rules_leave_the_rules_as_they_are():
    rules = {"web": {"signers": [ALICE.address]}, "web/": {"signers": [SITE]}, ".*": {}}
    for _ in range(2):
        assert users(signer=ALICE, permission_rules=rules)
    assert rules["web"] == {"signers": [ALICE.address]}


def test_few_signatures_are_looked_at():
    """Each takes a tenth of a millisecond, and there is room for 80,000."""
    others = [PrivateKey(number.to_bytes(32, "big")).address for number in range(1, 100)]
    wrong = dict.fromkeys(others, sign("something else", ALICE))

    def judge(signers):
        content = sign_content({"modified": NOW, "files": {}, **certified(BOB)}, ALICE)
        content["signs"] = wrong | content["signs"]
        above = {**USERS["user_contents"], "permissions": {BOB.address: {"signers": signers}}}
        held = STORED | {"data/users/content.json": USERS | {"user_contents": above}}
        return verify_content(SITE, BOBS, content_bytes(content), held, NOW)

    assert judge([*others[:40], ALICE.address])
    with pytest.raises(ContentRefused, match="no valid signature"):
        judge([*others, ALICE.address])


def test_permissions_of_the_address_come_before_those_of_the_name():
    files = {"data.json": {"sha512": DIGEST, "size": 15_000}}
    both = {BOB.address: {"max_size": 20_000}, "bob@rig.bit": {"max_size": 1}}
    assert users(files=files, permissions=both)
    with pytest.raises(ContentRefused, match="too large"):
        users(files=files, permissions={"bob@rig.bit": {"max_size": 11_000}})
    assert users(files=files, permissions={"bob@rig.bit": {"max_size": 20_000}})


def test_merged_rules_are_the_more_generous_ones():
    files = {"data.json": {"sha512": DIGEST, "size": 12_000}, "b.json": GOOD_FACT}
    rules = {
        ".*": {"files_allowed": "data.json", "max_size": 10_000},
        "web/.*@rig.bit": {"files_allowed": "data.json|b.json", "max_size": 13_000},
        "bitmsg/.*": {"max_size": 1_000_000},
        "web/bob": {"files_allowed": "x", "max_size": 5},
    }
    assert users(files=files, permission_rules=rules)
    files["data.json"] = {"sha512": DIGEST, "size": 13_000}
    with pytest.raises(ContentRefused, match="too large"):
        users(files=files, permission_rules=rules)


@pytest.mark.parametrize(
    "changes",
    [
        {"permissions": []},
        {"permissions": {BOB.address: True}},
        {"permissions": {BOB.address: "x"}},
        {"permission_rules": []},
        {"permission_rules": {".*": None}},
        {"permission_rules": {".*": False}},
        {"permission_rules": {"(": {}}},
        {"permission_rules": {"(?=x)": {}}},
        {"permission_rules": {".*": {"max_size": "x"}}},
        {"permission_rules": {".*": {"max_size": 1}, "web": {"max_size": "long"}}},
        {"permission_rules": {".*": {"signers": ALICE.address}}},
        {"cert_signers": []},
        {"cert_signers": {"rig.bit": None}},
        {"cert_signers": {"rig.bit": ALICE.address}},
        {"cert_signers": {}},
        {"cert_signers": {}, "cert_signers_pattern": ".*"},
    ],
    ids=ascii,
)
def test_user_contents_that_cannot_be_used(changes):
    with pytest.raises(ContentRefused):
        users(**changes)


def test_without_issuers_no_certificate_is_needed_nor_believed():
    assert users(cert={}, cert_signers={})
    with pytest.raises(ContentRefused, match="cert_user_id is missing"):
        users(cert={})
    with pytest.raises(ContentRefused, match="accepts no certificates"):
        users(cert_signers={})


@pytest.mark.parametrize(
    "change",
    [
        {"cert_user_id": 1},
        {"cert_user_id": "bob"},
        {"cert_user_id": "\ud800@rig.bit"},
        {"cert_auth_type": None},
        {"cert_auth_type": "we/b"},
        {"cert_sign": None},
        {"cert_sign": []},
        {"cert_sign": ""},
    ],
    ids=ascii,
)
def test_ill_formed_certificates(change):
    with pytest.raises(ContentRefused, match=r"cert|user ID"):
        users(cert=certified(BOB) | change)


def test_a_stolen_certificate():
    with pytest.raises(ContentRefused, match="not signed by its issuer"):
        users(cert=certified(ALICE))


@pytest.mark.parametrize(
    "path", [f"data/users/x/{BOB.address}/content.json", f"data/users/{BOB.address}/x/content.json"]
)
def test_users_write_in_one_folder_only(path):
    with pytest.raises(ContentRefused, match="directly"):
        users(path=path)


def test_users_have_no_includes():
    data = content_bytes(
        sign_content({"modified": NOW, "includes": {"x/content.json": {}}} | certified(BOB), BOB)
    )
    with pytest.raises(ContentRefused, match="no includes"):
        verify_content(SITE, BOBS, data, STORED, NOW)


def test_what_is_held_stays_as_it_is():
    before = json.dumps(STORED)
    users(permission_rules={".*": {"signers": [ALICE.address]}, "web": {"signers": [SITE]}})
    verify_content(SITE, "content.json", root(), STORED, NOW)
    assert json.dumps(STORED) == before


# Anything at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
KEYS_SEEN = ["files", "files_optional", "includes", "signers", "signers_sign", "user_contents"]
KEYS_SEEN += ["address", "inner_path", "cert_user_id", "cert_auth_type", "cert_sign", "title"]
contents = st.dictionaries(st.sampled_from(KEYS_SEEN) | st.text(max_size=8), json_values)
PLACES = ["content.json", "data/include/content.json", ALICES, BOBS]


@given(st.sampled_from(PLACES), contents, st.sampled_from([KEYS[SITE], BOB]))
@settings(max_examples=200, deadline=None)
def test_hostile_files_are_refused_not_raised(path, content, signer):
    content |= {"modified": NOW}
    signs = {signer.address: sign(canonical(content), signer)}
    data = json.dumps(content | {"signs": signs}).encode()
    try:
        accepted = verify_content(SITE, path, data, STORED, NOW)
    except ContentRefused:
        return
    for entry in file_entries(path, accepted) + optional_entries(path, accepted):
        assert is_safe_path(entry.inner_path)


@given(st.sampled_from(["includes", "user_contents"]), json_values, st.sampled_from(PLACES))
@settings(deadline=None)
def test_hostile_rules_are_refused_not_raised(key, rules, path):
    data = content_bytes(sign_content({"modified": NOW} | certified(BOB), BOB))
    rules = {path: rules} if key == "includes" else rules
    for place in ("content.json", "data/users/content.json"):
        held = STORED | {place: {"modified": 1, key: rules}}
        try:
            verify_content(SITE, path, data, held, NOW)
        except ContentRefused:
            continue


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="ignore")))
def test_hostile_bytes_are_refused_not_raised(data):
    with pytest.raises(ContentRefused):
        verify_content(SITE, "content.json", data, {}, NOW)


@given(st.dictionaries(st.text(max_size=8), json_values))
def test_canonical_text_is_ascii_and_stable(content):
    text = canonical(content)
    assert text.isascii()
    assert "\x7f" not in text
    assert canonical(json.loads(text)) == text
    assert canonical(dict(reversed(content.items()))) == text
    assert canonical(content | {"sign": 1, "signs": 2}) == canonical(content | {"signs": 3})


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.data())
def test_a_signed_file_cannot_be_changed(content, data):
    key = PrivateKey(bytes(31) + b"\x07")
    fixed = {"address": key.address, "modified": NOW}
    signed = sign_content({"title": 0} | fixed, key)
    changed = signed | {"title": data.draw(json_values), **{"x" + k: v for k, v in content.items()}}
    assert verify_content(key.address, "content.json", content_bytes(signed), {}, NOW)
    if canonical(changed) == canonical(signed):
        return
    with pytest.raises(ContentRefused, match="no valid signature"):
        verify_content(key.address, "content.json", content_bytes(changed), {}, NOW)


@pytest.mark.parametrize("modified", [-1, -0.5, -(10**30)])
def test_a_time_before_1970_is_refused(modified):
    # Numbers beyond 64 bits could not be told to other nodes.
    key = PrivateKey.generate(lambda size: bytes(range(1, size + 1)))
    content = sign_content(new_content(key.address, [], modified), key)
    with pytest.raises(ContentRefused, match="1970"):
        verify_content(key.address, "content.json", content_bytes(content), {}, 1e9)
