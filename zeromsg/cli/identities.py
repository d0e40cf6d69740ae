"""`zeromsg identities`: which user IDs were seen on a site, and what they mean."""

import time
from pathlib import Path

import click

from zeromsg.cli.operating import ask
from zeromsg.cli.options import data_dir_option, json_option, node_options, site_argument
from zeromsg.cli.output import emit, printable, table


@click.group()
def identities() -> None:
    """Show the user IDs seen on a site; settle which address one of them means."""


@identities.command("list")
@site_argument
@node_options
@data_dir_option
@json_option
def list_(
    site: str, node: str | None, config: Path | None, data_dir: Path | None, as_json: bool
) -> None:
    """Show user IDs with their addresses. One that has shown several names nobody."""
    found = ask(node, config, data_dir, "identities", {"site": site})["identities"]
    if as_json:
        emit(found, indent=2)
        return
    table(
        ("user ID", "address", "since"),
        [
            (
                str(each["id"]),
                str(each["address"]),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each["first"])),
            )
            for each in found
        ],
    )


@identities.command("keep")
@site_argument
@click.argument("user_id", metavar="ID")
@click.argument("address")
@node_options
@data_dir_option
def keep(
    site: str,
    user_id: str,
    address: str,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Say that ID means ADDRESS, and none of the others that it has shown."""
    params = {"site": site, "id": user_id, "address": address}
    ask(node, config, data_dir, "identity_keep", params)
    click.echo(f"{printable(user_id)} means {printable(address)}.")
