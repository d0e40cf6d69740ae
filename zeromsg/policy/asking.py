"""Which question about a site a ZeroNet node may be asked, so that it punishes nobody for it.

A node charges five points for a `pex` about a site that it does not hold, slows
a connection down above twenty, closes it above forty, and forgets them after
22.5 minutes. `getPiecefields` asks the same for nothing; but a node without the
plugin for big files does not know that command, and charges five points for it
too. So the free question comes first; to nodes that do not know it, a costly one
is put now and then, and none about the same site twice in a day.

Times are Unix seconds. Nothing here survives a restart: points belong to a
connection, and that does not either.
"""

from collections import OrderedDict, deque
from enum import Enum, auto

import attrs

from zeromsg.wire.values import PeerAddress

REFUSED_SECONDS = 24 * 3600.0
"""How long a site is not asked about again where the question cost points."""

REFUSED_FREELY_SECONDS = 3600.0
"""The same where it cost none."""

UNKNOWING_SECONDS = 24 * 3600.0
"""How long it is remembered that a node does not know the free question."""

WINDOW_SECONDS = 25 * 60.0
"""Within this time so many questions may cost points: one, two about sites it may well hold."""

REFUSALS_LIMIT = 20_000
NODES_LIMIT = 10_000
"""Refused sites and nodes that are remembered; the oldest are forgotten first."""


class Question(Enum):
    """What to ask."""

    FREE = auto()
    COSTLY = auto()


@attrs.define
class _Node:
    """unknowing_until: it does not know the free question. offences: when it charged us."""

    unknowing_until: float = 0.0
    offences: deque[float] = attrs.field(factory=lambda: deque(maxlen=2))


class Asking:
    """What nodes refused, and what they charge."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[PeerAddress, str], tuple[float, Question]] = OrderedDict()
        self._nodes: OrderedDict[PeerAddress, _Node] = OrderedDict()

    def question(
        self, node: PeerAddress, site: str, now: float, *, likely: bool, again: bool = False
    ) -> Question | None:
        """How to ask a node about a site now, or None for not at all.

        likely: there is a reason to think that it holds the site, or we need it badly.
        again: something changed, so that a refusal that cost nothing does not count.
        """
        until, how = self._refused.get((node, site), (0.0, Question.FREE))
        if until > now and not (again and how is Question.FREE):
            return None
        known = self._nodes.get(node)
        if known is None or known.unknowing_until <= now:
            return Question.FREE
        recent = sum(now - at < WINDOW_SECONDS for at in known.offences)
        return Question.COSTLY if recent < (2 if likely else 1) else None

    def was_refused(self, node: PeerAddress, site: str, now: float) -> bool:
        """Whether a question about the site cost points there lately."""
        until, how = self._refused.get((node, site), (0.0, Question.FREE))
        return until > now and how is Question.COSTLY

    def holds(self, node: PeerAddress, site: str) -> None:
        """It showed that it holds the site after all."""
        self._refused.pop((node, site), None)

    def refused(self, node: PeerAddress, site: str, how: Question, now: float) -> None:
        """It does not hold the site."""
        seconds = REFUSED_SECONDS if how is Question.COSTLY else REFUSED_FREELY_SECONDS
        self._refused[node, site] = (now + seconds, how)
        self._refused.move_to_end((node, site))
        if len(self._refused) > REFUSALS_LIMIT:
            self._refused.popitem(last=False)
        if how is Question.COSTLY:
            self._node(node).offences.append(now)

    def does_not_know(self, node: PeerAddress, now: float) -> None:
        """It does not know the free question, and charged us for it."""
        known = self._node(node)
        known.unknowing_until = now + UNKNOWING_SECONDS
        known.offences.append(now)

    def _node(self, node: PeerAddress) -> _Node:
        known = self._nodes.setdefault(node, _Node())
        self._nodes.move_to_end(node)
        if len(self._nodes) > NODES_LIMIT:
            self._nodes.popitem(last=False)
        return known
