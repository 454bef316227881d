import os
import stat
import zipfile
from pathlib import Path

import pytest

from immortal_runner.code.archive import ArchiveRefused, extract


def entry(name: str, mode: int, *, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 2, 3, 4, 6))
    info.create_system = system
    info.external_attr = mode << 16
    return info


def make_zip(path: Path, *entries: tuple[zipfile.ZipInfo | str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return path


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_modes_links_and_times_are_kept(tmp_path: Path) -> None:
    """Conformance 54."""
    archive = make_zip(
        tmp_path / "code.zip",
        (entry("bin/run", stat.S_IFREG | 0o755), "#!/bin/sh\necho ran\n"),
        (entry("private", stat.S_IFREG | 0o600), "x"),
        (entry("link", stat.S_IFLNK | 0o777), "bin/run"),
        (entry("layer", stat.S_IFLNK | 0o777), "/opt/data"),
        (entry("empty/", stat.S_IFDIR | 0o755), ""),
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


def test_a_zip_from_windows_gets_lambdas_modes(tmp_path: Path) -> None:
    """Conformance 55."""
    extract(make_zip(tmp_path / "w.zip", (entry("a\\b.py", 0, system=0), "x")), tmp_path / "out")
    assert permissions(tmp_path / "out/a/b.py") == 0o644
    assert permissions(tmp_path / "out/a") == 0o755


def test_entries_that_never_were_a_file_can_be_read(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "m.zip", ("app.py", "x"), (entry("bootstrap", 0o700), "y")), tmp_path / "out")
    assert permissions(tmp_path / "out/app.py") & 0o444 == 0o444
    assert permissions(tmp_path / "out/bootstrap") & 0o555 == 0o555


@pytest.mark.parametrize(
    "entries",
    [
        [(entry("../x", stat.S_IFREG | 0o644), "x")],
        [(entry("a/../../x", stat.S_IFREG | 0o644), "x")],
        [(entry("/etc/immortal-x", stat.S_IFREG | 0o644), "x")],
        [(entry("link", stat.S_IFLNK | 0o777), "/"), (entry("link/etc/immortal-x", stat.S_IFREG | 0o644), "x")],
        [(entry("link", stat.S_IFLNK | 0o777), ".."), (entry("link/x", stat.S_IFREG | 0o644), "x")],
        [(entry("..\\x", 0, system=0), "x")],
    ],
    ids=["up", "up inside", "absolute", "through a link to /", "through a link up", "windows up"],
)
def test_nothing_leaves_the_folder(tmp_path: Path, entries: list[tuple[zipfile.ZipInfo, str]]) -> None:
    """Conformance 56."""
    inner = tmp_path / "in"
    inner.mkdir()
    with pytest.raises(ArchiveRefused, match=r"entry '"):
        extract(make_zip(tmp_path / "evil.zip", *entries), inner / "out")
    assert not (inner / "x").exists()
    assert not (tmp_path / "x").exists()
    assert not Path("/etc/immortal-x").exists()


def test_of_equal_names_the_last_wins(tmp_path: Path) -> None:
    """Conformance 57."""
    archive = tmp_path / "d.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        make_zip(archive, ("a", "first"), ("b", "between"), ("a", "last"))
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/a").read_text() == "last"


def test_a_later_layer_replaces_files_of_an_earlier_one(tmp_path: Path) -> None:
    extract(make_zip(tmp_path / "1.zip", ("python/a.py", "1"), ("python/b.py", "1")), tmp_path / "opt")
    extract(make_zip(tmp_path / "2.zip", ("python/a.py", "2")), tmp_path / "opt")
    assert (tmp_path / "opt/python/a.py").read_text() == "2"
    assert (tmp_path / "opt/python/b.py").read_text() == "1"


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 10], ids=["empty", "text", "cut"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ArchiveRefused, match="no zip"):
        extract(tmp_path / "x.zip", tmp_path / "out")


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello hello"))
    archive.write_bytes(archive.read_bytes().replace(b"hello hello", b"hello jello"))
    with pytest.raises(ArchiveRefused, match="no zip that can be read"):
        extract(archive, tmp_path / "out")


def test_no_file_is_setuid_or_setgid(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "x.zip",
        (entry("root", stat.S_IFREG | 0o6755), "x"),
        (entry("memory", 0o4755), "x"),
        (entry("folder/", stat.S_IFDIR | 0o2755), ""),
    )
    extract(archive, tmp_path / "out")
    assert {name: permissions(tmp_path / "out" / name) for name in ("root", "memory", "folder")} == {
        "root": 0o755,
        "memory": 0o755,
        "folder": 0o755,
    }


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("link", stat.S_IFLNK | 0o777), "a\0b"))
    with pytest.raises(ArchiveRefused, match="no file can have"):
        extract(archive, tmp_path / "out")


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "hello"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1  # the flag bits that say so, in both headers
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveRefused, match="encrypted"):
        extract(archive, tmp_path / "out")


def test_a_link_to_an_endless_name_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", (entry("link", stat.S_IFLNK | 0o777), "x" * 5000))
    with pytest.raises(ArchiveRefused, match="link 'link' points to a name of 5000 bytes"):
        extract(archive, tmp_path / "out")


def test_an_entry_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", "0123456789"))
    data = archive.read_bytes().replace(
        (10).to_bytes(4, "little") * 2, (10).to_bytes(4, "little") + (5).to_bytes(4, "little")
    )
    archive.write_bytes(data)
    with pytest.raises(ArchiveRefused):
        extract(archive, tmp_path / "out")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immortal_runner.code.archive.MAX_UNZIPPED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 100_000)
    with pytest.raises(ArchiveRefused, match="bomb"):
        extract(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
