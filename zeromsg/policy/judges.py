"""What neighbours' clients think of what comes from a source, when we cannot judge ourselves.

A node without clients passes messages on that its neighbours' clients may
reject. The neighbour charges it, and says so in its answer; the node charges
the source in turn, a little more than it was charged itself. So along a chain
of such nodes the account nearest to the attacker fills first, and the honest
ones stop passing his messages on before they are blamed too much.

No single neighbour is believed without end: once it has objected to a source
often enough, it is not sent that source's messages any more, and what it says
costs the source nothing further. And because each neighbour says what it
charged us, we know when our own account there fills: then it is sent nothing
doubtful, and in the end nothing of others at all, until ten minutes have passed
without a charge. What we believe to owe is never less than what stands there
(`policy.scoring` counts rejections in the same way), and what a neighbour
charges before we can know of it is bounded (`policy.hearing`): so passing
messages on never gets us banned. A neighbour that lies deprives only itself.
"""

from collections import OrderedDict

import attrs

from zeromsg.policy.scoring import BAN_POINTS

GRADIENT = 1.25
"""How much more than it was charged itself a node charges the source."""

COST_LIMIT = 25.0
"""Most points for one message, whatever the neighbour says."""

OBJECTION_POINTS = 50.0
"""From here on a neighbour is not sent the source's messages."""

CAREFUL_DEBT = 40.0
"""From here on a judge is sent nothing of sources that anybody objected to."""

SILENT_DEBT = 70.0
"""From here on a judge is sent only messages of our own clients."""

HALF_LIFE = 600.0
SOURCES_LIMIT = 10_000
JUDGES_LIMIT = 100
"""Judges remembered of one source; for a further one, who holds least against it is forgotten."""


@attrs.define
class _Account:
    points: float
    at: float


class Judges:
    """What each judge holds against each source."""

    def __init__(self, capacity: int = SOURCES_LIMIT) -> None:
        self._capacity = capacity
        self._sources: OrderedDict[str, dict[str, _Account]] = OrderedDict()
        # What each judge charged us ourselves.
        self._debts: OrderedDict[str, _Account] = OrderedDict()

    def objected(self, source: str, judge: str, cost: float, now: float) -> float:
        """The judge's clients rejected a message of the source; what the source is charged.

        cost: points that the judge says it charged us for it.
        """
        account = self._account(source, judge, now)
        left = OBJECTION_POINTS - account.points
        if left <= 0.0:
            return 0.0
        charge = min(max(cost, 0.0) * GRADIENT, COST_LIMIT)
        # It may go beyond what is charged, so that it takes a while to come back.
        account.points += charge
        return min(charge, left)

    def approved(self, source: str, judge: str, now: float) -> None:
        """The judge's clients accepted a message of the source: half is forgiven."""
        account = self._sources.get(source, {}).get(judge)
        if account is not None:
            account.points, account.at = _left(account, now) / 2, now

    def wants(self, source: str, judge: str, now: float) -> bool:
        """Whether the judge should be sent messages of the source."""
        account = self._sources.get(source, {}).get(judge)
        return account is None or _left(account, now) < OBJECTION_POINTS

    def charged_us(self, judge: str, cost: float, now: float) -> None:
        """The judge says that it charged us so many points."""
        debt = self._debts.setdefault(judge, _Account(0.0, now))
        self._debts.move_to_end(judge)
        points = _standing(debt, now) + min(max(cost, 0.0), COST_LIMIT)
        debt.points, debt.at = min(points, BAN_POINTS), now if cost > 0 else debt.at
        if len(self._debts) > self._capacity:
            self._debts.popitem(last=False)

    def risks(self, judge: str, doubtful: bool, now: float) -> bool:
        """Whether we may send the judge what others made.

        doubtful: we cannot judge it, and somebody objected lately to where it
        comes from.
        """
        debt = self._debts.get(judge)
        return debt is None or _standing(debt, now) < (CAREFUL_DEBT if doubtful else SILENT_DEBT)

    def suspects(self, source: str, now: float) -> bool:
        """Whether any judge objected to the source lately."""
        accounts = self._sources.get(source)
        return accounts is not None and any(
            _left(account, now) >= 1.0 for account in accounts.values()
        )

    def _account(self, source: str, judge: str, now: float) -> _Account:
        accounts = self._sources.setdefault(source, {})
        self._sources.move_to_end(source)
        if len(self._sources) > self._capacity:
            self._sources.popitem(last=False)
        account = accounts.get(judge)
        if account is None:
            if len(accounts) >= JUDGES_LIMIT:
                del accounts[min(accounts, key=lambda name: _left(accounts[name], now))]
            account = accounts[judge] = _Account(0.0, now)
        account.points, account.at = _left(account, now), now
        return account


def _left(account: _Account, now: float) -> float:
    return float(account.points * 0.5 ** ((now - account.at) / HALF_LIFE))


def _standing(debt: _Account, now: float) -> float:
    """It halves as it does where we owe it: after whole ten minutes without a charge."""
    return float(debt.points * 0.5 ** max(0, int((now - debt.at) // HALF_LIFE)))
