"""A function in the other container of the task: what the runner shares with it, and how it starts it from afar.

A function that is a container image can't be a child of the runner's: the image is its file system. It gets a container
of its own, which shares the network with the runner's, so that it finds the Runtime API on 127.0.0.1, and one folder.
In it the runner writes the script that that container starts, and three fifos: orders go to the script by one, it
tells by the second how the program fares, and what the program prints comes back by the third.

The folder is the runner's: the function may read what is for it and write to two of the fifos, and nothing else. What
it could spoil there is its own outcome.
"""

import itertools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from immortal_lambda.errors import ImmortalError, ServiceUnavailable
from immortal_runner.execution.variables import Paths
from immortal_runner.neighbours.shell import export_lines
from immortal_runner.neighbours.supervisor_script import SCRIPT
from immortal_runner.runtimes.machine import SANDBOX_GID

ENTER = "enter"
"""The script's file; whoever waits for it finds everything else in place."""

INIT_LIMIT_S = 900.0
"""How long an image may take until it asks for an event: as long as Lambda lets any invocation take."""

_ARRIVAL_S = 600.0
_LOOK_S = 0.5
_ANSWER_S = 1.0
_START_S = 10.0
_AGAIN_S = 0.25
_END_S = 3.0
_LINE_BYTES = 4096
_KILLED = -9
_SIGNALLED = range(129, 193)


class ContainerGone(ImmortalError):
    """The function's container has ended; another task has a new one."""

    retryable = True


class ContainerNotStarted(ImmortalError):
    """The function's container can't be started, or doesn't do what every image on Lambda does."""


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How a container ended.

    Attributes:
        exit_code: None for one that never ran.
        reason: What the platform says beside it.
    """

    exit_code: int | None = None
    reason: str = ""


class LookAtContainer(Protocol):
    """Asks the platform how the function's container ended."""

    def __call__(self) -> ContainerEnd | None:
        """None while it has not ended, or nothing is known."""
        ...


@dataclass(slots=True)
class _Start:
    """One start of a program in the other container.

    Attributes:
        number: Counted from 1, for the container's whole life.
        oom_kills: How often the kernel had killed there for memory when that was asked last.
    """

    number: int
    on_exit: Callable[[int], None]
    pid: str = ""
    oom_kills: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Question:
    """Something that the container was asked, and its answer."""

    answered: bool = False
    words: tuple[str, str, str] | None = None
    found: dict[str, bool] = field(default_factory=dict)


