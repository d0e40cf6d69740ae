"""What `siteInfo` and `serverInfo` say.

Zites read these maps without looking whether a key is there, so all keys of
ZeroNet's answers are present; what would only tell sites something about the
person (platform, other plugins, addresses) has a neutral value. Source:
ZeroFrame API, siteInfo and serverInfo.
"""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from zeromsg.interfaces import ISite, IUser
from zeromsg.wire.names import ZERONET_REV, ZERONET_VERSION

PLUGINS = ["PeerMessage", "CryptMessage", "MergerSite", "Cors"]
"""What zites look for here before they use it."""

_MEGABYTE = 1024 * 1024
_COUNTED = ("files", "files_optional", "includes")
_SIGNATURES = ("sign", "signs", "signers_sign")


@attrs.frozen
class NodeFacts:
    """What is true of this node for every client.

    port_opened: by family of addresses, whether peers can connect; None unknown.
    tor_status: "OK", "Disabled" or `Error (reason)`, as ZeroNet says it.
    """

    version: str
    fileserver_port: int
    ui_host: str
    ui_port: int
    port_opened: Mapping[str, bool | None] = MappingProxyType({"ipv4": None, "ipv6": None})
    tor_enabled: bool = False
    tor_status: str = "Disabled"


def server_info(facts: NodeFacts) -> dict[str, Any]:
    return {
        "ip_external": None,
        "port_opened": dict(facts.port_opened),
        "platform": "",
        "fileserver_ip": "",
        "fileserver_port": facts.fileserver_port,
        "tor_enabled": facts.tor_enabled,
        "tor_status": facts.tor_status,
        "tor_has_meek_bridges": False,
        "tor_use_bridges": False,
        "ui_ip": facts.ui_host,
        "ui_port": facts.ui_port,
        "version": ZERONET_VERSION,
        "rev": ZERONET_REV,
        "timecorrection": 0,
        "language": "en",
        "debug": False,
        "offline": False,
        "plugins": PLUGINS,
        "plugins_rev": {},
        "user_settings": {},
        "zeromsg": facts.version,
    }


def site_info(
    site: ISite, user: IUser, peers: int, permissions: Sequence[str] = ()
) -> dict[str, Any]:
    """peers: how many take part in the site, beside this node.

    permissions: of the site.
    """
    address, content = site.address, site.content or {}
    cert = user.certificate(address)
    size = sum(_size(entry) for entry in _map(content.get("files")).values())
    missing = len(list(site.missing())) if site.content is not None else 1
    return {
        "auth_address": user.auth_address(address),
        "cert_user_id": cert.user_id if cert is not None else None,
        "address": address,
        "address_short": f"{address[:6]}..{address[-4:]}",
        "address_hash": hashlib.sha256(address.encode()).hexdigest(),
        "settings": {
            "added": 0,
            "downloaded": None,
            "own": site.own,
            "permissions": list(permissions),
            "serving": True,
            "size": size,
            "size_optional": 0,
            "size_files_optional": 0,
            "optional_downloaded": 0,
            "modified": content.get("modified", 0),
            "peers": peers,
            "cache": {},
            "ajax_key": "",
        },
        "content_updated": content.get("modified"),
        "bad_files": missing,
        "size_limit": site.size_limit / _MEGABYTE,
        "next_size_limit": site.size_limit / _MEGABYTE,
        "peers": peers + 1,
        "started_task_num": missing,
        "tasks": missing,
        "workers": 0,
        "content": _counted(content),
        "privatekey": user.site_key(address) is not None,
        "feed_follow_num": None,
        "p2p": {"supported": site.rules is not None, "problem": site.rules_problem},
    }


def _counted(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content.json with its long parts as numbers, and without signatures."""
    return {
        key: len(_map(value)) if key in _COUNTED else value
        for key, value in content.items()
        if key not in _SIGNATURES
    }


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _size(entry: Any) -> int:
    size = _map(entry).get("size")
    return size if isinstance(size, int) else 0
