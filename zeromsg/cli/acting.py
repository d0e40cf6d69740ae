"""In whose name a command acts: --as, and the passphrase that keys may be under."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zeromsg.cli.options import data_dir_option, node_url
from zeromsg.cli.status import read_token
from zeromsg.client import NodeUrl, operate
from zeromsg.service.assembly import USERS_FILE
from zeromsg.service.config import Settings
from zeromsg.store.users import is_sealed

_Command = TypeVar("_Command", bound=Callable[..., Any])


def as_options(command: _Command) -> _Command:
    """--as and --data-dir; the command gets `as_user` and `data_dir`, for `key_for`."""
    option = click.option(
        "--as",
        "as_user",
        metavar="USER",
        help="Act for this user of the node: a local name, or (the beginning of) a master "
        "address. By default for the first one.",
    )
    return option(data_dir_option(command))


async def key_for(
    reactor: Any, url: NodeUrl, settings: Settings, site: str, as_user: str | None
) -> str | None:
    """The key of a user for a site; None for the default user, whose key its page shows.

    A node's page shows nothing where it asks for a password: whoever has the node's
    configuration shows its token instead, and to no other node.
    Raises ConfigError where the node's token cannot be read, NodeUnreachable,
    CallRefused.
    """
    if as_user is None and not (settings.ui.password and url == node_url(None, settings)):
        return None
    params = {"site": site, "user": as_user}
    result = await operate(reactor, url, read_token(settings), "user_key", params)
    return str(result.get("key"))


def asked_passphrase(settings: Settings) -> str | None:
    """What users.json is under, where only somebody at the terminal can say it.

    None where it is under none, where the settings name a file that holds it,
    and where there is no terminal.
    """
    if settings.users.passphrase_file is not None or not sys.stdin.isatty():
        return None
    path = settings.data_dir / USERS_FILE
    return ask_passphrase(path) if is_sealed(path) else None


def ask_passphrase(path: Path, *, new: bool = False) -> str:
    """Ask at the terminal, twice for a new one."""
    text = f"{'New passphrase' if new else 'Passphrase'} of {path}"
    answer: str = click.prompt(text, hide_input=True, confirmation_prompt=new, err=True)
    return answer
