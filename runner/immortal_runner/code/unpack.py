"""A zip, unpacked into an empty folder of its own.

Python runs one thread at a time between two calls of the system, and ten thousand small files are little else: threads
took twice as long as processes when they were measured. Hence several processes may share the work.
"""

import errno
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from immortal_runner.code.extraction import Plan, plan
from immortal_runner.code.refusals import ArchiveRefused, DiskFull
from immortal_runner.code.zip_directory import DEFLATED, Entry, read_directory

_READ_BYTES = 256 * 1024
_PIECE_BYTES = 1024 * 1024
_BATCH_BYTES = 4 * 1024 * 1024
_FILE_COST_BYTES = 20_000
"""What making a file costs, as bytes that could be unpacked in that time."""

_NUMBER_BYTES = 4
_LOCAL_HEADER_BYTES, _LOCAL_SIGNATURE = 30, b"PK\x03\x04"
_EXTRA_ROOM_BYTES = 64
"""What is read beyond the local header, in the hope that its extra fields fit; they may have up to 64 KB."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_Bytes = bytes | memoryview
_File = tuple[str, Entry]


def unpack(archive: Path, folder: Path, *, processes: int = 1) -> None:
    """Unpack a zip: modes, symbolic links and times kept, the last of several equal names kept.

    Args:
        folder: Empty, and nobody else writes to it: so what was planned for it stays true.
        processes: With more than one, the caller must have a single thread, because only that one survives a fork.

    Raises:
        ArchiveRefused: The archive is no zip, is damaged, too large, or has an entry that leaves the folder.
        DiskFull: There is no room for it.
        OSError: It can't be written for another reason.
    """
    zip_fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(folder, _FOLDER)
    try:
        planned = plan(read_directory(zip_fd, archive.name), archive.name)
        with _room_for(planned, archive.name, root):
            _carry_out(planned, _Unpacking(zip_fd, root), processes)
    finally:
        os.close(root)
        os.close(zip_fd)


@contextmanager
def _room_for(planned: Plan, name: str, folder: int) -> Iterator[None]:
    """Tell a full disk apart; where it can be foreseen, at once."""
    try:
        _check_room(planned, folder)
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"{name} unzips to {planned.file_bytes} bytes in {len(planned.files)} files; the disk has "
            f"{_free_bytes(folder)} bytes left. Next step: raise EphemeralStorageGiB"
        ) from error


def _check_room(planned: Plan, folder: int) -> None:
    if planned.file_bytes > _free_bytes(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _free_bytes(folder: int) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def describe_failure(error: ArchiveRefused | DiskFull | OSError) -> str:
    """Put an error of :func:`unpack` into words that :func:`raise_failure` understands in another process."""
    number = error.errno if isinstance(error, OSError) else None
    return json.dumps({"kind": type(error).__name__, "message": str(error), "errno": number})


def raise_failure(described: str) -> NoReturn:
    """Raise what another process described."""
    failure = json.loads(described)
    match failure["kind"]:
        case "ArchiveRefused":
            raise ArchiveRefused(failure["message"])
        case "DiskFull":
            raise DiskFull(failure["message"])
        case _:
            raise OSError(failure["errno"], os.strerror(failure["errno"] or errno.EIO))


def _carry_out(planned: Plan, unpacking: "_Unpacking", processes: int) -> None:
    """Make folders, then files, then links: while files are written, there is no link to write through."""
    for path, mode in planned.folders.items():
        unpacking.make_folder(path, mode)
    batches = sorted(_batches(sorted(planned.files.items(), key=_place)), key=_cost, reverse=True)
    if processes > 1 and len(batches) > 1:
        _share_out(batches, unpacking, processes)
    else:
        for batch in batches:
            unpacking.write(batch)
    for path, entry in planned.links.items():
        unpacking.make_link(path, entry)


def _place(file: _File) -> int:
    return file[1].header_offset


def _batches(files: Iterable[_File]) -> list[list[_File]]:
    """Cut files, in the order in which they lie in the zip, into pieces of work of about the same cost."""
    batches: list[list[_File]] = [[]]
    cost = 0
    for file in files:
        if cost >= _BATCH_BYTES:
            batches.append([])
            cost = 0
        batches[-1].append(file)
        cost += _cost([file])
    return batches


def _cost(batch: Iterable[_File]) -> int:
    return sum(entry.file_bytes + _FILE_COST_BYTES for _, entry in batch)


def _share_out(batches: list[list[_File]], unpacking: "_Unpacking", processes: int) -> None:
    """Let processes take batch after batch, the costliest first, so that all end at about the same time."""
    numbers = _fill_pipe(len(batches))
    helpers = [_start_helper(batches, numbers, unpacking) for _ in range(processes - 1)]
    try:
        _work(batches, numbers, unpacking)
    finally:
        failures = [_await_helper(*helper) for helper in helpers]
        os.close(numbers)
    for failure in filter(None, failures):
        raise_failure(failure)


def _fill_pipe(count: int) -> int:
    """A pipe that holds the numbers of the batches: whoever reads one, has it alone.

    Its 64 KB hold the batches of the largest plan that there can be several times over.
    """
    read_end, write_end = os.pipe()
    os.write(write_end, b"".join(number.to_bytes(_NUMBER_BYTES) for number in range(count)))
    os.close(write_end)
    return read_end


def _work(batches: list[list[_File]], numbers: int, unpacking: "_Unpacking") -> None:
    try:
        while number := os.read(numbers, _NUMBER_BYTES):
            unpacking.write(batches[int.from_bytes(number)])
    except BaseException:
        while os.read(numbers, _READ_BYTES):
            pass  # the others needn't go on
        raise


def _start_helper(batches: list[list[_File]], numbers: int, unpacking: "_Unpacking") -> tuple[int, int]:
    """Start a process that works, too; give its id, and where it says what went wrong."""
    read_end, write_end = os.pipe()
    if helper := os.fork():
        os.close(write_end)
        return helper, read_end
    try:
        _work(batches, numbers, unpacking)
    except (ArchiveRefused, DiskFull, OSError) as error:
        os.write(write_end, describe_failure(error).encode())
    except BaseException as error:  # noqa: BLE001  # it must not go on as its parent
        os.write(write_end, describe_failure(ArchiveRefused(f"unpacking broke: {type(error).__name__}")).encode())
    os._exit(0)


def _await_helper(helper: int, read_end: int) -> str:
    """What went wrong in a helper; empty when nothing did."""
    with os.fdopen(read_end, "rb") as said:
        failure = said.read().decode()
    _, status = os.waitpid(helper, 0)
    if status and not failure:
        return describe_failure(OSError(errno.ENOMEM, ""))  # nothing else kills it
    return failure


@dataclass(frozen=True, slots=True)
class _Unpacking:
    """Where from, and where to: a descriptor each, so that neither can be exchanged on the way."""

    zip_fd: int
    root: int

    def make_folder(self, path: str, mode: int) -> None:
        os.mkdir(path, 0o700, dir_fd=self.root)
        os.chmod(path, mode, dir_fd=self.root)

    def make_link(self, path: str, entry: Entry) -> None:
        target = b"".join(map(bytes, self._read_checked(entry)))
        if b"\0" in target or not target:
            raise ArchiveRefused(f"the symbolic link {path!r} points to a name that no file can have")
        os.symlink(target, os.fsencode(path), dir_fd=self.root)

    def write(self, files: Iterable[_File]) -> None:
        """Write files, and open the folder of those that come one after the other once."""
        for folder, members in groupby(files, key=lambda file: file[0].rpartition("/")[0]):
            folder_fd = os.open(folder or ".", _FOLDER, dir_fd=self.root)
            try:
                for path, entry in members:
                    self._write_file(path.rpartition("/")[2], entry, folder_fd)
            finally:
                os.close(folder_fd)

    def _write_file(self, name: str, entry: Entry, folder_fd: int) -> None:
        file_fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder_fd)
        try:
            for piece in self._read_checked(entry):
                _write_all(file_fd, piece)
            os.fchmod(file_fd, entry.mode or 0o644)
            if entry.modified_s is not None:  # Python checks compiled files against the time of their source
                os.utime(file_fd, (entry.modified_s, entry.modified_s))
        finally:
            os.close(file_fd)

    def _read_checked(self, entry: Entry) -> Iterator[_Bytes]:
        """Give an entry's content, piece by piece; it must be as long, and sum up to what, the zip declares."""
        packed = self._read_packed(entry)
        crc32 = length = 0
        for piece in _inflate(packed, entry.name) if entry.method == DEFLATED else packed:
            length += len(piece)
            if length > entry.file_bytes:
                break
            crc32 = zlib.crc32(piece, crc32)
            yield piece
        if length != entry.file_bytes:
            than = "more" if length > entry.file_bytes else "less"
            raise _damaged(entry.name, f"it holds {than} than the {entry.file_bytes} bytes that it declares")
        if crc32 != entry.crc32:
            raise _damaged(entry.name, "its bytes don't add up to the checksum that it declares")

    def _read_packed(self, entry: Entry) -> Iterator[memoryview]:
        """Give an entry's bytes as they lie in the zip; a small entry takes a single read."""
        guess = _LOCAL_HEADER_BYTES + entry.name_bytes + _EXTRA_ROOM_BYTES + entry.packed_bytes
        read = os.pread(self.zip_fd, min(guess, _READ_BYTES), entry.header_offset)
        if len(read) < _LOCAL_HEADER_BYTES or not read.startswith(_LOCAL_SIGNATURE):
            raise _damaged(entry.name, "it has no header where the directory says")
        header_bytes = (
            _LOCAL_HEADER_BYTES + int.from_bytes(read[26:28], "little") + int.from_bytes(read[28:30], "little")
        )
        chunk = memoryview(read)[header_bytes : header_bytes + entry.packed_bytes]
        at, end = entry.header_offset + header_bytes, entry.header_offset + header_bytes + entry.packed_bytes
        while at < end:
            if not chunk and not (chunk := memoryview(os.pread(self.zip_fd, min(end - at, _READ_BYTES), at))):
                raise _damaged(entry.name, "it is cut off")
            yield chunk
            at += len(chunk)
            chunk = chunk[:0]


def _inflate(packed: Iterable[_Bytes], name: str) -> Iterator[bytes]:
    """Unpack deflated bytes, and no more of them at a time than ``_PIECE_BYTES``."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in packed:
            left: _Bytes = chunk
            while left:
                yield inflater.decompress(left, _PIECE_BYTES)
                left = inflater.unconsumed_tail
        yield inflater.flush()  # little: what one more byte than was read could mean
    except zlib.error as error:
        raise _damaged(name, str(error)) from error
    if not inflater.eof:
        raise _damaged(name, "it is cut off")


def _write_all(file_fd: int, piece: _Bytes) -> None:
    written = os.write(file_fd, piece)
    while written < len(piece):
        written += os.write(file_fd, piece[written:])


def _damaged(name: str, how: str) -> ArchiveRefused:
    return ArchiveRefused(f"entry {name!r} can't be read: {how}")
