"""Zips of every sort, extracted into real folders."""

import os
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.code import archive as archives
from immortal_runner.code.archive import ArchiveRefused, DiskFull, extract
from immortal_runner.code.extraction import Plan, plan
from immortal_runner.code.zip_directory import STORED, Entry, read_directory
from support.needs import need

FILE, LINK, FOLDER = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR


def entry(name: str, mode: int, *, system: int = 3, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 2, 3, 4, 6))
    info.create_system = system
    info.external_attr = mode << 16
    info.compress_type = method
    return info


def make_zip(path: Path, *entries: tuple[zipfile.ZipInfo | str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of duplicate names, which are what some tests want
        for info, data in entries:
            archive.writestr(info, data)
    return path


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: a file's bytes, a link's target, None for a folder."""
    found: dict[str, bytes | str | None] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture(params=["here", "apart"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small zip is unpacked in this process, a large one by processes of their own."""
    if request.param == "apart":
        monkeypatch.setattr(archives, "MAX_SMALL_BYTES", -1)
    return str(request.param)


@pytest.mark.conformance(54)
@pytest.mark.usefixtures("way")
def test_modes_links_and_times_are_kept(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "code.zip",
        (entry("bin/run", FILE | 0o755), "#!/bin/sh\necho ran\n"),
        (entry("private", FILE | 0o600), "x"),
        (entry("link", LINK | 0o777), "bin/run"),
        (entry("layer", LINK | 0o777), "/opt/data"),
        (entry("empty/", FOLDER | 0o755), ""),
    )
    extract(archive, tmp_path / "out")
    out = tmp_path / "out"
    assert permissions(out / "bin/run") == 0o755
    assert permissions(out / "private") == 0o600
    assert (out / "link").readlink() == Path("bin/run")
    assert (out / "layer").readlink() == Path("/opt/data")
    assert (out / "empty").is_dir()
    assert (out / "bin/run").stat().st_mtime == 1767323046
    assert os.popen(str(out / "link")).read() == "ran\n"  # noqa: S605  # the test's own script


def test_what_the_umask_takes_away_is_given_back(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("a/app.py", FILE | 0o644), "x"))
    before = os.umask(0o077)
    try:
        extract(archive, tmp_path / "out")
    finally:
        os.umask(before)
    assert permissions(tmp_path / "out/a") == 0o755
    assert permissions(tmp_path / "out/a/app.py") == 0o644


def test_the_exact_time_is_kept_where_the_zip_has_it(tmp_path: Path) -> None:
    info = entry("a", FILE | 0o644)
    info.extra = struct.pack("<HHBl", 0x5455, 5, 1, 1767323047)
    extract(make_zip(tmp_path / "x.zip", (info, "x")), tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_mtime == 1767323047


def test_a_time_that_is_none_is_left_out(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("a", FILE | 0o644), "x"))
    patch(archive, b"PK\x01\x02", 14, b"\0\0")
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/a").read_text() == "x"


def patch(archive: Path, signature: bytes, offset: int, value: bytes) -> None:
    """Write over a field of the last record of a kind."""
    data = bytearray(archive.read_bytes())
    at = data.rindex(signature) + offset
    data[at : at + len(value)] = value
    archive.write_bytes(data)


@pytest.mark.conformance(55)
def test_a_zip_from_windows_gets_lambdas_modes(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "w.zip", (entry("a\\b.py", 0, system=0), "x"), (entry("bootstrap", 0, system=0), "#!/bin/sh")
    )
    extract(archive, tmp_path / "out")
    assert permissions(tmp_path / "out/a/b.py") == 0o644
    assert permissions(tmp_path / "out/bootstrap") == 0o644
    assert permissions(tmp_path / "out/a") == 0o755


@pytest.mark.parametrize(
    ("name", "system", "path"),
    [("a\\b", 0, "a/b"), ("a\\b/c", 0, "a\\b/c"), ("a\\b", 3, "a\\b")],
    ids=["windows", "windows, but with a slash", "unix"],
)
def test_back_slashes_divide_names_of_windows_alone(tmp_path: Path, name: str, system: int, path: str) -> None:
    extract(make_zip(tmp_path / "x.zip", (entry(name, 0, system=system), "x")), tmp_path / "out")
    assert (tmp_path / "out" / path).read_text() == "x"


@pytest.mark.parametrize(
    ("raw", "flags", "system", "name"),
    [
        ("grün".encode(), 0x800, 0, "grün"),
        ("grün".encode("cp437"), 0, 0, "grün"),
        ("grün".encode(), 0, 3, "grün"),
        ("grün".encode("cp437"), 0, 3, "grün"),
    ],
    ids=["utf-8, flagged", "cp437", "utf-8 from unix or macos, not flagged", "cp437 from unix"],
)
def test_names_are_read_by_whoever_wrote_them(tmp_path: Path, raw: bytes, flags: int, system: int, name: str) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("x" * len(raw), 0, system=system), "text"))
    patch(archive, b"PK\x01\x02", 46, raw)
    patch(archive, b"PK\x01\x02", 8, struct.pack("<H", flags))
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {name: b"text"}


