"""Making and signing sites in the operator's directory."""

import json

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import BadKey, ConfigError
from zeromsg.policy.site_content import file_digest, verify_content
from zeromsg.service.site_making import DEFAULT_RULES, new_site, sign_site
from zeromsg.store.sites import Site

NOW = 1_800_000_000.75


def entropy(size):
    return b"\x71" * size


def made(folder, title=""):
    return new_site(folder, title, entropy, lambda: NOW)


def read(folder, name="content.json"):
    return json.loads((folder / name).read_bytes())


def believed(folder, key, now=NOW):
    """The content.json, as a node that joins the site judges it."""
    data = (folder / "content.json").read_bytes()
    return verify_content(key.address, "content.json", data, {}, now)


def test_a_new_site_is_whole(tmp_path):
    folder = tmp_path / "new" / "site"
    key = made(folder, "My site")
    content = believed(folder, key)
    assert content["address"] == key.address
    assert content["title"] == "My site"
    assert content["modified"] == int(NOW)
    assert content["postmessage_nonce_security"] is True
    assert read(folder, "p2p.json") == DEFAULT_RULES
    assert list(content["files"]) == ["p2p.json"]
    site = Site(key.address, folder, own=True, wall=lambda: NOW)
    site.load()
    assert site.rules is not None and list(site.missing()) == []


def test_without_a_title_it_is_called_like_its_folder(tmp_path):
    key = made(tmp_path / "chat")
    assert believed(tmp_path / "chat", key)["title"] == "chat"


def test_files_that_are_there_become_the_sites(tmp_path):
    (tmp_path / "js").mkdir()
    (tmp_path / "index.html").write_bytes(b"<p>")
    (tmp_path / "js" / "all.js").write_bytes(b"1;")
    (tmp_path / "p2p.json").write_text('{"filter": "^own$"}')
    key = made(tmp_path)
    files = believed(tmp_path, key)["files"]
    assert sorted(files) == ["index.html", "js/all.js", "p2p.json"]
    assert files["js/all.js"] == {"sha512": file_digest(b"1;"), "size": 2}
    assert read(tmp_path, "p2p.json") == {"filter": "^own$"}


def test_hidden_files_are_nobodys_business(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    (tmp_path / ".env").write_text("secret")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / ".hidden").write_text("secret")
    key = made(tmp_path)
    assert list(believed(tmp_path, key)["files"]) == ["p2p.json"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "/nowhere/at/all", "/etc"])
