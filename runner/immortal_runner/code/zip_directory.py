"""A zip's central directory, read as values: what the zip says of its entries, before any of them is touched.

Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 6.3.10; for extra fields, Info-ZIP's "extrafld.txt".
"""

import calendar
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from immortal_runner.code.refusals import ArchiveRefused

MAX_ENTRIES = 250_000
"""Lambda's 250 MB hold no more files of a kilobyte; the plan of so many takes some 200 MB of memory."""

MAX_DIRECTORY_BYTES = 64 * 1024 * 1024

STORED, DEFLATED = 0, 8

Kind = Literal["folder", "file", "link"]

_END, _END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_SIGNATURE = struct.Struct("<4sLQL"), b"PK\x06\x07"
_END_64, _END_64_SIGNATURE = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
_HEADER, _HEADER_SIGNATURE = struct.Struct("<4s2B5H3L5H2L"), b"PK\x01\x02"
_MAX_COMMENT_BYTES = 0xFFFF
_ELSEWHERE = 0xFFFFFFFF  # the true value stands in the zip64 field
_ZIP64_FIELD, _TIME_FIELD, _NAME_FIELD = 0x0001, 0x5455, 0x7075

_UNIX_SYSTEMS = (3, 19)  # 19: macOS
_ENCRYPTED, _UTF8 = 0x0041, 0x0800
_TYPE, _FOLDER_TYPE, _LINK_TYPE = 0o170000, 0o040000, 0o120000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a zip.

    Attributes:
        name: As the zip has it, but with ``/`` between its parts.
        mode: Permission bits; 0 where the entry carries none.
        method: How its bytes are packed, ``STORED`` or ``DEFLATED``.
        header_offset: Where its local header begins, in bytes from the file's start, whatever precedes the zip.
        name_bytes: How long its name is in the local header, most likely.
        modified_s: When the file was last changed, Unix seconds; None where the zip says nothing that is a time.
    """

    name: str
    kind: Kind
    mode: int
    method: int
    crc32: int
    packed_bytes: int
    file_bytes: int
    header_offset: int
    name_bytes: int
    modified_s: int | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the directory lies; ``shift`` is what every offset in it must be moved by."""

    offset: int
    size: int
    shift: int


def read_directory(zip_fd: int, name: str) -> list[Entry]:
    """Read a zip's entries in the order of its directory.

    Args:
        zip_fd: A descriptor that can be read at any place.
        name: Of the archive, for people.

    Raises:
        ArchiveRefused: It is no zip, is damaged, has too many entries, or one that this extractor can't read.
    """
    try:
        place = _find_directory(zip_fd)
        if place.size > MAX_DIRECTORY_BYTES:
            raise ArchiveRefused(f"{name} has a directory of {place.size} bytes; {MAX_DIRECTORY_BYTES} are the most")
        directory = os.pread(zip_fd, place.size, place.offset)
        entries = []
        for entry in _read_headers(directory, place):
            entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise ArchiveRefused(f"{name} has more than {MAX_ENTRIES} entries, which is taken for a bomb")
    except (struct.error, ValueError) as error:
        raise ArchiveRefused(f"{name} is no zip that can be read: {error}") from error
    return entries


def _find_directory(zip_fd: int) -> _Place:
    file_bytes = os.fstat(zip_fd).st_size
    tail_offset = max(0, file_bytes - _END.size - _MAX_COMMENT_BYTES)
    tail = os.pread(zip_fd, file_bytes - tail_offset, tail_offset)
    at = tail.rfind(_END_SIGNATURE, 0, max(0, len(tail) - _END.size + len(_END_SIGNATURE)))
    if at < 0:
        raise ValueError("it has no end record")
    _, _, _, _, _, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_offset + at
    if (larger := _find_larger(zip_fd, end)) is not None:
        end, size, offset = larger
    shift = end - size - offset  # a script before the zip, as self-extracting archives have, moves everything
    if shift < 0:
        raise ValueError("its directory lies outside of it")
    return _Place(offset + shift, size, shift)


def _find_larger(zip_fd: int, end: int) -> tuple[int, int, int] | None:
    """Where the directory of a zip64 ends, its size and its offset; None for a plain zip."""
    if end < _LOCATOR.size + _END_64.size:
        return None
    before = os.pread(zip_fd, _END_64.size + _LOCATOR.size, end - _LOCATOR.size - _END_64.size)
    if _LOCATOR.unpack_from(before, _END_64.size)[0] != _LOCATOR_SIGNATURE:
        return None
    signature, *_, size, offset = _END_64.unpack_from(before)
    if signature != _END_64_SIGNATURE:
        raise ValueError("the end record of its zip64 form is not where it belongs")
    return end - _LOCATOR.size - _END_64.size, size, offset


