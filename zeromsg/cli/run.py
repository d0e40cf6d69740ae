"""`zeromsg run`: the service of `twistd zeromsg`, in the foreground."""

import sys
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred

from zeromsg.cli import logs
from zeromsg.cli.acting import asked_passphrase
from zeromsg.cli.options import config_option
from zeromsg.cli.working import finish, work
from zeromsg.log import set_level
from zeromsg.service.assembly import NodeService
from zeromsg.service.checking import load_to_run
from zeromsg.service.config import Settings


@click.command()
@config_option
@click.option(
    "--set",
    "-s",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for one key, as in peers.tls=false. May be given again.",
)
@click.pass_context
def run(ctx: click.Context, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Run a node until Ctrl-C or SIGTERM."""
    # Not above: nobody who only asks for --help should have a reactor installed.
    from twisted.internet import reactor

    settings = load_to_run(reactor, config, overrides)
    set_level(settings.log.level)
    logs.begin(settings.log, sys.stderr)
    passphrase = asked_passphrase(settings)
    ctx.exit(work(lambda reactor: _serve(reactor, settings, passphrase), interrupted=0))


async def _serve(reactor: Any, settings: Settings, passphrase: str | None) -> int:
    service = NodeService(settings, reactor, passphrase)
    try:
        service.startService()
        await service.started
        if not service.failed:
            await Deferred()  # a signal ends it
        return 1  # the log says why
    finally:
        await finish(service.stopService())
