"""Installed distributions: what they need, and where their files lie."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def with_requirements(names: Iterable[str]) -> set[str]:
    """The names of distributions and of all that they need; what isn't installed isn't needed here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            waiting += [match[0] for need in needs if "extra ==" not in need and (match := _NAME.match(need))]
    return found


def top_level_files(names: Iterable[str]) -> dict[str, Path]:
    """The files and folders that distributions put onto Python's path, by name."""
    found: dict[str, Path] = {}
    for name in names:
        installed = distribution(name)
        tops = _tops(installed) - {"..", "__pycache__"}
        found |= {top: Path(str(installed.locate_file(top))).resolve() for top in sorted(tops)}
    return found


def _tops(installed: Distribution) -> set[str]:
    """The first parts of its files' names, without a look at each of the thousands of boto3."""
    record = installed.read_text("RECORD")
    if record is None or '"' in record:
        return {file.parts[0] for file in installed.files or ()}
    return {line.partition(",")[0].partition("/")[0] for line in record.splitlines()}
