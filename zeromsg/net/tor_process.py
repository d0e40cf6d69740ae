"""A Tor of the node's own: started, kept running, ended with the node.

Its folder keeps guards and consensus, so that it starts fast and does not
choose new guards each time, which would be bad for anonymity. It listens on
unix sockets in that folder alone, and ends when this process does, however
that happens (`__OwningControllerProcess`).
"""

import os
import random
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import ConfigError
from zeromsg.log import leveled
from zeromsg.net.guard import Place
from zeromsg.policy.onion_upkeep import Backoff

STOP_SECONDS = 3.0
"""What it has to end by itself."""

SOCKET_LIMIT = 100
"""Longest path of a unix socket."""

_COMPLAINT = re.compile(r"\[(?:warn|err)\] (.+)")
_COMPLAINTS = 5
"""Of its warnings so many, the last ones, are shown when it ends."""

_OUTPUT_LIMIT = 8000
"""Characters of its last words that are kept to explain an early end."""


class TorProcess:
    """One tor, started again when it ends.

    binary: path or name of the program. options: further lines of its torrc.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self, reactor: Any, folder: Path, binary: str, options: Sequence[str], rng: random.Random
    ) -> None:
        self._reactor = reactor
        self._folder = folder
        self._binary = self._program = binary
        self._options = options
        self._backoff = Backoff(rng)
        self._process: Any = None
        self._ended: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._running = False
        self.problem = ""
        """Why it does not run, by its own words, or ""."""
        self.control = Place(path=str(folder / "control"))
        self.socks = Place(path=str(folder / "socks"))

    def start(self) -> None:
        """Raises ConfigError."""
        program = shutil.which(self._binary)
        if program is None:
            raise ConfigError(missing_binary(self._binary))
        # It starts in its own folder, to which a relative path would lead then.
        self._program = str(Path(program).absolute())
        if len(self.control.path.encode()) > SOCKET_LIMIT:
            raise ConfigError(f"{self._folder}: too long a path for the unix sockets of Tor")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._folder.chmod(0o700)
            (self._folder / "torrc").write_text(self.torrc())
            (self._folder / "defaults").write_text("")
        except OSError as problem:
            raise ConfigError(f"cannot use {self._folder}: {problem.strerror}") from None
        self._running = True
        self._spawn()

    def torrc(self) -> str:
        """Its configuration; the operator's options come last, and are added to ours."""
        lines = [
            f"DataDirectory {self._folder}/data",
            f"ControlPort unix:{self.control.path}",
            "CookieAuthentication 1",
            f"CookieAuthFile {self._folder}/cookie",
            f"SocksPort unix:{self.socks.path} ExtendedErrors",
            f"__OwningControllerProcess {os.getpid()}",
            "Log notice stdout",
            *self._options,
        ]
        return "\n".join(lines) + "\n"

    def _spawn(self) -> None:
        self._timer = None
        torrc, defaults = str(self._folder / "torrc"), str(self._folder / "defaults")
        words = [self._program, "-f", torrc, "--defaults-torrc", defaults]
        self._ended = Deferred()
        self._process = self._reactor.spawnProcess(
            _Output(self), self._program, words, env=dict(os.environ), path=str(self._folder)
        )

    def ended(self, status: int | None, output: str) -> None:
        """The process is gone."""
        self._process = None
        if self._ended is not None:
            self._ended.callback(None)
            self._ended = None
        if self._running:
            said = _COMPLAINT.findall(output)[-_COMPLAINTS:] or output.strip().splitlines()[-1:]
            words = " | ".join(line.strip()[:300] for line in said) or "it said nothing"
            problem = f"the Tor that this node starts ended ({status}): {words}"
            # It is started again and again, and may say the same each time.
            log = self._log.debug if problem == self.problem else self._log.warn
            log("{problem}", problem=problem)
            self.problem = problem
            self._timer = self._reactor.callLater(self._backoff.next(), self._spawn)

    def works(self) -> None:
        """It was reached: the next pause is a short one again."""
        self.problem = ""
        self._backoff.reset()

    def stop(self) -> Deferred[None]:
        """Fires when it has ended."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._process is None or self._ended is None:
            return succeed(None)
        ended = self._ended
        self._signal("TERM")
        killing = self._reactor.callLater(STOP_SECONDS, self._signal, "KILL")
        ended.addCallback(lambda _: killing.active() and killing.cancel())
        return ended

    def _signal(self, name: str) -> None:
        if self._process is not None:
            with suppress(ProcessExitedAlready):
                self._process.signalProcess(name)


def missing_binary(binary: str) -> str:
    return f'tor.binary = "{binary}": there is no such program: install Tor, or name it here'


class _Output(ProcessProtocol):
    """Keeps the last of what it writes."""

    def __init__(self, owner: TorProcess) -> None:
        self._owner = owner
        self._output = ""

    def outReceived(self, data: bytes) -> None:
        self._output = (self._output + data.decode(errors="replace"))[-_OUTPUT_LIMIT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._owner.ended(getattr(reason.value, "exitCode", None), self._output)
