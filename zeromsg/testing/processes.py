"""Whole nodes as processes on loopback, for tests that need real sockets and signals.

    with RunningNode(folder, "127.0.0.21", sites={address: site_folder}) as node:
        node.start()
        wait_for(lambda: node.site(address)["peers"], 10, "a peer of the site")
        assert node.stop() == 0

The system picks the ports; a node that is started again keeps them. A ZeroNet
node knows one peer per IP address, so each node needs a host of its own:
127.0.0.2, 127.0.0.3 and so on.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

START_SECONDS = 20.0
"""A node is up within this time, on a loaded machine too."""

STOP_SECONDS = 10.0

CONFIG_FILE = "zeromsg.toml"
LOG_FILE = "node.log"

_UP = re.compile(r"zeromsg is up: clients at (\S+):(\d+), port for peers: (\d+|none)")

# Of another interpreter's scripts folder nothing is known, so both are started
# as modules of this one.
_PROGRAMS = {
    "zeromsg": ["-m", "zeromsg.cli", "run", "--config"],
    "twistd": [
        "-c",
        "from twisted.scripts.twistd import run; run()",
        "--nodaemon",
        "--pidfile=",
        "zeromsg",
        "--config",
    ],
}

_Found = TypeVar("_Found")


def wait_for(condition: Callable[[], _Found], seconds: float, what: str) -> _Found:
    """Ask until the condition's result is true, and return it.

    Raises AssertionError, naming `what` was waited for, when the time is up.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class RunningNode:
    """A node as a process of its own; a context manager that kills what still runs.

    folder: is made; holds configuration, data and log.
    host: the IP address that it listens on and dials from, of 127.0.0.0/8.
    sites: address -> directory to serve, or None for a site to be joined.
    connect: peers as `host:port`, such as another node's `peer`.
    settings: further keys as the configuration file spells them; those in a
        table with a dot, as {"peers.tls": False}.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        *,
        sites: Mapping[str, Path | None] | None = None,
        connect: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        program: Literal["zeromsg", "twistd"] = "zeromsg",
    ) -> None:
        self.folder = folder
        self.host = host
        self.sites = dict(sites or {})
        self.connect = list(connect)
        self.settings = dict(settings or {})
        self.program = program
        self.ui_port = 0
        self.peer_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        folder.mkdir(parents=True, exist_ok=True)

    # Where it is.

    @property
    def config(self) -> Path:
        return self.folder / CONFIG_FILE

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Where browsers and programs connect, without a final slash."""
        return f"http://{self.host}:{self.ui_port}"

    @property
    def peer(self) -> str:
        """What other nodes put into `connect`."""
        return f"{self.host}:{self.peer_port}"

    @property
    def log(self) -> str:
        """Everything it has written, in all of its runs."""
        path = self.folder / LOG_FILE
        return path.read_text(errors="replace") if path.exists() else ""

    # Its life.

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the node was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        self.launch()
        wait_for(lambda: self._is_up() or not self.running, START_SECONDS, "the node is up")
        if not self._is_up():
            raise AssertionError(f"the node did not start:\n{self.log[self._log_start :]}")
        # With the ports that it got, so that commands with --config find it.
        self.write_config()
        return self

    def launch(self) -> None:
        """Start it, and do not wait: for nodes that are expected to fail."""
        assert not self.running, "the node runs already"
        self.write_config()
        self._log_start = len(self.log)
        with (self.folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *_PROGRAMS[self.program], str(self.config)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def _is_up(self) -> bool:
        found = _UP.search(self.log, self._log_start)
        if found is None:
            return False
        self.ui_port = int(found[2])
        self.peer_port = 0 if found[3] == "none" else int(found[3])
        return True

    def stop(self, seconds: float = STOP_SECONDS, number: int = signal.SIGTERM) -> int:
        """Ask it to end by a signal; its exit code."""
        assert self._process is not None, "the node was not started"
        if self.running:
            self._process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None, "the node was not started"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node runs on after {seconds:g} s:\n{self.log}") from None

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    # What it says of itself.

    def status(self) -> dict[str, Any]:
        """What `zeromsg status` shows."""
        token = (self.data_dir / "status.token").read_text().strip()
        request = urllib.request.Request(
            f"{self.url}/ZeroMsg-Internal/status", headers={"Authorization": f"Bearer {token}"}
        )
        # A proxy of the environment knows nothing of this machine's loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=5) as response:
                status: dict[str, Any] = json.load(response)
        except urllib.error.URLError as problem:
            raise AssertionError(f"{self.url} gives no status: {problem}") from None
        return status

    def site(self, address: str) -> dict[str, Any]:
        """The site's part of the status."""
        found = [site for site in self.status()["sites"] if site["address"] == address]
        assert found, f"the node does not hold {address}"
        part: dict[str, Any] = found[0]
        return part

    # Its configuration.

    def write_config(self) -> None:
        """Write the configuration file, with the ports of an earlier run if there was one."""
        tables: dict[str, dict[str, Any]] = {
            "": {"data_dir": str(self.data_dir)},
            "ui": {"endpoint": f"tcp:{self.ui_port}:interface={self.host}"},
            "peers": {
                "endpoint": f"tcp:{self.peer_port}:interface={self.host}",
                "connect": self.connect,
                # Loopback is the whole network here.
                "allow_private": True,
            },
        }
        for key, value in self.settings.items():
            table, _, name = key.rpartition(".")
            tables.setdefault(table, {})[name] = value
        lines: list[str] = []
        for table, values in tables.items():
            lines += [f"[{table}]"] if table else []
            # Texts, numbers, booleans and lists of these look the same in JSON and TOML.
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        for address, path in self.sites.items():
            lines += ["[[site]]", f"address = {json.dumps(address)}"]
            lines += [f"path = {json.dumps(str(path))}"] if path is not None else []
        self.config.write_text("\n".join(lines) + "\n")
