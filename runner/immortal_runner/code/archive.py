"""Zip archives, extracted as Lambda extracts them and no further than their folder."""

import calendar
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from immortal_lambda.errors import ImmortalError

MAX_UNZIPPED_BYTES = 8 * 1024**3
"""Lambda itself stops at 250 MB with all layers; this only keeps a bomb from filling the disk."""

_UNIX = 3
_CHUNK_BYTES = 1024 * 1024
_LINK_BYTES = 4096
_PERMISSIONS = 0o777  # never setuid or setgid: the files belong to root, and the code that runs them must not


class ArchiveRefused(ImmortalError):
    """The archive is broken or would write outside its folder; trying again cannot help."""


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip into a folder: modes, symbolic links and times kept, the last of several equal names kept.

    Entries made on Windows carry no mode: files get 0644, directories 0755, as on Lambda. Entries that never were a
    file, such as those of Python's ``ZipFile.writestr``, carry a mode without a file type: they are made readable.
    A real file's own 0600 stays, and fails as it fails on Lambda.

    Raises:
        ArchiveRefused: The archive is no zip, is damaged, too large, or has an entry that leaves the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = {entry.filename: entry for entry in opened.infolist()}
            _check_size(entries.values(), archive)
            folder.mkdir(parents=True, exist_ok=True)
            for entry in entries.values():
                _extract_entry(opened, entry, folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ArchiveRefused(f"{archive.name} is no zip that can be read: {error}") from error
    except OSError as error:
        raise ArchiveRefused(f"{archive.name} can't be written to {folder}: {error.strerror}") from error
    except ValueError as error:
        raise ArchiveRefused(f"{archive.name} holds a name that no file can have: {error}") from error


def _check_size(entries: Iterable[zipfile.ZipInfo], archive: Path) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > MAX_UNZIPPED_BYTES:
        raise ArchiveRefused(
            f"{archive.name} unzips to {total} bytes; more than {MAX_UNZIPPED_BYTES} is taken for a bomb"
        )


def _extract_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / _safe_name(entry.filename)
    if target == folder:
        return
    _make_parents(target.parent, folder, entry.filename)
    mode = _mode(entry)
    if entry.is_dir() or stat.S_ISDIR(mode):
        _make_directory(target, mode & _PERMISSIONS or 0o755)
    elif stat.S_ISLNK(mode):
        _clear(target)
        target.symlink_to(_link_target(opened, entry))
    else:
        _clear(target)
        _write_file(opened, entry, target, mode & _PERMISSIONS or 0o644)


def _mode(entry: zipfile.ZipInfo) -> int:
    """The entry's type and mode bits; 0 where it carries none."""
    mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
    if mode and stat.S_IFMT(mode) == 0:
        return mode | (0o555 if mode & 0o100 else 0o444)
    return mode


def _link_target(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    if entry.file_size > _LINK_BYTES:
        raise ArchiveRefused(f"the symbolic link {entry.filename!r} points to a name of {entry.file_size} bytes")
    return os.fsdecode(opened.read(entry))


def _safe_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name if "/" in name else name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveRefused(f"entry {name!r} leaves the folder that it is extracted to")
    return path


def _make_parents(parent: Path, folder: Path, name: str) -> None:
    """Make the folders above an entry; a symbolic link among them would lead the entry elsewhere."""
    at = folder
    for part in parent.relative_to(folder).parts:
        at /= part
        if at.is_symlink():
            raise ArchiveRefused(f"entry {name!r} would be written through the symbolic link {part!r}")
        if not at.is_dir():
            _clear(at)
            at.mkdir()


def _make_directory(target: Path, mode: int) -> None:
    if target.is_symlink() or not target.is_dir():
        _clear(target)
        target.mkdir()
    target.chmod(mode | 0o700)


def _write_file(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, mode: int) -> None:
    written = 0
    with opened.open(entry) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise ArchiveRefused(
                    f"entry {entry.filename!r} holds more than the {entry.file_size} bytes it declares"
                )
            out.write(chunk)
    target.chmod(mode)
    _keep_time(entry, target)


def _keep_time(entry: zipfile.ZipInfo, target: Path) -> None:
    """Keep the entry's time: Python checks compiled files against the time of their source."""
    try:
        when = calendar.timegm((*entry.date_time, 0, 0, 0))
    except ValueError:
        return  # a month 0, as some tools write
    os.utime(target, (when, when))


def _clear(target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        raise ArchiveRefused(f"two entries claim {target.name!r}, one as a folder and one as a file")
