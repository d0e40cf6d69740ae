"""Sites on disk: what is read, what is believed, what is written, and what never is."""

import json
import os

import pytest
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import ConfigError, ContentRefused, FileMissing
from zeromsg.policy.program import Facts
from zeromsg.policy.site_content import (
    FileEntry,
    content_bytes,
    file_digest,
    new_content,
    sign_content,
)
from zeromsg.service.site_making import new_site, sign_site
from zeromsg.store import sites as sites_module
from zeromsg.store.sites import Site, Sites

KEY = PrivateKey(b"\x61" * 32)
DELEGATE = PrivateKey(b"\x62" * 32)
NOW = 1_800_000_000.0


@pytest.fixture
def warnings():
    told = []

    def observe(event):
        if event.get("log_level") in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            told.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield told
    globalLogPublisher.removeObserver(observe)


def content(files, key=KEY, modified=NOW - 10, before=None, **extra):
    entries = [FileEntry(name, file_digest(data), len(data)) for name, data in files.items()]
    values = new_content(KEY.address, entries, modified, **extra)
    return content_bytes(sign_content(values, key, before))


def own_site(tmp_path, files=None):
    """A signed directory of the operator, and its address."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, data in (files or {"a.txt": b"hello"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    key = new_site(folder, "Title", lambda size: b"\x63" * size, lambda: NOW)
    return folder, key


def loaded(folder, address, own=True, **more):
    site = Site(address, folder, own=own, wall=lambda: NOW, **more)
    site.load()
    return site


def joined(tmp_path, **more):
    return loaded(tmp_path / "joined", KEY.address, own=False, **more)


def filled(tmp_path, files=None, **more):
    """A joined site with content and files."""
    files = {"p2p.json": b'{"filter": ".*"}', "a.txt": b"hello"} if files is None else files
    site = joined(tmp_path, **more)
    site.store_content("content.json", content(files))
    for name, data in files.items():
        site.store_file(name, data)
    return site


def on_disk(site):
    return {
        file.relative_to(site.path).as_posix(): file.read_bytes()
        for file in site.path.rglob("*")
        if file.is_file()
    }


# An operator's directory


def test_an_own_site_is_served_as_it_was_signed(tmp_path):
    folder, key = own_site(tmp_path, {"a.txt": b"hello", "dir/b.txt": b"b"})
    site = loaded(folder, key.address)
    assert site.files() == ["a.txt", "content.json", "dir/b.txt", "p2p.json"]
    assert site.content["title"] == "Title"
    assert site.rules is not None and site.rules_problem == ""
    assert list(site.missing()) == [] and list(site.missing_contents()) == []
    assert site.read("dir/b.txt", 0, 100) == (b"b", 1)


def test_a_directory_that_is_no_site(tmp_path):
    with pytest.raises(ConfigError, match="zeromsg site new"):
        loaded(tmp_path, KEY.address)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "no JSON"),
        (content({}, key=DELEGATE), "no valid signature"),
        (content({}, modified=NOW + 90_000), "future"),
    ],
)
def test_an_own_site_that_cannot_be_served_stops_the_start(tmp_path, data, why):
    (tmp_path / "content.json").write_bytes(data)
    with pytest.raises(ConfigError, match=why) as caught:
        loaded(tmp_path, KEY.address)
    assert str(tmp_path / "content.json") in str(caught.value)


def test_a_directory_of_another_site_stops_the_start(tmp_path):
    folder, _ = own_site(tmp_path)
    with pytest.raises(ConfigError):
        loaded(folder, KEY.address)


def test_files_changed_since_signing_are_named_and_not_served(tmp_path, warnings):
    folder, key = own_site(tmp_path, {"a.txt": b"hello", "b.txt": b"b", "c.txt": b"c"})
    (folder / "a.txt").write_bytes(b"HELLO")
    (folder / "b.txt").unlink()
    site = loaded(folder, key.address)
    assert [name for name, _ in site.missing()] == ["a.txt", "b.txt"]
    for name in ("a.txt", "b.txt"):
        with pytest.raises(FileMissing):
            site.read(name, 0, 10)
    assert any("a.txt, b.txt changed since it was signed" in told for told in warnings)


def test_rules_changed_since_signing_do_not_count(tmp_path):
    folder, key = own_site(tmp_path)
    (folder / "p2p.json").write_text('{"filter": "^other"}')
    site = loaded(folder, key.address)
    assert site.rules is None
    assert site.rules_problem == "p2p.json is not here, or not as it was signed"


# What was signed anew while the node runs


def later(folder, seconds=5):
    """Make the file system's clock move, whatever its grain."""
    status = (folder / "content.json").stat()
    os.utime(folder / "content.json", (status.st_atime, status.st_mtime + seconds))