def test_entries_that_never_were_a_file_can_be_read(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "m.zip", ("app.py", "x"), (entry("bootstrap", 0o700), "y")), tmp_path / "out")
    assert permissions(tmp_path / "out/app.py") & 0o444 == 0o444
    assert permissions(tmp_path / "out/bootstrap") & 0o555 == 0o555


@pytest.mark.conformance(56)
@pytest.mark.parametrize(
    "entries",
    [
        [(entry("../x", FILE | 0o644), "x")],
        [(entry("a/../../x", FILE | 0o644), "x")],
        [(entry("/etc/immortal-x", FILE | 0o644), "x")],
        [(entry("link", LINK | 0o777), "/"), (entry("link/etc/immortal-x", FILE | 0o644), "x")],
        [(entry("link", LINK | 0o777), ".."), (entry("link/x", FILE | 0o644), "x")],
        [(entry("link/x", FILE | 0o644), "x"), (entry("link", LINK | 0o777), "..")],
        [(entry("..\\x", 0, system=0), "x")],
    ],
    ids=["up", "up inside", "absolute", "through a link to /", "through a link up", "before the link", "windows up"],
)
def test_nothing_leaves_the_folder(tmp_path: Path, way: str, entries: list[tuple[zipfile.ZipInfo, str]]) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    with pytest.raises(ArchiveRefused, match=r"entry '|two entries claim"):
        extract(make_zip(tmp_path / "evil.zip", *entries), inner / "out")
    assert tree(inner) == {"out": None}, way
    assert not (tmp_path / "x").exists()
    assert not Path("/etc/immortal-x").exists()


@pytest.mark.conformance(56)
def test_nothing_is_written_through_a_link_of_an_earlier_layer(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("kept")
    links = ((entry("folder", LINK | 0o777), str(secret)), (entry("file", LINK | 0o777), str(secret / "file")))
    extract(make_zip(tmp_path / "1.zip", *links), tmp_path / "opt")
    with pytest.raises(ArchiveRefused, match="folder is a symbolic link of an earlier layer"):
        extract(make_zip(tmp_path / "2.zip", (entry("folder/file", FILE | 0o644), "x")), tmp_path / "opt")
    extract(make_zip(tmp_path / "3.zip", (entry("file", FILE | 0o644), "replaces the link")), tmp_path / "opt")
    assert tree(secret) == {"file": b"kept"}
    assert tree(tmp_path / "opt") == {"folder": str(secret), "file": b"replaces the link"}


@pytest.mark.conformance(57)
def test_of_equal_names_the_last_wins(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "d.zip", ("a", "first"), ("b", "between"), ("./a", "last"), (entry("b", LINK | 0o777), "a")
    )
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"last", "b": "a"}


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/", "a")], ids="then ".join)
def test_a_path_that_is_both_file_and_folder_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(ArchiveRefused, match="two entries claim 'a', one as a folder and one as a file"):
        extract(make_zip(tmp_path / "x.zip", *((name, "x" if name[-1] != "/" else "") for name in names)), tmp_path)


@pytest.mark.parametrize(("first", "then"), [("a", "a/b"), ("a/b", "a")])
def test_layers_that_contradict_each_other_are_refused(tmp_path: Path, first: str, then: str) -> None:
    extract(make_zip(tmp_path / "1.zip", (first, "1")), tmp_path / "opt")
    with pytest.raises(ArchiveRefused, match=r"two archives claim .*a, one as a folder and one as a file"):
        extract(make_zip(tmp_path / "2.zip", (then, "2")), tmp_path / "opt")


