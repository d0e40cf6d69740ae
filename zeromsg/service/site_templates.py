"""Zites that come with the package, as starting points for sites of one's own."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import attrs

from zeromsg.errors import CannotStore, ConfigError

_SHARED = "shared"
"""The directory with the files that every template has."""

SITE_EXTRAS: Mapping[str, str] = {"viewport": "width=device-width, initial-scale=1"}
"""For the content.json: the wrapper page of a node says this to phones for the zite in it."""


@attrs.frozen
class Template:
    """title: of a site that is made of it. about: one line for people."""

    title: str
    about: str


TEMPLATES: Mapping[str, Template] = {
    "chat": Template("Chat", "a chat room with private messages and polls"),
    "tictactoe": Template("Tic-tac-toe", "a game for two whose moves nobody else can read"),
    "ask": Template("Ask the peers", "a question to many peers, and their replies gathered"),
}


def template_files(name: str) -> Mapping[str, bytes]:
    """The files of a template by their name in the site. Raises KeyError for an unknown one."""
    TEMPLATES[name]
    root = resources.files("zeromsg.zites")
    return {
        file.name: file.read_bytes()
        for folder in (_SHARED, name)
        for file in (root / folder).iterdir()
        if file.is_file()
    }


def copy_template(name: str, folder: Path) -> None:
    """Put a template's files into a directory, which is made if need be.

    Nothing that is there is written over. Raises ConfigError.
    """
    files = template_files(name)
    taken = [file for file in sorted(files) if (folder / file).exists()]
    if taken:
        raise ConfigError(f"{folder / taken[0]} is there already; a template needs a free place")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    except OSError as problem:
        raise CannotStore(f"cannot write to {folder}: {problem.strerror}") from None