class Neighbour:
    """The other container.

    Args:
        folder: Shared with it, and empty.
        look: Asks the platform about it.
        scratch: Where the runner finds what the function sees as ``/tmp``; None where it doesn't.
    """

    fault = ""
    init_limit_s: float | None = INIT_LIMIT_S

    def __init__(self, folder: Path, *, look: LookAtContainer, scratch: Path | None = None) -> None:
        self.paths = Paths()
        self.scratch = scratch
        self._folder = folder
        self._look = look
        self._arrived = threading.Event()
        self._gone = threading.Event()
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._starts: dict[int, _Start] = {}
        self._extending = False
        self._oom_kills = 0
        self._questions: dict[int, _Question] = {}
        if scratch is not None:
            scratch.chmod(0o1777)
        folder.chmod(0o755)
        self._orders = os.open(self._fifo("order", 0o640), os.O_RDWR | os.O_NONBLOCK)
        self._said = os.open(self._fifo("said", 0o620), os.O_RDONLY | os.O_NONBLOCK)
        self._output = self._fifo("output", 0o620)
        threading.Thread(target=self._listen, name="neighbour", daemon=True).start()
        self._write(ENTER, SCRIPT)

    @property
    def gone(self) -> bool:
        """Whether the container has ended, or was given up."""
        return self._gone.is_set()

    def open_pipe(self) -> tuple[int, int]:
        """Both ends of what the function prints into: one to read from, one to write to."""
        read_end = os.open(self._output, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(read_end, True)
        return read_end, os.open(self._output, os.O_WRONLY)

    def await_arrival(self, stopped: Callable[[], bool] = lambda: False, timeout_s: float = _ARRIVAL_S) -> None:
        """Wait until the container has come up.

        Raises:
            ContainerNotStarted: It ended before; the message says how and what to do.
            ServiceUnavailable: It isn't there after the time, or the task is being stopped.
        """
        deadline = time.monotonic() + timeout_s
        while not self._arrived.wait(_LOOK_S):
            if stopped():
                raise ServiceUnavailable("the task was stopped before the function's container was there")
            if end := self._look():
                raise ContainerNotStarted(describe_absence(end))
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"the function's container did not come up within {timeout_s:.0f} s")

    def extensions(self) -> Mapping[str, bool]:
        """The names of what lies in the image's ``/opt/extensions``, and whether it can be executed."""
        self._order("clean")
        return self._ask("list", "", _START_S).found

    def run_extension(
        self, name: str, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]
    ) -> "NeighbourProcess":
        """Start one of the image's extensions; for arguments and errors see :meth:`run`."""
        del output
        self._extending = True
        return self._begin("extension", variables, on_exit, name)

    def run(self, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]) -> "NeighbourProcess":
        """Start the image's program.

        Args:
            variables: Everything that it finds in its environment beside what the image sets.
            output: Goes unused: the program prints into :meth:`open_pipe`.
            on_exit: Called once with the exit status, or the negative number of the signal.

        Raises:
            ContainerGone: The container has ended, or no longer obeys.
        """
        del output
        return self._begin("run", variables, on_exit)

    def close(self) -> None:
        """Let the container end. Closing twice is harmless."""
        with self._changed:
            if not self._closing.is_set():
                self._closing.set()
                os.close(self._orders)

    def _begin(
        self, order: str, variables: Mapping[str, str], on_exit: Callable[[int], None], name: str = ""
    ) -> "NeighbourProcess":
        start = _Start(next(self._numbers), on_exit)
        self._starts[start.number] = start
        self._write(f"variables-{start.number}", export_lines(variables))
        deadline = time.monotonic() + _START_S
        while not start.begun.is_set():  # an order may be lost to who obeyed while the last program ran, and was dying
            if self._gone.is_set() or time.monotonic() > deadline:
                raise ContainerGone("the function's container has ended or no longer obeys")
            self._order(f"{order} {start.number} {name}".rstrip())
            start.begun.wait(_AGAIN_S)
        return NeighbourProcess(self, start)

    def _order(self, order: str) -> None:
        with self._changed, suppress(BlockingIOError):  # nobody has read for 64 KB of orders: nobody will
            if not self._closing.is_set():
                os.write(self._orders, f"{order}\n".encode())

    def _ask_status(self, start: _Start) -> tuple[int, int]:
        """The signals that a program catches, as bits, and its peak memory in KB; zeros where nothing answers."""
        if start.ended.is_set():
            return 0, 0
        caught, peak_kb, oom_kills = self._ask("status", start.pid, _ANSWER_S, start.ended).words or ("0", "0", "0")
        self._oom_kills = max(self._oom_kills, _whole(oom_kills))
        return _bits(caught), _whole(peak_kb)

    def _ask(self, order: str, about: str, timeout_s: float, in_vain: threading.Event | None = None) -> "_Question":
        """Give an order that is answered, and wait for the answer as long as there can be one."""
        question = _Question()
        number = next(self._numbers)
        self._questions[number] = question
        self._order(f"{order} {number} {about}".rstrip())
        with self._changed:
            self._changed.wait_for(
                lambda: question.answered or self._gone.is_set() or (in_vain is not None and in_vain.is_set()),
                timeout_s,
            )
        del self._questions[number]
        return question

    def _end(self, start: _Start) -> None:
        """Kill a program, and where no extension has to see its end through, all that it left behind.

        A container that doesn't obey is given up.
        """
        self._order(f"kill {start.pid}" if self._extending else "clean")
        if not start.ended.wait(_END_S):
            self._gone.set()
            self._finish(start, _KILLED)

    def _finish(self, start: _Start, status: int) -> None:
        with self._changed:
            if self._starts.pop(start.number, None) is None:
                return
            (self._folder / f"variables-{start.number}").unlink(missing_ok=True)
            start.ended.set()
            self._changed.notify_all()
        start.on_exit(status)

    def _listen(self) -> None:
        """Read what the container tells, until its end or ours."""
        poll = select.poll()
        poll.register(self._said, select.POLLIN)
        held, there = b"", True
        while there and not self._closing.is_set():
            for _, happened in poll.poll(_LOOK_S * 1000):
                data = os.read(self._said, _LINE_BYTES) if happened & select.POLLIN else b""
                *lines, held = (held + data).split(b"\n")
                held = held[-_LINE_BYTES:]
                for line in lines:
                    self._take(line.decode("utf-8", "replace").split(" ", 3))
                there = bool(data) or not happened & select.POLLHUP  # else no process of the container is left
        os.close(self._said)
        if not there:
            self._note_gone()

    def _note_gone(self) -> None:
        end = self._look()
        with self._changed:
            self._gone.set()
            self._oom_kills += end is not None and "OutOfMemory" in end.reason
            left = list(self._starts.values())
            self._changed.notify_all()
        for start in left:
            self._finish(start, _KILLED)

    def _take(self, words: list[str]) -> None:
        """Take one line of what the container says; whatever makes no sense is a stranger's, and nothing."""
        match words:
            case ["hello"]:
                self._arrived.set()
            case ["found", number, executable, name] if question := self._questions.get(_whole(number)):
                question.found[name] = executable == "1"
            case ["listed", number]:
                self._answer(number)
            case ["status", number, caught, rest] if len(more := rest.split(" ")) == 2:  # noqa: PLR2004  # KB and KILLS
                self._answer(number, (caught, more[0], more[1]))
            case ["pid", number, pid, oom_kills] if pid.isdigit() and (start := self._starts.get(_whole(number))):
                start.pid, start.oom_kills = pid, _whole(oom_kills)
                start.begun.set()
            case ["exit", number, status, oom_kills] if start := self._starts.get(_whole(number)):
                self._oom_kills = max(self._oom_kills, _whole(oom_kills))
                start.begun.set()
                self._finish(start, read_status(status))

    def _answer(self, number: str, words: tuple[str, str, str] | None = None) -> None:
        if question := self._questions.get(_whole(number)):
            with self._changed:
                question.answered, question.words = True, words
                self._changed.notify_all()

    def _fifo(self, name: str, mode: int) -> Path:
        fifo = self._folder / name
        os.mkfifo(fifo)
        _give(fifo, mode)
        return fifo

    def _write(self, name: str, text: str) -> None:
        """Write a file that is whole whenever it can be seen, and that only the function's group may read."""
        draft = self._folder / f".{name}"
        draft.touch(0o600)
        draft.write_bytes(text.encode("utf-8", "surrogateescape"))
        _give(draft, 0o440)
        draft.replace(self._folder / name)


