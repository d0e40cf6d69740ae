"""Who may open a page or WebSocket: Host against DNS rebinding, Origin against other pages.

A literal IP address cannot be rebound, so any is allowed; of names only
`localhost` with our own port and those the operator lists. Nothing is looked
up, and nothing is remembered of what strangers send. Source: ZeroFrame API,
Host check and WebSocket handshake.
"""

import ipaddress
from collections.abc import Collection


def host_allowed(host: str, port: int, names: Collection[str]) -> bool:
    """host: the Host header. port: ours. names: further names, without port."""
    name, own_port = split_host(host)
    if name is None:
        return False
    if _is_ip(name):
        return True
    return name in names or (name == "localhost" and (own_port or 80) == port)


def split_host(host: str) -> tuple[str | None, int | None]:
    """Name and port of a Host header; the name is None for what is none."""
    name, separator, digits = host.lower().rpartition(":")
    if not separator or host.endswith("]"):
        name, digits = host.lower(), ""
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None, None
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        return None, None
    return name or None, int(digits) if digits else None


def _is_ip(name: str) -> bool:
    if "%" in name:
        return False  # a zone may be any text, and stands in no URL
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def origin_allowed(origin: str | None, host: str) -> bool:
    """Programs send no Origin; pages must be of the host they talk to.

    The opaque origin `null` of sandboxed frames and of files is refused.
    """
    if not origin:
        return True
    scheme, separator, origin_host = origin.partition("://")
    return scheme in ("http", "https") and bool(separator) and origin_host.lower() == host.lower()