def test_a_new_version_is_noticed_once(tmp_path):
    folder, key = own_site(tmp_path)
    site = loaded(folder, key.address)
    assert not site.reload_if_changed()
    (folder / "a.txt").write_bytes(b"changed")
    (folder / "p2p.json").write_text('{"filter": "^1$"}')
    assert not site.reload_if_changed(), "nothing was signed yet"
    sign_site(folder, key, lambda: NOW)
    later(folder)
    assert site.reload_if_changed()
    assert site.read("a.txt", 0, 100) == (b"changed", 7)
    assert site.rules.filter.passes("1") and not site.rules.filter.passes("2")
    assert not site.reload_if_changed()


def test_touching_content_json_changes_nothing(tmp_path):
    folder, key = own_site(tmp_path)
    site = loaded(folder, key.address)
    later(folder)
    assert not site.reload_if_changed()
    assert site.files() == ["a.txt", "content.json", "p2p.json"]


def test_a_version_that_cannot_be_used_leaves_the_one_before(tmp_path, warnings):
    """An editor may write content.json in two steps."""
    folder, key = own_site(tmp_path)
    site = loaded(folder, key.address)
    good = (folder / "content.json").read_bytes()
    (folder / "content.json").write_bytes(good[:50])
    later(folder)
    assert not site.reload_if_changed()
    assert any("no JSON" in told for told in warnings)
    assert site.content["title"] == "Title" and site.rules is not None
    # What is held is served on: the files are as they were signed.
    assert site.read("a.txt", 0, 100) == (b"hello", 5)
    assert list(site.missing()) == []
    (folder / "content.json").write_bytes(good)
    later(folder, 9)
    site.reload_if_changed()
    assert site.read("a.txt", 0, 100) == (b"hello", 5)


def test_a_content_json_that_vanishes_leaves_the_one_before(tmp_path, warnings):
    folder, key = own_site(tmp_path)
    site = loaded(folder, key.address)
    (folder / "content.json").unlink()
    assert not site.reload_if_changed()
    assert site.content["title"] == "Title"
    assert site.read("a.txt", 0, 100) == (b"hello", 5)


def test_joined_sites_are_not_looked_at(tmp_path):
    site = filled(tmp_path)
    later(site.path)
    assert not site.reload_if_changed()


# A joined site


def test_a_site_of_which_nothing_is_here(tmp_path):
    site = joined(tmp_path)
    assert site.content is None and site.rules is None
    assert site.rules_problem == "the site's content.json is not here yet"
    assert site.files() == [] and list(site.missing()) == []
    assert not site.path.exists()


def test_what_is_stored_is_there_after_a_restart(tmp_path):
    site = filled(tmp_path)
    again = joined(tmp_path)
    assert again.content == site.content
    assert again.files() == ["a.txt", "content.json", "p2p.json"]
    assert again.rules is not None
    assert again.read("a.txt", 1, 2) == (b"el", 5)


def test_the_rules_come_first(tmp_path):
    site = joined(tmp_path)
    site.store_content(
        "content.json", content({"a": b"1", "p2p.json": b'{"filter": ".*"}', "z": b"2"})
    )
    assert list(site.missing()) == [("p2p.json", 16), ("a", 1), ("z", 1)]


