"""Zip archives, extracted as Lambda extracts them and no further than their folder."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import immortal_lambda
import immortal_runner
from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.code.refusals import ArchiveRefused, DiskFull
from immortal_runner.code.unpack import raise_failure, unpack
from immortal_runner.code.zip_directory import Kind

__all__ = ["ArchiveRefused", "DiskFull", "extract", "merge", "unpack_aside"]

MAX_SMALL_BYTES = 2 * 1024 * 1024
"""A zip up to this size is unpacked before another process could have started."""

MAX_PROCESSES = 4
"""Each takes some 20 MB, and beyond four the disk is what is slow."""

_UNPACK_APART = """
import gc, sys
gc.disable()
sys.path += sys.argv[4:]
from pathlib import Path
from immortal_runner.code.refusals import ArchiveRefused, DiskFull
from immortal_runner.code.unpack import describe_failure, unpack
try:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]), processes=int(sys.argv[3]))
except (ArchiveRefused, DiskFull, OSError) as error:
    print(describe_failure(error))
"""


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip into a folder: modes, symbolic links and times kept, the last of several equal names kept.

    What the folder holds stays, but for files and links that the archive has, too. No entry is written through a link,
    whether the archive brings it or an earlier one has.

    Entries made on Windows carry no mode: files get 0644, directories 0755, as on Lambda. Entries that never were a
    file, such as those of Python's ``ZipFile.writestr``, carry a mode without a file type: they are made readable.
    A real file's own 0600 stays, and fails as it fails on Lambda.

    Raises:
        ArchiveRefused: The archive is no zip, is damaged, too large, or has an entry that leaves the folder.
        DiskFull: There is no room for it.
        ServiceUnavailable: The process that unpacks was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with unpack_aside(archive, folder) as aside:
        merge(aside, folder)


@contextmanager
def unpack_aside(archive: Path, beside: Path) -> Iterator[Path]:
    """Unpack a zip into a new folder, from which :func:`merge` can take it as long as the context lasts.

    Args:
        beside: A folder on the same disk, in which the new one is made under a name that nobody can guess.

    Raises:
        ImmortalError: As for :func:`extract`.
    """
    aside = Path(tempfile.mkdtemp(prefix=".immortal-", dir=beside))
    try:
        try:
            if archive.stat().st_size <= MAX_SMALL_BYTES:
                unpack(archive, aside)
            else:
                _unpack_apart(archive, aside)
        except OSError as error:
            raise ArchiveRefused(f"{archive.name} can't be written to {beside}: {error.strerror}") from error
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack_apart(archive: Path, folder: Path) -> None:
    """Unpack in a process of its own, which has a single thread and whose memory is free again when it ends."""
    roots = [str(Path(package.__path__[0]).parent) for package in (immortal_runner, immortal_lambda)]
    processes = min(MAX_PROCESSES, os.cpu_count() or 1)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _UNPACK_APART, archive, folder, str(processes), *roots],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout:
        raise_failure(done.stdout)
    if done.returncode:
        last_line = (done.stderr.splitlines() or [""])[-1]
        raise ServiceUnavailable(f"unpacking {archive.name} ended with status {done.returncode}: {last_line}")


def merge(tree: Path, folder: Path) -> None:
    """Move what a folder holds into another one, over what is there.

    Raises:
        ArchiveRefused: Something would be written through a link, or a folder and a file have the same path.
    """
    for child in sorted(tree.iterdir()):
        target = folder / child.name
        match _kind(child), _kind(target):
            case "folder", "folder":
                target.chmod(stat.S_IMODE(child.stat().st_mode))
                merge(child, target)
            case "folder", "link":
                raise ArchiveRefused(
                    f"{target} is a symbolic link of an earlier layer; files would be written through it"
                )
            case ("folder", "file") | ("file" | "link", "folder"):
                raise ArchiveRefused(f"two archives claim {target}, one as a folder and one as a file")
            case _:
                child.replace(target)


def _kind(path: Path) -> Kind | None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "file"
