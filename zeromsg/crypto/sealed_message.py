"""Messages of which all, or some fields, stand sealed under `encrypted`.

`crypto.sealing` makes and opens what stands there; here it is put into a
message and taken out again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zeromsg.crypto.sealing import (
    Encrypted,
    IReader,
    Opened,
    Recipient,
    SharedKey,
    open_with,
    read,
    seal,
)

MEMBER = "encrypted"


def seal_message(
    message: Any,
    fields: Iterable[str] | None,
    readers: Sequence[Recipient | SharedKey],
    **bound: Any,
) -> dict[str, Any]:
    """A message with all of it, or some of its fields, behind `encrypted`.

    bound: the further arguments of `seal`.
    Raises ValueError.
    """
    if fields is None:
        return {MEMBER: seal(message, {}, readers, **bound)}
    hidden_fields = set(fields)
    if not isinstance(message, dict) or not hidden_fields or not hidden_fields <= message.keys():
        raise ValueError("fields must name members of the message")
    if MEMBER in message:
        raise ValueError(f"the message has a member {MEMBER} of its own")
    inner = {name: value for name, value in message.items() if name in hidden_fields}
    clear = {name: value for name, value in message.items() if name not in hidden_fields}
    return {**clear, MEMBER: seal(inner, clear, readers, **bound)}


def open_message(
    message: Mapping[str, Any],
    encrypted: Encrypted,
    reader: IReader,
    *,
    site: str,
    allowed: Callable[[], bool] = lambda: True,
) -> Opened | None:
    """A sealed message as it was before, if this key opens it; None otherwise.

    encrypted: what `read_message` gave for it.
    """
    clear = {name: value for name, value in message.items() if name != MEMBER}
    opened = open_with(reader, encrypted, clear, site=site, allowed=allowed)
    if opened is None or not clear:
        return opened
    inner = opened.value
    if not isinstance(inner, dict) or inner.keys() & clear.keys():
        return None
    return Opened({**clear, **inner})


def read_message(message: object) -> Encrypted | None:
    """The sealed part of a message, None where it has none. Raises BadSealing."""
    if not isinstance(message, dict) or MEMBER not in message:
        return None
    return read(message[MEMBER])
