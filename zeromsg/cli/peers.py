"""`zeromsg peers` and `zeromsg site peers`: what a running node knows of peers."""

import time
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.operating import ask
from zeromsg.cli.options import data_dir_option, json_option, node_options, site_address
from zeromsg.cli.output import emit, table
from zeromsg.client import NodeUnreachable

_HEADINGS = (
    "site",
    "peer",
    "connected",
    "messages",
    "known by",
    "for",
    "last seen",
    "failures",
)

_HOW = {
    "handshake": "its handshake says so",
    "sent-a-message": "it sent a message",
    "took-a-message": "it took a message",
    "answered-unknown": "it did not know a message",
}


@click.command()
@click.argument("site", type=site_address, metavar="[SITE]", required=False)
@node_options
@data_dir_option
@json_option
def peers(
    site: str | None, node: str | None, config: Path | None, data_dir: Path | None, as_json: bool
) -> None:
    """Show the known peers of SITE, or of all sites: from where, since when, who is capable."""
    params = {} if site is None else {"site": site}
    found = ask(node, config, data_dir, "peers", params)["peers"]
    if as_json:
        emit(found, indent=2)
        return
    try:
        rows = [_row(peer, time.time()) for peer in found]
    except (KeyError, TypeError, AttributeError):
        raise NodeUnreachable("its answer is of another version: use --json") from None
    # Whoever named the site needs no column for it.
    first = 0 if site is None else 1
    table(_HEADINGS[first:], [row[first:] for row in rows])


def _row(peer: dict[str, Any], now: float) -> tuple[str, ...]:
    return (
        f"{peer['site'][:6]}..",
        str(peer["peer"]),
        "yes" if peer["connected"] else "no",
        _messages(peer),
        ", ".join(peer["sources"]) or "its connection",
        _ago(peer["since"], now),
        "now" if peer["connected"] else _ago(peer["last_seen"], now),
        str(peer["failures"]),
    )


def _messages(peer: dict[str, Any]) -> str:
    if peer["capable"] is None:
        return "not known"
    how = _HOW.get(peer["how"], str(peer["how"]))
    return f"{'yes' if peer['capable'] else 'no'}: {how}"


def _ago(when: float | None, now: float) -> str:
    """How long ago, in the largest unit that fits."""
    if when is None:
        return "-"
    seconds = max(0, round(now - when))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
