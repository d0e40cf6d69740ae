"""A Tor of the node's own: what is said when it cannot run."""

import random

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from zeromsg.errors import ConfigError
from zeromsg.net.tor_process import TorProcess

BAD_TORRC = b"""\
Nov 27 04:00:00.000 [notice] Tor 0.4.9.11 running on Linux with Libevent 2.1.12-stable.
Nov 27 04:00:00.000 [warn] Failed to parse/validate config: Unknown option 'Nonsense'.  Failing.
Nov 27 04:00:00.000 [err] Reading config failed--see warnings above.
"""


class Reactor(MemoryReactorClock):
    def __init__(self):
        super().__init__()
        self.spawned = []

    def spawnProcess(self, protocol, executable, args, env=None, path=None):
        self.spawned.append((protocol, executable))
        return object()


@pytest.fixture
def tor(tmp_path):
    def made(binary):
        return TorProcess(Reactor(), tmp_path / "tor", binary, ["Nonsense 1"], random.Random(1))

    return made


@pytest.mark.parametrize("binary", ["no-such-tor", "/none/tor"])
def test_a_missing_program_stops_the_start(tor, binary):
    with pytest.raises(ConfigError, match=f'tor.binary = "{binary}": there is no such program'):
        tor(binary).start()


def test_tors_own_warnings_are_shown(tor):
    process = tor("sh")
    process.start()
    protocol, executable = process._reactor.spawned[0]
    assert executable.startswith("/")
    protocol.outReceived(BAD_TORRC)
    with capturedLogs() as logged:
        protocol.processEnded(Failure(ProcessTerminated(1)))
    (entry,) = logged
    assert "Unknown option 'Nonsense'" in entry["problem"]
    assert "Unknown option 'Nonsense'" in process.problem and "[notice]" not in process.problem
    process._reactor.advance(120)
    assert len(process._reactor.spawned) == 2
    process.works()
    assert process.problem == ""
