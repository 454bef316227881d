"""What ran out: memory, by the kernel's own count of its kills; disk, by what the file system says.

Source: Linux kernel documentation, "Control Group v2" (``memory.events``) and "Memory Resource Controller"
(``memory.oom_control``).
"""

import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from immortal_runner.execution.outcomes import Errored

_CGROUPS = Path("/sys/fs/cgroup")
_WHOLE_MACHINE = Path("/proc/vmstat")
_READ_BYTES = 16 * 1024

_KILLED = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
"""How a process ends that the kernel kills; a shell that started it ends with the second one."""

_NEARLY_FULL_BYTES = 16 * 1024 * 1024
_NEARLY_FULL_SHARE = 0.01
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|\bENOSPC\b|\bEDQUOT\b|\[Errno (28|122)\]")


@cache
def oom_kills_here() -> "OomKills":
    """The count of this process's own control group, which its children share."""
    return OomKills()


class OomKills:
    """How often the kernel has killed in this process's control group because memory had run out.

    The file is opened once and read again and again: the count is taken before every invocation.
    """

    def __init__(self) -> None:
        self._file = _open_first(count_files(_read(Path("/proc/self/cgroup"))))

    def count(self) -> int:
        """The count so far; 0 where the kernel doesn't tell."""
        if self._file is None:
            return 0
        try:
            return read_count(os.pread(self._file.fileno(), _READ_BYTES, 0).decode())
        except OSError:
            return 0


def count_files(memberships: str) -> Iterator[Path]:
    """Where the kernel may count, best first.

    A container sees its own group at the top, whatever ``/proc/self/cgroup`` calls it. Where no group counts, the whole
    machine does.

    Args:
        memberships: The text of ``/proc/self/cgroup``.
    """
    for line in memberships.splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folder, name = _CGROUPS, "memory.events"
        elif "memory" in controllers.split(","):
            folder, name = _CGROUPS / "memory", "memory.oom_control"
        else:
            continue
        yield folder / group.lstrip("/") / name
        yield folder / name
    yield _WHOLE_MACHINE


def read_count(text: str) -> int:
    """Read the number of kills; 0 where it isn't told."""
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def is_kill(status: int) -> bool:
    """Whether a process was killed, by its exit status or the negative number of its signal."""
    return status in _KILLED


def is_nearly_full(folder: Path) -> bool:
    """Whether a folder's file system has next to no room, or no name left for another file."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    room_bytes, size_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    no_name_left = found.f_files > 0 and found.f_favail == 0
    return no_name_left or room_bytes < max(_NEARLY_FULL_BYTES, size_bytes * _NEARLY_FULL_SHARE)


def speaks_of_disk(error: Errored) -> bool:
    """Whether an error says that the disk was full, in the words of whichever language."""
    return _NO_SPACE.search(f"{error.error_type} {error.message}") is not None


def _open_first(files: Iterable[Path]) -> IO[bytes] | None:
    for path in files:
        with suppress(OSError):
            file = path.open("rb", buffering=0)
            if b"oom_kill " in file.read(_READ_BYTES):
                return file
            file.close()
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
