"""Files that are whole at any moment, and a folder that is one process's."""

import os
import shutil
from pathlib import Path

from kerasseg.spec import DataError

try:
    import fcntl
except ImportError:  # Windows: there, two runs in one folder are not kept apart
    fcntl = None


def lock(file, directory: Path) -> None:
    """Locks an open file until it is closed; `DataError` where another process has it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"another process is training in {directory}; choose another output folder") from None


def flush(path: Path) -> None:
    """Returns when a file is on the disk itself."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    flush(partial)
    os.replace(partial, path)


def name_also(path: Path, second: Path) -> None:
    """Makes the file known by a second name too, in place of what has that; a copy where the disk knows no links."""
    partial = second.with_name(f"partial_{second.name}")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:
        shutil.copyfile(path, partial)
        flush(partial)
    os.replace(partial, second)
    partial.unlink(missing_ok=True)  # POSIX leaves it there where both were the same file already
