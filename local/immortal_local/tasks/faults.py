"""Faults of ECS that can be switched on, from tests and over HTTP, to see what becomes of the runs.

``POST /_immortal/faults/refuse?count=2`` lets RunTask refuse the next two tasks for want of capacity;
``POST /_immortal/faults/vanish?task=<ARN>`` loses a task as a failing host does. Both answer 204.
"""

import threading
from collections.abc import Callable

from immortal_local.wire import HttpAnswer, HttpRequest

__all__ = ["Faults"]


class Faults:
    """The switches.

    Args:
        vanish: Loses a task by its ARN; KeyError for an unknown one.
    """

    prefix = "faults"

    def __init__(self, vanish: Callable[[str], None]) -> None:
        self._vanish = vanish
        self._lock = threading.Lock()
        self._refusals = 0

    def refuse(self, count: int) -> None:
        """Let the next tasks be refused for want of capacity."""
        with self._lock:
            self._refusals = count

    def take_refusal(self) -> bool:
        """Whether the task that is asked for now shall be refused."""
        with self._lock:
            refused = self._refusals > 0
            self._refusals -= refused
            return refused

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request to switch a fault on."""
        query = {name: values[0] for name, values in request.query.items()}
        try:
            match request.method, request.path.rpartition("/")[2]:
                case "POST", "refuse":
                    self.refuse(int(query["count"]))
                case "POST", "vanish":
                    self._vanish(query["task"])
                case _:
                    return HttpAnswer(404, {}, b"POST refuse?count= or vanish?task=\n")
        except (KeyError, ValueError) as error:
            return HttpAnswer(400, {}, f"{type(error).__name__}: {error}\n".encode())
        return HttpAnswer(204, {}, b"")
