"""How long a large package takes to lay out, against ``unzip``, and how much memory that needs."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from bench.lines import Line
from immortal_runner.code.archive import extract

ROUNDS = 5
LIMIT_RATIO = 0.5
LIMIT_MB = 80
PACKAGES = ("numpy", "pandas", "scikit-learn")
SAMPLE_S = 0.005
MEMORY_DISK = Path("/dev/shm")  # noqa: S108  # folders of our own in it
ROOM_BYTES = 1_000_000_000


def measure() -> Iterator[Line]:
    archive = package()
    unzips, ours = [], []
    for _ in range(ROUNDS):
        unzips.append(_seconds(_unzip, archive))
        ours.append(_seconds(extract, archive))
    with _fresh_folder() as folder:
        peak_mb = _peak_mb(archive, folder)
    ratio = median(ours) / median(unzips)
    yield Line(
        f"laying out {archive.stat().st_size / 1e6:.0f} MB, against unzip", f"{ratio:.2f}", f"limit {LIMIT_RATIO}"
    )
    yield Line("  ours", f"{median(ours):.2f} s", f"unzip {median(unzips):.2f} s")
    yield Line("  memory of all its processes", f"{peak_mb:.0f} MB", f"limit {LIMIT_MB} MB")


def package() -> Path:
    """A zip as a developer makes it: packages installed into a folder; kept for the next time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "immortal-lambda"
    archive = cache / f"package-{sys.version_info.major}.{sys.version_info.minor}.zip"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--only-binary", ":all:", "--target", f"{folder}/all", *PACKAGES], check=True)
            Path(shutil.make_archive(f"{folder}/made", "zip", f"{folder}/all")).replace(archive)
    return archive


@contextmanager
def _fresh_folder() -> Iterator[Path]:
    """A folder in memory, where there is room: ext4 takes seconds to find a place for new files where many were removed
    in the last minutes, as benchmarks do, and both programs would be measured by that."""
    in_memory = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="immortal-", dir=MEMORY_DISK if in_memory else None) as folder:
        yield Path(folder, "out")


def _seconds(lay_out: Callable[[Path, Path], None], archive: Path) -> float:
    with _fresh_folder() as folder:
        began = time.perf_counter()
        lay_out(archive, folder)
        return time.perf_counter() - began


def _unzip(archive: Path, folder: Path) -> None:
    subprocess.run(["unzip", "-q", archive, "-d", folder], check=True)  # noqa: S607


def _peak_mb(archive: Path, folder: Path) -> float:
    """The most that a process which extracts and all processes that it starts hold at any moment."""
    code = (
        f"from pathlib import Path; from immortal_runner.code.archive import extract; "
        f"extract(Path({str(archive)!r}), Path({str(folder)!r}))"
    )
    peak = 0
    with subprocess.Popen([sys.executable, "-c", code]) as extracting:
        process = psutil.Process(extracting.pid)
        while extracting.poll() is None:
            peak = max(peak, _resident_bytes(process))
            time.sleep(SAMPLE_S)
    assert extracting.returncode == 0
    return peak / 1e6


def _resident_bytes(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
