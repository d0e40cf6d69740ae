"""Making and signing sites in a directory of the operator."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import CannotStore, ConfigError, ContentRefused
from zeromsg.policy.rules import BadRules, site_rules
from zeromsg.policy.site_content import (
    ROOT,
    FileEntry,
    content_bytes,
    file_digest,
    is_safe_path,
    new_content,
    parse_content,
    sign_content,
)
from zeromsg.store.inside import LEADS_OUT, leads_out, read_inside
from zeromsg.store.sites import SIZE_LIMIT
from zeromsg.wire.json_text import dump
from zeromsg.wire.names import P2P_JSON

DEFAULT_RULES: Mapping[str, Any] = {"filter": ".*", "size_limit": 10_000}


@contextmanager
def or_nothing(folder: Path, names: Iterable[str] = ()) -> Iterator[None]:
    """Take away what was made in a directory if it fails: a new site's files, and these.

    What was there before stays, and so does what somebody else put there meanwhile.
    """
    files = [folder / name for name in (P2P_JSON, ROOT, *names)]
    fresh = [file for file in files if not os.path.lexists(file)]
    folders = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except BaseException:
        for file in fresh:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        for each in folders:
            with suppress(OSError):  # it is not empty
                each.rmdir()
        raise


def new_site(
    folder: Path,
    title: str,
    entropy: Callable[[int], bytes],
    wall: Callable[[], float],
    extras: Mapping[str, Any] | None = None,
) -> PrivateKey:
    """Make a site of a directory: a key, a p2p.json unless there is one, a content.json.

    Files that are there already become the site's. extras: further members of
    the content.json. Returns the site's key, whose address is the site's.
    Raises ConfigError, and leaves nothing behind then.
    """
    must_be_no_site(folder)
    key = PrivateKey.generate(entropy)
    with or_nothing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Through a link that leads nowhere it would be written somewhere else.
            if not os.path.lexists(folder / P2P_JSON):
                (folder / P2P_JSON).write_text(dump(DEFAULT_RULES) + "\n")
        except OSError as problem:
            raise CannotStore(f"cannot write to {folder}: {problem.strerror}") from None
        members = {
            "title": title or folder.resolve().name,
            "postmessage_nonce_security": True,
            **(extras or {}),
        }
        # Its size is for who names it in a configuration, with the limit that it needs.
        sign_site(folder, key, wall, new_content(key.address, [], 0, **members), size_limit=None)
    return key


def must_be_no_site(folder: Path) -> None:
    """Raises ConfigError where the directory is a site already."""
    if (folder / ROOT).exists():
        raise ConfigError(f"{folder} is a site already; sign changes with `zeromsg site sign`")


def sign_site(
    folder: Path,
    key: PrivateKey,
    wall: Callable[[], float],
    content: Mapping[str, Any] | None = None,
    *,
    size_limit: int | None = SIZE_LIMIT,
) -> Mapping[str, Any]:
    """Sign a site's directory as it is now; returns the new content.json.

    content: what to begin with, by default the content.json that is there.
    size_limit: of the node that serves it, None for any size.
    Raises ConfigError, also for rules and for a size that nodes would not take.
    """
    before = content if content is not None else _read_root(folder)
    entries = _entries(folder)
    _check_rules(folder, before)
    size = sum(entry.size for entry in entries)
    if size_limit is not None and size > size_limit:
        raise ConfigError(
            f"the files of {folder} have {size} bytes, and nodes take {size_limit} of a site: "
            "take some out, or raise the site's size_limit in the configuration of every "
            "node that is to hold it, and name this node's by --config"
        )
    fresh = dict(before)
    fresh["files"] = {
        entry.inner_path: {"sha512": entry.sha512, "size": entry.size} for entry in entries
    }
    last = before.get("modified", 0)
    if isinstance(last, bool) or not isinstance(last, int | float):
        raise ConfigError(f"{folder / ROOT}: modified is no number")
    # Two signatures within a second must still be told apart.
    fresh["modified"] = max(int(wall()), int(last) + 1)
    try:
        signed = sign_content(fresh, key, before)
    except ContentRefused as problem:
        raise ConfigError(f"{folder / ROOT}: {problem}") from None
    try:
        (folder / ROOT).write_bytes(content_bytes(signed))
    except OSError as problem:
        raise CannotStore(f"cannot write {folder / ROOT}: {problem.strerror}") from None
    return signed


def _read_root(folder: Path) -> Mapping[str, Any]:
    try:
        return parse_content((folder / ROOT).read_bytes())
    except OSError:
        raise ConfigError(f"{folder} is no site: there is no {ROOT}") from None
    except ContentRefused as problem:
        raise ConfigError(f"{folder / ROOT}: {problem}") from None


def _entries(folder: Path) -> list[FileEntry]:
    entries = []
    for file in sorted(folder.rglob("*")):
        inner_path = file.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in inner_path.split("/")):
            continue
        if leads_out(folder, inner_path):
            raise ConfigError(
                f"{file}: {LEADS_OUT}, so nobody is given it; put a copy of the file in its place"
            )
        if not file.is_file() or file.name == ROOT:
            continue
        if not is_safe_path(inner_path):
            raise ConfigError(f"{inner_path}: other nodes refuse this file name")
        data = _read(folder, inner_path)
        entries.append(FileEntry(inner_path, file_digest(data), len(data)))
    return entries


def _read(folder: Path, inner_path: str) -> bytes:
    try:
        return read_inside(folder, inner_path)
    except OSError as problem:
        raise ConfigError(f"{folder / inner_path}: {problem.strerror}") from None


def _check_rules(folder: Path, content: Mapping[str, Any]) -> None:
    rules = folder / P2P_JSON
    try:
        site_rules(content, rules.read_bytes() if rules.exists() else None)
    except BadRules as problem:
        raise ConfigError(f"{rules}: {problem}") from None
