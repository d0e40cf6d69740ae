"""What docs/zite-authors.md tells authors to do, done."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from zeromsg.cli import main
from zeromsg.service import config
from zeromsg.service.site_templates import copy_template

GUIDE = (Path(__file__).parents[2] / "docs" / "zite-authors.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_test_in_the_guide_passes(tmp_path, monkeypatch):
    (example,) = blocks("python")
    copy_template("chat", tmp_path / "room")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "docs/zite-authors.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    for test in tests:
        assert callable(test)
        test()


def test_the_configurations_in_the_guide_are_taken(tmp_path):
    entry, second = blocks("toml")
    address = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
    whole = 'data_dir = "node"\n' + entry.replace("1...", address)
    (site,) = config.parse(whole, "zeromsg.toml", tmp_path).sites
    assert (site.address, site.path) == (address, tmp_path / "room")
    settings = config.parse(second, "second.toml", tmp_path)
    assert settings.ui.endpoint == "tcp:43111:interface=127.0.0.1"
    assert tomllib.loads(second)["peers"]["connect"] == ["127.0.0.1:26552"]


def test_the_site_in_the_guide_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zeromsg.toml").write_text('data_dir = "node"\n')
    (made,) = re.findall(r"^    zeromsg (site new .*)$", GUIDE, re.MULTILINE)
    result = CliRunner().invoke(main, made.split())
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 7 and lines[4] == "[[site]]"
    assert lines[6] == f"path = {json.dumps(str(tmp_path / 'room'))}"
    assert Path("node/users.json").exists()
    for command in re.findall(
        r"^    zeromsg (site sign .*|rules check [^-\n]*)$", GUIDE, re.MULTILINE
    ):
        done = CliRunner().invoke(main, command.split())
        assert done.exit_code == 0, done.output


def test_the_tests_in_the_guide_run_as_it_says(tmp_path):
    """The lines of section 7, but for what installs pytest."""
    zite = tmp_path / "my-zite"
    copy_template("chat", zite / "room")
    (zite / "test_room.py").write_text(blocks("python")[0])
    (zite / "room.test.js").write_text(next(js for js in blocks("js") if "node:test" in js))
    section = GUIDE[GUIDE.index("## 7.") :]
    python, node = re.findall(r"^    (.* -m pytest .*|node .*)$", section, re.MULTILINE)
    python = python.replace("../venv/bin/python", sys.executable) + " -p no:cacheprovider"
    commands = [(python, "1 passed"), (node, "# pass 1")]
    for command, says in commands if shutil.which("node") else commands[:1]:
        done = subprocess.run(
            command.split(), cwd=zite, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert says in done.stdout


@pytest.mark.parametrize(
    "arguments", re.findall(r"^    zeromsg ([^#\n]+)", GUIDE, re.MULTILINE), ids=str.strip
)
def test_the_commands_in_the_guide_exist(arguments):
    words = re.sub(r"'[^']*'", "JSON", arguments).split()
    options = [word for word in words if word.startswith("--")]
    command = words[: 2 if words[0] in ("site", "rules") else 1]
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert [option for option in options if option not in result.stdout] == []
