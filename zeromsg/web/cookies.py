"""The one cookie that is read: which user a request is from.

Programs of multi-user ZeroNet nodes, `zeroframe-ws-client` among them, send
`master_address=<address>` with their WebSocket. Source: ZeroFrame API,
section 12; RFC 6265, section 4.2.
"""

from collections.abc import Iterable

NAME = "master_address"
VALUE_LIMIT = 64
"""Most letters of the value; an address has 34 at most."""


def master_address(headers: Iterable[bytes]) -> str | None:
    """The user that Cookie headers name, None where none of them does.

    Other cookies do not matter, whatever they look like. The same value may
    stand there twice. Raises ValueError with a sentence for two different
    ones, an empty one, and one that could be no address.
    """
    values = {
        value.strip(" \t").removeprefix('"').removesuffix('"')
        for header in headers
        for part in header.decode("latin-1").split(";")
        for name, equals, value in [part.partition("=")]
        if equals and name.strip(" \t") == NAME
    }
    if len(values) > 1:
        raise ValueError(f"the cookie {NAME} stands there with several values")
    if not values:
        return None
    (value,) = values
    if not 0 < len(value) <= VALUE_LIMIT or not (value.isascii() and value.isalnum()):
        raise ValueError(f"the cookie {NAME} is no address")
    return value
