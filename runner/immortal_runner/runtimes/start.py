"""How a function's process is started on this machine."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from immortal_runner.code.function import Function
from immortal_runner.code.layout import Layout
from immortal_runner.execution.child import Child, FunctionProcess
from immortal_runner.execution.extensions import find_extensions
from immortal_runner.execution.variables import Paths
from immortal_runner.runtimes.entrypoint import EntrypointInvalid, find_entrypoint
from immortal_runner.runtimes.interpreters import Interpreter, find_interpreter, name_architecture
from immortal_runner.runtimes.machine import BASE_IMAGE_BOOTSTRAP, Machine, identity
from immortal_runner.runtimes.table import find_runtime

_ENTRYPOINTS = ("/var/task/bootstrap", "/opt/bootstrap")

_WRAPPED = """\
[ -f "$0" ] || { echo "$0: does not exist"; exit 127; }
[ -x "$0" ] || { echo "$0: is not an executable"; exit 126; }
exec "$0" "$@"
"""
"""Starts a command through a function's wrapper, in the words of the managed runtimes' bootstraps."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a function's process is started on a machine.

    Attributes:
        order: What the sandbox is told.
        paths: Where the function finds things, as it sees them.
        variables: What the runtime's bootstrap would add to the environment, where we start the client ourselves.
        files: What has to be put into the runtime's folder first, by name.
        fault: Why there is nothing to start, in Lambda's words; empty when there is.
    """

    order: Mapping[str, Any]
    paths: Paths
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)
    fault: str = ""

    def run(self, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]) -> FunctionProcess:
        """Start the process.

        Args:
            variables: Everything that it finds in its environment, but what its runtime adds.
            output: The descriptor that its standard output and error go to.
            on_exit: Called once with the exit status, or the negative number of the signal.
        """
        return Child({**self.order, "env": {**self.variables, **variables}}, output=output, on_exit=on_exit)

    def run_extension(
        self, name: str, variables: Mapping[str, str], *, output: int, on_exit: Callable[[int], None]
    ) -> FunctionProcess:
        """Start an extension; the arguments are those of :meth:`run`."""
        order = {**self.order, "argv": [f"{self.paths.opt}/extensions/{name}"], "cwd": "/", "env": variables}
        return Child(order, output=output, on_exit=on_exit)

    @property
    def init_limit_s(self) -> None:
        """There is none: code that was too slow for Lambda's may take its time."""

    @property
    def scratch(self) -> Path:
        """Where this machine has what the function sees as ``/tmp``."""
        return self._find("/tmp")  # noqa: S108  # the function's own

    def open_pipe(self) -> tuple[int, int]:
        """Both ends of what the function prints into: one to read from, one to write to."""
        return os.pipe()

    def extensions(self) -> Mapping[str, bool]:
        """The names of what lies in ``/opt/extensions``, and whether it can be executed."""
        return find_extensions(self._find(self.paths.opt) / "extensions")

    def _find(self, seen: str) -> Path:
        """Where on this machine lies what the function sees at a path."""
        shown = {target: source for source, target, _ in self.order.get("binds", ())}
        return Path(shown.get(seen, seen))


def plan_start(machine: Machine, function: Function, layout: Layout, root: Path) -> Start:
    """Decide how a function's process is started.

    Args:
        root: An empty directory of the environment's own.

    Raises:
        FunctionRefused: It can't be started here.
    """
    interpreter = find_interpreter(machine, function)
    if interpreter is None:
        return _plan_program(machine, function, layout, root)
    return _plan_interpreter(machine, function, layout, root, interpreter)


def _plan_program(machine: Machine, function: Function, layout: Layout, root: Path) -> Start:
    """Plan the start of what needs no interpreter of ours: a base image's bootstrap, or the function's own program."""
    paths = _paths(machine, layout, root)
    order = {**_surroundings(machine, function, layout, root, paths), **identity()}
    if find_runtime(function.runtime).family != "provided":
        return Start({**order, "argv": [str(BASE_IMAGE_BOOTSTRAP)]}, paths)
    try:
        program = find_entrypoint(_ENTRYPOINTS, lambda seen: _locate(seen, layout), name_architecture())
    except EntrypointInvalid as error:
        return Start(order, paths, fault=str(error))
    return Start({**order, "argv": [_in_paths(program, paths)]}, paths)


