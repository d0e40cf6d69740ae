"""Commands by which sites ask for permissions, and mergers for their sites.

Who grants is the person: by answering a prompt, or through a page of the
node's own, whose connection is trusted. Source: ZeroFrame API, rights and
MergerSite.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from zeromsg.errors import ClientError
from zeromsg.interfaces import ISites
from zeromsg.routing.binding import Parameter, boolean, text
from zeromsg.routing.calling import Command, Context, Table, held
from zeromsg.routing.info import site_info
from zeromsg.routing.permissions import CORS, Permissions, check_form
from zeromsg.routing.prompts import Choice, Prompts, Question
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.client_messages import event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.values import is_site_address

ADDRESSES_LIMIT = 20
"""Sites that one call may ask for."""

YES = "yes"

_NO_MERGER = {"error": "Not a merger site"}


class PermissionCommands:
    """permissionAdd, corsPermission, mergerSiteAdd and the like.

    join, leave: hold a site, and no longer; leave raises ClientError.
    changed: tells a site's clients of an event in its siteInfo.
    """

    def __init__(
        self,
        *,
        sites: ISites,
        permissions: Permissions,
        prompts: Prompts,
        site_peers: SitePeers,
        join: Callable[[str], object],
        leave: Callable[[str], object],
        changed: Callable[[str, tuple[str, Any]], None],
    ) -> None:
        self._sites = sites
        self._permissions = permissions
        self._prompts = prompts
        self._site_peers = site_peers
        self._join = join
        self._leave = leave
        self._changed = changed

    def table(self) -> Table:
        permission = (Parameter("permission", text),)
        addresses = (Parameter("addresses", _addresses),)
        return {
            "permissionAdd": Command(permission, self._permission_add, personal=True),
            "permissionRemove": Command(permission, self._permission_remove, personal=True),
            "permissionDetails": Command(
                permission,
                lambda context, permission: escape(self._permissions.describe(permission)),
                admin=True,
            ),
            "corsPermission": Command((Parameter("address", _addresses),), self._cors),
            "mergerSiteAdd": Command(addresses, self._merger_add),
            "mergerSiteDelete": Command((Parameter("address", text),), self._merger_delete),
            "mergerSiteList": Command(
                (Parameter("query_site_info", boolean, False),), self._merger_list
            ),
        }

    # Each handler below is one command of the API.

    def _permission_add(self, context: Context, permission: str) -> str:
        held(self._sites, context.site)
        if self._permissions.add(context.site, permission):
            self._changed(context.site, ("permission_added", permission))
        return "ok"

    def _permission_remove(self, context: Context, permission: str) -> str:
        check_form(permission)
        if self._permissions.remove(context.site, permission):
            self._changed(context.site, ("permission_removed", permission))
        return "ok"

    async def _cors(self, context: Context, address: list[str]) -> str:
        held(self._sites, context.site)
        wanted = [each for each in address if not self._permissions.may_read(context.site, each)]
        if not wanted:
            return "ignored"
        meaning = [self._permissions.describe(f"{CORS}{each}") for each in wanted]
        await self._prompts.ask(
            context,
            Question(
                "confirm",
                "This site asks for a permission. " + ". ".join(meaning) + ".",
                [Choice(YES, "Grant")],
                (
                    "confirm",
                    [
                        "This site requests <b>read</b> permission to: "
                        f"<b>{escape(', '.join(wanted))}</b>",
                        "Grant",
                    ],
                ),
            ),
        )
        for each in wanted:
            self._permission_add(context, f"{CORS}{each}")
        return "ok"

    async def _merger_add(self, context: Context, addresses: list[str]) -> Any:
        if not self._permissions.merger_types(context.site):
            return _NO_MERGER
        new = [each for each in addresses if self._sites.get(each) is None]
        if not new:
            return "ok"
        names = ", ".join(new)
        await self._prompts.ask(
            context,
            Question(
                "confirm",
                f"This site wants to add {len(new)} site(s) to this node: {names}",
                [Choice(YES, "Add")],
                ("confirm", [f"Add <b>{len(new)}</b> new site?", "Add"]),
            ),
        )
        for each in new:
            if self._sites.get(each) is None:
                self._join(each)
        done = f"Added <b>{len(new)}</b> new site"
        context.client.push(event_head("notification", dump_compact(["done", done, 5000])))
        return "ok"

    async def _merger_delete(self, context: Context, address: str) -> Any:
        if self._sites.get(address) is None:
            return {"error": f"No site found: {address[:64]}"}
        types = self._permissions.merger_types(context.site)
        kind = self._permissions.merged_type(address)
        if kind not in types:
            return {"error": f"Merged type ({kind}) not in {types}"}
        await self._prompts.ask(
            context,
            Question(
                "confirm",
                f"This site wants to remove a site from this node: {address}",
                [Choice(YES, "Remove")],
                ("confirm", [f"Remove site <b>{escape(address)}</b>?", "Remove"]),
            ),
        )
        self._leave(address)
        done = f"Site deleted: <b>{escape(address)}</b>"
        context.client.push(event_head("notification", dump_compact(["done", done, 5000])))
        return "ok"

    def _merger_list(self, context: Context, query_site_info: bool) -> Mapping[str, Any]:
        if not self._permissions.merger_types(context.site):
            return _NO_MERGER
        merged = self._permissions.merged_sites(context.site)
        if not query_site_info:
            return merged
        return {
            address: site_info(
                held(self._sites, address),
                context.user,
                len(self._site_peers.participants(address)),
                self._permissions.of(address),
            )
            for address in merged
        }


def _addresses(name: str, value: Any) -> list[str]:
    """One address or a list of them."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not 0 < len(listed) <= ADDRESSES_LIMIT:
        raise ClientError("invalid", f"{name} must be 1 to {ADDRESSES_LIMIT} addresses")
    for each in listed:
        if not isinstance(each, str) or not is_site_address(each):
            raise ClientError("invalid", f"{name} must be addresses of sites")
    return list(dict.fromkeys(listed))
