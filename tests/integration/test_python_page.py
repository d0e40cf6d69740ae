"""The examples of docs/python.md, run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from zeromsg.testing.tor_network import tor_is_there

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def example(marker: str) -> str:
    (found,) = [text for text in EXAMPLES if marker in text]
    return found


def run(program: str, folder: Path) -> str:
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_client(two_nodes, site, tmp_path):
    first, _ = two_nodes
    program = example("import CallRefused").replace("1...", site.address)
    printed = run(program.replace("http://127.0.0.1:43110", first.url), tmp_path).splitlines()
    assert printed[:2] == ["told 1 peer(s)", "no-peer"]
    assert len(printed) == 3
    nobody = run_failing(program.replace("43110", "9"), tmp_path)
    assert nobody.startswith("no node answers at http://127.0.0.1:9: ")


def run_failing(program: str, folder: Path) -> str:
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    return done.stderr


def test_the_operator(two_nodes, site, tmp_path):
    first, _ = two_nodes
    program = example("import node_status").replace(
        'Path("data")', f"Path({str(first.data_dir)!r})"
    )
    printed = run(program.replace("http://127.0.0.1:43110", first.url), tmp_path)
    assert printed == f"{site.address} 1 peer(s)\n192.0.2.7 test\n"


def test_the_network_in_memory():
    names: dict[str, object] = {}
    exec(compile(example("import Network"), "docs/python.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        assert callable(test)
        test()


def test_nodes_as_processes(tmp_path):
    run(example("import RunningNode"), tmp_path)


@pytest.mark.tor
@pytest.mark.skipif(not tor_is_there(), reason="tor is not installed")
def test_the_tor_network(tmp_path):
    assert re.fullmatch(
        r"control port \d+ SOCKS port \d+\n", run(example("import TorNetwork"), tmp_path)
    )