def test_a_later_layer_replaces_files_of_an_earlier_one(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "1.zip", ("python/a.py", "1"), ("python/b.py", "1")), tmp_path / "opt")
    extract(make_zip(tmp_path / "2.zip", ("python/a.py", "2"), ("python/deep/c.py", "2")), tmp_path / "opt")
    extract(make_zip(tmp_path / "3.zip", (entry("python/", FOLDER | 0o700), "")), tmp_path / "opt")
    assert tree(tmp_path / "opt/python") == {"a.py": b"2", "b.py": b"1", "deep": None, "deep/c.py": b"2"}
    assert permissions(tmp_path / "opt/python") == 0o700


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 10], ids=["empty", "text", "cut"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ArchiveRefused, match="no zip"):
        extract(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.usefixtures("way")
def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello hello"))
    archive.write_bytes(archive.read_bytes().replace(b"hello hello", b"hello jello"))
    with pytest.raises(ArchiveRefused, match="entry 'a' can't be read: its bytes don't add up to the checksum"):
        extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("value", [1, 100_000_000], ids=["too few bytes", "too many bytes"])
def test_deflated_bytes_that_end_elsewhere_are_refused(tmp_path: Path, value: int) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("a", FILE, method=zipfile.ZIP_DEFLATED), "hello " * 100))
    patch(archive, b"PK\x01\x02", 20, struct.pack("<L", value))
    with pytest.raises(ArchiveRefused, match="entry 'a' can't be read"):
        extract(archive, tmp_path / "out")


def test_an_entry_that_is_not_where_the_directory_says_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello"))
    patch(archive, b"PK\x01\x02", 42, struct.pack("<L", 7))
    with pytest.raises(ArchiveRefused, match="no header where the directory says"):
        extract(archive, tmp_path / "out")


def test_no_file_is_setuid_or_setgid(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "x.zip",
        (entry("root", FILE | 0o6755), "x"),
        (entry("memory", 0o4755), "x"),
        (entry("folder/", FOLDER | 0o2755), ""),
    )
    extract(archive, tmp_path / "out")
    assert {name: permissions(tmp_path / "out" / name) for name in ("root", "memory", "folder")} == {
        "root": 0o755,
        "memory": 0o755,
        "folder": 0o755,
    }


@pytest.mark.parametrize(
    ("info", "data"),
    [
        (entry("link", LINK | 0o777), "a\0b"),
        (entry("link", LINK | 0o777), ""),
        (entry("x" * 256, FILE), "x"),
        (entry("ä" * 128, FILE), "x"),
        (entry("x" * 200 + "/" + "/".join(["y" * 250] * 16), FILE), "x"),
        (entry("/".join("x" * 201), FILE), "x"),
    ],
    ids=["link to NUL", "link to nothing", "long part", "many bytes", "long path", "deep path"],
)
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, info: zipfile.ZipInfo, data: str) -> None:
    archive = make_zip(tmp_path / "x.zip", (info, data))
    with pytest.raises(ArchiveRefused, match="no file can have"):
        extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("aXb", "x"))
    patch(archive, b"PK\x01\x02", 46, b"a\0b")
    with pytest.raises(ArchiveRefused, match="no file can have"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(8, 1, "encrypted"), (10, 12, "packed by method 12; Lambda takes deflate")],
    ids=["a password", "bzip2"],
)
def test_a_zip_that_lambda_does_not_take_is_refused(tmp_path: Path, offset: int, value: int, reason: str) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello"))
    patch(archive, b"PK\x01\x02", offset, struct.pack("<H", value))
    with pytest.raises(ArchiveRefused, match=reason):
        extract(archive, tmp_path / "out")


