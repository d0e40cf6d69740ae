"""`zeromsg user`: the users of a node, and their certificates."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.acting import ask_passphrase
from zeromsg.cli.commands import Failed
from zeromsg.cli.desk import Desk
from zeromsg.cli.options import (
    data_dir_option,
    json_option,
    node_options,
    site_address,
    site_argument,
)
from zeromsg.cli.output import emit, printable, table
from zeromsg.errors import ConfigError
from zeromsg.service.assembly import configured_passphrase, read_passphrase
from zeromsg.store.private_file import write_private
from zeromsg.store.users import FILE_LIMIT, read_bounded
from zeromsg.wire.json_text import load

_FILE = click.Path(path_type=Path, dir_okay=False)

_as_option = click.option(
    "--as", "as_user", metavar="USER", help="Whose; by default the first user's."
)


def _where(command: Any) -> Any:
    """--node, --config and --data-dir; the command gets them as `Desk` takes them."""
    return node_options(data_dir_option(command))


@click.group()
def user() -> None:
    """The users of a node: whose keys it has. It may run meanwhile."""


@user.command()
@click.argument("name", required=False)
@_where
@json_option
def new(
    name: str | None,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a user. NAME is what you call it, on this node only."""
    desk = Desk(node, config, data_dir)
    made = desk.do("user_new", {"name": name}, create=True)["user"]
    if as_json:
        emit(made)
    else:
        click.echo(f"Made the user {_called(made)}")


@user.command("list")
@_where
@json_option
def list_users(node: str | None, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List the users."""
    found = Desk(node, config, data_dir).do("user_list", {})["users"]
    if as_json:
        emit(found, indent=2)
    elif not found:
        click.echo("There is no user.")
    else:
        table(
            ("name", "master address", "", "certificates"),
            [
                (
                    entry["name"],
                    entry["master_address"],
                    "default" if entry["default"] else "",
                    ", ".join(entry["certificates"]),
                )
                for entry in found
            ],
        )


@user.command("import")
@click.argument("file", type=_FILE)
@_where
@json_option
@click.pass_context
def import_users(
    ctx: click.Context,
    file: Path,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Add the users of FILE, a users.json of ZeroNet or of `user export`.

    Users that are here already stay as they are. Exit code 1 if one was refused.
    """
    desk = Desk(node, config, data_dir)
    found = desk.do("user_import", {"document": _read(file)}, create=True)["users"]
    if as_json:
        emit(found, indent=2)
    else:
        for entry in found:
            reason = f": {entry['reason']}" if entry["reason"] else ""
            outcome = "already here" if entry["outcome"] == "here" else entry["outcome"]
            click.echo(printable(f"{entry['master_address']}: {outcome}{reason}"))
    ctx.exit(1 if any(entry["outcome"] == "refused" for entry in found) else 0)


def _read(path: Path) -> Any:
    try:
        data = read_bounded(path)
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}") from None
    if data is None:
        raise ConfigError(f"{path} has over {FILE_LIMIT} bytes")
    try:
        return load(data.decode())
    except ValueError as problem:
        raise ConfigError(f"{path} is no JSON: {problem}") from None


