"""The leak test: an honest node passes, and every leak that is put into one is found."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zeromsg.testing.processes import RunningNode

pytestmark = [pytest.mark.integration]

LEAKY = Path(__file__).with_name("leaky_node.py")

RUN = """
import sys
from pathlib import Path
from zeromsg.cli.output import emit
from zeromsg.cli.working import work
from zeromsg.testing.leaktest import LeakTest

async def job(reactor):
    report = await LeakTest(reactor, Path(sys.argv[1]), sys.argv[2:]).run()
    emit(report.to_map())
    return 0

sys.exit(work(job))
"""

OWN = "203.0.113.77"
EXPECTED = {
    "direct_dial": f"tried to connect: {OWN}:80",
    "loopback_dial": "tried to connect: 127.0.0.1:9",
    "dns": "tried to resolve: tracker.invalid",
    "blocking_dns": "tried to resolve: tracker.invalid",
    "udp_tracker": f"tried to send: {OWN}:6969",
    "listener": "tried to listen: :0",
    "pex": "a clear-net address in pex, among peers",
    "handshake": f"an address said to a peer: {OWN}",
    "trace": f"an address said to a peer: {OWN}",
    "ip_field": f"an address said to a client: {OWN}",
    "in_the_log": f"an address in the log: {OWN}",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The leaks found in each leaky node; a few run at a time."""
    folder = tmp_path_factory.mktemp("leaks")

    def run(name: str) -> list[str]:
        (folder / name).mkdir()
        words = [sys.executable, "-c", RUN, str(folder / name)]
        done = subprocess.run(
            [*words, sys.executable, str(LEAKY), name],
            capture_output=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        leaks: list[str] = json.loads(done.stdout)["leaks"]
        return leaks

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(EXPECTED, pool.map(run, EXPECTED), strict=True))


@pytest.mark.parametrize("leak", EXPECTED)
def test_a_leak_is_found(found: dict[str, list[str]], leak: str) -> None:
    assert EXPECTED[leak] in found[leak]


def test_an_honest_node_leaks_nothing() -> None:
    words = [sys.executable, "-m", "zeromsg.cli", "leaktest", "--json"]
    done = subprocess.run(words, capture_output=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["clean"] and report["leaks"] == [] and report["names"] == []
    assert report["steps"][-1] == "Tor went and came back"
    # Tor's two ports, and listeners on loopback; nothing was even tried beside these.
    assert {entry["kind"] for entry in report["sockets"]} == {"connect", "listen"}
    assert all(entry["allowed"] for entry in report["sockets"])
    assert all(entry["target"].startswith("127.0.0.1:") for entry in report["sockets"])


def test_a_node_with_leaking_settings_does_not_start(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "node", "127.0.0.19", settings={"tor.mode": "only"})
    with node:
        node.launch()
        assert node.wait(20) != 0
        assert 'tor.mode = "only" does not go with these settings' in node.log
        assert "peers.endpoint" in node.log and "Traceback" not in node.log
