"""`zeromsg leaktest`: show that a node behind Tor alone leaks nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.options import json_option
from zeromsg.cli.output import emit, printable
from zeromsg.cli.working import hush, work

_INSIDE = "ZEROMSG_LEAKTEST_NAMESPACE"
_WAYS = (["unshare", "-n"], ["unshare", "-Urn"])


@click.command()
@json_option
@click.pass_context
def leaktest(ctx: click.Context, as_json: bool) -> None:
    """Run a node in the mode `only` through everything, and report what it touched.

    Where that is allowed it happens in a network namespace, which has nothing
    but loopback. No Tor is needed: the node is given one that is none. The exit
    code is 1 where anything leaked.
    """
    if _INSIDE not in os.environ:
        code = _in_namespace(["--json"] if as_json else [])
        if code is not None:
            ctx.exit(code)
    from zeromsg.testing.leaktest import LeakTest

    async def job(reactor: Any) -> int:
        with tempfile.TemporaryDirectory(prefix="zeromsg-leaktest-") as folder:
            report = await LeakTest(reactor, Path(folder)).run()
        report.namespace = _INSIDE in os.environ
        if as_json:
            emit(report.to_map(), indent=2)
        else:
            _show(report)
        return 1 if report.leaks else 0

    hush()
    ctx.exit(work(job))


def _in_namespace(arguments: list[str]) -> int | None:
    """The exit code of the same in a namespace, or None where there can be none."""
    if not all(shutil.which(name) for name in ("unshare", "ip")):
        return None
    up = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    for way in _WAYS:
        tried = subprocess.run(
            [*way, *up, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if tried.returncode == 0:
            words = [*way, *up, sys.executable, "-m", "zeromsg.cli", "leaktest", *arguments]
            environment = {**os.environ, _INSIDE: "1"}
            return subprocess.run(words, env=environment, check=False).returncode
    return None


def _show(report: Any) -> None:
    where = "in a network namespace" if report.namespace else "under its own watch"
    click.echo(f"A node behind Tor alone, {where}, was {', '.join(report.steps)}.\n")
    click.echo("Sockets:")
    for kind, target, allowed in report.sockets:
        click.echo(f"  {kind:8} {printable(target)}{'' if allowed else '   REFUSED'}")
    click.echo("Names and addresses looked at:")
    for name in report.names or ["none"]:
        click.echo(f"  {printable(name)}")
    click.echo("\nNothing leaked." if not report.leaks else "\nLEAKS:")
    for leak in report.leaks:
        click.echo(f"  {printable(leak)}")
