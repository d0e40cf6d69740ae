"""Sites on disk: a directory each, with the content.json files that vouch for the rest.

Only what a held content.json lists is read or written, so no path of a
stranger leaves the directory; and no link is followed out of it
(`store.inside`). A file is verified in memory, then moved into place whole; a
refusal leaves what was there.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from twisted.logger import Logger

from zeromsg.errors import ConfigError, ContentRefused, FileMissing
from zeromsg.log import leveled
from zeromsg.policy.rules import BadRules, Rules, parse_rules, rules_source
from zeromsg.policy.site_content import (
    ROOT,
    FileEntry,
    content_rules,
    file_digest,
    file_entries,
    is_governed,
    is_safe_path,
    optional_entries,
    parse_content,
    verify_content,
)
from zeromsg.store.inside import open_inside, read_inside
from zeromsg.wire.json_text import dump
from zeromsg.wire.names import P2P_JSON

SIZE_LIMIT = 10_000_000
CONTENTS_LIMIT = 1000
"""Most content.json files of one site."""

_NO_CONTENT = "the site's content.json is not here yet"
_NO_RULES = "the site has no p2p.json"


_Lists = tuple[dict[str, Any], dict[str, FileEntry], dict[str, FileEntry]]
"""A content.json, its required and its optional files."""


class Site:
    """One site (`interfaces.ISite`).

    path: its directory. own: the operator's directory, which is never written.
    size_limit: most bytes of its required files together.
    wall: Unix seconds, to refuse content.json files from the future.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        address: str,
        path: Path,
        *,
        own: bool,
        size_limit: int = SIZE_LIMIT,
        wall: Callable[[], float],
    ) -> None:
        self.address = address
        self.path = path
        self.own = own
        self.size_limit = size_limit
        self._wall = wall
        self._held: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, FileEntry] = {}
        self._optional: dict[str, FileEntry] = {}
        self._read: dict[str, _Lists] = {}
        # Which content.json lists each of them.
        self._listed: dict[str, str] = {}
        # What each file on disk was verified to be.
        self._verified: dict[str, str] = {}
        self._stamp: tuple[int, int] | None = None
        self.rules: Rules | None = None
        self.rules_problem = _NO_CONTENT
        # Why the newest version that was met, validly signed, does not count.
        self.version_problem = ""
        # The last rules that could be used, and as JSON the keys that they were made of.
        self._usable: tuple[str, Rules] | None = None

    @property
    def content(self) -> Mapping[str, Any] | None:
        return self._held.get(ROOT)

    # From disk.

    def load(self) -> None:
        """Read what is there. Raises ConfigError where an own site cannot be served."""
        self._stamp = self._root_stamp()
        try:
            self._load_contents()
        except FileNotFoundError:
            if self.own:
                raise ConfigError(
                    f"{self.path} has no {ROOT}: make one with `zeromsg site new`"
                ) from None
            return
        except (ContentRefused, OSError) as problem:
            if self.own:
                raise ConfigError(f"{self.path / ROOT}: {problem}") from None
            # A joined site can be fetched again.
            self._log.warn("{path} cannot be used: {problem}", path=self.path, problem=problem)
            return
        for entry in (*self._entries.values(), *self._optional.values()):
            self._verify_on_disk(entry)
        self._read_rules()
        if self.own and self._missing_names():
            self._log.warn(
                "{path}: {files} changed since it was signed: run `zeromsg site sign`",
                path=self.path,
                files=", ".join(self._missing_names()),
            )

    def reload_if_changed(self) -> bool:
        """Look whether the operator signed a new version; whether there is one."""
        if not self.own or self._root_stamp() == self._stamp:
            return False
        before, verified = self._held.get(ROOT), self._verified
        self._verified = {}
        try:
            self.load()
        except ConfigError as problem:
            self._verified = verified
            self.version_problem = str(problem)
            self._log.warn("{problem}", problem=str(problem))
            return False
        return self._held.get(ROOT) != before

    def _root_stamp(self) -> tuple[int, int] | None:
        try:
            status = (self.path / ROOT).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _load_contents(self) -> None:
        held: dict[str, dict[str, Any]] = {}
        data = read_inside(self.path, ROOT)
        held[ROOT] = self._accepted_before(ROOT, data, held)
        for inner_path in self._included(held):
            file = self.path / inner_path
            if file.is_file():
                data = read_inside(self.path, inner_path)
                held[inner_path] = self._accepted_before(inner_path, data, held)
        if not self.own:
            self._load_users(held)
        self._take(held)

    def _load_users(self, held: dict[str, dict[str, Any]]) -> None:
        """Files of users that were fetched; who may write no more is left out."""
        for above in [path for path, content in held.items() if "user_contents" in content]:
            folder = self.path / above.removesuffix(ROOT)
            for file in sorted(folder.glob(f"*/{ROOT}"))[:CONTENTS_LIMIT]:
                inner_path = file.relative_to(self.path).as_posix()
                if inner_path in held or len(held) >= CONTENTS_LIMIT:
                    continue
                with contextlib.suppress(ContentRefused):
                    held[inner_path] = self._accepted_before(inner_path, file.read_bytes(), held)

    def _accepted_before(
        self, inner_path: str, data: bytes, held: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Verify a file that this node accepted in an earlier run.

        A root file signed by a delegate could be accepted because of the
        version before it, which is gone: it is judged by its own list.
        """
        from_disk = dict(held)
        if inner_path == ROOT:
            try:
                return verify_content(self.address, ROOT, data, {}, self._wall(), self.size_limit)
            except ContentRefused:
                from_disk[ROOT] = {**parse_content(data, self.size_limit), "modified": -1}
        return verify_content(
            self.address, inner_path, data, from_disk, self._wall(), self.size_limit
        )

    def _included(self, held: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        """Paths of included content.json files, those below included ones too."""
        waiting, met = [ROOT], {ROOT}
        while waiting:
            inner_path = waiting.pop()
            includes = held.get(inner_path, {}).get("includes")
            folder = inner_path.removesuffix(ROOT)
            for name in includes if isinstance(includes, dict) else ():
                path = f"{folder}{name}"
                if path in met or not is_safe_path(path) or len(met) >= CONTENTS_LIMIT:
                    continue
                met.add(path)
                waiting.append(path)
                yield path

    def _take(self, held: dict[str, dict[str, Any]]) -> None:
        """Make these content.json files the ones that count, if their files fit."""
        lists = {path: self._lists(path, content) for path, content in held.items()}
        entries: dict[str, FileEntry] = {}
        listed: dict[str, str] = {}
        for inner_path, (_, required, _) in lists.items():
            entries.update(required)
            listed.update(dict.fromkeys(required, inner_path))
        size = sum(entry.size for entry in entries.values())
        if size > self.size_limit:
            self.version_problem = f"its files have {size} bytes, over {self.size_limit}"
            raise ContentRefused(self.version_problem, 0)
        optional: dict[str, FileEntry] = {}
        for _, _, more in lists.values():
            optional.update(more)
        for inner_path in optional.keys() & entries.keys():
            del optional[inner_path]
        self._read = lists
        self._held, self._entries = held, entries
        self._optional, self._listed = optional, listed
        self.version_problem = ""

    def _lists(self, inner_path: str, content: dict[str, Any]) -> _Lists:
        """The files of one content.json, which others that change leave as they are."""
        known = self._read.get(inner_path)
        if known is not None and known[0] is content:
            return known
        return (
            content,
            {entry.inner_path: entry for entry in file_entries(inner_path, content)},
            {entry.inner_path: entry for entry in optional_entries(inner_path, content)},
        )

    def _verify_on_disk(self, entry: FileEntry) -> None:
        try:
            with open_inside(self.path, entry.inner_path) as file:
                if os.fstat(file.fileno()).st_size != entry.size:
                    return
                data = file.read()
        except OSError:
            return
        if file_digest(data) == entry.sha512:
            self._verified[entry.inner_path] = entry.sha512

    def _read_rules(self) -> None:
        """Compile the rules; those in force stay until a changed p2p.json has arrived.

        What they remember of senders outlives a new version of the site, and of
        the rules as far as it fits: otherwise each update would open the site
        for what was said before.
        """
        data = None
        if P2P_JSON in self._entries:
            if not self._is_here(P2P_JSON):
                if self.rules is None:
                    self.rules_problem = f"{P2P_JSON} is not here, or not as it was signed"
                return
            data = read_inside(self.path, P2P_JSON)
        try:
            self.rules = self._compiled(rules_source(self._held.get(ROOT, {}), data))
            self.rules_problem = "" if self.rules is not None else _NO_RULES
        except BadRules as problem:
            self.rules, self.rules_problem = None, str(problem)
            self._log.warn(
                "{site} takes no messages: {problem}", site=self.address, problem=str(problem)
            )

    def _compiled(self, source: Mapping[str, Any] | None) -> Rules | None:
        if source is None:
            return None
        # As values 1 and true would be the same.
        text, before = dump(source), self._usable
        if before is not None and before[0] == text:
            return before[1]
        rules = parse_rules(source)
        if before is not None:
            rules.continue_from(before[1])
        self._usable = text, rules
        return rules

    def _is_here(self, inner_path: str) -> bool:
        entry = self._entries.get(inner_path) or self._optional.get(inner_path)
        return entry is not None and self._verified.get(inner_path) == entry.sha512

    # For peers and clients.

    def read(self, inner_path: str, location: int, length: int) -> tuple[bytes, int]:
        if inner_path not in self._held and inner_path not in self._verified:
            raise FileMissing("no such file")
        try:
            with open_inside(self.path, inner_path) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(min(location, size))
                return file.read(length), size
        except OSError as problem:
            raise FileMissing(problem.strerror or "no such file") from None

    def open(self, inner_path: str) -> tuple[BinaryIO, int, str]:
        if inner_path not in self._held and inner_path not in self._verified:
            raise FileMissing("no such file")
        try:
            file = open_inside(self.path, inner_path)
        except OSError as problem:
            raise FileMissing(problem.strerror or "no such file") from None
        status = os.fstat(file.fileno())
        # The operator may be at work on a file of their own.
        mark = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        return file, status.st_size, mark

    def rules_of(self, inner_path: str, author: Mapping[str, Any]) -> dict[str, Any]:
        rules = content_rules(self.address, inner_path, author, self._held)
        content = self._held.get(inner_path)
        size = 0
        if content is not None:
            bare = {key: value for key, value in content.items() if key not in ("sign", "signs")}
            entries = file_entries(inner_path, content)
            size = len(json.dumps(bare, indent=1)) + sum(entry.size for entry in entries)
        return {**rules, "current_size": size}

    def holds(self, inner_path: str) -> bool:
        return inner_path in self._held or self._is_here(inner_path)

    def size_of(self, inner_path: str) -> int | None:
        entry = self._entries.get(inner_path) or self._optional.get(inner_path)
        return None if entry is None else entry.size

    def is_optional(self, inner_path: str) -> bool:
        return inner_path in self._optional

    def modified_since(self, since: float) -> Mapping[str, float]:
        return {
            inner_path: content["modified"]
            for inner_path, content in self._held.items()
            if content["modified"] > since
        }

    def version(self, inner_path: str) -> float | None:
        content = self._held.get(inner_path)
        return content["modified"] if content is not None else None

    def expects(self, inner_path: str) -> bool:
        if inner_path in self._held:
            return True
        return len(self._held) < CONTENTS_LIMIT and is_governed(inner_path, self._held)

    def listed_in(self, inner_path: str) -> str:
        return self._listed[inner_path]

    def files(self) -> Sequence[str]:
        return sorted([*self._held, *self._verified])

    def missing(self) -> Iterator[tuple[str, int]]:
        # The rules first: with them the site takes messages, whatever else is on its way.
        ordered = sorted(self._entries.values(), key=lambda entry: entry.inner_path != P2P_JSON)
        for entry in ordered:
            if not self._is_here(entry.inner_path):
                yield entry.inner_path, entry.size

    def _missing_names(self) -> list[str]:
        return [inner_path for inner_path, _ in self.missing()]

    def missing_contents(self) -> Iterator[str]:
        return (path for path in self._included(self._held) if path not in self._held)

    # From peers.

    def store_content(self, inner_path: str, data: bytes) -> None:
        content = verify_content(
            self.address, inner_path, data, self._held, self._wall(), self.size_limit
        )
        if inner_path not in self._held and len(self._held) >= CONTENTS_LIMIT:
            raise ContentRefused(f"the site has {CONTENTS_LIMIT} content.json files already", 0)
        before = (self._held, self._entries, self._optional, self._listed)
        self._take({**self._held, inner_path: content})
        try:
            self._write(inner_path, data)
        except ContentRefused:
            self._held, self._entries, self._optional, self._listed = before
            raise
        if inner_path == ROOT:
            self._stamp = self._root_stamp()
        self._read_rules()

    def store_file(self, inner_path: str, data: bytes) -> None:
        entry = self._entries.get(inner_path) or self._optional.get(inner_path)
        if entry is None:
            raise ContentRefused(f"{inner_path} is not listed")
        if self.is_optional(inner_path) and self._optional_size() + entry.size > self.size_limit:
            raise ContentRefused(f"optional files would take over {self.size_limit} bytes", 0)
        if len(data) != entry.size:
            raise ContentRefused(f"{inner_path} has {len(data)} bytes, not {entry.size}")
        if file_digest(data) != entry.sha512:
            raise ContentRefused(f"{inner_path} is not the file that was signed")
        self._write(inner_path, data)
        self._verified[inner_path] = entry.sha512
        if inner_path == P2P_JSON:
            self._read_rules()

    def _optional_size(self) -> int:
        """Bytes of the optional files that are here."""
        return sum(self._optional[path].size for path in self._optional if path in self._verified)

    def _write(self, inner_path: str, data: bytes) -> None:
        """Replace a file whole, so that a crash leaves the old one or the new."""
        target = self.path / inner_path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".zeromsg-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as problem:
            raise ContentRefused(f"{inner_path} cannot be written: {problem.strerror}", 0) from None


class Sites:
    """The sites of a node (`interfaces.ISites`).

    folder: where joined sites are kept, a directory each.
    """

    def __init__(self, folder: Path, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._wall = wall
        self._sites: dict[str, Site] = {}
        self.get = self._sites.get

    def addresses(self) -> list[str]:
        return list(self._sites)

    def all(self) -> list[Site]:
        return list(self._sites.values())

    def add(self, address: str, path: Path | None, size_limit: int = SIZE_LIMIT) -> Site:
        """Hold a site: from the operator's directory, or, without one, to be fetched."""
        site = Site(
            address,
            path if path is not None else self._folder / address,
            own=path is not None,
            size_limit=size_limit,
            wall=self._wall,
        )
        site.load()
        self._sites[address] = site
        return site

    def remove(self, address: str) -> None:
        """Hold a site no more; what was fetched of it is deleted, an own directory stays."""
        site = self._sites.pop(address)
        if not site.own:
            shutil.rmtree(self._folder / address, ignore_errors=True)