def test_a_file_counts_once_it_is_stored(tmp_path):
    site = joined(tmp_path)
    site.store_content("content.json", content({"dir/a.txt": b"hello"}))
    with pytest.raises(FileMissing):
        site.read("dir/a.txt", 0, 10)
    site.store_file("dir/a.txt", b"hello")
    assert site.read("dir/a.txt", 0, 10) == (b"hello", 5)
    assert list(site.missing()) == []


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.txt", b"HELLO", "is not the file that was signed"),
        ("a.txt", b"hell", "has 4 bytes, not 5"),
        ("a.txt", b"", "has 0 bytes, not 5"),
        ("other.txt", b"hello", "is not listed"),
        ("../a.txt", b"hello", "is not listed"),
        ("content.json", b"{}", "is not listed"),
        ("", b"", "is not listed"),
    ],
)
def test_a_file_that_is_not_as_signed_is_not_written(tmp_path, name, data, why):
    site = joined(tmp_path)
    site.store_content("content.json", content({"a.txt": b"hello"}))
    before = on_disk(site)
    with pytest.raises(ContentRefused, match=why):
        site.store_file(name, data)
    assert on_disk(site) == before
    assert [file.name for file in tmp_path.iterdir()] == ["joined"]


def test_a_refused_content_leaves_everything(tmp_path):
    site = filled(tmp_path)
    before, rules = on_disk(site), site.rules
    for data, why in [
        (content({"x": b""}, key=DELEGATE, modified=NOW), "no valid signature"),
        (content({}, modified=NOW - 20), "older"),
        (b"[]", "no map"),
        (content({}, modified=NOW, address=DELEGATE.address), "site|address"),
    ]:
        with pytest.raises(ContentRefused, match=why):
            site.store_content("content.json", data)
    assert on_disk(site) == before and site.rules is rules


def test_too_many_bytes_are_refused_without_blame(tmp_path):
    site = joined(tmp_path, size_limit=1000)
    with pytest.raises(ContentRefused, match="over 1000") as caught:
        site.store_content("content.json", content({"a": bytes(600), "b": bytes(600)}))
    assert caught.value.points == 0
    assert site.content is None and on_disk(site) == {}


def test_why_the_newest_version_does_not_count_is_remembered(tmp_path, warnings):
    """Otherwise a node would say that it is being fetched, for ever."""
    site = joined(tmp_path, size_limit=1000)
    with pytest.raises(ContentRefused):
        site.store_content("content.json", content({"a": bytes(1001)}))
    assert site.version_problem == "its files have 1001 bytes, over 1000"
    site.store_content("content.json", content({"a": bytes(1000)}, modified=NOW - 5))
    assert site.version_problem == ""

    folder, key = own_site(tmp_path, {"a.txt": b"hello"})
    site = loaded(folder, key.address, size_limit=2000)
    (folder / "a.txt").write_bytes(bytes(2001))
    sign_site(folder, key, lambda: NOW + 5)
    later(folder)
    assert not site.reload_if_changed()
    assert "over 2000" in site.version_problem
    (folder / "a.txt").write_bytes(b"hello")
    sign_site(folder, key, lambda: NOW + 9)
    later(folder, 10)
    assert site.reload_if_changed()
    assert site.version_problem == ""


def test_a_new_version_replaces_files_one_by_one(tmp_path):
    site = filled(tmp_path)
    rules = site.rules
    newer = {"p2p.json": b'{"filter": "^1$"}', "a.txt": b"HELLO", "b.txt": b"b"}
    site.store_content("content.json", content(newer, modified=NOW))
    assert [name for name, _ in site.missing()] == ["p2p.json", "a.txt", "b.txt"]
    # The old files serve on, and the old rules hold, until the new ones are here.
    assert site.read("a.txt", 0, 10) == (b"hello", 5)
    assert site.rules is rules
    site.store_file("p2p.json", newer["p2p.json"])
    assert site.rules is not rules and site.rules.filter.passes("1")
    site.store_file("a.txt", b"HELLO")
    assert site.read("a.txt", 0, 10) == (b"HELLO", 5)
    assert [name for name, _ in site.missing()] == ["b.txt"]


COUNTING = {
    "filter": ".*",
    "rate": {"per_peer": [2, 0], "per_signer": [5, 0]},
    "program": {"accept": "message.n > counters.n", "counters": {"n": "message.n"}},
}
"""Rules that remember senders: no message of a signer passes twice, and two of a peer in all."""


