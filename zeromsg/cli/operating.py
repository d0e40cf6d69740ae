"""`zeromsg why` and `zeromsg bans`: ask a running node, and tell it."""

import time
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.options import data_dir_option, json_option, node_options, node_url, settings_of
from zeromsg.cli.output import emit, printable, table
from zeromsg.cli.status import read_token
from zeromsg.cli.working import hush, work
from zeromsg.client import operate
from zeromsg.routing.blame import spelled_identity


def ask(
    node: str | None, config: Path | None, data_dir: Path | None, cmd: str, params: dict[str, Any]
) -> dict[str, Any]:
    """The result of an operator's command. Runs the reactor, so a process may do it once."""
    settings = settings_of(config, data_dir)
    token = read_token(settings)
    results: list[dict[str, Any]] = []

    async def job(reactor: Any) -> int:
        results.append(await operate(reactor, node_url(node, settings), token, cmd, params))
        return 0

    hush()
    code = work(job)
    if not results:
        raise click.exceptions.Exit(code)
    return results[0]


@click.command()
@click.argument("hash")
@node_options
@data_dir_option
@json_option
def why(
    hash: str, node: str | None, config: Path | None, data_dir: Path | None, as_json: bool
) -> None:
    """Say what became of a message at a running node.

    HASH is what `zeromsg broadcast` and `zeromsg listen --hash` show, or the first 8
    digits of it, or more.
    """
    found = ask(node, config, data_dir, "why", {"hash": hash})
    if as_json:
        emit(found, indent=2)
        return
    click.echo(f"message {printable(str(found.get('hash', hash)))}")
    click.echo(f"site {printable(str(found['site']))}, fate: {printable(str(found['fate']))}")
    came = ", ".join(printable(str(source)) for source in found["from"])
    click.echo(f"{found['copies']} cop(ies), from {came or 'nobody'}")
    table(
        ("check", "passed", "µs"),
        [
            (str(check["check"]), "yes" if check["passed"] else "no", str(check["microseconds"]))
            for check in found["checks"]
        ],
    )
    heard = ", ".join(f"{count} {name}" for name, count in found["heard"].items())
    click.echo(
        f"shown to {found['clients']} client(s), verdict: {found['verdict'] or 'none'}; "
        f"passed on to {found['relays']} peer(s), who said: {heard or 'nothing'}"
    )


@click.group()
def bans() -> None:
    """List, add and remove bans of a running node."""


@bans.command("list")
@node_options
@data_dir_option
@json_option
def list_bans(node: str | None, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show the bans in force."""
    found = ask(node, config, data_dir, "bans", {})["bans"]
    if as_json:
        emit(found, indent=2)
        return
    now = time.time()
    table(
        ("who", "minutes left", "times", "why"),
        [
            (
                str(ban["identity"]),
                str(round((ban["until"] - now) / 60)),
                str(ban["strikes"]),
                str(ban["reason"]),
            )
            for ban in found
        ],
    )


def _identity(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        return spelled_identity(value)
    except ValueError as problem:
        raise click.BadParameter(f"{problem}.") from None


@bans.command("add")
@click.argument("identity", callback=_identity)
@click.option("--seconds", default=3600.0, show_default=True, help="For how long.")
@click.option("--reason", default="by hand", show_default=True, help="Shown in the list.")
@node_options
@data_dir_option
def add_ban(
    identity: str,
    seconds: float,
    reason: str,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Ban IDENTITY: a host, an onion, or `key:` and the address that signs."""
    params = {"identity": identity, "seconds": seconds, "reason": reason}
    ask(node, config, data_dir, "ban", params)
    click.echo(f"banned {printable(identity)}")


@bans.command("remove")
@click.argument("identity")
@node_options
@data_dir_option
def remove_ban(identity: str, node: str | None, config: Path | None, data_dir: Path | None) -> None:
    """End the ban of IDENTITY, and forget its points."""
    pardoned = ask(node, config, data_dir, "pardon", {"identity": identity})["pardoned"]
    click.echo("pardoned" if pardoned else "there was no ban; its points are forgotten")
