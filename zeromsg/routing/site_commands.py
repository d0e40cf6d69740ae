"""Commands about sites, their files, and what the person keeps of them.

Source: ZeroFrame API, commands.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from zeromsg.errors import ClientError, FileMissing
from zeromsg.interfaces import ISites, IStore
from zeromsg.routing.binding import Parameter, anything, boolean, optional_text, seconds, text
from zeromsg.routing.calling import Command, Context, Table, held
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.info import NodeFacts, server_info, site_info
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.json_text import dump_compact

SETTINGS_LIMIT = 64 * 1024
FILE_LIMIT = 10 * 1024 * 1024
FILE_SECONDS = 3600.0


class SiteCommands:
    """siteInfo and the like."""

    def __init__(
        self,
        *,
        sites: ISites,
        store: IStore,
        delivery: Delivery,
        site_peers: SitePeers,
        facts: Callable[[], NodeFacts],
    ) -> None:
        self._sites = sites
        self._store = store
        self._delivery = delivery
        self._site_peers = site_peers
        self._facts = facts

    def table(self) -> Table:
        return {
            "ping": Command((), lambda context: "pong"),
            "siteInfo": Command((Parameter("file_status", optional_text, None),), self._site_info),
            "serverInfo": Command((), lambda context: server_info(self._facts())),
            "channelJoin": Command((Parameter("channels", anything),), self._channel_join),
            "fileGet": Command(
                (
                    Parameter("inner_path", text),
                    Parameter("required", boolean, True),
                    Parameter("format", text, "text"),
                    Parameter("timeout", seconds(FILE_SECONDS), 300.0),
                    Parameter("priority", anything, 6),
                ),
                self._file_get,
            ),
            "fileList": Command((Parameter("inner_path", text),), self._file_list),
            "userGetSettings": Command((), self._user_get_settings),
            "userSetSettings": Command((Parameter("settings", anything),), self._user_set_settings),
        }

    # Each handler below is one command of the API.

    def _site_info(self, context: Context, file_status: str | None) -> Mapping[str, Any]:
        site = held(self._sites, context.site)
        info = site_info(site, context.user, len(self._site_peers.participants(context.site)))
        if file_status is not None and file_status in site.files():
            info["event"] = ["file_done", file_status]
        return info

    def _channel_join(self, context: Context, channels: Any) -> str:
        try:
            context.client.join(channels)
        except ValueError as problem:
            raise ClientError("invalid", str(problem)) from None
        if self._delivery.listeners(context.site):
            self._delivery.flush(context.client)
        return "ok"

    def _file_get(
        self,
        context: Context,
        inner_path: str,
        required: bool,
        format: str,
        timeout: float,
        priority: Any,
    ) -> Any:
        try:
            body, _ = held(self._sites, context.site).read(inner_path, 0, FILE_LIMIT)
        except FileMissing:
            return None
        if format == "base64":
            return base64.b64encode(body).decode()
        try:
            return body.decode()
        except UnicodeDecodeError as problem:
            return {"error": f"Error decoding text: {problem.reason}"}

    def _file_list(self, context: Context, inner_path: str) -> list[str]:
        folder = inner_path.strip("/")
        if ".." in folder.split("/"):
            raise ClientError("invalid", f"File not allowed: {inner_path}")
        prefix = f"{folder}/" if folder else ""
        files = held(self._sites, context.site).files()
        return [path.removeprefix(prefix) for path in files if path.startswith(prefix)]

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
