"""Who hears a message next."""

import random
from collections.abc import Container, Iterable
from typing import TypeVar

T = TypeVar("T")


def choose(
    candidates: Iterable[T], exclude: Container[object], count: int | None, rng: random.Random
) -> list[T]:
    """At most `count` of the candidates (all of them for None), at random.

    exclude: those that have it already, the sender above all.
    """
    chosen = [candidate for candidate in candidates if candidate not in exclude]
    if count is not None and len(chosen) > count:
        chosen = rng.sample(chosen, count)
    return chosen
