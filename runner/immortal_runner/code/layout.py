"""Where a function's code, its layers and its scratch space lie on this machine."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from immortal_runner.code.archive import extract


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
    """
    layout = Layout(root / "var/task", root / "opt", root / "tmp")
    for folder in (layout.task, layout.opt):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    for layer in layers:
        extract(layer, layout.opt)
    extract(code, layout.task)
    make_scratch(layout.tmp)
    return layout


def make_scratch(folder: Path) -> None:
    """Make an empty directory in which everybody may write, as ``/tmp`` is."""
    folder.mkdir(parents=True, exist_ok=True)
    for child in folder.iterdir() if folder != Path("/tmp") else ():  # noqa: S108  # a container's own /tmp starts empty
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    folder.chmod(0o1777)
