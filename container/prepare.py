"""Prepares a base image for the runner, the last step of the image's build, and shows that the runner starts on it."""

import importlib
import os
import stat
from pathlib import Path

USER = "sbx_user1051"
"""Functions run as this user on Lambda too; without a name, ``getpass.getuser()`` and ``Path.home()`` fail."""

IMPORTED = ("immortal_runner.__main__", "boto3", "ctypes", "ssl", "xml.parsers.expat")
"""What the runner imports sooner or later, and what shared libraries are needed for."""


NOT_OF_THE_IMAGE = ("dev", "proc", "sys", "tmp")
"""Folders below ``/`` that are the container's own, and the one that a function may write to."""


def prepare() -> None:
    """Add the user, the folders and the permissions, then import what the runner imports.

    What can't be loaded here fails the build.
    """
    put_first(f"{USER}:x:993:990::/home/{USER}:/sbin/nologin", Path("/etc/passwd"))
    put_first(f"{USER}:x:990:", Path("/etc/group"))
    for folder in ("/var/task", "/opt"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    close_to_writers(Path("/"))
    for name in IMPORTED:
        importlib.import_module(name)


def put_first(line: str, file: Path) -> None:
    """Put a line before all others, so that a number that has several names is given this one."""
    others = file.read_text() if file.exists() else ""
    file.write_text(f"{line}\n{others}")


def close_to_writers(root: Path) -> None:
    """Let nobody but root write to any folder: on Lambda all but ``/tmp`` is read-only."""
    for name, below, _ in os.walk(root):
        folder = Path(name)
        if folder == root:
            below[:] = [each for each in below if each not in NOT_OF_THE_IMAGE]
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & stat.S_IWOTH:
            folder.chmod(mode & ~stat.S_IWOTH)


if __name__ == "__main__":
    prepare()
