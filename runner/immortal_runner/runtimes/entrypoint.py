"""The program that a function of a ``provided`` runtime is: where it lies, and why it can't be started."""

import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_ELF = b"\x7fELF"
_PROCESSORS = {"x86_64": 62, "arm64": 183}
_PROCESSOR_AT = 18
_HEAD_BYTES = 256
_MAX_LINKS = 40


class EntrypointInvalid(Exception):
    """The function has no program that can be started; the message is in Lambda's words."""


def find_entrypoint(places: Sequence[str], locate: Callable[[str], Path], architecture: str) -> str:
    """Find a function's program: the first of some files that is there at all.

    Args:
        places: Where it may lie, as the function sees it.
        locate: Says where on this machine lies what the function sees at a path.
        architecture: This machine's, as Lambda names it.

    Raises:
        EntrypointInvalid: There is none, or the system would not start it.

    Source: the runtime interface emulator's search for a bootstrap; errors that users of Lambda reported.
    """
    for place in places:
        file = _follow(locate(place), locate)
        if file.exists() and not file.is_dir():
            if fault := _describe_fault(file, locate, architecture):
                raise EntrypointInvalid(f"fork/exec {place}: {fault}")
            return place
    raise EntrypointInvalid(f"Couldn't find valid bootstrap(s): [{' '.join(places)}]")


def _follow(file: Path, locate: Callable[[str], Path]) -> Path:
    """Follow links as the function would: one that is absolute leads into its own files."""
    for _ in range(_MAX_LINKS):
        if not file.is_symlink():
            break
        target = file.readlink()
        file = locate(str(target)) if target.is_absolute() else file.parent / target
    return file


def _describe_fault(file: Path, locate: Callable[[str], Path], architecture: str) -> str:
    """Say why the system would not start a file, as it would itself; empty when it would."""
    if not file.stat().st_mode & stat.S_IXOTH:  # it belongs to somebody else than the function's user
        return "permission denied"
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if head.startswith(b"#!"):
        return "" if _follow(locate(_interpreter(head)), locate).exists() else "no such file or directory"
    return "" if _is_program(head, architecture) else "exec format error"


def _interpreter(head: bytes) -> str:
    """The interpreter that a script names; a line that ends as on Windows names one that isn't there."""
    line = head[2:].partition(b"\n")[0].replace(b"\t", b" ").strip(b" ")
    return line.partition(b" ")[0].decode(sys.getfilesystemencoding(), "surrogateescape")


def _is_program(head: bytes, architecture: str) -> bool:
    processor = int.from_bytes(head[_PROCESSOR_AT : _PROCESSOR_AT + 2], "little")
    return head.startswith(_ELF) and processor == _PROCESSORS.get(architecture)
