"""What will be made of a zip's entries: every path, decided before the first of them is written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from immortal_runner.code.refusals import ArchiveRefused
from immortal_runner.code.zip_directory import MAX_ENTRIES, Entry

MAX_UNZIPPED_BYTES = 8 * 1024**3
"""Lambda itself stops at 250 MB with all layers; this only keeps a bomb from filling the disk."""

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4000
MAX_DEPTH = 200
"""What Linux takes of a name and a path, with room for ``/var/task/`` before it; folders in folders end somewhere."""

MAX_LINK_BYTES = 4095


@dataclass(frozen=True, slots=True)
class Plan:
    """What an archive becomes, by path below its folder; no path leads through a link of the same archive.

    Attributes:
        folders: The mode of each; parents come before their children.
        file_bytes: What all files take together, as declared.
    """

    folders: Mapping[str, int]
    files: Mapping[str, Entry]
    links: Mapping[str, Entry]
    file_bytes: int


def plan(entries: Iterable[Entry], archive: str) -> Plan:
    """Plan the extraction of entries; of several with one path the last is kept.

    Args:
        archive: Its name, for people.

    Raises:
        ArchiveRefused: An entry leaves the folder, two contradict each other, or it is all too much.
    """
    kept: dict[str, Entry] = {}
    for entry in entries:
        if path := _path(entry):
            if path in kept and (kept[path].kind == "folder") != (entry.kind == "folder"):
                raise _contradiction(path)
            kept[path] = entry
    file_bytes = sum(entry.file_bytes for entry in kept.values())
    if file_bytes > MAX_UNZIPPED_BYTES:
        raise ArchiveRefused(
            f"{archive} unzips to {file_bytes} bytes; more than {MAX_UNZIPPED_BYTES} is taken for a bomb"
        )
    return Plan(
        _folders(kept, archive),
        {path: entry for path, entry in kept.items() if entry.kind == "file"},
        {path: entry for path, entry in kept.items() if entry.kind == "link"},
        file_bytes,
    )


def _path(entry: Entry) -> str:
    """Where an entry belongs; empty for the folder itself."""
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    if entry.name.startswith("/") or ".." in parts:
        raise ArchiveRefused(f"entry {entry.name!r} leaves the folder that it is extracted to")
    path = "/".join(parts)
    if not path.isascii() or len(path) > MAX_NAME_BYTES or len(parts) > MAX_DEPTH:
        _check_length(entry.name, path, parts)
    if entry.kind == "link" and entry.file_bytes > MAX_LINK_BYTES:
        raise ArchiveRefused(f"the symbolic link {entry.name!r} points to a name of {entry.file_bytes} bytes")
    return path


def _check_length(name: str, path: str, parts: list[str]) -> None:
    longest, whole = max(len(part.encode()) for part in parts), len(path.encode())
    if longest > MAX_NAME_BYTES or whole > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise ArchiveRefused(
            f"entry {name[:MAX_NAME_BYTES]!r} has a name that no file can have: its longest part has {longest} bytes, "
            f"all its {len(parts)} parts together {whole}; the most are {MAX_NAME_BYTES}, {MAX_PATH_BYTES} in "
            f"{MAX_DEPTH} parts"
        )


def _folders(kept: Mapping[str, Entry], archive: str) -> dict[str, int]:
    folders: dict[str, int] = {}
    for path, entry in kept.items():
        _add_parents(path, entry.name, kept, folders)
        if entry.kind == "folder":
            folders[path] = _folder_mode(entry)
        if len(folders) > MAX_ENTRIES:
            raise ArchiveRefused(f"{archive} has more than {MAX_ENTRIES} folders, which is taken for a bomb")
    return folders


def _add_parents(path: str, name: str, kept: Mapping[str, Entry], folders: dict[str, int]) -> None:
    missing: list[str] = []
    while (path := path.rpartition("/")[0]) and path not in folders:
        missing.append(path)
    for parent in reversed(missing):
        claimed = kept.get(parent)
        if claimed is not None and claimed.kind == "link":
            raise ArchiveRefused(f"entry {name!r} would be written through the symbolic link {parent!r}")
        if claimed is not None and claimed.kind == "file":
            raise _contradiction(parent)
        folders[parent] = 0o755 if claimed is None else _folder_mode(claimed)


def _folder_mode(entry: Entry) -> int:
    """Ours to write in, whatever the entry says; 0755 where it says nothing, as on Lambda."""
    return (entry.mode or 0o755) | 0o700


def _contradiction(path: str) -> ArchiveRefused:
    return ArchiveRefused(f"two entries claim {path!r}, one as a folder and one as a file")