def _read_headers(directory: bytes, place: _Place) -> Iterator[Entry]:
    at = 0
    while at < place.size:
        header = _HEADER.unpack_from(directory, at)
        if header[0] != _HEADER_SIGNATURE:
            raise ValueError(f"its directory is damaged at byte {place.offset + at}")
        name_at = at + _HEADER.size
        extra_at = name_at + header[11]
        comment_at = extra_at + header[12]
        at = comment_at + header[13]
        if at > len(directory):
            raise ValueError("its directory is cut off")
        yield _read_entry(header, directory[name_at:extra_at], directory[extra_at:comment_at], place.shift)


def _read_entry(header: tuple[int, ...], raw_name: bytes, extra: bytes, shift: int) -> Entry:
    _, _, system, _, flags, method, time, date, crc32, packed, plain, *_, attributes, offset = header
    fields = dict(_read_fields(extra)) if extra else {}
    name = _read_name(raw_name, fields.get(_NAME_FIELD), system=system, flags=flags)
    if flags & _ENCRYPTED:
        raise ValueError(f"entry {name!r} is encrypted")
    if method not in (STORED, DEFLATED):
        raise ValueError(f"entry {name!r} is packed by method {method}; Lambda takes deflate (8) and no packing (0)")
    if _ELSEWHERE in (packed, plain, offset):
        plain, packed, offset = _read_larger(fields.get(_ZIP64_FIELD, b""), plain, packed, offset)
    mode = attributes >> 16 if system in _UNIX_SYSTEMS else 0
    return Entry(
        name,
        _kind(name, mode),
        _permissions(mode),
        method,
        crc32,
        packed,
        plain,
        offset + shift,
        len(raw_name),
        _read_time(fields.get(_TIME_FIELD), date, time),
    )


def _read_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):  # some tools pad with less than a field
        kind, size = struct.unpack_from("<HH", extra, at)
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _read_name(raw: bytes, unicode_field: bytes | None, *, system: int, flags: int) -> str:
    """The entry's name: UTF-8 where the zip says so or where Unix made it, which keeps names as bytes; else cp437."""
    if unicode_field and unicode_field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
        name = unicode_field[5:].decode()
    elif flags & _UTF8:
        name = raw.decode()
    else:
        name = _guess_name(raw, system)
    if "\0" in name:
        raise ValueError(f"it holds a name that no file can have: {name!r}")
    return name if system in _UNIX_SYSTEMS or "/" in name else name.replace("\\", "/")


def _guess_name(raw: bytes, system: int) -> str:
    if system in _UNIX_SYSTEMS:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
    return raw.decode("cp437")


def _read_larger(field: bytes, *values: int) -> list[int]:
    """Replace each value that didn't fit 32 bits by the next 64-bit one of the zip64 field."""
    at, found = 0, []
    for value in values:
        if value == _ELSEWHERE:
            (value,) = struct.unpack_from("<Q", field, at)  # noqa: PLW2901  # the same value, where it fits
            at += 8
        found.append(value)
    return found


def _kind(name: str, mode: int) -> Kind:
    if name.endswith("/") or mode & _TYPE == _FOLDER_TYPE:
        return "folder"
    return "link" if mode & _TYPE == _LINK_TYPE else "file"


def _permissions(mode: int) -> int:
    """Never setuid or setgid: the files belong to root, and the code that runs them must not.

    Entries that never were a file, such as those of Python's ``ZipFile.writestr``, carry a mode without a type: they
    are made readable.
    """
    if mode and mode & _TYPE == 0:
        mode |= 0o555 if mode & 0o100 else 0o444
    return mode & 0o777


def _read_time(field: bytes | None, date: int, time: int) -> int | None:
    """The exact time, where Info-ZIP's field has it; else the zip's own, of two seconds, taken for UTC."""
    if field and len(field) >= 5 and field[0] & 1:  # noqa: PLR2004  # flags and a 32-bit time
        return int.from_bytes(field[1:5], "little", signed=True)
    year, month, day = (date >> 9) + 1980, date >> 5 & 15, date & 31
    if not 1 <= month <= 12 or not day:  # noqa: PLR2004  # months; 0, as some tools write, is none
        return None
    return calendar.timegm((year, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2, 0, 0, 0))
