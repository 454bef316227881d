"""How a function's process is started on this machine."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from immortal_runner.code.layout import Layout
from immortal_runner.execution.child import Child, FunctionProcess
from immortal_runner.execution.variables import Paths
from immortal_runner.runtimes.machine import Machine, identity


@dataclass(frozen=True, slots=True)
class Start:
    """How a function's process is started on a machine.

    Attributes:
        order: What the sandbox is told.
        paths: Where the function finds things, as it sees them.
    """

    order: Mapping[str, Any]
    paths: Paths

    def run(self, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]) -> FunctionProcess:
        """Start the process.

        Args:
            variables: Everything that it finds in its environment.
            output: The descriptor that its standard output and error go to.
            on_exit: Called once with the exit status, or the negative number of the signal.
        """
        return Child({**self.order, "env": variables}, output=output, on_exit=on_exit)


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