def test_a_link_to_an_endless_name_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("link", LINK | 0o777), "x" * 5000))
    with pytest.raises(ArchiveRefused, match="link 'link' points to a name of 5000 bytes"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_an_entry_longer_than_it_says_is_refused(tmp_path: Path, method: int) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("a", FILE, method=method), "0" * 1000))
    patch(archive, b"PK\x01\x02", 24, struct.pack("<L", 5))
    with pytest.raises(ArchiveRefused, match="holds more than the 5 bytes that it declares"):
        extract(archive, tmp_path / "out")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immortal_runner.code.extraction.MAX_UNZIPPED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 100_000)
    with pytest.raises(ArchiveRefused, match="bomb"):
        extract(tmp_path / "b.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("names", [["x/" * at for at in range(1, 30)], ["a/" * 60 + "b"]], ids=["entries", "folders"])
def test_too_many_entries_are_taken_for_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setattr("immortal_runner.code.zip_directory.MAX_ENTRIES", 20)
    monkeypatch.setattr("immortal_runner.code.extraction.MAX_ENTRIES", 20)
    with pytest.raises(ArchiveRefused, match=r"more than 20 (entries|folders), which is taken for a bomb"):
        extract(make_zip(tmp_path / "x.zip", *((name, "") for name in names)), tmp_path / "out")


@pytest.mark.conformance(57)
def test_a_zip_of_more_than_65535_entries_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(70_000):
            opened.writestr(zipfile.ZipInfo(f"{number % 256}/{number}"), b"")
    with archive.open("rb") as file:
        entries = read_directory(file.fileno(), "many.zip")
    assert len(entries) == 70_000
    assert entries[-1].name == "111/69999"


@pytest.mark.conformance(57)
def test_entries_beyond_4_gb_are_read(tmp_path: Path) -> None:
    """The zip is a file with a hole: what lies before the directory and the last entry takes no room."""
    archive = tmp_path / "huge.zip"
    with archive.open("wb") as file:
        file.seek(5 * 1024**3)
        with zipfile.ZipFile(file, "w") as opened:
            opened.writestr(entry("far", FILE | 0o644), "away")
            large = entry("large", FILE | 0o644)
            with opened.open(large, "w", force_zip64=True) as out:
                out.write(b"streamed")
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"far": b"away", "large": b"streamed"}


def test_a_file_of_more_than_4_gb_is_known_by_its_zip64_field(tmp_path: Path) -> None:
    info = entry("large", FILE | 0o644)
    archive = make_zip(tmp_path / "x.zip", (info, "x"))
    data = archive.read_bytes()
    at = data.index(b"PK\x01\x02")
    field = struct.pack("<HHQQ", 1, 16, 5 * 1024**3, 1)
    header = bytearray(data[at : at + 46 + 5])
    header[20:28] = b"\xff" * 8
    header[30:32] = struct.pack("<H", len(field))
    directory = bytes(header) + field
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), at, 0)
    archive.write_bytes(data[:at] + directory + end)
    with archive.open("rb") as file:
        (found,) = read_directory(file.fileno(), "x.zip")
    assert (found.file_bytes, found.packed_bytes, found.header_offset) == (5 * 1024**3, 1, 0)


class _Pipe:
    """A file that can't be gone back in: zipfile then writes sizes behind the data."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_sizes_behind_the_data_are_no_hindrance(tmp_path: Path) -> None:
    pipe = _Pipe(tmp_path / "x.zip")
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", "hello" * 1000)
        archive.writestr("b", "")
    pipe.close()
    assert (tmp_path / "x.zip").read_bytes()[6] & 8
    extract(tmp_path / "x.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"hello" * 1000, "b": b""}


def test_a_script_before_the_zip_is_skipped(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello"))
    archive.write_bytes(b"#!/usr/bin/env python3\n" + archive.read_bytes())
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"hello"}


def test_long_extra_fields_and_comments_are_skipped(tmp_path: Path) -> None:
    info = entry("a", FILE | 0o644)
    info.extra = struct.pack("<HH", 0xCAFE, 5000) + b"x" * 5000
    info.comment = b"c" * 300
    archive = make_zip(tmp_path / "x.zip", (info, "hello"), ("b", "there"))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.comment = b"of the whole" * 1000
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"hello", "b": b"there"}


def test_large_files_and_many_batches_come_out_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a read, a piece and a batch hold, in more than one process."""
    monkeypatch.setattr(archives, "MAX_SMALL_BYTES", 0)
    contents = {
        "zeros": (b"\0" * 5_000_000, zipfile.ZIP_DEFLATED),
        "noise": (os.urandom(1_500_000), zipfile.ZIP_DEFLATED),
        "stored": (os.urandom(1_500_000), zipfile.ZIP_STORED),
        **{f"folder/{number}": (str(number).encode() * 1000, zipfile.ZIP_DEFLATED) for number in range(300)},
    }
    archive = make_zip(
        tmp_path / "x.zip",
        *((entry(name, FILE | 0o644, method=method), data) for name, (data, method) in contents.items()),
    )
    extract(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"folder": None, **{name: data for name, (data, _) in contents.items()}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    need("the right to mount", here=os.getuid() == 0 and sys.platform == "linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=20", "tmpfs", disk], check=False)  # noqa: S607
    need("the right to mount", here=mounted.returncode == 0)
    yield disk
    subprocess.run(["umount", disk], check=True)  # noqa: S607


