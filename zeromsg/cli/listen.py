"""`zeromsg listen`: print a site's messages as they come, judge and answer them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from zeromsg.cli.acting import as_options, key_for
from zeromsg.cli.messages import stated
from zeromsg.cli.options import (
    json_option,
    json_or_text,
    node_options,
    node_url,
    seconds_up_to,
    settings_of,
    sign_option,
    site_argument,
)
from zeromsg.cli.output import emit, printable, sender, shown
from zeromsg.cli.sealing import give_keys, key_option, key_texts
from zeromsg.cli.working import connected, hush, sleep, work
from zeromsg.client import Client, NodeUnreachable, NodeUrl
from zeromsg.errors import ConfigError, ZeromsgError
from zeromsg.wire.names import PEER_IGNORE, PEER_INVALID, PEER_RECEIVE, PEER_REPLY, PEER_VALID, SELF

RETRY_SECONDS = 1.0
"""After the node went away, it is tried this often."""

LAST_CALLS_SECONDS = 5.0
"""What verdicts and replies still have when all is said."""

HASH_DIGITS = 16
"""Of a message's hash, where people read it: enough to be the only one at its node."""

_VERDICTS = {
    "valid": PEER_VALID,
    "invalid": PEER_INVALID,
    "ignore": PEER_IGNORE,
    "none": None,
}


