"""Commands that send messages, judge them, and look back at them.

Source: ZeroFrame API, PeerMessage at the client side.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from zeromsg.errors import ClientError
from zeromsg.interfaces import ISites
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.rules import HISTORY_COUNT_LIMIT
from zeromsg.policy.validation import no_rules
from zeromsg.routing.binding import (
    Parameter,
    anything,
    boolean,
    optional_number,
    optional_text,
    seconds,
    signing_key,
    text,
    whole,
)
from zeromsg.routing.calling import ANSWERED, Command, Context, Table, held
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.drafts import Draft
from zeromsg.routing.history import History
from zeromsg.routing.outbound import Outbound
from zeromsg.routing.secrecy import Secrecy
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire import names
from zeromsg.wire.peer_messages import PEER_COUNT_LIMIT

TIMEOUT_LIMIT = 3600.0

_COUNT = whole(0, PEER_COUNT_LIMIT)
_TIMEOUT = seconds(TIMEOUT_LIMIT)

_MESSAGE = Parameter("message", anything)
_KEY = Parameter("privatekey", signing_key, None)
_HASH = (Parameter("hash", text),)
_TO_ALL = {
    "peer_count": Parameter("peer_count", _COUNT, 5),
    "immediate": Parameter("immediate", boolean, False),
    "trace": Parameter("trace", boolean, False),
    "timestamp": Parameter("timestamp", boolean, False),
    "broadcast": Parameter("broadcast", boolean, True),
    "timeout": Parameter("timeout", _TIMEOUT, 60.0),
    "encrypt": Parameter("encrypt", anything, None),
}
_PLUGIN_ORDER = (_MESSAGE, _KEY, *_TO_ALL.values())
_PROPOSAL_ORDER = (
    _MESSAGE,
    *(_TO_ALL[name] for name in ("peer_count", "broadcast", "immediate", "timeout")),
)


class MessageCommands:
    """peerBroadcast and the like."""

    def __init__(
        self,
        *,
        sites: ISites,
        delivery: Delivery,
        outbound: Outbound,
        secrecy: Secrecy,
        site_peers: SitePeers,
        recorder: Recorder,
        history: History,
    ) -> None:
        self._sites = sites
        self._delivery = delivery
        self._outbound = outbound
        self._secrecy = secrecy
        self._site_peers = site_peers
        self._recorder = recorder
        self._history = history

    def table(self) -> Table:
        return {
            names.PEER_BROADCAST: Command(_PLUGIN_ORDER, self._peer_broadcast),
            names.PEER_SEND: Command(
                (
                    Parameter("ip", text),
                    _MESSAGE,
                    _KEY,
                    Parameter("to", optional_text, None),
                    _TO_ALL["immediate"],
                    _TO_ALL["timestamp"],
                    _TO_ALL["timeout"],
                    _TO_ALL["encrypt"],
                ),
                self._peer_send,
            ),
            names.PEER_REPLY: Command(
                (*_HASH, _MESSAGE, _KEY, _TO_ALL["encrypt"]), self._peer_reply
            ),
            names.PEER_VALID: Command(_HASH, self._verdict(Verdict.ACCEPT)),
            names.PEER_INVALID: Command(_HASH, self._verdict(Verdict.REJECT)),
            names.PEER_IGNORE: Command(_HASH, self._verdict(Verdict.IGNORE)),
            names.PEER_LIST: Command((), self._peer_list),
            names.PEER_WHY: Command((*_HASH, Parameter("peers", boolean, False)), self._peer_why),
            names.PEER_HISTORY: Command(
                (
                    Parameter("since", optional_number, None),
                    Parameter("limit", whole(1, HISTORY_COUNT_LIMIT), 100),
                ),
                self._peer_history,
            ),
        }

    # Each handler below is one command of the API.

    def _peer_broadcast(
        self,
        context: Context,
        message: Any,
        peer_count: int,
        immediate: bool,
        broadcast: bool,
        timeout: float,
        privatekey: Any = None,
        trace: bool = False,
        timestamp: bool = False,
        encrypt: Any = None,
    ) -> Any:
        draft = _draft(context, message, privatekey, encrypt, immediate, timestamp)
        if not broadcast:
            return self._ask_many(context, draft, peer_count, timeout)
        client, call_id = context.client, context.call_id
        self._outbound.broadcast(
            draft, peer_count, trace, lambda result: client.respond(call_id, result)
        )
        return ANSWERED

    def _peer_send(
        self,
        context: Context,
        ip: str,
        message: Any,
        privatekey: Any,
        to: str | None,
        immediate: bool,
        timestamp: bool,
        timeout: float,
        encrypt: Any,
    ) -> Awaitable[Any]:
        draft = _draft(context, message, privatekey, encrypt, immediate, timestamp)
        if to is None:
            return self._ask(context, draft, ip, timeout)
        return self._reply(draft, ip, to, with_hash=True)

    async def _ask_many(
        self, context: Context, draft: Draft, peer_count: int, timeout: float
    ) -> list[Mapping[str, Any]]:
        replies = await self._outbound.ask_many(draft, peer_count, timeout)
        return [self._readable_reply(context, reply) for reply in replies]

    def _readable_reply(self, context: Context, reply: Mapping[str, Any]) -> Mapping[str, Any]:
        """An entry of gathered replies, whose message stands under another name."""
        values = {name: value for name, value in reply.items() if name != "reply"}
        readable = self._secrecy.readable_values(
            context.client, context.site, {**values, "message": reply["reply"]}
        )
        message = readable["message"]
        return {**values, "reply": message} | {
            name: value for name, value in readable.items() if name == "encrypted"
        }

    async def _ask(self, context: Context, draft: Draft, ip: str, timeout: float) -> object:
        client, call_id = context.client, context.call_id

        def respond(reply: Mapping[str, Any]) -> None:
            client.respond(call_id, self._secrecy.readable_values(client, context.site, reply))

        await self._outbound.ask(draft, ip, timeout, respond)
        return ANSWERED

    def _peer_reply(
        self, context: Context, hash: str, message: Any, privatekey: Any, encrypt: Any
    ) -> Awaitable[Any]:
        ip = self._outbound.origin_of(context.site, hash)
        draft = _draft(context, message, privatekey, encrypt)
        return self._reply(draft, ip, hash, with_hash=False)

    async def _reply(self, draft: Draft, ip: str, to: str, with_hash: bool) -> Any:
        hash = await self._outbound.reply(draft, ip, to)
        return {"sent": True, "hash": hash} if with_hash else {"sent": True}

    def _verdict(self, verdict: Verdict) -> Callable[..., Any]:
        def judge(context: Context, hash: str) -> str:
            self._delivery.judged(context.client, hash, verdict)
            return "ok"

        return judge

    def _peer_list(self, context: Context) -> list[dict[str, Any]]:
        return self._site_peers.listed(context.site)

    def _peer_why(self, context: Context, hash: str, peers: bool) -> Mapping[str, Any]:
        try:
            record = self._recorder.get(bytes.fromhex(hash))
        except ValueError:
            record = None
        # A site is told of its own messages only.
        if record is None or record.site != context.site:
            raise ClientError("invalid", "this node knows nothing of that message, or no more")
        return record.to_map(peers)

    def _peer_history(
        self, context: Context, since: float | None, limit: int
    ) -> list[Mapping[str, Any]]:
        if held(self._sites, context.site).rules is None:
            raise no_rules(context.site).to_client()
        recent = self._history.recent(context.site, since or 0.0, limit)
        return [
            self._secrecy.readable_values(context.client, context.site, event, kept=True)
            for event in recent
        ]


def _draft(
    context: Context,
    message: Any,
    privatekey: Any,
    encrypt: Any,
    immediate: bool = False,
    timestamp: bool = False,
) -> Draft:
    return Draft(
        client=context.client,
        user=context.user,
        site=context.site,
        message=message,
        privatekey=privatekey,
        immediate=immediate,
        timestamp=timestamp,
        encrypt=encrypt,
    )


def in_order(cmd: str, positional: Sequence[Any]) -> Sequence[Parameter] | None:
    """The order of the original proposal, where the positional parameters follow it."""
    # JSON's true and false are no numbers: `[text, false]` signs with the user's key.
    if cmd == names.PEER_BROADCAST and len(positional) > 1 and type(positional[1]) is int:
        return _PROPOSAL_ORDER
    return None
