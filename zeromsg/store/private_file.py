"""Files that only their owner reads, replaced in one step."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Put a file of mode 0600 in place in one step; it is on the disk then.

    A crash leaves the old file or the new one. What root writes belongs to whom the
    folder belongs to: a node with a user of its own has to read it. Raises OSError.
    """
    fresh = path.with_name(f"{path.name}.new")
    # One that a crash left behind may have another mode.
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="ascii") as stream:
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(stream.fileno(), folder.st_uid, folder.st_gid)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
