"""A made-up function, its zip and a log that keeps what it is given."""

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from immortal_runner.code.function import Function
from immortal_runner.execution.environment import ExecutionEnvironment

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:report-builder"

FUNCTION = Function(
    name="report-builder",
    arn=ARN,
    version="$LATEST",
    runtime="python3.13",
    handler="app.handler",
    timeout_s=3,
    memory_mb=128,
    role_arn="arn:aws:iam::123456789012:role/report-builder",
    variables={},
    code_sha256="",
    code_bytes=0,
    layers=(),
    log_group="/aws/lambda/report-builder",
    log_format="Text",
    architecture="x86_64",
    last_modified="2026-11-21T10:00:00.000+0000",
)


class MemoryLog:
    """A log stream that keeps what it is given."""

    group = FUNCTION.log_group
    name = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def end_line(self) -> None:
        """What was written is kept as it is."""

    def flush(self, timeout_s: float) -> None:
        """Everything is there already."""

    def lose_patience(self) -> None:
        """Nobody ever waits."""

    def close(self) -> None:
        """Nothing is open."""

    @property
    def text(self) -> str:
        return self.data.decode()


Environments = Callable[..., ExecutionEnvironment]
"""What the fixture ``environments`` gives: files, and what differs from ``FUNCTION``, made into an environment."""


def make_zip(path: Path, files: Mapping[str, str]) -> Path:
    """Write a zip of text files; a text that begins with ``#!`` is a program."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if data.startswith("#!") else 0o644) << 16
            archive.writestr(entry, data)
    return path


def open_to_all(folder: Path) -> None:
    """Let a function's own user pass through the folders that pytest makes for us alone."""
    for each in (folder, *folder.parents):
        if each.is_relative_to(tempfile.gettempdir()) and each != Path(tempfile.gettempdir()):
            each.chmod(0o755)
