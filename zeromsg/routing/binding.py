"""Parameters of a client's call, by name or by position, to checked arguments."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from zeromsg.errors import ClientError
from zeromsg.wire.client_messages import Call

REQUIRED: Any = object()

Check = Callable[[str, Any], Any]
"""Takes the parameter's name and value; returns the value or raises ClientError."""


@attrs.frozen
class Parameter:
    """One parameter of a command, in its place."""

    name: str
    check: Check
    default: Any = REQUIRED


def bind(cmd: str, parameters: Sequence[Parameter], call: Call) -> dict[str, Any]:
    """The arguments of a call by name. Raises ClientError for what does not fit."""
    if len(call.positional) > len(parameters):
        raise ClientError("invalid", f"{cmd} takes at most {len(parameters)} parameters")
    given = dict(zip((parameter.name for parameter in parameters), call.positional, strict=False))
    given.update(call.named)
    bound = {}
    for parameter in parameters:
        value = given.pop(parameter.name, parameter.default)
        if value is REQUIRED:
            raise ClientError("invalid", f"{cmd} needs the parameter {parameter.name}")
        # A default needs no check: it may be a value that clients cannot give.
        bound[parameter.name] = (
            value if value is parameter.default else parameter.check(parameter.name, value)
        )
    if given:
        unknown = ", ".join(sorted(given))[:200]
        raise ClientError("invalid", f"{cmd} has no parameter {unknown}")
    return bound


def anything(name: str, value: Any) -> Any:
    return value


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ClientError("invalid", f"{name} must be true or false")
    return value


def optional_text(name: str, value: Any) -> str | None:
    return None if value is None else text(name, value)


def optional_number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ClientError("invalid", f"{name} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ClientError("invalid", f"{name} is too large") from None


def text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise ClientError("invalid", f"{name} must be a text of at most 1024 characters")
    return value


def whole(least: int, most: int) -> Check:
    """A whole number in a range; true and false are none."""

    def check(name: str, value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ClientError("invalid", f"{name} must be a whole number from {least} to {most}")
        return value

    return check


def seconds(most: float) -> Check:
    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ClientError("invalid", f"{name} must be a number of seconds from 0 to {most:g}")
        return float(value)

    return check


def signing_key(name: str, value: Any) -> Any:
    """null, false (the user's key), "stored" (the site's key) or a private key as text."""
    if value is None or value is False or (isinstance(value, str) and 0 < len(value) <= 64):
        return value
    raise ClientError("invalid", f'{name} must be null, false, "stored" or a private key')
