"""`zeromsg site new` and `site sign`."""

import json
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zeromsg.cli import main
from zeromsg.policy import rule_review
from zeromsg.service import config
from zeromsg.service.site_templates import TEMPLATES, template_files
from zeromsg.store.sites import Site


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / 'my "chat"'
    folder.mkdir()
    (folder / "index.html").write_text("<h1>chat</h1>")
    return folder


def site(command: str, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["site", command, str(folder), *arguments])


def loaded(address: str, folder: Path) -> Site:
    """The site as a node would serve it."""
    held = Site(address, folder, own=True, wall=lambda: 4e9)
    held.load()
    return held


def test_new_makes_a_site_that_a_node_can_serve(folder, data_dir):
    result = site("new", folder, "--title", "Chat", "--data-dir", str(data_dir), "--json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    held = loaded(made["address"], folder)
    assert held.content["title"] == "Chat"
    assert held.files() == ["content.json", "index.html", "p2p.json"]
    assert held.rules is not None


def test_new_prints_lines_for_the_configuration(folder, data_dir, tmp_path):
    result = site("new", folder, "--data-dir", str(data_dir))
    lines = result.stdout[result.stdout.index("[[site]]") :]
    (entry,) = config.parse(lines, "lines", tmp_path).sites
    assert entry.path == folder
    assert f"Made the site {entry.address}" in result.stdout
    assert loaded(entry.address, folder).content["title"] == folder.name


def test_the_key_is_kept_for_the_operator_alone(folder, data_dir):
    site("new", folder, "--data-dir", str(data_dir))
    users = data_dir / "users.json"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_new_takes_the_data_directory_of_the_configuration(folder, tmp_path):
    file = tmp_path / "zeromsg.toml"
    file.write_text('data_dir = "from-config"\n')
    assert site("new", folder, "--config", str(file)).exit_code == 0
    assert (tmp_path / "from-config" / "users.json").exists()


def test_new_leaves_an_existing_site_alone(folder, data_dir):
    site("new", folder, "--data-dir", str(data_dir))
    before = (folder / "content.json").read_bytes()
    result = site("new", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "is a site already" in result.stderr
    assert (folder / "content.json").read_bytes() == before


def test_new_makes_no_site_when_its_key_cannot_be_kept(folder, data_dir):
    data_dir.mkdir()
    (data_dir / "users.json").write_text("no JSON")
    result = site("new", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "users.json: this is no JSON" in result.stderr
    assert [file.name for file in folder.iterdir()] == ["index.html"]


@pytest.mark.parametrize("template", [(), ("--template", "chat")])
def test_a_new_site_that_fails_leaves_nothing_behind(data_dir, tmp_path, template):
    """Otherwise the next try finds files in its way, and they become the site's."""
    data_dir.mkdir()
    (data_dir / "users.json").write_text("no JSON")
    result = site("new", tmp_path / "a" / "b", *template, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes").write_text("mine")
    (tmp_path / "a" / "CON").write_text("a name that nodes refuse")
    result = site("new", tmp_path / "a", *template, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["CON", "notes"]


def test_new_refuses_rules_that_nodes_would_not_take(folder, data_dir):
    (folder / "p2p.json").write_text('{"filter": "("}')
    result = site("new", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "p2p.json" in result.stderr


def test_new_and_sign_warn_of_rules_as_rules_check_does(folder, data_dir, monkeypatch):
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 1000.0)
    (folder / "p2p.json").write_text('{"filter": ".*", "sze_limit": 5}')
    warning = "warning: p2p.json: sze_limit: no node knows this key; did you mean size_limit?\n"
    made = site("new", folder, "--data-dir", str(data_dir))
    assert (made.exit_code, made.stderr) == (0, warning)
    signed = site("sign", folder, "--data-dir", str(data_dir), "--json")
    assert (signed.exit_code, signed.stderr) == (0, warning)
    assert json.loads(signed.stdout)["files"] == ["index.html", "p2p.json"]
    (folder / "p2p.json").write_text('{"filter": ".*",\n"size_limit" 5}')
    refused = site("sign", folder, "--data-dir", str(data_dir))
    assert refused.exit_code == 2
    assert "p2p.json is no JSON: line 2, column 14: " in refused.stderr


def test_sign_takes_up_changes(folder, data_dir):
    made = json.loads(site("new", folder, "--data-dir", str(data_dir), "--json").stdout)
    (folder / "more.js").write_text("1")
    assert [path for path, _ in loaded(made["address"], folder).missing()] == []
    result = site("sign", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 0
    assert result.stdout == f"Signed 3 file(s) of the site {made['address']}\n"
    held = loaded(made["address"], folder)
    assert "more.js" in held.files()
    assert held.content["modified"] > 0


def test_sign_as_json(folder, data_dir):
    made = json.loads(site("new", folder, "--data-dir", str(data_dir), "--json").stdout)
    signed = json.loads(site("sign", folder, "--data-dir", str(data_dir), "--json").stdout)
    assert signed["address"] == made["address"]
    assert signed["files"] == ["index.html", "p2p.json"]


def test_a_large_site_is_told_what_it_needs(folder, data_dir, tmp_path):
    """Nodes take ten million bytes of a site, unless they are told otherwise."""
    with (folder / "film").open("wb") as film:
        film.truncate(10_000_001)
    result = site("new", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 0
    assert "Nodes take 10000000 bytes" in result.stderr
    lines = result.stdout[result.stdout.index("[[site]]") :]
    (entry,) = config.parse(lines, "lines", tmp_path).sites
    assert entry.size_limit > 10_000_001
    refused = site("sign", folder, "--data-dir", str(data_dir))
    assert refused.exit_code == 2
    assert "raise the site's size_limit" in refused.stderr
    file = tmp_path / "zeromsg.toml"
    file.write_text(f"data_dir = {json.dumps(str(data_dir))}\n{lines}")
    signed = site("sign", folder, "--config", str(file))
    assert signed.exit_code == 0
    assert "only nodes that have a larger size_limit" in signed.stderr


def test_sign_needs_the_key(folder, data_dir, tmp_path):
    site("new", folder, "--data-dir", str(data_dir))
    other = tmp_path / "other"
    result = site("sign", folder, "--data-dir", str(other))
    assert result.exit_code == 2
    assert f"{other / 'users.json'} has no key of the site" in result.stderr
    assert not other.exists()


def test_sign_needs_a_site(folder, data_dir):
    result = site("sign", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "is no site: there is no content.json" in result.stderr


@pytest.mark.parametrize("content", ["", "[]", "{", '{"address": 1}'])
def test_sign_says_what_is_wrong_with_content_json(content, folder, data_dir):
    (folder / "content.json").write_text(content)
    result = site("sign", folder, "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert str(folder / "content.json") in result.stderr
    assert "Traceback" not in result.output


def test_the_printed_lines_are_toml(folder, data_dir):
    result = site("new", folder, "--data-dir", str(data_dir))
    lines = result.stdout[result.stdout.index("[[site]]") :]
    assert tomllib.loads(lines)["site"][0]["path"] == str(folder)


# Templates


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_becomes_a_site_that_a_node_can_serve(template, data_dir, tmp_path):
    folder = tmp_path / "fresh"
    result = site("new", folder, "--template", template, "--data-dir", str(data_dir), "--json")
    assert result.exit_code == 0
    held = loaded(json.loads(result.stdout)["address"], folder)
    assert held.content["title"] == TEMPLATES[template].title
    assert held.content["viewport"] == "width=device-width, initial-scale=1"
    assert set(held.files()) == {*template_files(template), "content.json"}
    assert held.rules is not None
    assert held.rules_problem == ""


def test_a_template_takes_another_title(data_dir, tmp_path):
    folder = tmp_path / "fresh"
    arguments = ("--template", "chat", "--title", "Pub", "--data-dir", str(data_dir), "--json")
    address = json.loads(site("new", folder, *arguments).stdout)["address"]
    assert loaded(address, folder).content["title"] == "Pub"


def test_a_template_writes_over_nothing(folder, data_dir):
    result = site("new", folder, "--template", "chat", "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "index.html is there already" in result.stderr
    assert [file.name for file in folder.iterdir()] == ["index.html"]
    assert (folder / "index.html").read_text() == "<h1>chat</h1>"


def test_a_template_leaves_an_existing_site_alone(folder, data_dir):
    site("new", folder, "--data-dir", str(data_dir))
    before = sorted(file.name for file in folder.iterdir())
    result = site("new", folder, "--template", "chat", "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "is a site already" in result.stderr
    assert sorted(file.name for file in folder.iterdir()) == before
