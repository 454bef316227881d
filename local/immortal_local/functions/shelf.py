"""The shelf: the code of versions laid out on disk, each for as long as an execution environment uses it."""

import shutil
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from immortal_local.functions.store import Version
from immortal_runner.code.layout import Layout, lay_out

__all__ = ["Key", "Shelf"]

Key = tuple[str, str, str]
"""Region, function name and revision: an environment never serves a version other than its own."""


@dataclass(slots=True)
class _Book:
    """One revision's code.

    Attributes:
        laying: Held by whoever lays it out, so that it happens once however many ask at the same time.
        layout: None until it is laid out.
        users: The environments that use it, or wait for it.
    """

    folder: Path
    laying: threading.Lock = field(default_factory=threading.Lock)
    layout: Layout | None = None
    users: set[str] = field(default_factory=set)


class Shelf:
    """Code laid out in a folder.

    Args:
        folder: Readable to the functions' own users.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._books: dict[Key, _Book] = {}

    def keys(self) -> set[Key]:
        """Every revision that is used or about to be."""
        with self._lock:
            return set(self._books)

    def take(self, key: Key, version: Version, *, user: str) -> Layout:
        """Give a revision's code to an environment, until it is put back.

        Args:
            user: Names the environment.

        Raises:
            ArchiveRefused: One of its zips can't be extracted safely.
        """
        with self._lock:
            book = self._books.setdefault(key, _Book(self._folder / uuid.uuid4().hex))
            book.users.add(user)
        try:
            with book.laying:
                if book.layout is None:
                    book.layout = _lay_out(version, book.folder)
                return book.layout
        except BaseException:
            self.put_back(key, user=user)
            raise

    def put_back(self, key: Key, *, user: str) -> None:
        """Note that an environment is gone; the last one's end removes the files. Twice is harmless."""
        with self._lock:
            book = self._books.get(key)
            if book is None or user not in book.users:
                return
            book.users.remove(user)
            if book.users:
                return
            del self._books[key]
        shutil.rmtree(book.folder, ignore_errors=True)


def _lay_out(version: Version, folder: Path) -> Layout:
    """Lay out a version's zips; a container image brings its own files."""
    if version.code is None:
        return Layout(folder / "var/task", folder / "opt", folder / "tmp")
    return lay_out(version.code.file, [layer.file for layer in version.layers], folder)
