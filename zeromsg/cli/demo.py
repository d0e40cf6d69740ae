"""`zeromsg demo`: messages cross two nodes before your eyes."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from zeromsg.cli.demo_chat import WHO, here, spoken
from zeromsg.cli.demo_nodes import DemoFailed, DemoNode, DemoPair, demo_pair
from zeromsg.cli.demo_screen import Screen
from zeromsg.cli.working import connected, hush, sleep, within, work
from zeromsg.client import Client
from zeromsg.crypto.keys import PrivateKey
from zeromsg.wire.names import PEER_BROADCAST, PEER_RECEIVE, PEER_REPLY, PEER_VALID, SELF

ARRIVE_SECONDS = 15.0
"""A broadcast that has not arrived by then, or a question without reply, has failed."""

PAUSE_SECONDS = 3.0
SAID_LIMIT = 1000
"""Messages whose arrival at the other node is awaited; the oldest is forgotten."""


@click.command()
@click.option("--once", is_flag=True, help="Show one broadcast and one question, then end.")
@click.option(
    "--port",
    type=click.IntRange(0, 65534),
    default=43110,
    show_default=True,
    help="Of the first node's page; the second has the next one. 0: any.",
)
@click.pass_context
def demo(ctx: click.Context, once: bool, port: int) -> None:
    """Start two nodes with a chat site, and show messages crossing them until Ctrl-C.

    Open the two addresses in a browser and chat: what you say is shown too.
    Nothing is kept.
    """
    screen = Screen()

    async def job(reactor: Any) -> int:
        async with demo_pair(reactor, port, screen.note) as pair:
            screen.addresses(pair)
            await _play(reactor, pair, screen, once)
        return 0

    hush()
    ctx.exit(work(job, interrupted=0))


async def _play(reactor: Any, pair: DemoPair, screen: Screen, once: bool) -> None:
    """Show a broadcast and a question in turn: one of each, or until cancelled."""
    stage = _Stage(reactor, screen)
    async with AsyncExitStack() as stack:
        for node in pair.nodes:
            await stack.enter_async_context(stage.client(node, pair.site))
        numbers: Iterator[int] = iter([1]) if once else count(1)
        try:
            for number in numbers:
                for step in (stage.broadcast, stage.question):
                    try:
                        await step(number)
                    except DemoFailed as problem:
                        if once:
                            raise
                        screen.note(str(problem))
                    if not once:
                        await sleep(reactor, PAUSE_SECONDS)
        finally:
            screen.summary()


class _Stage:
    """Two clients, one at each node; what either says is shown when the other hears it."""

    def __init__(self, reactor: Any, screen: Screen) -> None:
        self._reactor = reactor
        self._screen = screen
        self._clients: dict[str, Client] = {}
        # The room takes signed messages only.
        self._keys: dict[str, str] = {}
        # Messages under way, by hash: where they were said, and when.
        self._said: dict[str, tuple[str, float]] = {}
        # Our own broadcasts, by text: when they were sent, and who waits for the arrival.
        self._sent: dict[str, float] = {}
        self._awaited: dict[str, Deferred[None]] = {}

    @asynccontextmanager
    async def client(self, node: DemoNode, site: str) -> AsyncIterator[None]:
        """Have a client play along at a node."""

        def heard(cmd: str, params: Any) -> None:
            if cmd == PEER_RECEIVE:
                self._heard(node.letter, params)

        async with connected(self._reactor, node.url, site, heard) as client:
            self._clients[node.letter] = client
            self._keys[node.letter] = PrivateKey.generate(secrets.token_bytes).wif
            yield

    async def broadcast(self, number: int) -> None:
        """Raises DemoFailed when it does not arrive."""
        text = f"Hello number {number} from node A"
        arrived = self._awaited[text] = Deferred()
        self._sent[text] = self._reactor.seconds()
        await self._call("A", {"message": here("A", text)})
        arrived.addTimeout(ARRIVE_SECONDS, self._reactor, onTimeoutCancel=_never_arrived)
        await arrived

    async def question(self, number: int) -> None:
        """Raises DemoFailed when nobody replies."""
        start = self._reactor.seconds()
        params = {"message": WHO, "broadcast": False, "timeout": ARRIVE_SECONDS}
        replies = await self._call("A", params)
        if not any(entry["hash"] for entry in replies):
            raise DemoFailed(f"nobody replied within {ARRIVE_SECONDS:g} seconds")
        lines = [spoken(entry["reply"]) for entry in replies]
        self._screen.answered(
            f"Question {number}: {spoken(WHO)}", lines, self._reactor.seconds() - start
        )

    async def _call(self, letter: str, params: Mapping[str, Any]) -> Any:
        signed = {**params, "privatekey": self._keys[letter]}
        waiting = self._clients[letter].call(PEER_BROADCAST, signed)
        # The node itself gives up in time; this is for a node that is stuck.
        return await within(self._reactor, 2 * ARRIVE_SECONDS, waiting)

    def _heard(self, letter: str, event: Mapping[str, Any]) -> None:
        """A message has come to the client at a node, perhaps one typed in a browser."""
        text, now = spoken(event["message"]), self._reactor.seconds()
        if event["ip"] == SELF:
            self._said[event["hash"]] = (letter, self._sent.pop(text, now))
            if len(self._said) > SAID_LIMIT:
                del self._said[next(iter(self._said))]
        elif event["broadcast"]:
            source, start = self._said.pop(event["hash"], ("?", now))
            self._screen.crossed(source, letter, text, now - start)
            self._tell(letter, PEER_VALID, {"hash": event["hash"]})
            arrived = self._awaited.pop(text, None)
            if arrived is not None:
                arrived.callback(None)
        elif event["message"] == WHO:
            reply = {"message": here(letter, f"I am node {letter}")}
            key = self._keys[letter]
            self._tell(letter, PEER_REPLY, {"hash": event["hash"], **reply, "privatekey": key})
        else:
            # For a person to answer, in this node's page.
            self._screen.asked(letter, text)

    def _tell(self, letter: str, cmd: str, params: Mapping[str, Any]) -> None:
        """A call whose result nobody waits for."""

        def failed(failure: Failure) -> None:
            self._screen.note(f"{cmd}: {failure.getErrorMessage()}")

        self._clients[letter].call(cmd, params).addErrback(failed)


def _never_arrived(result: object, seconds: float) -> None:
    raise DemoFailed(f"a message did not arrive within {seconds:g} seconds")
