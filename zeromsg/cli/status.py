"""`zeromsg status`: what a running node tells its operator."""

from pathlib import Path
from typing import Any

import click

from zeromsg.cli.options import (
    data_dir_option,
    json_option,
    node_options,
    node_url,
    settings_of,
)
from zeromsg.cli.output import emit, printable, table
from zeromsg.cli.working import hush, work
from zeromsg.client import NodeUnreachable, node_status
from zeromsg.errors import ConfigError
from zeromsg.service.assembly import TOKEN_FILE
from zeromsg.service.config import Settings


@click.command()
@node_options
@data_dir_option
@json_option
@click.pass_context
def status(
    ctx: click.Context,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Show the sites, connections and counters of a running node."""
    settings = settings_of(config, data_dir)

    async def job(reactor: Any) -> int:
        found = await fetch_status(reactor, node, settings)
        if as_json:
            emit(found, indent=2)
        else:
            _show(found)
        return 0

    hush()
    ctx.exit(work(job))


async def fetch_status(reactor: Any, node: str | None, settings: Settings) -> dict[str, Any]:
    """The status of the node with these settings, or of that at the URL `node`.

    Raises ConfigError without a token, NodeUnreachable and CallRefused.
    """
    return await node_status(reactor, node_url(node, settings), read_token(settings))


def read_token(settings: Settings) -> str:
    """What the operator shows to the node. Raises ConfigError."""
    path = settings.data_dir / TOKEN_FILE
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"{path} cannot be read, which a node makes when it runs: "
            "name its data by --config or --data-dir"
        ) from None


def _show(found: dict[str, Any]) -> None:
    try:
        port = found["peer_port"] or "none"
        click.echo(f"zeromsg {printable(str(found['version']))}, port for peers: {port}")
        for kind, opened in found["port_opened"].items():
            if opened is not None and found["peer_port"]:
                click.echo(f"peers can{'' if opened else 'not'} connect to it over {kind}")
        click.echo(f"{found['clients']} client(s), {len(found['links'])} peer(s)\n")
        _show_storage(found.get("storage"))
        _show_tor(found["tor"])
        show_sites(found["sites"])
        _show_links(found["links"])
        _show_trackers(found["trackers"], found.get("serving"))
        _show_messages(found["messages"])
    except (KeyError, TypeError, AttributeError):
        raise NodeUnreachable("its status is of another version: use --json") from None


def _show_storage(storage: dict[str, Any] | None) -> None:
    if storage is not None and storage["problem"]:
        click.echo(f"{printable(str(storage['problem']))}")
        click.echo(f"{storage['waiting']} write(s) wait in memory until it can be written\n")


def _show_tor(tor: dict[str, Any] | None) -> None:
    if tor is None:
        return
    problem = printable(str(tor["problem"]))
    name = " ".join(("Tor", printable(str(tor["version"])))).strip()
    click.echo(f"{name}: {problem or 'connected'}")
    if tor["refused"]:
        counts = ", ".join(f"{kind} {count}" for kind, count in tor["refused"].items())
        click.echo(f"refused, because it was not Tor: {counts}")
    table(
        ("onion", "for", "state", "problem"),
        [
            (each["onion"], printable(each["name"]), each["state"], printable(each["problem"]))
            for each in tor["onions"]
        ],
    )
    click.echo()


def show_sites(sites: list[dict[str, Any]]) -> None:
    """The sites of a status as a table."""
    table(
        ("site", "title", "state", "clients", "peers", "queued"),
        [
            (
                str(site["address"]),
                str(site["title"]),
                _state(site),
                str(site["clients"]),
                _peers(site),
                str(site["queued"]),
            )
            for site in sites
        ],
    )


def _state(site: dict[str, Any]) -> str:
    # A node that was started before this command was installed says less.
    if site.get("version_problem"):
        held = "an earlier version, as " if site["files"] else ""
        return f"{held}the newest cannot be used: {site['version_problem']}"
    if site["problem"]:
        return str(site["problem"])
    if site["complete"]:
        return "complete"
    # Nobody fetches what should be in a directory of the operator.
    return "changed since it was signed" if site.get("own") else "being fetched"


def _peers(site: dict[str, Any]) -> str:
    """How many take part in the site; files come from those without messages, too."""
    deaf = site["peers_without_messages"]
    return f"{site['peers']} ({deaf} without messages)" if deaf else str(site["peers"])


def _show_links(links: list[dict[str, Any]]) -> None:
    click.echo()
    table(
        ("peer", "direction", "encrypted", "software", "points"),
        [
            (
                str(link["peer"]),
                "out" if link["dialled"] else "in",
                # Tor encrypts by itself, and there is no TLS within it.
                "tor" if link.get("tor") else "yes" if link["encrypted"] else "no",
                "zeromsg" if link["zeromsg"] else "other",
                str(link["points"]),
            )
            for link in links
        ],
    )


def _show_trackers(trackers: list[dict[str, Any]], serving: dict[str, Any] | None) -> None:
    if serving is not None:
        click.echo(f"\nA tracker for {serving['entries']} peer(s) of {serving['sites']} site(s)")
    if not trackers:
        return
    click.echo()
    table(
        ("tracker", "state", "found", "problem"),
        [
            (
                str(tracker["tracker"]),
                str(tracker["state"]),
                str(tracker["found"]),
                str(tracker["last_error"]),
            )
            for tracker in trackers
        ],
    )


def _show_messages(messages: dict[str, Any]) -> None:
    refused = messages["refused"]
    click.echo(
        f"\nMessages: {messages['received']} received, {messages['accepted']} accepted, "
        f"{messages['duplicates']} met before, {sum(refused.values())} refused, "
        f"{messages['relayed']} relayed"
    )
    for check, number in sorted(refused.items()):
        click.echo(f"  refused by {printable(str(check))}: {number}")
