"""Options of commands that seal messages, or read sealed ones."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from zeromsg.cli.key import keyring
from zeromsg.client import Client
from zeromsg.wire.names import PEER_KEY_ADD

_Command = TypeVar("_Command", bound=Callable[..., Any])


@attrs.frozen
class Sealing:
    """What the options of `sealing_options` say."""

    encrypt_to: Sequence[str]
    key: Sequence[str]
    group_key: Sequence[str]
    fields: Sequence[str]
    hidden: bool

    def parameter(self) -> dict[str, Any] | None:
        """The parameter `encrypt` of a call; None to send it in clear."""
        to: list[Any] = [*self.encrypt_to, *({"key": name} for name in self.key)]
        if not to:
            if self.fields or self.hidden:
                raise click.UsageError("--field and --hidden need --encrypt-to or --key.")
            return None
        fields = {"fields": list(self.fields)} if self.fields else {}
        return {"to": to, "hidden": self.hidden, **fields}


def key_option(command: _Command) -> _Command:
    """--key for commands that read; the command gets `key_names`."""
    return click.option(
        "--key",
        "key_names",
        multiple=True,
        metavar="NAME",
        help="Read what is sealed with this key of `zeromsg key`. May be given again.",
    )(command)


def sealing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of commands that send; the command gets them as `sealing`."""

    @functools.wraps(command)
    def gathered(*arguments: Any, **values: Any) -> None:
        names = (field.name for field in attrs.fields(Sealing))
        sealing = Sealing(**{name: values.pop(name) for name in names})
        command(*arguments, sealing=sealing, **values)

    options = (
        click.option(
            "--encrypt-to",
            multiple=True,
            metavar="ID",
            help="Seal it to a user ID, an address or a public key. May be given again.",
        ),
        click.option(
            "--key",
            multiple=True,
            metavar="NAME",
            help="Seal it with this key of `zeromsg key`. May be given again.",
        ),
        click.option(
            "--group-key",
            multiple=True,
            metavar="NAME",
            help="Sign for the group of this key of `zeromsg key`, where a site demands it.",
        ),
        click.option(
            "--field",
            "fields",
            multiple=True,
            metavar="NAME",
            help="Seal this member of the message, and leave the rest readable; repeatable.",
        ),
        click.option("--hidden", is_flag=True, help="Do not let it be seen for whom it is sealed."),
    )
    made: Callable[..., None] = gathered
    for option in reversed(options):
        made = option(made)
    return made


def key_texts(
    names: Sequence[str], config: Path | None, data_dir: Path | None = None
) -> Mapping[str, str]:
    """Keys by name, as the person keeps them. Raises ConfigError."""
    if not names:
        return {}
    kept = keyring(config, data_dir)
    return {name: kept.get(name) for name in names}


async def give_keys(client: Client, keys: Mapping[str, str]) -> None:
    """Give a connection its keys."""
    for name, text in keys.items():
        await client.call(PEER_KEY_ADD, {"key": text, "name": name})
