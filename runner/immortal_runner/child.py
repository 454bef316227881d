"""A function's process, from its start to the last byte it wrote."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from immortal_runner.layout import Layout
from immortal_runner.machine import SANDBOX, Machine, identity
from immortal_runner.variables import Paths

_READ_BYTES = 64 * 1024
_SANDBOX_END_S = 3.0


@dataclass(frozen=True, slots=True)
class Start:
    """How a function's process is started on a machine.

    Attributes:
        order: What the sandbox is told.
        paths: Where the function finds things, as it sees them.
    """

    order: Mapping[str, Any]
    paths: Paths


def plan_start(machine: Machine, layout: Layout, root: Path) -> Start:
    """Decide how a function's process is started.

    Args:
        root: An empty directory of the environment's own.
    """
    if machine.base_image:
        paths = Paths()
        argv = ["/var/runtime/bootstrap"]
        return Start({"room": False, "argv": argv, "cwd": paths.task, **identity()}, paths)
    if machine.rooms:
        return _plan_room(machine, layout, root)
    runtime = root / "var/runtime"
    paths = Paths(str(layout.task), str(layout.opt), str(runtime), str(machine.python_home))
    who = identity() if _open_to_all(machine.python) else {**identity(), "uid": 0}
    return Start({"room": False, "argv": _python(machine.python, paths), "cwd": paths.task, **who}, paths)


def _plan_room(machine: Machine, layout: Layout, root: Path) -> Start:
    paths = Paths()
    python, binds = machine.python, []
    if _hidden_in_room(machine.python_home):
        python = Path(paths.lang, machine.python.relative_to(machine.python_home))
        binds.append((str(machine.python_home), paths.lang, True))
    elif not machine.python_home.is_relative_to("/usr"):
        binds.append((str(machine.python_home), str(machine.python_home), True))
    binds += [(str(source), f"{paths.runtime}/{name}", True) for name, source in machine.packages.items()]
    binds += [
        (str(layout.task), paths.task, True),
        (str(layout.opt), paths.opt, True),
        (str(layout.tmp), "/tmp", False),  # noqa: S108  # the function's own
    ]
    room = {"room": True, "root": str(root), "binds": binds}
    return Start({**room, "argv": _python(python, paths), "cwd": paths.task, **identity()}, paths)


def lay_out_runtime(machine: Machine, start: Start) -> None:
    """Where code gets no room of its own, link the runtime's modules into one folder: the rest stays off its path."""
    if start.order["room"] or machine.base_image:
        return
    runtime = Path(start.paths.runtime)
    runtime.mkdir(parents=True, exist_ok=True)
    for name, source in machine.packages.items():
        with suppress(FileExistsError):
            (runtime / name).symlink_to(source)


def _python(python: Path, paths: Paths) -> list[str]:
    return [str(python), "-S", f"{paths.runtime}/bootstrap.py"]


def _hidden_in_room(folder: Path) -> bool:
    """Whether the room puts the function's own files where the interpreter lies on this machine."""
    return any(folder.is_relative_to(own) for own in ("/opt", "/tmp", "/var", "/proc"))  # noqa: S108


def _open_to_all(file: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in file.parents) and bool(file.stat().st_mode & 0o001)


class Output:
    """The pipe that a function writes its standard output and error to.

    Args:
        write: Takes what was read, in order.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._read_end, self.write_end = os.pipe()
        self._lock = threading.Lock()
        self._mark = b""
        self._reached = threading.Event()
        self._reader = threading.Thread(target=self._read, name="function-output", daemon=True)
        self._reader.start()

    def settle(self, timeout_s: float) -> None:
        """Wait until everything that was written before this call has been read.

        A mark that nobody can guess goes through the same pipe: whatever came before it has been read when it arrives.
        """
        with self._lock:
            self._mark = secrets.token_bytes(24)
            self._reached.clear()
        os.write(self.write_end, self._mark)
        self._reached.wait(timeout_s)

    def close(self) -> None:
        """Read what is left and end."""
        self.settle(timeout_s=2)
        os.close(self.write_end)
        self._reader.join(timeout=1)

    def _read(self) -> None:
        held = b""
        while chunk := os.read(self._read_end, _READ_BYTES):
            data = held + chunk
            with self._lock:
                mark = self._mark
            if mark and mark in data:
                data = data.replace(mark, b"")
                with self._lock:
                    self._mark = b""
                self._write(data)
                self._reached.set()
                held = b""
                continue
            held = data[-(len(mark) - 1) :] if mark else b""
            self._write(data[: len(data) - len(held)])
        os.close(self._read_end)


class Child:
    """A running function, inside its sandbox.

    Args:
        order: What the sandbox is told; the environment travels inside it, never on a command line.
        output: The descriptor that standard output and error go to.
        on_exit: Called once, from a thread of ours, with the exit status or the negative number of the signal.
    """

    def __init__(self, order: Mapping[str, Any], *, output: int, on_exit: Callable[[int], None]) -> None:
        read_end, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SANDBOX)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={},
                cwd="/",
                pass_fds=[read_end],
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        self._generations = 2 if order["room"] else 1  # in a room, a first process stands between
        self._lock = threading.Lock()
        assert self._process.stdin is not None  # noqa: S101  # it was asked for above
        with suppress(BrokenPipeError), self._process.stdin as told:
            told.write(json.dumps({**order, "lifeline": read_end}).encode())
        self._ended = threading.Event()
        threading.Thread(target=self._wait, args=(on_exit,), name="function-exit", daemon=True).start()

    def terminate(self) -> None:
        """Ask the function to end: SIGTERM, as ECS and Lambda do."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the function and everything that it started, and wait for that."""
        self._cut_lifeline()
        if not self._ended.wait(_SANDBOX_END_S):
            self._process.kill()
            self._ended.wait()

    def wait(self, timeout_s: float) -> bool:
        """Whether the function ends within a time."""
        return self._ended.wait(timeout_s)

    def peak_memory_mb(self) -> int:
        """The most memory that the function's first process held so far, in MB; 0 where the system doesn't tell."""
        return _peak_memory_mb(_descendant(self._process.pid, self._generations))

    def _cut_lifeline(self) -> None:
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def _wait(self, on_exit: Callable[[int], None]) -> None:
        status = self._process.wait()
        self._cut_lifeline()
        self._ended.set()
        on_exit(status)


def _descendant(process: int, generations: int) -> int:
    """A process's first child, or that one's first child, and so on; the last that there is."""
    for _ in range(generations):
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        except OSError:
            break
        if not children:
            break
        process = int(children[0])
    return process


def _peak_memory_mb(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0
