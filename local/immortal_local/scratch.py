"""The scratch folder: where one local AWS keeps its files, and how those of one that was killed are swept away.

Whoever lives holds a lock on its folder, and the kernel gives the lock back whatever the death: a folder whose lock is
free belongs to nobody.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["open_scratch"]

_PREFIX = "immortal-local-"


@contextmanager
def open_scratch(within: Path | None = None) -> Iterator[Path]:
    """Sweep what is left of others, and hold a new folder; it is gone afterwards.

    Args:
        within: The system's folder for temporary files unless given.

    Yields:
        A folder that other users may pass through but not list, for functions run as another user.
    """
    within = within or Path(tempfile.gettempdir())
    _sweep(within)
    folder, lock = _make(within)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(within: Path) -> tuple[Path, int]:
    """Make a folder and lock it; a sweep that comes in between takes it away, and then another one is made."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))
        if (lock := _lock(folder)) is None:
            continue
        if not folder.exists():
            os.close(lock)
            continue
        folder.chmod(0o711)
        return folder, lock


def _sweep(within: Path) -> None:
    """Remove this user's folders that nobody holds."""
    for folder in within.glob(f"{_PREFIX}*"):
        lock = _lock(folder)
        if lock is None:
            continue
        with suppress(OSError):
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if somebody else holds it, or if it is none that can be opened."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened
