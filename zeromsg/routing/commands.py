"""Runs the calls of clients: finds the command, binds its parameters, answers.

Every call that can be answered is answered; refusals are
`{"error": "<code>: <sentence>"}`. The commands themselves stand in tables of
other modules. Source: ZeroFrame API, messages.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import CannotStore, ClientError
from zeromsg.interfaces import IClient, IUsers
from zeromsg.log import leveled
from zeromsg.routing.binding import Parameter, anything, bind, text
from zeromsg.routing.calling import ANSWERED, Command, Context, Table
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.message_commands import in_order
from zeromsg.routing.permissions import Permissions
from zeromsg.routing.prompts import Prompts
from zeromsg.wire import names
from zeromsg.wire.client_messages import Answer, Call, parameters

CALLS_LIMIT = 1000
"""Calls of one client that may wait for their result."""

_FOR_OTHER_SITES = (names.PEER_BROADCAST, names.PEER_SEND, names.PEER_REPLY)
"""Commands that `as` may run for any site, unsigned, and signed where that is allowed."""


class Commands:
    """The commands of all tables (`interfaces.ICalls`)."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        users: IUsers,
        delivery: Delivery,
        prompts: Prompts,
        permissions: Permissions,
        tables: Iterable[Table],
    ) -> None:
        self._users = users
        self._permissions = permissions
        self._delivery = delivery
        self._prompts = prompts
        self._running: dict[IClient, set[Deferred[Any]]] = {}
        self._table: dict[str, Command] = {
            "as": Command(
                (
                    Parameter("address", text),
                    Parameter("cmd", text),
                    Parameter("params", anything, None),
                ),
                self._as,
            ),
        }
        for table in tables:
            self._table |= table

    def client_opened(self, client: IClient) -> None:
        self._running[client] = set()
        self._delivery.opened(client)
        self._prompts.opened(client)

    def client_closed(self, client: IClient) -> None:
        self._delivery.closed(client)
        self._prompts.closed(client)
        # Prompts that its calls wait for go with them.
        for running in self._running.pop(client, set()):
            running.cancel()

    def called(self, client: IClient, call: Call) -> None:
        try:
            result = self._run(self._context(client, call), call)
        except ClientError as refused:
            client.respond(call.id, {"error": str(refused)})
        except CannotStore as problem:
            self._cannot_store(client, call.id, problem)
        except Exception:
            self._fail(client, call.id, Failure())
        else:
            self._answer(client, call.id, result)

    def answered(self, client: IClient, answer: Answer) -> None:
        self._prompts.answered(client, answer)

    def _context(self, client: IClient, call: Call) -> Context:
        user = self._users.get(client.user)
        if user is None:
            raise ClientError("denied", "the user of this connection is no more")
        return Context(client, user, client.site, call.id)

    def _run(self, context: Context, call: Call) -> Any:
        # ZeroNet takes the first letter in either case.
        cmd = call.cmd[0].lower() + call.cmd[1:]
        command = self._table.get(cmd)
        if command is None:
            return {"error": f"{names.UNKNOWN_COMMAND}{call.cmd[:100]}"}
        if not self._may_run(context, command):
            raise ClientError("denied", f"You don't have permission to run {cmd}")
        order = in_order(cmd, call.positional) or command.parameters
        arguments = bind(cmd, order, call)
        if not self._may_use(context, arguments.get("privatekey")):
            raise ClientError("denied", f"No permission for site {context.site}")
        return command.run(context, **arguments)

    def _may_run(self, context: Context, command: Command) -> bool:
        if context.trusted or not (command.admin or command.personal):
            return True
        # Judged by the site that calls, whatever site it calls for.
        return not command.personal and self._permissions.is_admin(context.client.site)

    def _may_use(self, context: Context, privatekey: Any) -> bool:
        """Whether a call may sign with this key: another site's own key never."""
        if context.site == context.client.site or privatekey is None:
            return True
        may_sign = self._permissions.may_sign(context.client.site, context.site)
        return privatekey is False and may_sign

    def _answer(self, client: IClient, call_id: Any, result: Any) -> None:
        if not inspect.iscoroutine(result):
            if result is not ANSWERED:
                client.respond(call_id, result)
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
            if result is not ANSWERED:
                client.respond(call_id, result)
        elif result.check(ClientError):
            client.respond(call_id, {"error": str(result.value)})
        elif isinstance(result.value, CannotStore):
            self._cannot_store(client, call_id, result.value)
        else:
            self._fail(client, call_id, result)

    def _cannot_store(self, client: IClient, call_id: Any, problem: CannotStore) -> None:
        # Where the data lie is no affair of a site's.
        self._log.warn("a call could not be carried out: {problem}", problem=str(problem))
        client.respond(call_id, {"error": "internal: this node cannot write to its disk"})

    def _fail(self, client: IClient, call_id: Any, failure: Failure) -> None:
        self._log.failure("a call failed", failure)
        client.respond(call_id, {"error": "internal: this node could not carry it out"})

    def _as(self, context: Context, address: str, cmd: str, params: Any) -> Any:
        """Another site's command.

        Peer messages without a signature go to any site. In the person's name,
        and for other commands, the calling site needs a permission. Rights are
        judged before it is told whether a site is here.
        """
        if not cmd or cmd.lower() == "as":
            raise ClientError("invalid", "cmd must name another command")
        named, positional = parameters(params)
        inner = Call(context.call_id, cmd, named, positional)
        if address == context.site:
            return self._run(context, inner)
        if context.site != context.client.site or not self._may_as(context.site, address, cmd):
            raise ClientError("denied", f"No permission for site {address}")
        return self._run(attrs.evolve(context, site=address), inner)

    def _may_as(self, site: str, address: str, cmd: str) -> bool:
        command = self._table.get(cmd)
        if cmd in _FOR_OTHER_SITES or self._permissions.may_act(site, address):
            # A permission is about the site that has it, and given by the person alone.
            return command is None or not command.personal
        return command is not None and command.read and self._permissions.may_read(site, address)
