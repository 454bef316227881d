"""A control group with little memory, for what happens when it runs out."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def can_limit_memory() -> bool:
    """Whether this machine lets us make a control group of our own that limits memory."""
    try:
        with limited_memory(64 << 20):
            return True
    except OSError:
        return False


@contextmanager
def limited_memory(limit_bytes: int) -> Iterator[Path]:
    """Make a control group; give the file that takes a process into it.

    Raises:
        OSError: This machine doesn't let us.
    """
    old = _CGROUPS / "memory"
    folder = (old if old.is_dir() else _CGROUPS) / f"immortal-test-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        for name in ("memory.limit_in_bytes",) if old.is_dir() else ("memory.max",):
            (folder / name).write_text(str(limit_bytes))
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()
