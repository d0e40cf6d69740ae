"""How much of a message there is for a stranger's rules to work on.

Neither the schema nor the program library can be stopped once it runs, so how
long it takes at worst is estimated before: steps of the rule, found once, times
values of the message.
"""

from typing import Any


def most_values(size: int) -> int:
    """How many values a message of so many characters of JSON can have at most."""
    # `[[]]` and its like are the shortest: two characters for each.
    return size // 2 + 1


def count_values(message: Any) -> int:
    """How many values a message has, itself and all lists and maps included."""
    level, count = [message], 0
    while level:
        count += len(level)
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return count