@click.command()
@site_argument
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option(
    "--seconds",
    type=seconds_up_to(10_000_000),
    metavar="SECONDS",
    help="End after this time; exit code 1 if --count messages did not come.",
)
@click.option(
    "--verdict",
    type=click.Choice(list(_VERDICTS)),
    default="valid",
    show_default=True,
    help="What to tell the node of each; by `valid` messages travel on.",
)
@click.option(
    "--reply",
    metavar="JSON",
    help="Answer questions of peers with this; what is no JSON is a text.",
)
@sign_option
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append messages to a file too, as lines of JSON.",
)
@click.option(
    "--hash",
    "with_hash",
    is_flag=True,
    help=f"Begin each line with the first {HASH_DIGITS} digits of the message's hash, "
    "for `zeromsg why`.",
)
@key_option
@as_options
@node_options
@json_option
@click.pass_context
def listen(
    ctx: click.Context,
    site: str,
    count: int | None,
    seconds: float | None,
    verdict: str,
    reply: str | None,
    privatekey: Any,
    record: Path | None,
    with_hash: bool,
    key_names: Sequence[str],
    as_user: str | None,
    data_dir: Path | None,
    node: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Print the messages of a site until Ctrl-C.

    When the node restarts, it is connected again.
    """
    if privatekey is not None and reply is None:
        raise click.UsageError("--sign goes with --reply: nothing else is said")
    settings = settings_of(config, data_dir)
    url = node_url(node, settings)
    keys = key_texts(key_names, config, data_dir)
    hush()
    with ExitStack() as stack:
        file = stack.enter_context(_opened(record)) if record is not None else None
        wanted = Wanted(
            count, with_hash, _VERDICTS[verdict], reply, privatekey, file, as_json, keys
        )

        async def job(reactor: Any) -> int:
            # Good for all connections: it stays the same while there is the user.
            key = await key_for(reactor, url, settings, site, as_user)
            return await _Listener(reactor, url, site, key, wanted).run(seconds)

        ctx.exit(work(job, interrupted=0))


def _opened(record: Path) -> TextIO:
    """Raises ConfigError."""
    try:
        return record.open("a")
    except OSError as problem:
        raise ConfigError(f"{record} cannot be written: {problem.strerror}") from None


@attrs.frozen
class Wanted:
    """What is to be done with messages.

    with_hash: whether lines for people begin with one. verdict: the command that
    tells it, or None. reply: JSON or text, or None. privatekey: what signs
    replies, as a call has it. keys: shared keys to read with, by name.
    """

    count: int | None
    with_hash: bool
    verdict: str | None
    reply: str | None
    privatekey: Any
    record: TextIO | None
    as_json: bool
    keys: Mapping[str, str]


class _Listener:
    def __init__(
        self, reactor: Any, url: NodeUrl, site: str, key: str | None, wanted: Wanted
    ) -> None:
        self._key = key
        self._reactor = reactor
        self._url = url
        self._site = site
        self._wanted = wanted
        self._came = 0
        self._client: Client | None = None
        self._calls: set[Deferred[Any]] = set()
        self._done: Deferred[bool] = Deferred()

    async def run(self, seconds: float | None) -> int:
        """The exit code, once enough was heard. Raises what the first connection attempt does."""
        listening = Deferred.fromCoroutine(self._keep_connected())
        listening.addErrback(self._failed)
        if seconds is not None:
            self._done.addTimeout(seconds, self._reactor, lambda result, seconds: False)
        try:
            enough = await self._done
            await self._last_calls()
        finally:
            listening.cancel()
        if enough or self._wanted.count is None:
            return 0
        click.echo(
            f"Only {self._came} of {self._wanted.count} messages came within {seconds:g} seconds.",
            err=True,
        )
        return 1

    def _failed(self, failure: Failure) -> None:
        if not self._done.called:
            self._done.errback(failure)

    async def _keep_connected(self) -> None:
        await self._connected_once()
        while True:
            click.echo(f"The node at {self._url} went away; waiting for it.", err=True)
            await sleep(self._reactor, RETRY_SECONDS)
            while not await self._connected_again():
                await sleep(self._reactor, RETRY_SECONDS)

    async def _connected_again(self) -> bool:
        """Whether the node was there for a while."""
        try:
            await self._connected_once()
        except NodeUnreachable:
            return False
        return True

    async def _connected_once(self) -> None:
        async with connected(
            self._reactor, self._url, self._site, self._heard, self._key
        ) as client:
            self._client = client
            await give_keys(client, self._wanted.keys)
            await client.closed

    def _heard(self, cmd: str, params: Any) -> None:
        if cmd != PEER_RECEIVE or not isinstance(params, dict) or self._done.called:
            return
        self._came += 1
        self._print(params)
        if params.get("ip") != SELF:
            self._respond(params)
        if self._came == self._wanted.count:
            self._done.callback(True)

    def _print(self, event: dict[str, Any]) -> None:
        if self._wanted.record is not None:
            self._wanted.record.write(json.dumps(event) + "\n")
            self._wanted.record.flush()
        if self._wanted.as_json:
            emit(event)
            return
        question = "" if event.get("broadcast") else " (to us)"
        hash = str(event.get("hash"))[:HASH_DIGITS]
        begin = f"{printable(hash)}  " if self._wanted.with_hash else ""
        click.echo(f"{begin}{sender(event)}{question}: {shown(event.get('message'))}")

    def _respond(self, event: dict[str, Any]) -> None:
        if self._wanted.verdict is not None:
            self._call(self._wanted.verdict, {"hash": event.get("hash")})
        if self._wanted.reply is not None and not event.get("broadcast"):
            params = {
                "hash": event.get("hash"),
                "message": json_or_text(self._wanted.reply),
                "privatekey": self._wanted.privatekey,
            }
            self._call(PEER_REPLY, stated(params))

    def _call(self, cmd: str, params: dict[str, Any]) -> None:
        # `connected` goes on within the handshake, so before any message comes.
        assert self._client is not None
        waiting = self._client.call(cmd, params)
        self._calls.add(waiting)
        waiting.addErrback(_complain, cmd)
        waiting.addBoth(lambda _: self._calls.discard(waiting))

    async def _last_calls(self) -> None:
        waiting = DeferredList(self._calls)
        await waiting.addTimeout(LAST_CALLS_SECONDS, self._reactor, lambda result, seconds: None)


def _complain(failure: Failure, cmd: str) -> None:
    failure.trap(ZeromsgError)
    if cmd != PEER_REPLY and failure.check(NodeUnreachable):
        return  # ZeroNet nodes never answer a verdict
    click.echo(f"{cmd}: {failure.getErrorMessage()}", err=True)
