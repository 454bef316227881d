"""Interpreters: what this machine can run a function with, and the reasons why it can't."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from immortal_runner.code.function import Function, FunctionRefused
from immortal_runner.execution.variables import Paths
from immortal_runner.runtimes import node
from immortal_runner.runtimes.machine import Machine
from immortal_runner.runtimes.table import Family, Runtime, find_runtime


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter of this machine, and AWS's runtime client for it.

    Attributes:
        name: The runtime that comes next to it, for example ``python3.11``.
        program: The interpreter itself, not a virtual environment's link to it.
        home: The folder that it needs, with its standard library.
        movable: Whether it runs from any other folder as well.
        options: What stands before the script on its command line.
        script: What starts the client; one of the files.
        files: What lies in the runtime's folder, by name.
        variables: What the runtime's own bootstrap would add to the environment.
    """

    name: str
    program: Path
    home: Path
    movable: bool
    options: tuple[str, ...]
    script: str
    files: Mapping[str, Path] = field(repr=False)
    variables: Callable[[Paths], dict[str, str]] = field(repr=False)


def find_interpreter(machine: Machine, function: Function) -> Interpreter | None:
    """Find what runs a function's code; None where that is the function's own program, or the base image's business.

    Raises:
        FunctionRefused: There is nothing of the kind on this machine.
    """
    runtime = find_runtime(function.runtime)
    if machine.base_image or runtime.family == "provided":
        return None
    if find := _FINDERS.get(runtime.family):
        return find(machine, function, runtime)
    raise FunctionRefused(
        f"{function.name} runs on {runtime.name}, and AWS gives its runtime away in a base image alone. "
        f"Next step: immortal image build --runtime {runtime.name}, and let tasks run in that image "
        "(on a local AWS: immortal local up --engine docker)"
    )


def check_startable(machine: Machine, function: Function) -> None:
    """Check that a function can be started here, before anything is downloaded for it.

    Raises:
        FunctionRefused: It can't; the message says why and what to do.
    """
    if function.image is not None:
        return
    runtime = find_runtime(function.runtime)
    if machine.image is not None and machine.image.family != runtime.family:
        raise FunctionRefused(
            f"{function.name} runs on {runtime.name}, and this image is made for {machine.image.name}. "
            f"Next step: immortal image build --runtime {runtime.name} --arch {function.architecture}, "
            "and let tasks run in that image"
        )
    _check_architecture(machine, function, runtime)
    for mount in function.mounts:
        if not Path(mount).is_dir():
            raise FunctionRefused(
                f"{function.name} has a file system at {mount}, and there is none here. "
                "Next step: mount it there in the task definition, and redrive the run"
            )
    find_interpreter(machine, function)


def name_runtime(machine: Machine, function: Function) -> str:
    """Name what a function's code runs on here, in the terms in which the function names its runtime."""
    if machine.base_image:
        return machine.image.name if machine.image else function.runtime
    found = find_interpreter(machine, function)
    return found.name if found else _name_system()


def name_architecture() -> str:
    """Name this machine's architecture as Lambda does."""
    return platform.machine().replace("aarch64", "arm64")


def _check_architecture(machine: Machine, function: Function, runtime: Runtime) -> None:
    """Refuse programs for another processor; interpreted code may run all the same where no image was made for it."""
    here = name_architecture()
    if function.architecture == here or not (machine.base_image or runtime.family == "provided"):
        return
    raise FunctionRefused(
        f"{function.name} is made for {function.architecture}, and this is {here}. Next step: immortal image build "
        f"--runtime {runtime.name} --arch {function.architecture}, and let tasks run in that image on such a machine"
    )


def _find_python(machine: Machine, function: Function, runtime: Runtime) -> Interpreter:
    if "awslambdaric" not in machine.packages:
        raise FunctionRefused(
            f"{function.name} runs on {runtime.name}, whose client is not installed here. "
            "Next step: pip install 'immortal-lambda[local]'"
        )
    return Interpreter(
        name=machine.python.name,
        program=machine.python,
        home=machine.python_home,
        movable=False,
        options=("-S",),
        script="bootstrap.py",
        files=machine.packages,
        variables=lambda paths: _python_variables(runtime, paths),
    )


def _find_node(_machine: Machine, function: Function, runtime: Runtime) -> Interpreter:
    client = node.client_version(runtime)
    found, files = node.find_node(), node.client_files(client)
    if found is None or not files or not node.suits(found, client):
        raise FunctionRefused(
            f"{function.name} runs on {runtime.name}, whose client is not installed here. "
            f"Next step: immortal local install {runtime.name}"
        )
    return Interpreter(
        name=f"nodejs{found.major}.x",
        program=found.program,
        home=found.home,
        movable=True,
        options=_node_options(function.memory_mb),
        script="index.mjs",
        files=files,
        variables=lambda paths: _node_variables(runtime, paths),
    )


_FINDERS: Final[dict[Family, Callable[[Machine, Function, Runtime], Interpreter]]] = {
    "python": _find_python,
    "nodejs": _find_node,
}


def _python_variables(runtime: Runtime, paths: Paths) -> dict[str, str]:
    utf8 = {"LC_CTYPE": "C.UTF-8"} if runtime.os == "al2023" else {}
    return {"PYTHONPATH": paths.runtime, "PWD": paths.task, "SHLVL": "0", **utf8}


def _node_variables(runtime: Runtime, paths: Paths) -> dict[str, str]:
    modules = (
        f"{paths.opt}/nodejs/node{runtime.version}/node_modules",
        f"{paths.opt}/nodejs/node_modules",
        f"{paths.runtime}/node_modules",
        paths.runtime,
        paths.task,
    )
    return {"NODE_PATH": ":".join(modules)}


def _node_options(memory_mb: int) -> tuple[str, ...]:
    """The flags of the managed runtime, which sizes the heap by the function's memory."""
    young_mb = memory_mb // 10
    return (
        "--expose-gc",
        "--max-http-header-size",
        "81920",
        f"--max-semi-space-size={young_mb // 2}",
        f"--max-old-space-size={memory_mb - young_mb}",
    )


def _name_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
