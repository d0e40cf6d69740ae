"""ZeroFrame messages: calls of clients, answers and events of the node.

Source: ZeroFrame API, messages.
"""

from typing import Any

import msgspec

from zeromsg.errors import ClientError
from zeromsg.wire import json_text


class Call(msgspec.Struct, frozen=True):
    """One call of a client.

    id: whatever number the client chose; echoed untouched, gives no rights.
    named, positional: the parameters; at most one of the two is not empty.
    """

    id: Any
    cmd: str
    named: dict[str, Any]
    positional: list[Any]


class Answer(msgspec.Struct, frozen=True):
    """A client's response to a prompt of the node."""

    to: Any
    result: Any


class Unanswerable(ClientError):
    """A message without a usable id: the client gets an `error` event instead of an answer."""


def parse(payload: str) -> Call | Answer:
    """Raises `Unanswerable` when there is no id to answer, `BadCall` when there is."""
    try:
        values = json_text.load(payload)
    except ValueError as problem:
        raise Unanswerable("invalid", f"the message is no JSON: {problem}") from None
    if not isinstance(values, dict):
        raise Unanswerable("invalid", "the message is no JSON object")
    call_id = values.get("id")
    if isinstance(call_id, str | list | dict) or call_id is None:
        raise Unanswerable("invalid", "the message has no number as id")
    cmd = values.get("cmd")
    if not isinstance(cmd, str) or not cmd:
        raise BadCall(call_id, "invalid", "the message has no cmd")
    if cmd == "response":
        return Answer(values.get("to"), values.get("result"))
    named, positional = parameters(values.get("params"))
    return Call(call_id, cmd, named, positional)


def parameters(params: Any) -> tuple[dict[str, Any], list[Any]]:
    """Named and positional parameters out of whatever stands under `params`."""
    if isinstance(params, dict):
        return params, []
    if isinstance(params, list):
        return {}, params
    # Any other true value is the first argument; the false ones are none.
    return {}, [params] if params else []


class BadCall(ClientError):
    """A message that can be answered but not run."""

    def __init__(self, call_id: Any, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.call_id = call_id


def event_head(cmd: str, params_json: str) -> str:
    """An event up to its id, so that many clients can share the text."""
    return f'{{"cmd":"{cmd}","params":{params_json},"id":'


def response_head(to: Any, result: Any) -> str:
    """A response up to its own id."""
    return (
        f'{{"cmd":"response","to":{json_text.dump_compact(to)},'
        f'"result":{json_text.dump_compact(result)},"id":'
    )
