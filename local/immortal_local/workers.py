"""Supervised threads: a worker that dies is reported and restarted, never silently gone."""

import sys
import threading
import traceback
from collections.abc import Callable

__all__ = ["Work", "Worker", "Workers"]

Work = Callable[[threading.Event], None]
"""What a worker does: it returns when its work is done, or soon after the event is set."""

_REST_S = 0.2
"""A worker that dies at once must not fill stderr or a core."""


class Worker:
    """One thread that is started again when it dies.

    Attributes:
        stopping: Set once the worker should return.
        deaths: How often its work has raised.
    """

    def __init__(self, name: str, work: Work) -> None:
        self.stopping = threading.Event()
        self.deaths = 0
        self._name = name
        self._work = work
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker still works."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the work to return, and wait for it."""
        self.stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _supervise(self) -> None:
        while not self.stopping.is_set():
            try:
                self._work(self.stopping)
            except Exception:  # noqa: BLE001  # any death of a worker is reported here and mended by a restart
                self._report()
                self.stopping.wait(_REST_S)
            else:
                return

    def _report(self) -> None:
        if self.stopping.is_set():
            return
        self.deaths += 1
        print(f"local AWS: worker {self._name} died and is started again:", file=sys.stderr)  # noqa: T201  # stderr is talk
        traceback.print_exc()


class Workers:
    """All the workers of one local AWS."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def start(self, name: str, work: Work) -> Worker:
        """Start a worker; its name shows in reports."""
        worker = Worker(name, work)
        with self._lock:
            self._workers = [known for known in self._workers if known.alive]
            self._workers.append(worker)
        return worker

    def stop(self) -> None:
        """Stop every worker, all at once, and wait for them."""
        with self._lock:
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.stop()
