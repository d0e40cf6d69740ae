"""What README.md tells people to type, typed: line by line, on the site that it makes.

Only the ports are others than in the text, and the directory for data is not the
person's own.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from zeromsg.testing.processes import wait_for

pytestmark = pytest.mark.integration

README = (Path(__file__).parents[2] / "README.md").read_text()
USE_IT = README[README.index("## Use it") : README.index("## What it does")]
COMMANDS = re.findall(r"^    zeromsg (.*?)(?:  +#.*)?$", USE_IT, re.MULTILINE)
SECONDS = 30.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", USE_IT, re.DOTALL)


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@attrs.define
class Desk:
    """A person at a terminal, with the README before her."""

    folder: Path
    address: str = ""
    started: list[subprocess.Popen[str]] = attrs.field(factory=list)
    ports: list[int] = attrs.field(factory=lambda: free_ports(4))

    def as_here(self, text: str) -> str:
        """A text of the README with this site's address and free ports."""
        first, second, first_peer, second_peer = map(str, self.ports)
        return (
            text.replace("1...", self.address)
            .replace("43110", first)
            .replace("43111", second)
            .replace("tcp:26553", f"tcp:{second_peer}:interface=127.0.0.1")
            .replace("26552", first_peer)
        )

    def command(self, beginning: str) -> list[str]:
        """The one command of the README that begins like this."""
        (found,) = [line for line in COMMANDS if line.startswith(beginning)]
        return [sys.executable, "-m", "zeromsg.cli", *shlex.split(self.as_here(found))]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder / "home"), "PYTHONUNBUFFERED": "1"}

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def begin(self, command: list[str], log: str) -> Path:
        """Start what goes on in another terminal; the file of what it prints."""
        path = self.folder / log
        with path.open("w") as file:
            self.started.append(
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self.environment,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
        return path

    def write(self, name: str, toml: str, more: str = "") -> None:
        (self.folder / name).write_text(more + self.as_here(toml))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "home").mkdir()
    desk = Desk(tmp_path)
    yield desk
    for process in desk.started:
        process.kill()
        process.wait()


def test_the_walk_through_works_as_it_stands(desk: Desk) -> None:
    first, second = blocks("toml")
    made = desk.run(desk.command("site new room"))
    desk.address = re.findall(r"Made the site (\S+)", made)[0]
    ui, _, peers, _ = desk.ports
    endpoints = (
        f'[ui]\nendpoint = "tcp:{ui}:interface=127.0.0.1"\n'
        f'[peers]\nendpoint = "tcp:{peers}:interface=127.0.0.1"\n'
    )
    desk.write("zeromsg.toml", first, endpoints)
    desk.write("second.toml", second)
    here = ["--node", f"http://127.0.0.1:{ui}"]
    log = desk.begin(desk.command("run --config zeromsg.toml"), "first.log")
    wait_for(lambda: "zeromsg is up" in log.read_text(), SECONDS, "the first node runs")
    desk.begin(desk.command("run --config second.toml"), "second.log")

    def fetched() -> bool:
        sites = json.loads(desk.run([*desk.command("status"), *here, "--json"]))["sites"]
        return any(site["peers"] for site in sites)

    wait_for(fetched, SECONDS, "the second node is there")
    listening = desk.begin(desk.command("listen"), "listen.log")

    def heard_there() -> bool:
        status = [*desk.command("status"), "--config", "second.toml", "--json"]
        return any(site["clients"] for site in json.loads(desk.run(status))["sites"])

    wait_for(heard_there, SECONDS, "somebody listens at the second node")

    to_all, asked = [line for line in COMMANDS if line.startswith("broadcast")]
    assert desk.run([*desk.command(to_all), *here]).startswith("sent to 1 peer(s)")
    assert desk.run([*desk.command(asked), *here]).strip().endswith("  me")
    assert desk.address in desk.run([*desk.command("status"), *here])

    (program, _in_memory) = blocks("python")
    (desk.folder / "program.py").write_text(desk.as_here(program))
    printed = desk.run([sys.executable, "program.py"])
    assert "'sent': True" in printed
    # Its own broadcast came back to it: nothing was missed between connecting and listening.
    assert "peerReceive" in printed

    zite = re.findall(r'cmd\("peerBroadcast", (\{.*\})[,)]', "".join(blocks("js")))
    for parameters in zite:
        params = re.sub(r"(\w+):", r'"\1":', parameters)
        call = PAGE.format(url=here[1], site=desk.address, params=params)
        assert desk.run([sys.executable, "-c", call]).split()[0] in ("sent", "me")

    def all_heard() -> bool:
        lines = [line.partition(": ")[2] for line in listening.read_text().splitlines()]
        return lines == [
            '{"move": "e2e4"}',
            "who is there?",
            "hello",
            '{"move": "e2e4"}',
            "who is there?",
        ]

    wait_for(all_heard, SECONDS, "all messages are printed")


PAGE = """
import json
from twisted.internet.task import react
from zeromsg.client import connect

async def main(reactor):
    client = await connect(reactor, "{url}", "{site}")
    result = await client.call("peerBroadcast", json.loads('{params}'))
    print(result[0]["reply"] if isinstance(result, list) else "sent" if result["sent"] else "lost")

react(main)
"""
"""What a zite would say, over the same WebSocket."""


def test_the_test_in_memory_passes() -> None:
    _, example = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
