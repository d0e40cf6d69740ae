"""The node as its pages see it (`web.pages.IGate`), without a node."""

import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from zeromsg.net.client_gate import host_allowed, origin_allowed

PORT = 43110


class MemoryGate:
    """Sites are those that have a key.

    files: (site, inner path) to bytes. coming: such pairs that are not here
    yet; `arrive` brings one. Tests replace what they need.
    """

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        self.contents: dict[str, Mapping[str, Any]] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.coming: dict[tuple[str, str], list[Deferred[bool]]] = {}
        self.located: dict[tuple[str, str], tuple[str, str] | None] = {}
        self.open: set[str] = set()
        self.pages: dict[bytes, tuple[str, str, float]] = {}

    def host_allowed(self, host: str) -> bool:
        return host_allowed(host, PORT, ["node.example"])

    def origin_allowed(self, origin: str | None, host: str) -> bool:
        return origin_allowed(origin, host)

    def user_of(self, address: str) -> str | None:
        return None

    def key_of(self, site: str, user: str) -> str | None:
        return self.keys.get(site)

    def opens(self, key: str) -> tuple[str, str] | None:
        return next(((site, "") for site, known in self.keys.items() if known == key), None)

    def upgrade(self, site: str, user: str, trusted: bool) -> IResource | None:
        return None

    def title(self, site: str) -> str:
        return self.titles.get(site, site)

    def content(self, site: str) -> Mapping[str, Any] | None:
        return self.contents.get(site)

    def clients(self, site: str) -> int:
        return int(site in self.open)

    def sites(self) -> Collection[str]:
        return list(self.keys)

    def status(self) -> Mapping[str, Any]:
        return {"version": "1", "sites": []}

    def operate(self, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def may_see_status(self, token: str) -> bool:
        return False

    def kept_pages(self) -> Iterable[tuple[bytes, str, str, float]]:
        return [(digest, *page) for digest, page in self.pages.items()]

    def keep_page(self, digest: bytes, site: str, user: str, until: float) -> None:
        self.pages[digest] = (site, user, until)

    # Files

    def ajax_key(self, site: str) -> str:
        return f"{site:a<64}"

    def modified(self, site: str) -> int:
        return 1_800_000_000

    def locate(self, site: str, inner_path: str) -> tuple[str, str] | None:
        return self.located.get((site, inner_path), (site, inner_path))

    def is_here(self, site: str, inner_path: str) -> bool:
        return (site, inner_path) in self.files

    def may_come(self, site: str, inner_path: str) -> bool:
        return (site, inner_path) in self.coming

    def need(self, site: str, inner_path: str, seconds: float) -> Deferred[bool]:
        waiting: Deferred[bool] = Deferred()
        self.coming[site, inner_path].append(waiting)
        return waiting

    def arrive(self, site: str, inner_path: str, data: bytes | None) -> None:
        """What was waited for has come, or, with None, will not."""
        if data is not None:
            self.files[site, inner_path] = data
        for waiting in self.coming.pop((site, inner_path)):
            waiting.callback(data is not None)

    def open_file(self, site: str, inner_path: str) -> tuple[BinaryIO, int, str] | None:
        data = self.files.get((site, inner_path))
        return None if data is None else (io.BytesIO(data), len(data), f"mark{hash(data) % 10**8}")

    def is_folder(self, site: str, inner_path: str) -> bool:
        folder = f"{inner_path.rstrip('/')}/" if inner_path else ""
        return any(held == site and path.startswith(folder) for held, path in self.files)
