"""What the operator of a running node can ask of it, beside its status."""

from collections.abc import Mapping, Sequence
from typing import Any

from zeromsg.errors import ClientError
from zeromsg.policy.scoring import BAN_SECONDS, LONGEST_BAN
from zeromsg.service.node import Node
from zeromsg.service.peer_report import report

_IDENTITY_LIMIT = 100
_REASON_LIMIT = 200


def operate(node: Node, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run one command; its result as a JSON map. Raises ClientError.

    why: `hash`. bans: nothing. peers: `site`, or nothing for all of them.
    ban: `identity`, `seconds`, `reason`. pardon: `identity`.
    """
    if cmd == "why":
        found = node.why(_text(params, "hash"))
        if found is None:
            raise ClientError("invalid", "this node knows nothing of that message, or no more")
        return found
    if cmd == "bans":
        return {
            "bans": [
                {
                    "identity": ban.identity,
                    "until": ban.until,
                    "strikes": ban.strikes,
                    "reason": ban.reason,
                }
                for ban in node.bans()
            ]
        }
    if cmd == "peers":
        return {"peers": report(node, _sites(node, params), node.now())}
    if cmd == "ban":
        node.ban(_text(params, "identity"), _seconds(params), _text(params, "reason", "by hand"))
        return {"banned": params["identity"]}
    if cmd == "pardon":
        return {"pardoned": node.pardon(_text(params, "identity"))}
    raise ClientError("unsupported", "the operator has no such command")


def _sites(node: Node, params: Mapping[str, Any]) -> Sequence[str]:
    if "site" not in params:
        return node.sites.addresses()
    site = _text(params, "site")
    if node.sites.get(site) is None:
        raise ClientError("unsupported", f"this node does not hold the site {site}")
    return [site]


def _text(params: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = params.get(name, default)
    limit = _REASON_LIMIT if name == "reason" else _IDENTITY_LIMIT
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise ClientError("invalid", f"{name} must be a text of at most {limit} characters")
    return value


def _seconds(params: Mapping[str, Any]) -> float:
    value = params.get("seconds", BAN_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ClientError("invalid", "seconds must be a number above 0")
    # In this order: a whole number may be too large for a float.
    return float(min(value, LONGEST_BAN))
