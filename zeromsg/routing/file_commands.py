"""Commands about the files of sites.

A path may lead to another site (`merged-<type>/<address>/...`,
`cors-<address>/...`) where the calling site has the permission.
Source: ZeroFrame API, files and MergerSite.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from zeromsg.errors import ClientError, ContentRefused, FileMissing
from zeromsg.interfaces import IClient, ISite, ISites
from zeromsg.routing.binding import (
    Parameter,
    anything,
    boolean,
    optional_text,
    seconds,
    text,
)
from zeromsg.routing.calling import Command, Context, Table, held
from zeromsg.routing.permissions import Permissions
from zeromsg.routing.site_files import SiteFiles
from zeromsg.routing.slices import Slices
from zeromsg.wire.json_text import load
from zeromsg.wire.names import CONTENT_JSON

FILE_LIMIT = 10 * 1024 * 1024
FILE_SECONDS = 3600.0

QUERY_FILES = 200
"""Files that one fileQuery reads."""

QUERY_BYTES = 4 * 1024 * 1024
"""Bytes of these files together."""

QUERY_ROWS = 10_000

_PATH = Parameter("inner_path", text)
_TIMEOUT = Parameter("timeout", seconds(FILE_SECONDS), 300.0)
_PRIORITY = Parameter("priority", anything, 6)


class FileCommands:
    """fileGet and the like."""

    def __init__(
        self, *, sites: ISites, files: SiteFiles, permissions: Permissions, clock: IReactorTime
    ) -> None:
        self._sites = sites
        self._files = files
        self._permissions = permissions
        self._slices = Slices(clock)
        # Where the queries of each client wait.
        self._lines: WeakKeyDictionary[IClient, DeferredLock] = WeakKeyDictionary()

    def table(self) -> Table:
        return {
            "fileGet": Command(
                (
                    _PATH,
                    Parameter("required", boolean, True),
                    Parameter("format", text, "text"),
                    _TIMEOUT,
                    _PRIORITY,
                ),
                self._file_get,
                read=True,
            ),
            "fileNeed": Command((_PATH, _TIMEOUT, _PRIORITY), self._file_need),
            "fileList": Command((_PATH,), self._file_list, read=True),
            "dirList": Command(
                (_PATH, Parameter("stats", boolean, False)), self._dir_list, read=True
            ),
            "fileRules": Command(
                (
                    _PATH,
                    Parameter("use_my_cert", boolean, False),
                    Parameter("content", anything, None),
                ),
                self._file_rules,
                read=True,
            ),
            "fileQuery": Command(
                (Parameter("dir_inner_path", text), Parameter("query", optional_text, None)),
                self._file_query,
                read=True,
            ),
            "dbQuery": Command(
                (
                    Parameter("query", text),
                    Parameter("params", anything, None),
                    Parameter("wait_for", anything, None),
                ),
                self._db_query,
                read=True,
            ),
        }

    def _find(self, context: Context, inner_path: str) -> tuple[ISite, str]:
        address, path = self._permissions.locate(context.site, inner_path)
        return held(self._sites, address), path

    # Each handler below is one command of the API.

    def _file_get(
        self,
        context: Context,
        inner_path: str,
        required: bool,
        format: str,
        timeout: float,
        priority: Any,
    ) -> Any:
        site, path = self._find(context, inner_path)
        if required and self._is_coming(site, path):
            return self._get_later(site, path, format, timeout)
        return _content(site, path, format)

    def _is_coming(self, site: ISite, path: str) -> bool:
        return not self._files.is_here(site.address, path) and self._files.may_come(
            site.address, path
        )

    async def _get_later(self, site: ISite, path: str, format: str, timeout: float) -> Any:
        await self._files.need(site.address, path, timeout)
        return _content(site, path, format)

    async def _file_need(
        self, context: Context, inner_path: str, timeout: float, priority: Any
    ) -> Any:
        site, path = self._find(context, inner_path)
        if await self._files.need(site.address, path, timeout):
            return "ok"
        return {"error": "timeout: the file could not be had"}

    def _file_list(self, context: Context, inner_path: str) -> list[str]:
        site, prefix = self._folder(context, inner_path)
        return [path.removeprefix(prefix) for path in site.files() if path.startswith(prefix)]

    def _folder(self, context: Context, inner_path: str) -> tuple[ISite, str]:
        """A site, and the prefix of paths in a folder of it."""
        folder = inner_path.strip("/")
        if ".." in folder.split("/"):
            raise ClientError("invalid", f"File not allowed: {inner_path}")
        # The folder itself may be the root of another site.
        site, path = self._find(context, f"{folder}/x")
        return site, path.removesuffix("x").lstrip("/")

    def _dir_list(self, context: Context, inner_path: str, stats: bool) -> Any:
        site, prefix = self._folder(context, inner_path)
        below = [path.removeprefix(prefix) for path in site.files() if path.startswith(prefix)]
        if prefix and not below:
            return {"error": "FileNotFoundError: No such file or directory"}
        names = dict.fromkeys(path.partition("/")[0] for path in below)
        if not stats:
            return list(names)
        return [
            {"name": name, "size": _size(site, prefix + name), "is_dir": name not in below}
            for name in names
        ]

    def _file_rules(
        self, context: Context, inner_path: str, use_my_cert: bool, content: Any
    ) -> Any:
        site, path = self._find(context, inner_path)
        if not path.endswith(CONTENT_JSON):
            path = path.removesuffix(path.rpartition("/")[2]) + CONTENT_JSON
        author = content if isinstance(content, dict) else {}
        certificate = context.user.certificate(context.site) if use_my_cert else None
        if certificate is not None:
            author = {
                "cert_auth_type": certificate.auth_type,
                "cert_user_id": certificate.user_id,
            }
        try:
            return site.rules_of(path, author)
        except ContentRefused as refused:
            return {"error": str(refused)}

    async def _file_query(self, context: Context, dir_inner_path: str, query: str | None) -> Any:
        site, path = self._find(context, dir_inner_path)
        # One after the other: each may hold thousands of rows.
        line = self._lines.setdefault(context.client, DeferredLock())
        await line.acquire()
        try:
            rows: list[dict[str, Any]] = []
            steps = _query(site, path, query, rows)
            if not self._slices.begin(steps):
                await self._slices.work_off(steps)
        finally:
            line.release()
        return rows

    def _db_query(self, context: Context, query: str, params: Any, wait_for: Any) -> Any:
        held(self._sites, context.site)
        return {"error": "unsupported: this node keeps no databases of sites"}


def _content(site: ISite, path: str, format: str) -> Any:
    try:
        body, _ = site.read(path, 0, FILE_LIMIT)
    except FileMissing:
        return None
    if format == "base64":
        return base64.b64encode(body).decode()
    try:
        return body.decode()
    except UnicodeDecodeError as problem:
        return {"error": f"Error decoding text: {problem.reason}"}


def _size(site: ISite, path: str) -> int:
    try:
        return site.read(path, 0, 0)[1]
    except FileMissing:
        return 0  # a folder


def _documents(site: ISite, path: str) -> Iterator[tuple[str, Any]]:
    """JSON files of `dir/file.json` or `dir/*/file.json`, with the folder that * stands for."""
    before, star, after = path.partition("*/")
    if "*" in before or "*" in after:
        raise ClientError("invalid", "one * may stand for one folder")
    left = QUERY_BYTES
    matching = [name for name in site.files() if _matches(name, before, star, after)]
    for name in matching[:QUERY_FILES]:
        try:
            body, size = site.read(name, 0, left)
        except FileMissing:
            continue
        left -= size
        if left < 0:
            raise ClientError("too-big", f"these files have over {QUERY_BYTES} bytes")
        try:
            document = load(body.decode())
        except (ValueError, json.JSONDecodeError):
            continue
        yield name.removeprefix(before).removesuffix(f"/{after}") if star else "", document


def _query(site: ISite, path: str, query: str | None, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Add the rows, a file at a time."""
    for folder, document in _documents(site, path):
        for row in _select(document, query):
            if len(rows) >= QUERY_ROWS:
                return
            entry = dict(row) if isinstance(row, dict) else {"value": row}
            rows.append({**entry, "inner_path": folder})
        yield


def _matches(name: str, before: str, star: str, after: str) -> bool:
    if not star:
        return name == before
    if not (name.startswith(before) and name.endswith(f"/{after}")):
        return False
    middle = name.removeprefix(before).removesuffix(f"/{after}")
    return bool(middle) and "/" not in middle


def _select(document: Any, query: str | None) -> Iterator[Any]:
    """The rows that `a.b` or `a.key=5` names in a document."""
    names, equals, number = (query or "").partition("=")
    steps = names.split(".") if names else []
    key = steps.pop() if equals and steps else None
    for step in steps:
        document = document.get(step) if isinstance(document, dict) else None
    rows = document if isinstance(document, list) else [document]
    for row in rows:
        if row is None:
            continue
        if key is None or (isinstance(row, dict) and str(row.get(key)) == number):
            yield row
