"""Commands about sites and the node, and what the person keeps of sites.

Source: ZeroFrame API, commands.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zeromsg.errors import ClientError
from zeromsg.interfaces import ISites, IStore
from zeromsg.routing.binding import Parameter, anything, boolean, optional_text, text
from zeromsg.routing.calling import Command, Context, Table, held
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.info import NodeFacts, server_info, site_info
from zeromsg.routing.joining import Joining
from zeromsg.routing.permissions import Permissions
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.json_text import dump_compact

SETTINGS_LIMIT = 64 * 1024


class SiteCommands:
    """siteInfo and the like."""

    def __init__(
        self,
        *,
        sites: ISites,
        store: IStore,
        delivery: Delivery,
        site_peers: SitePeers,
        joining: Joining,
        permissions: Permissions,
        facts: Callable[[], NodeFacts],
    ) -> None:
        self._sites = sites
        self._store = store
        self._delivery = delivery
        self._site_peers = site_peers
        self._joining = joining
        self._permissions = permissions
        self._facts = facts

    def table(self) -> Table:
        return {
            "ping": Command((), lambda context: "pong"),
            "siteInfo": Command(
                (Parameter("file_status", optional_text, None),), self._site_info, read=True
            ),
            "serverInfo": Command((), lambda context: server_info(self._facts())),
            "channelJoin": Command((Parameter("channels", anything),), self._channel_join),
            "announcerInfo": Command(
                (), lambda context: {"address": context.site, "stats": {}}, read=True
            ),
            "siteUpdate": Command(
                (Parameter("address", text), Parameter("check_files", boolean, False)),
                self._site_update,
            ),
            "siteBadFiles": Command((), self._site_bad_files),
            "siteReload": Command((Parameter("inner_path", text),), self._site_reload),
            "siteList": Command((), self._site_list, admin=True),
            "userGetGlobalSettings": Command((), lambda context: {}),
            "userGetSettings": Command((), self._user_get_settings, read=True),
            "userSetSettings": Command((Parameter("settings", anything),), self._user_set_settings),
        }

    # Each handler below is one command of the API.

    def _site_info(self, context: Context, file_status: str | None) -> Mapping[str, Any]:
        site = held(self._sites, context.site)
        info = self._info(context.site, context)
        if file_status is not None and file_status in site.files():
            info["event"] = ["file_done", file_status]
        return info

    def _info(self, address: str, context: Context) -> dict[str, Any]:
        peers = len(self._site_peers.participants(address))
        site = held(self._sites, address)
        return site_info(site, context.user, peers, self._permissions.of(address))

    def _channel_join(self, context: Context, channels: Any) -> str:
        try:
            context.client.join(channels)
        except ValueError as problem:
            raise ClientError("invalid", str(problem)) from None
        if self._delivery.listeners(context.site):
            self._delivery.flush(context.client)
        return "ok"

    def _site_update(self, context: Context, address: str, check_files: bool) -> Any:
        if address != context.site:
            return {"error": f"Unknown site: {address[:64]}"}
        held(self._sites, address)
        self._joining.try_all()
        return "Updated"

    def _site_bad_files(self, context: Context) -> list[str]:
        site = held(self._sites, context.site)
        return [*site.missing_contents(), *(path for path, _ in site.missing())]

    def _site_reload(self, context: Context, inner_path: str) -> str:
        held(self._sites, context.site)
        return "ok"

    def _site_list(self, context: Context) -> list[Mapping[str, Any]]:
        return [self._info(address, context) for address in self._sites.addresses()]

    def _user_get_settings(self, context: Context) -> Mapping[str, Any]:
        return self._store.user_settings(context.site, context.user.auth_address(context.site))

    def _user_set_settings(self, context: Context, settings: Any) -> str:
        if not isinstance(settings, dict):
            raise ClientError("invalid", "settings must be a map")
        if len(dump_compact(settings)) > SETTINGS_LIMIT:
            raise ClientError("too-big", f"settings take over {SETTINGS_LIMIT} bytes")
        self._store.set_user_settings(
            context.site, context.user.auth_address(context.site), settings
        )
        return "ok"
