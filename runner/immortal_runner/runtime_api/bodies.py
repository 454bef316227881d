"""Bytes that a runtime posted: in memory while they are few, in a file beyond."""

import tempfile
import weakref
from contextlib import suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO

MEMORY_BYTES = 1024 * 1024
"""Up to here a body stays in memory. Python's client has posted 300 MB, Node's 500 MB."""

_COMPARED_BYTES = 256 * 1024


class Body:
    """A body that has arrived; equal to another one that holds the same bytes.

    A large one lies in a file that has no name: it goes with its last reader, however the process ends.

    Args:
        data: The bytes themselves, where they are few.
        file: Where they lie, where they are many; the body closes it.
        size_bytes: How many lie in the file.
    """

    def __init__(self, data: bytes = b"", *, file: IO[bytes] | None = None, size_bytes: int = 0) -> None:
        self._data = data
        self._file = file
        self.size_bytes = len(data) if file is None else size_bytes
        self._close = None if file is None else weakref.finalize(self, file.close)

    def open(self) -> BufferedReader:
        """Read it as a file, from its beginning; each reader stands where it stands itself."""
        if self._file is None:
            return BufferedReader(BytesIO(self._data))
        return Path(f"/proc/self/fd/{self._file.fileno()}").open("rb")

    def read(self) -> bytes:
        """All of it, in memory."""
        if self._file is None:
            return self._data
        with self.open() as reader:
            return reader.read()

    def close(self) -> None:
        """Let go of the file, if there is one; a body that nobody holds any longer does so itself."""
        if self._close is not None:
            self._close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Body) or self.size_bytes != other.size_bytes:
            return False
        with self.open() as own, other.open() as others:
            while chunk := own.read(_COMPARED_BYTES):
                if chunk != others.read(_COMPARED_BYTES):
                    return False
        return True

    __hash__ = None  # type: ignore[assignment]  # its bytes may be many

    def __repr__(self) -> str:
        return f"Body({self.size_bytes} bytes)"  # never what they say


class Spool:
    """A body that is arriving.

    Args:
        folder: Where a large one lies; the system's folder for temporary files unless given.
        max_bytes: How many are kept; what comes beyond is counted and let go.
    """

    def __init__(self, folder: Path | None = None, *, max_bytes: int | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._file: IO[bytes] | None = None
        self._kept_bytes = 0
        self.arrived_bytes = 0

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            OSError: The folder's disk takes no more.
        """
        self.arrived_bytes += len(chunk)
        if self._max_bytes is not None:
            chunk = chunk[: self._max_bytes - self._kept_bytes]
        self._kept_bytes += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
            return
        self._data += chunk
        if self._kept_bytes > MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # the body closes it
            self._file.write(self._data)
            self._data.clear()

    def finish(self) -> Body:
        """Everything that was kept.

        Raises:
            OSError: The folder's disk takes no more.
        """
        if self._file is None:
            return Body(bytes(self._data))
        self._file.flush()
        return Body(file=self._file, size_bytes=self._kept_bytes)

    def close(self) -> None:
        """Let go of it all."""
        if self._file is not None:
            with suppress(OSError):  # a full disk refuses what is still held back
                self._file.close()
