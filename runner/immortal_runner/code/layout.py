"""Where a function's code, its layers and its scratch space lie on this machine."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from immortal_runner.code.archive import merge, unpack_aside


@dataclass(frozen=True, slots=True)
class Layout:
    """Three directories; the function sees them as ``/var/task``, ``/opt`` and ``/tmp`` where the machine allows it."""

    task: Path
    opt: Path
    tmp: Path


def lay_out(code: Path, layers: Sequence[Path], root: Path) -> Layout:
    """Extract code and layers below a root; of files in several layers the later wins.

    Args:
        code: The function's zip.
        layers: The layers' zips, in the order that the function names them.
        root: ``/`` in a container, a work directory elsewhere.

    Raises:
        ArchiveRefused: One of the zips can't be extracted safely.
        DiskFull: There is no room for them.
    """
    return lay_out_as_they_come(enumerate([code, *layers]), root)


def lay_out_as_they_come(zips: Iterable[tuple[int, Path]], root: Path) -> Layout:
    """Extract code and layers as :func:`lay_out` does, each as soon as it is there.

    Args:
        zips: In any order, each with its place: 0 is the code, from 1 on the layers are counted.
        root: As for :func:`lay_out`, which raises the same.
    """
    layout = Layout(root / "var/task", root / "opt", root / "tmp")
    for folder in (layout.task, layout.opt):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    with ExitStack() as until_merged:
        unpacked: dict[int, Path] = {}
        for number, archive in zips:
            folder = layout.opt if number else layout.task
            unpacked[number] = until_merged.enter_context(unpack_aside(archive, folder))
        for number in sorted(unpacked):
            merge(unpacked[number], layout.opt if number else layout.task)
    make_scratch(layout.tmp)
    return layout


def make_scratch(folder: Path) -> None:
    """Make an empty directory in which everybody may write, as ``/tmp`` is."""
    folder.mkdir(parents=True, exist_ok=True)
    for child in folder.iterdir() if folder != Path("/tmp") else ():  # noqa: S108  # a container's own /tmp starts empty
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    folder.chmod(0o1777)
