"""A function's process, inside its sandbox."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from immortal_runner.runtimes.machine import SANDBOX

_SANDBOX_END_S = 3.0


class FunctionProcess(Protocol):
    """A running function, wherever it runs."""

    def terminate(self) -> None:
        """Ask the function to end: SIGTERM, as ECS and Lambda do."""
        ...

    def catches_sigterm(self) -> bool:
        """Whether the function has a handler of its own for SIGTERM; without one, the signal would just kill it."""
        ...

    def kill(self) -> None:
        """End the function and everything that it started, and wait for that."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Whether the function ends within a time."""
        ...

    def peak_memory_mb(self) -> int:
        """The most memory that the function's first process held so far, in MB; 0 where nothing tells."""
        ...


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

    def catches_sigterm(self) -> bool:
        """Whether the function has a handler of its own for SIGTERM; without one, the signal would just kill it."""
        caught = _read_status(self._own_pid()).get("SigCgt", "0")
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

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
        return int(_read_status(self._own_pid()).get("VmHWM", "0").split()[0]) // 1024

    def _own_pid(self) -> int:
        return _descendant(self._process.pid, self._generations)

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


def _read_status(process: int) -> dict[str, str]:
    """What the kernel says of a process, by name; nothing once it has gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
