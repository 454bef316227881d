"""What starts a function's programs: this machine, or the container beside the runner's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from immortal_runner.execution.child import FunctionProcess
from immortal_runner.execution.variables import Paths


class Host(Protocol):
    """A place where a function's program and its extensions can be started, again and again."""

    @property
    def paths(self) -> Paths:
        """Where the function finds things, as it sees them."""
        ...

    @property
    def fault(self) -> str:
        """Why there is nothing to start, in Lambda's words; empty when there is."""
        ...

    @property
    def init_limit_s(self) -> float | None:
        """How long a function without a time limit may take until it asks for an event, in seconds; None for ever."""
        ...

    @property
    def scratch(self) -> Path | None:
        """Where the runner finds what the function sees as ``/tmp``; None where it doesn't."""
        ...

    def open_pipe(self) -> tuple[int, int]:
        """Both ends of what the function prints into: one to read from, one to write to."""
        ...

    def extensions(self) -> Mapping[str, bool]:
        """The names of what lies in ``/opt/extensions``, and whether it can be executed; asked before each start."""
        ...

    def run(self, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]) -> FunctionProcess:
        """Start the function's program.

        Args:
            variables: What the platform puts into its environment.
            output: The end of :meth:`open_pipe` to write to.
            on_exit: Called once with the exit status, or the negative number of the signal.
        """
        ...

    def run_extension(
        self, name: str, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]
    ) -> FunctionProcess:
        """Start an extension; the arguments are those of :meth:`run`."""
        ...
