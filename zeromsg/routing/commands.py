"""The commands of clients: a table, and a short handler for each.

A handler returns the result or `None` with the answer given by itself, or an
awaitable of one of these. Every call that can be answered is answered; refusals are
`{"error": "<code>: <sentence>"}`. Source: ZeroFrame API, commands.
"""

import base64
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import ClientError, FileMissing
from zeromsg.interfaces import IClient, ISite, ISites, IStore, IUsers
from zeromsg.log import leveled
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.rules import HISTORY_COUNT_LIMIT
from zeromsg.policy.validation import no_rules
from zeromsg.routing.binding import (
    Parameter,
    anything,
    bind,
    boolean,
    optional_number,
    optional_text,
    seconds,
    signing_key,
    text,
    whole,
)
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.history import History
from zeromsg.routing.info import NodeFacts, server_info, site_info
from zeromsg.routing.outbound import Draft, Outbound
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire import names
from zeromsg.wire.client_messages import Call, parameters
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.peer_messages import PEER_COUNT_LIMIT

CALLS_LIMIT = 1000
"""Calls of one client that may wait for their result."""

TIMEOUT_LIMIT = 3600.0
SETTINGS_LIMIT = 64 * 1024
FILE_LIMIT = 10 * 1024 * 1024

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
}
_PLUGIN_ORDER = (_MESSAGE, _KEY, *_TO_ALL.values())
_PROPOSAL_ORDER = (
    _MESSAGE,
    *(_TO_ALL[name] for name in ("peer_count", "broadcast", "immediate", "timeout")),
)

_FOR_OTHER_SITES = (names.PEER_BROADCAST, names.PEER_SEND, names.PEER_REPLY)
"""Commands that `as` may run for any site, unsigned."""


@attrs.frozen
class Context:
    """Who calls, and for which site."""

    client: IClient
    site: str
    call_id: Any


Handler = Callable[..., Any]


@attrs.frozen
class _Command:
    parameters: Sequence[Parameter]
    run: Handler


