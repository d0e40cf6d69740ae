"""Sending peer messages to those that know them, and finding out who does.

To a ZeroNet node without the plugin each peer message is an unknown command
that costs this node points there. So a node of which nothing is known gets one
message, and further ones wait until it has answered: if it does not know the
first, it gets no more for a day. See `policy.capability`.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Answer, IPeerLink
from zeromsg.policy.capability import Capabilities, Evidence
from zeromsg.wire.names import UNKNOWN_COMMAND
from zeromsg.wire.values import PeerAddress

WAITING_LIMIT = 100
"""Messages that wait until a node has answered its first one."""

UNANSWERED_SECONDS = 600.0
"""How long a node is left alone that did not answer its first message at all."""

UNANSWERED_LIMIT = 1000


@attrs.define(eq=False)
class _Trial:
    """A first message under way, and what goes out if the node knows it."""

    waiting: list[Callable[[], None]] = attrs.field(factory=list)
    failing: list[Callable[[], None]] = attrs.field(factory=list)


class Speaking:
    """Sends peer messages over links, and remembers who understands them."""

    def __init__(self, capabilities: Capabilities, wall: Callable[[], float]) -> None:
        self._capabilities = capabilities
        self._wall = wall
        self._trials: dict[PeerAddress, _Trial] = {}
        self._silent: OrderedDict[PeerAddress, float] = OrderedDict()

    def opened(self, link: IPeerLink) -> None:
        """A handshake says whether it is a zeromsg node."""
        if link.extension:
            self._learn(link, Evidence.HANDSHAKE)

    def understands(self, link: IPeerLink) -> None:
        """The peer sent a peer message itself."""
        if not link.extension:
            self._learn(link, Evidence.SENT)

    def deaf(self, link: IPeerLink) -> bool:
        """Whether no peer message may be sent to it."""
        if link.extension:
            return False
        node = link.declared
        if self._capabilities.capable(node, self._wall()) is False:
            return True
        return bool(self._silent) and self._silent.get(node, 0.0) > self._wall()

    def capable(self, node: PeerAddress) -> bool | None:
        """Whether a node, connected or not, knows peer messages; None if that is not known."""
        return self._capabilities.capable(node, self._wall())

    def send(self, link: IPeerLink, cmd: str, packed: bytes) -> Deferred[Answer]:
        """Send a peer message. Fails with Unreachable, also where the peer does not know them."""
        if link.extension or self.capable(link.declared):
            sent = link.ask_packed(cmd, packed)
            return sent if link.extension else sent.addCallback(self._heard, link)
        if self.deaf(link):
            return fail(Unreachable("it does not know peer messages"))
        trial = self._trials.get(link.declared)
        if trial is None:
            return self._try(link, cmd, packed)
        if len(trial.waiting) >= WAITING_LIMIT:
            return fail(Unreachable("too many messages wait for its first answer"))
        waiting: Deferred[Answer] = Deferred()
        trial.waiting.append(partial(self._send_waiting, link, cmd, packed, waiting))
        deaf = Unreachable("it does not know peer messages")
        trial.failing.append(lambda: waiting.errback(deaf))
        return waiting

    def _send_waiting(
        self, link: IPeerLink, cmd: str, packed: bytes, waiting: Deferred[Answer]
    ) -> None:
        self.send(link, cmd, packed).chainDeferred(waiting)

    def _try(self, link: IPeerLink, cmd: str, packed: bytes) -> Deferred[Answer]:
        trial = self._trials[link.declared] = _Trial()
        tried = link.ask_packed(cmd, packed)
        return tried.addCallbacks(
            partial(self._answered, link, trial), partial(self._unanswered, link, trial)
        )

    def _answered(self, link: IPeerLink, trial: _Trial, answer: Answer) -> Answer:
        self._heard(answer, link)
        self._conclude(link, trial)
        return answer

    def _unanswered(self, link: IPeerLink, trial: _Trial, failure: Failure) -> Failure:
        if not self.capable(link.declared):
            self._silent[link.declared] = self._wall() + UNANSWERED_SECONDS
            if len(self._silent) > UNANSWERED_LIMIT:
                self._silent.popitem(last=False)
        self._conclude(link, trial)
        return failure

    def _conclude(self, link: IPeerLink, trial: _Trial) -> None:
        self._trials.pop(link.declared, None)
        for action in trial.failing if self.deaf(link) else trial.waiting:
            action()

    def _heard(self, answer: Answer, link: IPeerLink) -> Answer:
        error = answer.get("error")
        unknown = isinstance(error, str) and error.startswith(UNKNOWN_COMMAND)
        self._learn(link, Evidence.UNKNOWN if unknown else Evidence.TOOK)
        return answer

    def _learn(self, link: IPeerLink, how: Evidence) -> None:
        self._capabilities.learn(link.declared, how, self._wall())
        if how is not Evidence.UNKNOWN:
            self._silent.pop(link.declared, None)