def new_version(site, rules, number):
    data = rules if isinstance(rules, bytes) else json.dumps(rules).encode()
    files = {"p2p.json": data, "page.html": str(number).encode()}
    site.store_content("content.json", content(files, modified=NOW + number))
    for name, _ in list(site.missing()):
        site.store_file(name, files[name])
    return site.rules


def facts(number):
    return Facts({"n": number}, 8, "1signer", "", NOW)


def remembering(tmp_path):
    """A site whose rules let message 5 of a signer through, and one message of a peer."""
    site = filled(tmp_path, {"p2p.json": json.dumps(COUNTING).encode()})
    site.rules.program.accepted(facts(5))
    site.rules.per_peer.spoke("192.0.2.1", NOW)
    site.rules.per_signer.spoke("1signer", NOW)
    return site


def test_rules_that_did_not_change_go_on_remembering(tmp_path):
    site = remembering(tmp_path)
    before = site.rules
    for number in (1, 2):
        assert new_version(site, COUNTING, number) is before
    # Otherwise written, they say the same.
    assert new_version(site, json.dumps(COUNTING, indent=1).encode(), 3) is before
    assert not before.program.passes(facts(5)) and before.program.passes(facts(6))


def test_rules_that_changed_take_over_what_fits(tmp_path):
    site = remembering(tmp_path)
    program = {"accept": "message.n > counters.n && size < 100 && counters.other == 0"}
    program["counters"] = {"n": "message.n", "other": "1"}
    rate = {"per_peer": [4, 0], "per_signer": [1, 0]}
    rules = new_version(site, COUNTING | {"program": program, "rate": rate}, 1)
    assert not rules.program.passes(facts(5)) and rules.program.passes(facts(6))
    # Of two messages at once one was left to the peer; a signer has no more than there are now.
    assert rules.per_peer.allows("192.0.2.1", NOW)
    rules.per_peer.spoke("192.0.2.1", NOW)
    assert not rules.per_peer.allows("192.0.2.1", NOW)
    assert rules.per_signer.allows("1signer", NOW)
    rules.per_signer.spoke("1signer", NOW)
    assert not rules.per_signer.allows("1signer", NOW)
    # A counter that is gone is forgotten, and so begins anew when it comes back.
    assert new_version(site, {"filter": ".*", "program": "true"}, 2).program.passes(facts(1))
    assert new_version(site, COUNTING, 3).program.passes(facts(5))


@pytest.mark.parametrize(
    "broken", [b"{", b"{}", b'{"filter": "("}', b'{"filter": ".*", "rate": 1}']
)
def test_rules_that_cannot_be_used_for_a_while_forget_nothing(tmp_path, broken):
    site = remembering(tmp_path)
    assert new_version(site, broken, 1) is None
    changed = new_version(site, COUNTING | {"size_limit": 1000}, 2)
    assert not changed.program.passes(facts(5)) and changed.program.passes(facts(6))


def test_true_and_one_are_different_rules(tmp_path):
    site = filled(tmp_path, {"p2p.json": b'{"filter": ".*", "signed_only": true}'})
    assert new_version(site, {"filter": ".*", "signed_only": 1}, 1) is None
    assert "signed_only" in site.rules_problem


def test_an_own_site_signed_again_goes_on_remembering(tmp_path):
    folder, key = own_site(tmp_path, {"p2p.json": json.dumps(COUNTING).encode()})
    site = loaded(folder, key.address)
    site.rules.program.accepted(facts(5))
    (folder / "page.html").write_text("new")
    sign_site(folder, key, lambda: NOW + 1)
    assert site.reload_if_changed()
    assert not site.rules.program.passes(facts(5)) and site.rules.program.passes(facts(6))


def test_old_style_rules_that_did_not_change_go_on_remembering(tmp_path):
    site = joined(tmp_path)
    old = {f"p2p_{key}": value for key, value in COUNTING.items()}
    site.store_content("content.json", content({}, **old))
    site.rules.program.accepted(facts(5))
    site.store_content("content.json", content({}, modified=NOW, title="new", **old))
    assert not site.rules.program.passes(facts(5))


