"""What commands print: JSON for programs, clean text and tables for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """Text of a stranger with what could steer a terminal written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def shown(message: Any) -> str:
    """A message on one line: a text as it is, anything else as JSON."""
    if isinstance(message, str):
        return printable(message)
    return printable(json.dumps(message, ensure_ascii=False))


def emit(value: Any, indent: int | None = None) -> None:
    """A value as JSON on stdout."""
    click.echo(json.dumps(value, indent=indent))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows of texts: ruled on a terminal, otherwise in plain columns."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        ruled = Table(*headings)
        for row in cells:
            # As Text: brackets in a stranger's words are no markup.
            ruled.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console().print(ruled)
        return
    lines = [list(headings), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def sender(event: dict[str, Any]) -> str:
    """Who a `peerReceive` is from, as well as it is known."""
    user = event.get("user")
    name = user.get("id") if isinstance(user, dict) else None
    name = name or event.get("signed_by") or event.get("ip") or "?"
    return printable(str(name))
