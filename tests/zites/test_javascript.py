"""The zites' JavaScript: its models under Node.js, and what no zite of ours may do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from zeromsg.service.site_templates import TEMPLATES, template_files

_TESTS = sorted(Path(__file__).parent.glob("*.test.js"))
_NODE = shutil.which("node")

needs_node = pytest.mark.skipif(
    # Where CI runs, a missing Node.js is a failure, not a reason to look away.
    _NODE is None and os.environ.get("CI") != "true",
    reason="Node.js is not installed: the zites' JavaScript was not tested",
)


def run_node(*arguments: str) -> None:
    assert _NODE is not None, "Node.js 20 or later is needed to test the zites' JavaScript"
    done = subprocess.run([_NODE, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_node
@pytest.mark.parametrize("file", _TESTS, ids=lambda file: file.name)
def test_models(file):
    run_node("--test", str(file))


@needs_node
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_script_is_javascript(template, tmp_path):
    for name, data in template_files(template).items():
        if name.endswith(".js"):
            (tmp_path / name).write_bytes(data)
            run_node("--check", str(tmp_path / name))


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_zite_is_complete_and_loads_nothing_from_elsewhere(template):
    files = template_files(template)
    page = files["index.html"].decode()
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert set(named) <= set(files)
    assert set(files) - set(named) == {"index.html", "p2p.json"}
    for name, data in files.items():
        text = data.decode()
        allowed = ("http://www.w3.org/2000/svg",)
        found = re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+|@import|url\(", text)
        assert [part for part in found if part not in allowed] == [], name


@pytest.mark.parametrize("template", TEMPLATES)
def test_strangers_words_never_become_html(template):
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc"
    for name, data in template_files(template).items():
        assert re.findall(ways, data.decode()) == [], name


@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_that_scripts_use_are_in_the_page(template):
    files = template_files(template)
    page = files["index.html"].decode()
    there = re.findall(r'\bid="([^"]+)"', page)
    assert len(there) == len(set(there))
    for name, data in files.items():
        if name.endswith(".js"):
            assert set(re.findall(r'byId\("([^"]+)"\)', data.decode())) <= set(there), name
    # Every control has a name that a screen reader can say.
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    assert set(re.findall(r'<(?:input|textarea|select) id="([^"]+)"', page)) <= labelled
