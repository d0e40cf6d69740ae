"""Opening the files of a site's directory, and none outside it.

An operator may have links in the directory of a site. One that stays inside is
followed; one that leads out is not, whatever was there when the site was
signed: otherwise a link that appears later would hand /etc/passwd to strangers.
"""

import errno
import os
import stat
from pathlib import Path, PurePath
from typing import BinaryIO

LEADS_OUT = "it leads out of the site's directory"


def leads_out(folder: Path, inner_path: str) -> bool:
    """Whether a path below a directory is outside it, once links are followed."""
    return _way(folder, inner_path) is None


def _way(folder: Path, inner_path: str) -> tuple[PurePath, PurePath] | None:
    """The directory without links, and the way from it to the file; None if it leads out."""
    # Path.resolve has another opinion of links in a circle with each Python.
    root = PurePath(os.path.realpath(folder))
    target = PurePath(os.path.realpath(folder / inner_path))
    return (root, target.relative_to(root)) if target.is_relative_to(root) else None


def open_inside(folder: Path, inner_path: str) -> BinaryIO:
    """Open a regular file below a directory to read it.

    Raises OSError: PermissionError for a path that leads out.
    """
    way = _way(folder, inner_path)
    if way is None:
        raise PermissionError(errno.EACCES, LEADS_OUT, str(folder / inner_path))
    root, parts = way[0], way[1].parts or (".",)
    # The way is free of links now. Who puts one there meanwhile is not followed.
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            descriptor = _step(descriptor, part, os.O_DIRECTORY)
        # A pipe would make the whole node wait for somebody to write into it.
        descriptor = _step(descriptor, parts[-1], os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _step(folder: int, part: str, flags: int) -> int:
    """Open what is in a directory, which is closed if that worked."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=folder)
    os.close(folder)
    return descriptor


def read_inside(folder: Path, inner_path: str) -> bytes:
    """The whole file. Raises as `open_inside` does."""
    with open_inside(folder, inner_path) as file:
        return file.read()
