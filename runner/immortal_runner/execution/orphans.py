"""Orphans: processes of a function that lost their parents below us and came to us, as the container's first process.

As a rule the sandbox ends what a function left behind. When the sandbox itself is killed, its children come to the
runner: whoever is PID 1, or has said that it adopts orphans, must end the living and collect the dead.
"""

import ctypes
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 100

_lock = threading.Lock()
_sandboxes: set[int] = set()
"""Children whose end somebody waits for. All other children of ours have our own session, which no orphan can join."""


@dataclass(frozen=True, slots=True)
class _Relative:
    process: int
    user: int
    dead: bool


@contextmanager
def keeping_own() -> Iterator[set[int]]:
    """While a sandbox is being started or forgotten, nobody takes it for an orphan; give the set of all of them."""
    with _lock:
        yield _sandboxes


def adopt_orphans() -> None:
    """Take in orphans and collect each as it dies; from the main thread, for the rest of this process's life."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    died: queue.SimpleQueue[None] = queue.SimpleQueue()
    signal.signal(signal.SIGCHLD, lambda *_: died.put(None))
    threading.Thread(target=_collect, args=(died,), name="orphans", daemon=True).start()


def end_orphans(user: int) -> None:
    """Kill the orphans that are a user's, with all that they started.

    Args:
        user: The function's own; where it is ours as well, an orphan can't be told from what others left to us.
    """
    if user == os.getuid():
        return
    for _ in range(_ROUNDS):
        with _lock:
            living = [each.process for each in _orphans() if each.user == user and not each.dead]
            for process in living:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        if not living:
            return
        for process in living:
            with suppress(ChildProcessError):
                os.waitpid(process, 0)


def _collect(died: "queue.SimpleQueue[None]") -> None:
    while True:
        died.get()
        with _lock:
            for orphan in _orphans():
                if orphan.dead:
                    with suppress(ChildProcessError):
                        os.waitpid(orphan.process, os.WNOHANG)


def _orphans() -> Iterator[_Relative]:
    """Children of ours that we did not start."""
    own, session = str(os.getpid()), str(os.getsid(0))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in _sandboxes:
            continue
        with suppress(OSError):  # it has gone meanwhile
            state, parent, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if parent == own and its_session != session:
                yield _Relative(int(entry.name), entry.stat().st_uid, dead=state == "Z")