def test_a_link_that_leads_out_of_the_directory_is_refused(tmp_path, target):
    """Its file would be published under the name of the link."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "site"
    key = made(folder)
    before = (folder / "content.json").read_bytes()
    (folder / "link").symlink_to(target)
    with pytest.raises(ConfigError, match=r"site/link: it leads out of the site's directory"):
        sign_site(folder, key, lambda: NOW)
    assert (folder / "content.json").read_bytes() == before


def test_rules_are_not_written_through_a_link(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "p2p.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="it leads out"):
        made(folder)
    assert not (tmp_path / "elsewhere").exists()
    assert (folder / "p2p.json").is_symlink()


def test_a_link_that_stays_in_the_directory_is_a_file(tmp_path):
    (tmp_path / "all.js").write_bytes(b"1;")
    (tmp_path / "latest.js").symlink_to("all.js")
    (tmp_path / "dangling").symlink_to("nothing")
    key = made(tmp_path)
    files = believed(tmp_path, key)["files"]
    assert sorted(files) == ["all.js", "latest.js", "p2p.json"]
    assert files["latest.js"] == files["all.js"]


def test_contents_below_are_not_listed_as_files(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "content.json").write_text("{}")
    key = made(tmp_path)
    assert list(believed(tmp_path, key)["files"]) == ["p2p.json"]


@pytest.mark.parametrize("name", ["a:b", "CON", 'quo"te', "tail. ", "back\\slash", "nul.txt"])
def test_names_that_other_nodes_refuse_are_refused_here_first(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError, match="refuse this file name"):
        made(tmp_path)
    assert not (tmp_path / "content.json").exists()


def test_a_site_is_not_made_over_another(tmp_path):
    key = made(tmp_path)
    before = (tmp_path / "content.json").read_bytes()
    with pytest.raises(ConfigError, match="is a site already"):
        made(tmp_path)
    assert (tmp_path / "content.json").read_bytes() == before
    believed(tmp_path, key)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot write"):
        made(tmp_path / "file" / "site")


def test_rules_that_nodes_would_not_take_are_not_signed(tmp_path):
    (tmp_path / "p2p.json").write_text('{"filter": "("}')
    with pytest.raises(ConfigError, match=r"p2p\.json: .*filter"):
        made(tmp_path)
    assert not (tmp_path / "content.json").exists()


def test_an_entropy_source_that_is_broken(tmp_path):
    with pytest.raises(BadKey):
        new_site(tmp_path, "", lambda size: bytes(size), lambda: NOW)


# Signing again


def test_signing_takes_the_directory_as_it_is_now(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    key = made(tmp_path, "Title")
    (tmp_path / "old.txt").unlink()
    (tmp_path / "new.txt").write_text("new")
    told = sign_site(tmp_path, key, lambda: NOW + 60)
    content = believed(tmp_path, key, NOW + 60)
    assert sorted(content["files"]) == ["new.txt", "p2p.json"]
    assert content["modified"] == int(NOW) + 60
    assert content["title"] == "Title"
    assert told["files"] == content["files"]


def test_two_signatures_within_a_second_are_told_apart(tmp_path):
    key = made(tmp_path)
    for later in range(1, 4):
        sign_site(tmp_path, key, lambda: NOW)
        assert read(tmp_path)["modified"] == int(NOW) + later


def test_what_the_operator_wrote_into_content_json_stays(tmp_path):
    key = made(tmp_path)
    content = read(tmp_path)
    content["description"] = "about"
    content["includes"] = {"data/content.json": {"signers": [key.address]}}
    (tmp_path / "content.json").write_text(json.dumps(content))
    sign_site(tmp_path, key, lambda: NOW)
    signed = believed(tmp_path, key)
    assert signed["description"] == "about"
    assert signed["includes"] == content["includes"]


def test_more_than_nodes_take_is_not_signed(tmp_path):
    key = made(tmp_path)
    before = (tmp_path / "content.json").read_bytes()
    with (tmp_path / "film").open("wb") as film:
        film.truncate(10_000_001)
    with pytest.raises(
        ConfigError, match=r"have 100000\d\d bytes, and nodes take 10000000 .*size_l"
    ):
        sign_site(tmp_path, key, lambda: NOW)
    assert (tmp_path / "content.json").read_bytes() == before
    signed = sign_site(tmp_path, key, lambda: NOW, size_limit=11_000_000)
    assert "film" in signed["files"]


def test_old_signatures_do_not_stay(tmp_path):
    key = made(tmp_path)
    other = PrivateKey(b"\x72" * 32)
    sign_site(tmp_path, other, lambda: NOW)
    assert list(read(tmp_path)["signs"]) == [other.address]
    sign_site(tmp_path, key, lambda: NOW)
    assert list(read(tmp_path)["signs"]) == [key.address]
    believed(tmp_path, key)


def test_another_key_signs_but_convinces_nobody(tmp_path):
    key = made(tmp_path)
    sign_site(tmp_path, PrivateKey(b"\x72" * 32), lambda: NOW)
    with pytest.raises(Exception, match="no valid signature"):
        believed(tmp_path, key)


def test_a_folder_that_is_no_site(tmp_path):
    key = PrivateKey(b"\x72" * 32)
    with pytest.raises(ConfigError, match="is no site"):
        sign_site(tmp_path, key, lambda: NOW)
    (tmp_path / "content.json").write_text("{")
    with pytest.raises(ConfigError, match="no JSON"):
        sign_site(tmp_path, key, lambda: NOW)


def test_rules_that_went_bad_are_not_signed(tmp_path):
    key = made(tmp_path)
    before = (tmp_path / "content.json").read_bytes()
    (tmp_path / "p2p.json").write_text("no json")
    with pytest.raises(ConfigError, match=r"p2p\.json"):
        sign_site(tmp_path, key, lambda: NOW)
    assert (tmp_path / "content.json").read_bytes() == before


@pytest.mark.parametrize("modified", ["yesterday", None, [], True])
def test_a_modified_that_is_none_is_refused_in_words(tmp_path, modified):
    """People edit content.json by hand."""
    key = made(tmp_path)
    content = read(tmp_path)
    content["modified"] = modified
    (tmp_path / "content.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"content\.json: modified is no number"):
        sign_site(tmp_path, key, lambda: NOW)


@pytest.mark.parametrize("signers", ["1abc", [5], {"a": 1}])
def test_signers_that_are_none_are_refused_in_words(tmp_path, signers):
    key = made(tmp_path)
    content = read(tmp_path)
    content["signers"] = signers
    (tmp_path / "content.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"content\.json: signers"):
        sign_site(tmp_path, key, lambda: NOW)


def test_a_site_without_rules_may_be_signed(tmp_path):
    key = made(tmp_path)
    (tmp_path / "p2p.json").unlink()
    sign_site(tmp_path, key, lambda: NOW)
    assert believed(tmp_path, key)["files"] == {}
