"""What the person is asked before a call goes on.

Sites call commands that only the person may decide about. In ZeroNet the answer
is taken from whoever is on the connection, so that a page can answer its own
prompts. Here it counts only from where the person is:

- a connection of the node's own page (`IClient.trusted`) of that site and user,
  which is sent the event `zeromsgPrompt` and answers
  `{"cmd": "response", "to": <the prompt's id>, "result": <a choice, or null>}`;
- the operator, through `zeromsg confirm`.

The connection that called, if it is another one, gets ZeroNet's event for the
case, so that programs see what they wait for; its responses do nothing, and the
ids, which nobody can guess, are not told to it. When the call ends, with its
client or by itself, its prompt ends too. Source: ZeroFrame API, 5.6 and 14.
"""

from collections.abc import Sequence
from typing import Any, Literal

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from zeromsg.errors import ClientError
from zeromsg.interfaces import Entropy, IClient
from zeromsg.log import leveled
from zeromsg.routing.calling import Context
from zeromsg.wire.client_messages import Answer, event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.names import PROMPT, PROMPT_OVER

CLIENT_LIMIT = 4
"""Prompts of one client that may wait."""

PROMPTS_LIMIT = 200
"""Prompts that may wait at this node."""

LIFETIME = 600.0
"""Seconds a prompt waits for the person."""


@attrs.frozen
class Choice:
    """answer: what comes back. label: what the person reads."""

    answer: str
    label: str


@attrs.frozen
class Question:
    """What is asked, in plain text: whoever shows it escapes it.

    kind: "confirm" has one choice, "select" several.
    zeronet: the event, command and parameters, that a program is sent.
    """

    kind: Literal["confirm", "select"]
    text: str
    choices: Sequence[Choice]
    zeronet: tuple[str, Any]


@attrs.define(eq=False)
class _Waiting:
    id: str
    question: Question
    client: IClient
    user: str
    until: float
    answer: Deferred[str]
    timer: IDelayedCall


class Prompts:
    """The prompts that wait. clock: seconds. entropy: makes their ids."""

    _log = Logger(observer=leveled)

    def __init__(self, clock: IReactorTime, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._waiting: dict[str, _Waiting] = {}
        self._pages: dict[IClient, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    # Connections.

    def opened(self, client: IClient) -> None:
        """A page that was opened just now is shown what waits already."""
        if not client.trusted:
            return
        self._pages[client] = None
        for waiting in self._waiting.values():
            if _is_for(waiting, client):
                client.push(_event(waiting))

    def closed(self, client: IClient) -> None:
        self._pages.pop(client, None)

    # Asking.

    def ask(self, context: Context, question: Question) -> Deferred[str]:
        """The person's choice. Cancelling takes the prompt back.

        Fails with ClientError: `denied` where the person does not want to,
        `timeout` where nobody says anything. Raises `too-fast` beyond a limit.
        """
        own = sum(waiting.client is context.client for waiting in self._waiting.values())
        if own >= CLIENT_LIMIT or len(self._waiting) >= PROMPTS_LIMIT:
            raise ClientError("too-fast", "too many questions wait for the person already")
        id = self._entropy(16).hex()
        answer: Deferred[str] = Deferred(lambda _: self._taken_back(id))
        waiting = _Waiting(
            id,
            question,
            context.client,
            context.user.master_address,
            self._clock.seconds() + LIFETIME,
            answer,
            self._clock.callLater(LIFETIME, self._expire, id),
        )
        self._waiting[id] = waiting
        if not context.trusted:
            cmd, params = question.zeronet
            context.client.push(event_head(cmd, dump_compact(params)))
        for page in self._pages_of(waiting):
            page.push(_event(waiting))
        self._log.info("a site asks the person something: `zeromsg confirm` shows it")
        return answer

    def _expire(self, id: str) -> None:
        waiting = self._end(id)
        if waiting is not None:
            minutes = f"{LIFETIME / 60:g} minutes"
            waiting.answer.errback(ClientError("timeout", f"nobody answered within {minutes}"))

    def _taken_back(self, id: str) -> None:
        self._end(id)

    def _end(self, id: str) -> _Waiting | None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            if waiting.timer.active():
                waiting.timer.cancel()
            for page in self._pages_of(waiting):
                page.push(event_head(PROMPT_OVER, dump_compact({"id": id})))
        return waiting

    def _pages_of(self, waiting: _Waiting) -> list[IClient]:
        return [page for page in self._pages if _is_for(waiting, page)]

    # Answers.

    def answered(self, client: IClient, answer: Answer) -> None:
        """A client's response; what is no answer of the person to a prompt of hers is ignored."""
        if not client.trusted or not isinstance(answer.to, str):
            return
        waiting = self._waiting.get(answer.to)
        if waiting is None or not _is_for(waiting, client):
            return
        if answer.result is None or _is_choice(waiting, answer.result):
            self._settle(waiting, answer.result)

    def answer(self, id: str, choice: str | None) -> None:
        """The operator's answer; None for no. Raises ClientError."""
        waiting = self._known(id)
        if choice is not None and not _is_choice(waiting, choice):
            raise _unlike(waiting)
        self._settle(waiting, choice)

    def only_choice(self, id: str) -> str:
        """The answer where there is no other. Raises ClientError where there is a choice."""
        waiting = self._known(id)
        choices = waiting.question.choices
        if waiting.question.kind != "confirm" or len(choices) != 1:
            raise _unlike(waiting)
        return choices[0].answer

    def _known(self, id: str) -> _Waiting:
        waiting = self._waiting.get(id)
        if waiting is None:
            raise ClientError("invalid", "no such question waits, or no more")
        return waiting

    def _settle(self, waiting: _Waiting, choice: str | None) -> None:
        self._end(waiting.id)
        if choice is None:
            waiting.answer.errback(ClientError("denied", "the person did not agree"))
        else:
            waiting.answer.callback(choice)

    def waiting(self) -> list[dict[str, Any]]:
        """All prompts for the operator, oldest first."""
        return [
            {
                **_shown(waiting),
                "site": waiting.client.site,
                "user": waiting.user,
                "seconds": round(waiting.until - self._clock.seconds()),
            }
            for waiting in self._waiting.values()
        ]


def _unlike(waiting: _Waiting) -> ClientError:
    choices = ", ".join(repr(each.answer) for each in waiting.question.choices)
    return ClientError("invalid", f"the answers to choose from are {choices}"[:1000])


def _is_for(waiting: _Waiting, page: IClient) -> bool:
    return (page.site, page.user) == (waiting.client.site, waiting.client.user)


def _is_choice(waiting: _Waiting, answer: object) -> bool:
    return any(choice.answer == answer for choice in waiting.question.choices)


def _shown(waiting: _Waiting) -> dict[str, Any]:
    question = waiting.question
    choices = [{"answer": choice.answer, "label": choice.label} for choice in question.choices]
    return {"id": waiting.id, "kind": question.kind, "text": question.text, "choices": choices}


def _event(waiting: _Waiting) -> str:
    return event_head(PROMPT, dump_compact(_shown(waiting)))