def test_old_style_rules_stand_in_content_json(tmp_path):
    site = joined(tmp_path)
    site.store_content("content.json", content({}, p2p_filter="^1$", p2p_size_limit=5))
    assert site.rules.filter.passes("1") and site.rules.size_limit == 5


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (b'{"filter": "("}', "filter does not compile"),
        (b"{}", "there is no filter"),
        (b"no json", "no JSON"),
    ],
)
def test_rules_that_cannot_be_used_say_why(tmp_path, warnings, rules, problem):
    site = filled(tmp_path, {"p2p.json": rules})
    assert site.rules is None and problem in site.rules_problem
    assert any("takes no messages" in told and problem in told for told in warnings)


def test_what_a_crash_left_behind_is_not_believed(tmp_path, warnings):
    site = filled(tmp_path)
    (site.path / "a.txt").write_bytes(b"hell")
    again = joined(tmp_path)
    assert [name for name, _ in again.missing()] == ["a.txt"]
    (site.path / "content.json").write_bytes(b"{")
    again = joined(tmp_path)
    assert again.content is None
    assert any("cannot be used" in told for told in warnings)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    site = filled(tmp_path)
    before = on_disk(site)

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sites_module.os, "fsync", broken)
    newer = content({"a.txt": b"HELLO"}, modified=NOW)
    with pytest.raises(ContentRefused, match="No space left") as caught:
        site.store_content("content.json", newer)
    assert caught.value.points == 0, "our disk is nobody's fault"
    assert on_disk(site) == before, "nothing temporary is left either"
    assert site.content["modified"] == NOW - 10
    assert list(site.missing()) == []


def test_a_folder_that_stands_where_a_file_should(tmp_path):
    site = joined(tmp_path)
    site.store_content("content.json", content({"a/b": b"1"}))
    site.store_file("a/b", b"1")
    site.store_content("content.json", content({"a": b"2"}, modified=NOW))
    with pytest.raises(ContentRefused):
        site.store_file("a", b"2")
    assert [name for name, _ in site.missing()] == ["a"]


# Reading


@pytest.mark.parametrize(
    ("location", "length", "part"),
    [(0, 100, b"hello"), (1, 2, b"el"), (5, 10, b""), (99, 10, b""), (2**60, 1, b""), (0, 0, b"")],
)
def test_parts_of_a_file(tmp_path, location, length, part):
    assert filled(tmp_path).read("a.txt", location, length) == (part, 5)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a.txt/", "./a.txt", "../joined/a.txt", "/etc/passwd", "dir", "none"]
)
def test_only_what_is_listed_is_read(tmp_path, name):
    site = filled(tmp_path)
    (site.path / "dir").mkdir()
    (site.path / "none").write_text("not listed")
    with pytest.raises(FileMissing):
        site.read(name, 0, 100)


def served(site, name):
    """What peers and what browsers are given, None for nothing."""
    try:
        data, _ = site.read(name, 0, 100)
        file, _, _ = site.open(name)
    except FileMissing:
        return None
    with file:
        assert file.read() == data
    return data