class Commands:
    """Runs the calls of clients."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        users: IUsers,
        store: IStore,
        delivery: Delivery,
        outbound: Outbound,
        site_peers: SitePeers,
        recorder: Recorder,
        history: History,
        facts: Callable[[], NodeFacts],
        wall: Callable[[], float],
    ) -> None:
        self._sites = sites
        self._users = users
        self._store = store
        self._delivery = delivery
        self._outbound = outbound
        self._site_peers = site_peers
        self._recorder = recorder
        self._history = history
        self._facts = facts
        self._wall = wall
        self._running: dict[IClient, set[Deferred[Any]]] = {}
        self._table = {
            "ping": _Command((), lambda context: "pong"),
            "siteInfo": _Command((Parameter("file_status", optional_text, None),), self._site_info),
            "serverInfo": _Command((), lambda context: server_info(self._facts())),
            "channelJoin": _Command((Parameter("channels", anything),), self._channel_join),
            "fileGet": _Command(
                (
                    Parameter("inner_path", text),
                    Parameter("required", boolean, True),
                    Parameter("format", text, "text"),
                    Parameter("timeout", _TIMEOUT, 300.0),
                    Parameter("priority", anything, 6),
                ),
                self._file_get,
            ),
            "fileList": _Command((Parameter("inner_path", text),), self._file_list),
            "userGetSettings": _Command((), self._user_get_settings),
            "userSetSettings": _Command(
                (Parameter("settings", anything),), self._user_set_settings
            ),
            names.PEER_BROADCAST: _Command(_PLUGIN_ORDER, self._peer_broadcast),
            names.PEER_SEND: _Command(
                (
                    Parameter("ip", text),
                    _MESSAGE,
                    _KEY,
                    Parameter("to", optional_text, None),
                    _TO_ALL["immediate"],
                    _TO_ALL["timestamp"],
                    _TO_ALL["timeout"],
                ),
                self._peer_send,
            ),
            names.PEER_REPLY: _Command((*_HASH, _MESSAGE, _KEY), self._peer_reply),
            names.PEER_VALID: _Command(_HASH, self._verdict(Verdict.ACCEPT)),
            names.PEER_INVALID: _Command(_HASH, self._verdict(Verdict.REJECT)),
            names.PEER_IGNORE: _Command(_HASH, self._verdict(Verdict.IGNORE)),
            names.PEER_LIST: _Command((), self._peer_list),
            names.PEER_WHY: _Command((*_HASH, Parameter("peers", boolean, False)), self._peer_why),
            names.PEER_HISTORY: _Command(
                (
                    Parameter("since", optional_number, None),
                    Parameter("limit", whole(1, HISTORY_COUNT_LIMIT), 100),
                ),
                self._peer_history,
            ),
            "as": _Command(
                (
                    Parameter("address", text),
                    Parameter("cmd", text),
                    Parameter("params", anything, None),
                ),
                self._as,
            ),
        }

    def client_opened(self, client: IClient) -> None:
        self._running[client] = set()
        self._delivery.opened(client)

    def client_closed(self, client: IClient) -> None:
        self._delivery.closed(client)
        for running in self._running.pop(client, set()):
            running.cancel()

    def called(self, client: IClient, call: Call) -> None:
        context = Context(client, client.site, call.id)
        try:
            result = self._run(context, call)
        except ClientError as refused:
            client.respond(call.id, {"error": str(refused)})
        except Exception:
            self._fail(client, call.id, Failure())
        else:
            self._answer(client, call.id, result)

    def _run(self, context: Context, call: Call) -> Any:
        # ZeroNet takes the first letter in either case.
        cmd = call.cmd[0].lower() + call.cmd[1:]
        command = self._table.get(cmd)
        if command is None:
            return {"error": f"{names.UNKNOWN_COMMAND}{call.cmd[:100]}"}
        order = command.parameters
        if cmd == names.PEER_BROADCAST and _in_proposal_order(call.positional):
            order = _PROPOSAL_ORDER
        arguments = bind(cmd, order, call)
        if context.site != context.client.site and arguments.get("privatekey") is not None:
            raise ClientError("denied", f"No permission for site {context.site}")
        return command.run(context, **arguments)

    def _answer(self, client: IClient, call_id: Any, result: Any) -> None:
        if not inspect.iscoroutine(result):
            if result is not None:
                client.respond(call_id, _Null.unwrap(result))
            return
        running = self._running.get(client)
        if running is None or len(running) >= CALLS_LIMIT:
            result.close()
            client.respond(call_id, {"error": "too-fast: too many calls wait for their result"})
            return
        waiting = Deferred.fromCoroutine(result)
        running.add(waiting)
        waiting.addBoth(self._finished, client, call_id, waiting)

    def _finished(self, result: Any, client: IClient, call_id: Any, waiting: Deferred[Any]) -> None:
        running = self._running.get(client)
        if running is None:
            return
        running.discard(waiting)
        if not isinstance(result, Failure):
            if result is not None:
                client.respond(call_id, result)
        elif result.check(ClientError):
            client.respond(call_id, {"error": str(result.value)})
        else:
            self._fail(client, call_id, result)

    def _fail(self, client: IClient, call_id: Any, failure: Failure) -> None:
        self._log.failure("a call failed", failure)
        client.respond(call_id, {"error": "internal: this node could not carry it out"})

    # Each handler below is one command of the API.

    def _held(self, address: str) -> ISite:
        site = self._sites.get(address)
        if site is None:
            raise ClientError("unsupported", f"this node does not hold the site {address}")
        return site

    def _site_info(self, context: Context, file_status: str | None) -> Mapping[str, Any]:
        site = self._held(context.site)
        info = site_info(site, self._users, len(self._site_peers.members(context.site)))
        if file_status is not None and file_status in site.files():
            info["event"] = ["file_done", file_status]
        return info

    def _channel_join(self, context: Context, channels: Any) -> str:
        try:
            context.client.join(channels)
        except ValueError as problem:
            raise ClientError("invalid", str(problem)) from None
        if self._delivery.listeners(context.site):
            self._delivery.flush(context.client)
        return "ok"

    def _file_get(
        self,
        context: Context,
        inner_path: str,
        required: bool,
        format: str,
        timeout: float,
        priority: Any,
    ) -> Any:
        try:
            body, _ = self._held(context.site).read(inner_path, 0, FILE_LIMIT)
        except FileMissing:
            return _Null()
        if format == "base64":
            return base64.b64encode(body).decode()
        try:
            return body.decode()
        except UnicodeDecodeError as problem:
            return {"error": f"Error decoding text: {problem.reason}"}

    def _file_list(self, context: Context, inner_path: str) -> list[str]:
        folder = inner_path.strip("/")
        if ".." in folder.split("/"):
            raise ClientError("invalid", f"File not allowed: {inner_path}")
        prefix = f"{folder}/" if folder else ""
        files = self._held(context.site).files()
        return [path.removeprefix(prefix) for path in files if path.startswith(prefix)]

    def _user_get_settings(self, context: Context) -> Mapping[str, Any]:
        return self._store.user_settings(context.site, self._users.auth_address(context.site))

    def _user_set_settings(self, context: Context, settings: Any) -> str:
        if not isinstance(settings, dict):
            raise ClientError("invalid", "settings must be a map")
        if len(dump_compact(settings)) > SETTINGS_LIMIT:
            raise ClientError("too-big", f"settings take over {SETTINGS_LIMIT} bytes")
        self._store.set_user_settings(
            context.site, self._users.auth_address(context.site), settings
        )
        return "ok"

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
    ) -> Any:
        draft = Draft(context.site, message, privatekey, immediate, timestamp)
        if not broadcast:
            return self._outbound.ask_many(draft, peer_count, timeout)
        client, call_id = context.client, context.call_id
        self._outbound.broadcast(
            draft, peer_count, trace, lambda result: client.respond(call_id, result)
        )
        return None

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
    ) -> Awaitable[Any]:
        draft = Draft(context.site, message, privatekey, immediate, timestamp)
        if to is None:
            client, call_id = context.client, context.call_id
            return self._outbound.ask(
                draft, ip, timeout, lambda result: client.respond(call_id, result)
            )
        return self._reply(draft, ip, to, with_hash=True)

    def _peer_reply(
        self, context: Context, hash: str, message: Any, privatekey: Any
    ) -> Awaitable[Any]:
        ip = self._outbound.origin_of(context.site, hash)
        return self._reply(Draft(context.site, message, privatekey), ip, hash, with_hash=False)

    async def _reply(self, draft: Draft, ip: str, to: str, with_hash: bool) -> Any:
        hash = await self._outbound.reply(draft, ip, to)
        return {"sent": True, "hash": hash} if with_hash else {"sent": True}

    def _verdict(self, verdict: Verdict) -> Handler:
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
    ) -> list[dict[str, Any]]:
        if self._held(context.site).rules is None:
            raise no_rules(context.site).to_client()
        return self._history.recent(context.site, since or 0.0, limit)

    def _as(self, context: Context, address: str, cmd: str, params: Any) -> Any:
        """Another site's command: peer messages without a signature, nothing else.

        With the user's or the site's key any zite could speak in the person's
        name elsewhere; that needs grants, which this node does not give.
        """
        if not cmd or cmd.lower() == "as":
            raise ClientError("invalid", "cmd must name another command")
        named, positional = parameters(params)
        inner = Call(context.call_id, cmd, named, positional)
        if address == context.site:
            return self._run(context, inner)
        if cmd not in _FOR_OTHER_SITES:
            raise ClientError("denied", f"No permission for site {address}")
        return self._run(attrs.evolve(context, site=address), inner)


class _Null:
    """A result that is null, where None means that the handler has answered itself."""

    @staticmethod
    def unwrap(result: Any) -> Any:
        return None if isinstance(result, _Null) else result


def _in_proposal_order(positional: Sequence[Any]) -> bool:
    # JSON's true and false are no numbers: `[text, false]` signs with the user's key.
    return len(positional) > 1 and type(positional[1]) is int