def _plan_interpreter(
    machine: Machine, function: Function, layout: Layout, root: Path, interpreter: Interpreter
) -> Start:
    paths = _paths(machine, layout, root, lang=interpreter.home)
    order = {**_surroundings(machine, function, layout, root, paths), **identity()}
    program = interpreter.program
    if machine.rooms:
        home = _home_in_room(interpreter, paths)
        program = Path(home, program.relative_to(interpreter.home))
        shown = [] if home.is_relative_to("/usr") else [(str(interpreter.home), str(home), True)]
        files = [(str(source), f"{paths.runtime}/{name}", True) for name, source in interpreter.files.items()]
        order["binds"] = [*shown, *files, *order["binds"]]
    elif not _open_to_all(program):
        order["uid"] = 0
    argv = [str(program), *interpreter.options, f"{paths.runtime}/{interpreter.script}"]
    return Start(
        {**order, "argv": _wrap(argv, function, paths)},
        paths,
        variables=interpreter.variables(paths),
        files={} if machine.rooms else interpreter.files,
    )


def _paths(machine: Machine, layout: Layout, root: Path, *, lang: Path = Path("/var/lang")) -> Paths:
    if machine.base_image or machine.rooms:
        return Paths()
    return Paths(str(layout.task), str(layout.opt), str(root / "var/runtime"), str(lang))


def _surroundings(machine: Machine, function: Function, layout: Layout, root: Path, paths: Paths) -> dict[str, Any]:
    """What the sandbox is told of where the code runs."""
    if not machine.rooms:
        return {"room": False, "cwd": paths.task}
    binds = [
        (str(layout.task), paths.task, True),
        (str(layout.opt), paths.opt, True),
        (str(layout.tmp), "/tmp", False),  # noqa: S108  # the function's own
        *((mount, mount, False) for mount in function.mounts),
    ]
    return {"room": True, "root": str(root), "binds": binds, "cwd": paths.task}


def _home_in_room(interpreter: Interpreter, paths: Paths) -> Path:
    """Where an interpreter lies in a room: where Lambda has it, if it can move or has to."""
    if interpreter.home.is_relative_to("/usr"):
        return interpreter.home
    return Path(paths.lang) if interpreter.movable or _hidden_in_room(interpreter.home) else interpreter.home


def _wrap(argv: list[str], function: Function, paths: Paths) -> list[str]:
    """Start a client through the function's wrapper, if it has one; base images' bootstraps do that by themselves."""
    wrapper = function.variables.get("AWS_LAMBDA_EXEC_WRAPPER")
    return ["/bin/sh", "-c", _WRAPPED, _in_paths(wrapper, paths), *argv] if wrapper else argv


def _in_paths(file: str, paths: Paths) -> str:
    """Where a file lies that the function's configuration names by the path that it has on Lambda."""
    usual = Paths()
    for there, here in ((usual.task, paths.task), (usual.opt, paths.opt)):
        if file.startswith(f"{there}/"):
            return here + file.removeprefix(there)
    return file


def _locate(file: str, layout: Layout) -> Path:
    """Where on this machine lies what the function finds at a path on Lambda."""
    return Path(_in_paths(file, Paths(str(layout.task), str(layout.opt))))


def lay_out_runtime(start: Start) -> None:
    """Where code gets no room of its own, put the runtime's modules into one folder: the rest stays off its path.

    Files are copied: Node looks for what a module imports beside the file that a link leads to.
    """
    runtime = Path(start.paths.runtime)
    if start.files:
        runtime.mkdir(parents=True, exist_ok=True)
    for name, source in start.files.items():
        if source.is_dir():
            with suppress(FileExistsError):
                (runtime / name).symlink_to(source)
        else:
            shutil.copyfile(source, runtime / name)


def _hidden_in_room(folder: Path) -> bool:
    """Whether the room puts the function's own files where the interpreter lies on this machine."""
    return any(folder.is_relative_to(own) for own in ("/opt", "/tmp", "/var", "/proc"))  # noqa: S108


def _open_to_all(file: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in file.parents) and bool(file.stat().st_mode & 0o001)