class NeighbourProcess:
    """A program of the image's, once started."""

    def __init__(self, neighbour: Neighbour, start: _Start) -> None:
        self._neighbour = neighbour
        self._start = start

    def terminate(self) -> None:
        """Ask the program to end: SIGTERM, as ECS and Lambda do."""
        if not self._start.ended.is_set():
            self._neighbour._order(f"term {self._start.pid}")  # noqa: SLF001  # they are one thing in two objects

    def catches_sigterm(self) -> bool:
        """Whether the program has a handler of its own for SIGTERM; without one, the signal would just kill it."""
        caught, _ = self._neighbour._ask_status(self._start)  # noqa: SLF001  # as above
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def kill(self) -> None:
        """End the program and what it started, and wait for that."""
        self._neighbour._end(self._start)  # noqa: SLF001  # as above

    def wait(self, timeout_s: float) -> bool:
        """Whether the program ends within a time."""
        return self._start.ended.wait(timeout_s)

    def peak_memory_mb(self) -> int:
        """The most memory that the program's first process held so far, in MB; 0 where nothing tells."""
        _, peak_kb = self._neighbour._ask_status(self._start)  # noqa: SLF001  # as above
        return peak_kb // 1024

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed for want of memory in the function's container, since this was asked last."""
        self._neighbour._ask_status(self._start)  # noqa: SLF001  # as above
        before, self._start.oom_kills = self._start.oom_kills, self._neighbour._oom_kills  # noqa: SLF001  # as above
        return self._start.oom_kills > before


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0  # noqa: PLR2004  # 64 bits


def _bits(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def read_status(said: str) -> int:
    """Read a shell's exit status: the status itself, or the negative number of the signal that it stands for.

    A program that exits with 129 to 192 by itself can't be told from one that a signal ended.
    """
    status = int(said) if said.isdigit() else 0
    return 128 - status if status in _SIGNALLED else status


def describe_absence(end: ContainerEnd) -> str:
    """Say why a container that ended early can't be the function's, and what to do."""
    how = ", ".join(filter(None, (f"exit code {end.exit_code}" if end.exit_code is not None else "", end.reason)))
    return (
        f"the function's container did not start ({how or 'no reason given'}): the image must be made for the task's "
        "processor, have /bin/sh, and be allowed to be pulled by the task's execution role. Next step: mend the image "
        "or the role, then redrive the run; an image without a shell can't be rerun"
    )


def _give(file: Path, mode: int) -> None:
    """Let the function's group, and nobody else, use a file of ours as its mode says."""
    if os.getuid() == 0:
        os.chown(file, 0, SANDBOX_GID)
    file.chmod(mode)
