"""Which addresses may be dialled because a stranger said so, and which belong together.

Whoever names an address makes us knock there. What means nothing on the open
network (this machine, a private net, a group of machines) is refused, in every
spelling that would end there. Ranges say which addresses one owner is likely
to have many of: a /16 of IPv4, a /48 of IPv6.
Source: RFC 6890 (special purposes), RFC 6052 and 3056 (IPv4 inside of IPv6).
"""

import functools
import ipaddress

from zeromsg.wire.values import PeerAddress

IPV4_RANGE = 16
IPV6_RANGE = 48
IPV6_LINE = 64
ONIONS = "onion"
"""The one range of all onions: anybody can make as many as they like."""

_NOBODY = [
    ipaddress.ip_network(net)
    for net in ("0.0.0.0/32", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")
]
"""Where no single machine answers."""

_PRIVATE = [ipaddress.ip_network(net) for net in ("100.64.0.0/10", "fec0::/10", "64:ff9b:1::/48")]
"""Private ones that `PeerAddress.is_private` does not name: behind a provider's NAT, of old."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def unfit(address: PeerAddress, *, allow_private: bool) -> str:
    """Why an address that a stranger named may not be dialled, or "" if it may.

    allow_private: take loopback, private and link-local ones, as on a test
    network; what nobody can be reached at is refused in any case.
    """
    if not address.port:
        return "nobody listens at port 0"
    if address.kind == "onion":
        return ""
    if _is_nobody(address.host):
        return "no single machine has that address"
    if not allow_private and is_private(address.host):
        return "that address is private"
    return ""


@functools.lru_cache(maxsize=4096)
def is_private(host: str) -> bool:
    """Whether a host means something on this machine or its own network only."""
    if host.endswith(".onion"):
        return False
    ip = ipaddress.ip_address(host)
    inner = _inner(ip)
    if PeerAddress(str(inner), 1).is_private:
        return True
    return any(inner in net for net in _PRIVATE)


@functools.lru_cache(maxsize=4096)
def range_of(host: str) -> str:
    """The range a host belongs to, as a text; a private host is a range of its own.

    Private addresses are taken only where the operator trusts that network.
    """
    if host.endswith(".onion"):
        return ONIONS
    if is_private(host):
        return host
    ip = _inner(ipaddress.ip_address(host))
    length = IPV4_RANGE if ip.version == 4 else IPV6_RANGE
    return str(ipaddress.ip_network((ip, length), strict=False))


@functools.lru_cache(maxsize=4096)
def line_of(host: str) -> str:
    """What one line to the network has, as a text: an address, or a /64 of IPv6."""
    if host.endswith(".onion") or ":" not in host or is_private(host):
        return host
    ip = _inner(ipaddress.ip_address(host))
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((ip, IPV6_LINE), strict=False))


@functools.lru_cache(maxsize=4096)
def _is_nobody(host: str) -> bool:
    ip = _inner(ipaddress.ip_address(host))
    return any(ip in net for net in _NOBODY)


def _inner(ip: _Ip) -> _Ip:
    """The IPv4 address that an IPv6 one leads to, where it leads to one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.IPv4Address(ip.packed[-4:])
    return ip
