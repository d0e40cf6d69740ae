"""`zeromsg broadcast` and `zeromsg send`: say something through a running node."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.acting import as_options, key_for
from zeromsg.cli.options import (
    json_option,
    message_argument,
    node_options,
    node_url,
    peer_name,
    seconds_up_to,
    settings_of,
    sign_option,
    site_argument,
)
from zeromsg.cli.output import emit, printable, shown
from zeromsg.cli.sealing import Sealing, give_keys, key_texts, sealing_options
from zeromsg.cli.working import connected, hush, within, work

ANSWER_SECONDS = 10.0
"""What the node has for an answer beyond the time that it was told to wait."""

_DEFAULTS: Mapping[str, Any] = {
    "privatekey": None,
    "to": None,
    "peer_count": 5,
    "immediate": False,
    "timestamp": False,
    "broadcast": True,
    "timeout": 60.0,
    "encrypt": None,
}
"""What nodes take where nothing is said."""

_immediate_option = click.option(
    "--immediate", is_flag=True, help="Nodes keep it for the site's next client if none is there."
)
_timestamp_option = click.option("--timestamp", is_flag=True, help="Say when it was sent.")
_timeout_option = click.option(
    "--timeout",
    type=seconds_up_to(3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for replies.",
)


def stated(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a call without those at their defaults.

    A ZeroNet node never answers a call with a parameter that it does not know.
    """
    return {
        name: value
        for name, value in params.items()
        if name not in _DEFAULTS or value != _DEFAULTS[name]
    }


@click.command()
@site_argument
@message_argument
@click.option("--ask", is_flag=True, help="Ask for replies, and print them.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="To how many peers at first; with --ask, how many are asked.",
)
@_timeout_option
@sign_option
@_immediate_option
@_timestamp_option
@sealing_options
@as_options
@node_options
@json_option
@click.pass_context
def broadcast(
    ctx: click.Context,
    site: str,
    message: Any,
    ask: bool,
    count: int,
    timeout: float,
    privatekey: Any,
    immediate: bool,
    timestamp: bool,
    as_user: str | None,
    data_dir: Path | None,
    node: str | None,
    config: Path | None,
    as_json: bool,
    sealing: Sealing,
) -> None:
    """Send a message to a site's peers.

    What is no JSON is sent as text. Exit code 1 if no peer got it or, with
    --ask, if none replied.
    """
    settings = settings_of(config, data_dir)
    url = node_url(node, settings)
    keys = key_texts((*sealing.key, *sealing.group_key), config, data_dir)
    params = {
        "message": message,
        "privatekey": privatekey,
        "peer_count": count,
        "immediate": immediate,
        "timestamp": timestamp,
        "broadcast": not ask,
        # How long to wait for replies says nothing where none are asked for.
        "timeout": timeout if ask else _DEFAULTS["timeout"],
        "encrypt": sealing.parameter(),
    }
    patience = ANSWER_SECONDS + (timeout if ask else 0)
    report = _report_replies if ask else _report_sent

    async def job(reactor: Any) -> int:
        key = await key_for(reactor, url, settings, site, as_user)
        async with connected(reactor, url, site, key=key) as client:
            await give_keys(client, keys)
            result = await within(reactor, patience, client.call("peerBroadcast", stated(params)))
        return report(result, as_json)

    hush()
    ctx.exit(work(job))


def _report_sent(result: Any, as_json: bool) -> int:
    """Print what became of a broadcast; the exit code."""
    if as_json:
        emit(result)
    elif result["sent"]:
        if "hash" in result:
            click.echo(f"sent to {result['peers']} peer(s) as {printable(result['hash'])}")
        else:
            click.echo("sent")  # a ZeroNet node says no more
    else:
        click.echo("Not sent: no peer of the site is connected to the node.", err=True)
    return 0 if result["sent"] else 1


def _report_replies(replies: Any, as_json: bool) -> int:
    """Print replies, one a line; the exit code."""
    if as_json:
        emit(replies)
    else:
        for entry in replies:
            click.echo(f"{printable(entry['ip'])}  {shown(entry['reply'])}")
        if not replies:
            click.echo("Nobody to ask: no peer of the site is connected to the node.", err=True)
    # Who was silent has an error as reply, and no hash.
    return 0 if any(entry["hash"] for entry in replies) else 1


@click.command()
@site_argument
@click.argument("peer", type=peer_name, metavar="PEER")
@message_argument
@click.option("--to", metavar="HASH", help="It is the reply to this message; do not wait for one.")
@_timeout_option
@sign_option
@_immediate_option
@_timestamp_option
@sealing_options
@as_options
@node_options
@json_option
@click.pass_context
def send(
    ctx: click.Context,
    site: str,
    peer: str,
    message: Any,
    to: str | None,
    timeout: float,
    privatekey: Any,
    immediate: bool,
    timestamp: bool,
    as_user: str | None,
    data_dir: Path | None,
    node: str | None,
    config: Path | None,
    as_json: bool,
    sealing: Sealing,
) -> None:
    """Send a message to one peer, and print its reply.

    PEER is host:port, as messages from it show, or `self` for the other
    clients of the node. What is no JSON is sent as text.
    """
    settings = settings_of(config, data_dir)
    url = node_url(node, settings)
    keys = key_texts((*sealing.key, *sealing.group_key), config, data_dir)
    params = {
        "ip": peer,
        "message": message,
        "privatekey": privatekey,
        "to": to,
        "immediate": immediate,
        "timestamp": timestamp,
        "timeout": timeout,
        "encrypt": sealing.parameter(),
    }

    async def job(reactor: Any) -> int:
        key = await key_for(reactor, url, settings, site, as_user)
        async with connected(reactor, url, site, key=key) as client:
            await give_keys(client, keys)
            waiting = client.call("peerSend", stated(params))
            result = await within(reactor, timeout + ANSWER_SECONDS, waiting)
        if as_json:
            emit(result)
        elif to is None:
            click.echo(shown(result["message"]))
        else:
            click.echo(f"sent as {printable(result['hash'])}")
        return 0

    hush()
    ctx.exit(work(job))