@pytest.mark.parametrize("sizes", [[1_000_000], [1] * 40, [37_000] * 7], ids=["bytes", "inodes", "the last bytes"])
@pytest.mark.usefixtures("way")
def test_a_full_disk_is_told_apart(tmp_path: Path, small_disk: Path, sizes: list[int]) -> None:
    archive = make_zip(tmp_path / "x.zip", *((f"{at}.bin", b"x" * size) for at, size in enumerate(sizes)))
    with pytest.raises(DiskFull, match=f"unzips to {sum(sizes)} bytes .*Next step: raise EphemeralStorageGiB"):
        extract(archive, small_disk / "out")
    assert tree(small_disk / "out") == {}


def test_an_unpacking_process_that_is_killed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_SMALL_BYTES", -1)
    monkeypatch.setattr(archives, "_UNPACK_APART", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ServiceUnavailable, match=r"unpacking x.zip ended with status -9"):
        extract(make_zip(tmp_path / "x.zip", ("a", "x")), tmp_path / "out")


NAMES = st.lists(st.sampled_from(["a", "b", "..", "", ".", "ü", "a\\b", "x" * 40]), min_size=1, max_size=4).map(
    "/".join
)
MODES = st.sampled_from([0, 0o644, FILE | 0o600, FILE | 0o755, LINK | 0o777, FOLDER | 0o755])
ENTRIES = st.tuples(
    NAMES, MODES, st.sampled_from([0, 3]), st.sampled_from([0, 8]), st.binary(max_size=40) | st.just(b"..")
)


@settings(max_examples=150, deadline=None)
@given(made=st.lists(ENTRIES, max_size=6))
def test_whatever_the_zip_nothing_leaves_and_files_are_as_zipfile_reads_them(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, int, int, int, bytes]]
) -> None:
    around = tmp_path_factory.mktemp("around")
    archive = make_zip(
        around / "x.zip",
        *((entry(name, mode, system=system, method=method), data) for name, mode, system, method, data in made),
    )
    (around / "in").mkdir()
    with suppress(ArchiveRefused):
        extract(archive, around / "in/out")
    assert {path.name for path in around.iterdir()} == {"x.zip", "in"}
    assert {path.name for path in (around / "in").iterdir()} == {"out"}
    with zipfile.ZipFile(archive) as opened:
        contents = {opened.read(info) for info in opened.infolist()}
    files = [found for found in tree(around / "in/out").values() if isinstance(found, bytes)]
    assert all(data in contents for data in files)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 400), tail=st.binary(max_size=60))
def test_garbage_in_a_zip_is_refused_or_read_but_never_breaks(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, tail: bytes
) -> None:
    around = tmp_path_factory.mktemp("around")
    archive = make_zip(
        around / "x.zip", (entry("a/b", FILE, method=8), "hello" * 9), (entry("link", LINK), "a"), ("c", "there")
    )
    whole = archive.read_bytes()
    archive.write_bytes(whole[:at] + data + whole[at + len(data) :] + tail)
    with suppress(ArchiveRefused, DiskFull):
        extract(archive, around / "out")
    assert {path.name for path in around.iterdir()} <= {"x.zip", "out"}


def made_of(name: str, kind: str = "file") -> Entry:
    return Entry(name, kind, 0, STORED, 0, 0, 0, 0, len(name), None)  # type: ignore[arg-type]


@given(names=st.lists(NAMES, max_size=8))
def test_a_plan_knows_every_folder_before_what_is_in_it(names: list[str]) -> None:
    try:
        planned = plan(map(made_of, names), "x.zip")
    except ArchiveRefused:
        planned = Plan({}, {}, {}, 0)
    seen = {""}
    for folder in planned.folders:
        assert folder.rpartition("/")[0] in seen
        seen.add(folder)
    assert {path.rpartition("/")[0] for path in planned.files} <= seen