@user.command()
@click.argument("words", nargs=-1, required=True, metavar="[USER] FILE")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@_where
@json_option
def export(
    words: tuple[str, ...],
    force: bool,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Write one user, or all, to FILE, as ZeroNet's users.json.

    FILE is for you alone: who has it, has these users' keys. It is under no
    passphrase.
    """
    if len(words) > 2:
        raise click.UsageError("expected [USER] FILE")
    wanted, path = (words[0] if len(words) == 2 else None), Path(words[-1])
    if not force and path.exists():
        raise Failed(f"{path} is there already; --force replaces it")
    desk = Desk(node, config, data_dir)
    params = {"user": wanted, "passphrase": desk.show_passphrase()}
    document = desk.do("user_export", params)["document"]
    _write(path, json.dumps(document, indent=2) + "\n", force)
    if as_json:
        emit({"file": str(path), "users": list(document)})
    else:
        click.echo(f"Wrote {len(document)} user(s) to {path}: keep it to yourself")


def _write(path: Path, text: str, force: bool) -> None:
    try:
        if force:
            write_private(path, text)
            return
        # Not even where somebody made it since we looked.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as problem:
        raise Failed(f"{path} cannot be written: {problem.strerror}") from None


@user.command()
@click.option("--remove", is_flag=True, help="Put the users under no passphrase any more.")
@click.option("--old-file", type=_FILE, metavar="FILE", help="Holds the present passphrase.")
@click.option("--new-file", type=_FILE, metavar="FILE", help="Holds the new passphrase.")
@_where
@json_option
def passphrase(
    remove: bool,
    old_file: Path | None,
    new_file: Path | None,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Put users.json under a passphrase, under another, or under none.

    Without files the passphrases are asked for on the terminal. A node needs it
    to start: see `passphrase_file` in the configuration.
    """
    if remove and new_file is not None:
        raise click.UsageError("--remove and --new-file cannot be given together")
    if not remove and new_file is None and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --new-file")
    desk = Desk(node, config, data_dir)
    old = desk.show_passphrase(old_file)
    new = None
    if not remove:
        new = (
            read_passphrase(new_file)
            if new_file is not None
            else ask_passphrase(desk.path, new=True)
        )
    sealed = desk.do("user_passphrase", {"old": old, "new": new})["sealed"]
    if as_json:
        emit({"sealed": sealed})
        return
    click.echo(f"{desk.path} is under {'this' if sealed else 'no'} passphrase now")
    file = desk.settings.users.passphrase_file
    if sealed and (file is None or configured_passphrase(desk.settings) != new):
        what = f"in {file}" if file is not None else "as passphrase_file in [users]"
        click.echo(f"A node that starts without a terminal needs it {what}.", err=True)


# Certificates


@user.group()
def cert() -> None:
    """The certificates of a user, by which sites call it."""


@cert.command("list")
@click.option(
    "--site", callback=lambda ctx, param, value: value and site_address(value), metavar="SITE",
    help="Show which one is selected there.",
)  # fmt: skip
@_as_option
@_where
@json_option
def list_certificates(
    site: str | None,
    as_user: str | None,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """List the certificates of a user."""
    desk = Desk(node, config, data_dir)
    found = desk.do("cert_list", {"user": as_user, "site": site})["certificates"]
    if as_json:
        emit(found, indent=2)
    elif not found:
        click.echo("There is no certificate.")
    else:
        table(
            ("domain", "name", "type", "address", ""),
            [
                (
                    entry["domain"],
                    entry["auth_user_name"],
                    entry["auth_type"],
                    entry["auth_address"],
                    "selected" if entry["selected"] else "",
                )
                for entry in found
            ],
        )


@cert.command("select")
@site_argument
@click.argument("domain", required=False)
@_as_option
@_where
def select(
    site: str,
    domain: str | None,
    as_user: str | None,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Use the certificate of DOMAIN on SITE; without DOMAIN none."""
    desk = Desk(node, config, data_dir)
    desk.do("cert_select", {"user": as_user, "site": site, "domain": domain})
    click.echo(f"selected {printable(domain)}" if domain else "no certificate is selected")


@cert.command("remove")
@click.argument("domain")
@_as_option
@_where
def remove_certificate(
    domain: str,
    as_user: str | None,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Forget the certificate of DOMAIN, and its key."""
    Desk(node, config, data_dir).do("cert_remove", {"user": as_user, "domain": domain})
    click.echo(f"removed {printable(domain)}")


def _called(entry: dict[str, Any]) -> str:
    name = f"{entry['name']}, " if entry["name"] else ""
    return printable(f"{name}{entry['master_address']}")
