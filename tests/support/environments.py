"""Execution environments that outlive one test, in a room or bare, of code with modes."""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from immortal_runner.code.layout import lay_out
from immortal_runner.execution.credentials import StaticCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.runtimes.machine import this_machine
from support.functions import FUNCTION, MemoryLog, open_to_all
from support.needs import need

Files = Mapping[str, str | bytes]
"""What a zip holds; what begins as a program does may be executed."""


class RoomOrBare:
    """Makes environments below a folder, all in rooms of their own or all bare, and stops them together.

    Args:
        folder: An empty one.
        room: Whether the code gets a room of its own.
    """

    def __init__(self, folder: Path, *, room: bool) -> None:
        self.room = room
        self._folder = folder
        self._made: list[ExecutionEnvironment] = []
        open_to_all(folder)

    def make(
        self,
        files: Files,
        *,
        layer: Files | None = None,
        programs: bool = True,
        log: MemoryLog | None = None,
        **changes: object,
    ) -> ExecutionEnvironment:
        """Make an environment of ``FUNCTION``, changed in what the arguments say.

        Args:
            files: The function's own.
            layer: A layer's, if it has one.
            programs: Whether the zips say what may be executed; those of Windows don't.
            log: Where its output goes.
            changes: Attributes of the function.
        """
        machine = this_machine()
        if self.room:
            need("namespaces", here=machine.rooms)
        folder = self._folder / str(len(self._made))
        folder.mkdir()
        code = [files, *([layer] if layer else [])]
        zips = [_zip(folder / f"{at}.zip", each, programs=programs) for at, each in enumerate(code)]
        with patch("immortal_runner.execution.environment.this_machine", lambda: replace(machine, rooms=self.room)):
            environment = ExecutionEnvironment(
                replace(FUNCTION, **changes),  # type: ignore[arg-type]
                lay_out(zips[0], zips[1:], folder / "root"),
                credentials=StaticCredentials("AKIAEXAMPLE", "secret", "token"),
                log=log or MemoryLog(),
            )
        self._made.append(environment)
        return environment

    def stop(self) -> None:
        """End them all."""
        for environment in self._made:
            environment.stop()


def _zip(path: Path, files: Files, *, programs: bool) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            entry = zipfile.ZipInfo(name)
            runs = programs and data.startswith((b"#!", b"\x7fELF"))
            entry.external_attr = (0o100755 if runs else 0o100644) << 16
            archive.writestr(entry, data)
    return path
