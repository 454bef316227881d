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

from immortal_runner.execution.exhaustion import oom_kills_here
from immortal_runner.execution.orphans import end_orphans, keeping_own
from immortal_runner.runtimes.machine import SANDBOX, SANDBOX_ENVIRONMENT

_SANDBOX_END_S = 3.0
_STATUS_BYTES = 16 * 1024


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

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed for want of memory where the function runs, since this was asked last."""
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
            with keeping_own() as own:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SANDBOX)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=SANDBOX_ENVIRONMENT,
                    cwd="/",
                    pass_fds=[read_end],
                    start_new_session=True,
                )
                own.add(self._process.pid)
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(read_end)
        self._in_room = bool(order["room"])
        self._user = int(order["uid"])
        self._oom_kills = oom_kills_here().count()
        self._code = 0
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
        caught = _read_status(self._own_pid(), "SigCgt")
        return bool(int(caught or "0", 16) >> (signal.SIGTERM - 1) & 1)

    def kill(self) -> None:
        """End the function and everything that it started, and wait for that."""
        self._cut_lifeline()
        if not self._ended.wait(_SANDBOX_END_S):
            self._process.kill()
            self._ended.wait(_SANDBOX_END_S)  # what hangs in the kernel ends when the kernel lets it

    def wait(self, timeout_s: float) -> bool:
        """Whether the function ends within a time."""
        return self._ended.wait(timeout_s)

    def peak_memory_mb(self) -> int:
        """The most memory that the function's first process held so far, in MB; 0 where the system doesn't tell."""
        return int(_read_status(self._own_pid(), "VmHWM").removesuffix("kB") or "0") // 1024

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed for want of memory in our control group, since this was asked last."""
        before, self._oom_kills = self._oom_kills, oom_kills_here().count()
        return self._oom_kills > before

    def _own_pid(self) -> int:
        if not self._code:
            generations = 2 if self._in_room else 1  # in a room, a first process stands between
            line = _line_of(self._process.pid, generations)
            if len(line) <= generations:
                return line[-1]
            self._code = line[-1]
        return self._code

    def _cut_lifeline(self) -> None:
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def _wait(self, on_exit: Callable[[int], None]) -> None:
        status = self._process.wait()
        with keeping_own() as own:
            own.discard(self._process.pid)
        self._cut_lifeline()
        if status == -signal.SIGKILL and not self._in_room:  # perhaps the sandbox was killed, before it could clean up
            end_orphans(self._user)
        self._ended.set()
        on_exit(status)


def _line_of(process: int, generations: int) -> list[int]:
    """A process, its first child, that one's first child, and so on, as far as there are any."""
    line = [process]
    for _ in range(generations):
        try:
            children = Path(f"/proc/{line[-1]}/task/{line[-1]}/children").read_text().split()
        except OSError:
            break
        if not children:
            break
        line.append(int(children[0]))
    return line


def _read_status(process: int, name: str) -> str:
    """What the kernel says of a process under a name; nothing once it has gone."""
    try:
        with Path(f"/proc/{process}/status").open("rb", buffering=0) as file:  # at every answer: the quickest way
            said = file.read(_STATUS_BYTES).decode()
    except OSError:
        return ""
    return said.partition(f"\n{name}:")[2].partition("\n")[0].strip()
