"""What a neighbour can have known when it sent a message.

A neighbour that passes on what it cannot judge learns from our verdicts whose
messages to pass on no longer. Whatever is on its way before the first verdict
reaches it is not its fault, however much an attacker sent through it at once:
such messages cost it `GRACE` points together. It knows a verdict once it has
answered the request that told it.

Numbers only grow, and only differences count: `charged`, what it was charged
over this connection, and `heard`, the part of it that it knows of. Seconds lie
between the two, so nothing of it has to halve.
"""

import attrs

GRACE = 30.0
"""Most points for messages that were sent before the charges for earlier ones were heard of.

Whoever stops sending at `judges.SILENT_DEBT` stays below a ban with this.
"""


@attrs.define
class Hearing:
    """One connection to a neighbour that is told our verdicts."""

    charged: float = 0.0
    heard: float = 0.0

    def charge(self, points: float, heard: float) -> float:
        """How much of these points a message costs.

        heard: what the neighbour had heard of when the message came.
        """
        cost = max(0.0, min(points, heard + GRACE - self.charged))
        self.charged += cost
        return cost

    def hears(self, points: float) -> None:
        """It knows of so many points more now."""
        self.heard += points

    @property
    def is_behind(self) -> bool:
        """Whether it has to hear of our verdicts before more of it is worth looking at."""
        return self.charged - self.heard >= GRACE
