"""What tests of strangers' rules need: another process, and a clock that only runs for us."""

import subprocess
import sys
import time

import pytest


@pytest.fixture(scope="session")
def elsewhere():
    """Run Python in another process, with bounded time and memory, and get what it printed.

    A crash there, or anything on stderr, fails the test.
    """

    def elsewhere(source, seconds=60, megabytes=2000):
        bounds = (
            "import resource\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 1024 * 1024,) * 2)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", bounds + source],
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return elsewhere


@pytest.fixture(scope="session")
def seconds_of():
    """Seconds of processor time that a call takes; the least of three if it took long."""

    def seconds_of(call, *arguments):
        least = 1e9
        for _ in range(3):
            begun = time.process_time()
            call(*arguments)
            least = min(least, time.process_time() - begun)
            if least < 0.1:
                break
        return least

    return seconds_of