def test_a_link_that_appears_later_is_not_followed_out(tmp_path):
    """Whoever can write into the directory hands nothing of the machine to strangers."""
    names = ("a.txt", "dir/b.txt", "c.txt", "d.txt", "e.txt", "f.txt")
    folder, key = own_site(tmp_path, dict.fromkeys(names, b"hello"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_bytes(b"secret")
    site = loaded(folder, key.address)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to("/etc/passwd")
    (folder / "dir" / "b.txt").unlink()
    (folder / "dir").rmdir()
    (folder / "dir").symlink_to("../outside")
    (folder / "c.txt").unlink()
    os.mkfifo(folder / "c.txt")
    for name, target in (("d.txt", "."), ("e.txt", "e.txt"), ("f.txt", "c.txt/none")):
        (folder / name).unlink()
        (folder / name).symlink_to(target)
    (folder / "content.json").rename(tmp_path / "content.json")
    (folder / "content.json").symlink_to("../content.json")
    for name in ("link", "content.json", *names):
        assert served(site, name) is None, name


def test_what_leads_out_when_the_node_starts_is_not_believed(tmp_path, warnings):
    """Not even where it is as it was signed."""
    folder, key = own_site(tmp_path, {"a.txt": b"hello", "b.txt": b"b"})
    (folder / "a.txt").rename(tmp_path / "a.txt")
    (folder / "a.txt").symlink_to(tmp_path / "a.txt")
    site = loaded(folder, key.address)
    assert served(site, "a.txt") is None
    assert [path for path, _ in site.missing()] == ["a.txt"]
    assert "a.txt changed since it was signed" in warnings[0]
    (folder / "content.json").rename(tmp_path / "content.json")
    (folder / "content.json").symlink_to("../content.json")
    with pytest.raises(ConfigError, match=r"content\.json: .*it leads out of the site's directory"):
        loaded(folder, key.address)


def test_links_within_the_directory_are_followed(tmp_path):
    folder, key = own_site(tmp_path, {"a.txt": b"hello", "dir/b.txt": b"b"})
    site = loaded(folder, key.address)
    (folder / "a.txt").rename(folder / "moved.txt")
    (folder / "a.txt").symlink_to("moved.txt")
    (folder / "dir").rename(folder / "other")
    (folder / "dir").symlink_to(folder / "other")
    assert served(site, "a.txt") == b"hello"
    assert served(site, "dir/b.txt") == b"b"
    (tmp_path / "elsewhere").symlink_to(folder)
    through_link = loaded(tmp_path / "elsewhere", key.address)
    assert served(through_link, "a.txt") == b"hello"
    assert served(through_link, "dir/b.txt") == b"b"


def test_a_link_that_is_put_in_place_while_a_file_is_opened(tmp_path, monkeypatch):
    """Between looking and opening there is a moment."""
    folder, key = own_site(tmp_path)
    site = loaded(folder, key.address)
    opened = os.open

    def swapping(path, flags, *rest, **more):
        if path == "a.txt":
            (folder / "a.txt").unlink()
            (folder / "a.txt").symlink_to("/etc/passwd")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swapping)
    assert served(site, "a.txt") is None


def test_modified_since(tmp_path):
    site = filled(tmp_path)
    assert site.modified_since(0) == {"content.json": NOW - 10}
    assert site.modified_since(NOW - 10) == {}
    assert site.modified_since(NOW - 10.5) == {"content.json": NOW - 10}
    assert joined(tmp_path / "other").modified_since(0) == {}


# Includes


def included(files, modified=NOW - 5, **extra):
    values = {
        "inner_path": "data/content.json",
        "files": {
            name: {"sha512": file_digest(data), "size": len(data)} for name, data in files.items()
        },
        "modified": modified,
        **extra,
    }
    return content_bytes(sign_content(values, DELEGATE))


INCLUDES = {"data/content.json": {"signers": [DELEGATE.address]}}


def test_an_included_content_is_wanted_verified_and_kept(tmp_path):
    site = joined(tmp_path)
    site.store_content("content.json", content({}, includes=INCLUDES))
    assert list(site.missing_contents()) == ["data/content.json"]
    with pytest.raises(ContentRefused):
        site.store_content("data/content.json", content({}))
    site.store_content("data/content.json", included({"n.txt": b"note"}))
    assert list(site.missing_contents()) == []
    assert list(site.missing()) == [("data/n.txt", 4)]
    site.store_file("data/n.txt", b"note")
    again = joined(tmp_path)
    assert again.files() == ["content.json", "data/content.json", "data/n.txt"]
    assert again.modified_since(NOW - 6) == {"data/content.json": NOW - 5}


@pytest.mark.parametrize("name", ["../content.json", "/content.json", "a/../../content.json"])
def test_an_include_elsewhere_is_not_wanted(tmp_path, name):
    site = joined(tmp_path)
    site.store_content("content.json", content({}, includes={name: {}}))
    assert list(site.missing_contents()) == []


def test_includes_that_name_each_other_end(tmp_path):
    site = joined(tmp_path)
    site.store_content("content.json", content({}, includes=INCLUDES))
    site.store_content(
        "data/content.json", included({}, includes={"content.json": {}, "../content.json": {}})
    )
    assert list(site.missing_contents()) == ["data/content.json"][1:]


def test_a_root_signed_by_a_delegate_is_believed_after_a_restart(tmp_path):
    site = joined(tmp_path)
    first = content({"a.txt": b"1"}, signers=[DELEGATE.address])
    site.store_content("content.json", first)
    second = content(
        {"a.txt": b"2"},
        key=DELEGATE,
        modified=NOW - 1,
        signers=[DELEGATE.address],
        signers_sign=json.loads(first)["signers_sign"],
    )
    site.store_content("content.json", second)
    again = joined(tmp_path)
    assert again.content["modified"] == NOW - 1


# All sites of a node


def test_sites_are_found_by_address(tmp_path):
    folder, key = own_site(tmp_path)
    sites = Sites(tmp_path / "sites", lambda: NOW)
    assert sites.get(key.address) is None and sites.addresses() == []
    own = sites.add(key.address, folder)
    fetched = sites.add(KEY.address, None, 5000)
    assert sites.get(key.address) is own and own.own
    assert sites.get(KEY.address) is fetched and not fetched.own
    assert fetched.path == tmp_path / "sites" / KEY.address
    assert fetched.size_limit == 5000
    assert sites.addresses() == [key.address, KEY.address]
    assert sites.all() == [own, fetched]


def test_a_site_that_cannot_be_served_is_not_added(tmp_path):
    sites = Sites(tmp_path / "sites", lambda: NOW)
    with pytest.raises(ConfigError):
        sites.add(KEY.address, tmp_path)
    assert sites.addresses() == []


def users_site(tmp_path):
    """A joined site with a folder for users, and one user's content.json."""
    site = joined(tmp_path)
    include = {"data/content.json": {"signers": [DELEGATE.address]}}
    site.store_content("content.json", content({}, includes=include))
    users = {"user_contents": {"cert_signers": {}, "permission_rules": {}}}
    site.store_content("data/content.json", included({}, **users))
    path = f"data/{DELEGATE.address}/content.json"
    mine = included({"n.txt": b"note"}, modified=NOW - 3, inner_path=path)
    site.store_content(path, mine)
    return site, path


def test_files_of_users_are_kept_over_a_restart(tmp_path):
    site, path = users_site(tmp_path)
    folder = path.removesuffix("content.json")
    site.store_file(f"{folder}n.txt", b"note")
    again = joined(tmp_path)
    assert again.version(path) == NOW - 3
    assert again.listed_in(f"{folder}n.txt") == path
    assert list(again.missing()) == []
    # A spoilt one is left out, and the site is none the worse for it.
    (site.path / path).write_text("{")
    assert joined(tmp_path).version(path) is None
    assert joined(tmp_path).version("data/content.json") == NOW - 5


def test_where_a_content_may_lie(tmp_path):
    site, path = users_site(tmp_path)
    for place in ("content.json", "data/content.json", path, "data/1Other/content.json"):
        assert site.expects(place)
    for place in (
        "",
        "other/content.json",
        "data/1Other/below/content.json",
        "data/../content.json",
        "/content.json",
        "data/1Other/a.txt",
        "data/1Other/xcontent.json",
    ):
        assert not site.expects(place), place
    assert joined(tmp_path / "empty").expects("content.json")


def test_the_number_of_contents_is_bounded(tmp_path, monkeypatch):
    site, path = users_site(tmp_path)
    monkeypatch.setattr(sites_module, "CONTENTS_LIMIT", 3)
    assert site.expects(path) and not site.expects("data/1Other/content.json")
    more = PrivateKey(b"\x64" * 32)
    values = {"files": {}, "modified": NOW}
    with pytest.raises(ContentRefused) as caught:
        site.store_content(
            f"data/{more.address}/content.json", content_bytes(sign_content(values, more))
        )
    assert caught.value.points == 0


def test_a_file_of_the_version_before_is_there_and_not_current(tmp_path):
    site = filled(tmp_path)
    assert site.holds("a.txt") and site.holds("content.json")
    site.store_content("content.json", content({"a.txt": b"HELLO"}, modified=NOW))
    assert site.version("content.json") == NOW
    assert not site.holds("a.txt")
    assert site.read("a.txt", 0, 9) == (b"hello", 5)
    assert not site.holds("p2p.json"), "it is listed no more"
    assert not site.holds("nothing")
    with pytest.raises(KeyError):
        site.listed_in("p2p.json")
    site.store_file("a.txt", b"HELLO")
    assert site.holds("a.txt")
