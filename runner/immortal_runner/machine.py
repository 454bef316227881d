"""What this machine offers to run a function with: an interpreter, a runtime client, and rooms to close code in."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

SANDBOX = Path(__file__).with_name("sandbox.py")
BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
BASE_IMAGE_BOOTSTRAP = Path("/var/runtime/bootstrap")

SANDBOX_UID, SANDBOX_GID = 993, 990
"""The user of every Lambda function, ``sbx_user1051``. Source: answers recorded from 25 runtimes on AWS."""

_BUNDLED = ("awslambdaric", "boto3")
"""What Lambda's Python runtimes bring along; what these need comes with them."""

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, seen as a host of functions.

    Attributes:
        python: The interpreter itself, not a virtual environment's link to it.
        python_home: The folder that it needs, with its standard library.
        packages: The runtime's modules by the name of their file or folder, and where they lie.
        rooms: Whether code can be given namespaces of its own.
        base_image: Whether this is a container made from one of AWS's base images, which bring all this themselves.
    """

    python: Path
    python_home: Path
    rooms: bool
    base_image: bool
    packages: Mapping[str, Path] = field(repr=False)


@cache
def this_machine() -> Machine:
    """Look at this machine, once per process."""
    base_image = os.access(BASE_IMAGE_BOOTSTRAP, os.X_OK)
    python_home = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Machine(
        python=python_home / "bin" / version,
        python_home=python_home,
        rooms=not base_image and _rooms_work(),
        base_image=base_image,
        packages={} if base_image else {"bootstrap.py": BOOTSTRAP, **_bundled_packages()},
    )


def _bundled_packages() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in _with_requirements(_BUNDLED):
        found.update(_top_level_files(distribution(name)))
    return found


def _with_requirements(names: tuple[str, ...]) -> set[str]:
    """The names of distributions and of all that they need; what isn't installed isn't needed here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            waiting += [
                match[0] for need in needs if "extra ==" not in need and (match := _REQUIREMENT_NAME.match(need))
            ]
    return found


def _top_level_files(installed: Distribution) -> Iterator[tuple[str, Path]]:
    for file in installed.files or ():
        top = file.parts[0]
        if top not in ("..", "__pycache__"):
            yield top, Path(str(installed.locate_file(top))).resolve()


def _rooms_work() -> bool:
    """Try: whether namespaces can be made depends on the kernel, its settings and the container around us."""
    if sys.platform != "linux":
        return False
    with tempfile.TemporaryDirectory() as folder:
        read_end, write_end = os.pipe()
        order = {
            "room": True,
            "root": folder,
            "binds": [],
            "argv": ["/bin/true"],
            "env": {},
            "cwd": "/",
            "lifeline": read_end,
            **identity(),
        }
        try:
            tried = subprocess.run(
                [sys.executable, "-I", "-S", str(SANDBOX)],
                input=json.dumps(order).encode(),
                env={},
                capture_output=True,
                pass_fds=[read_end],
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        finally:
            os.close(read_end)
            os.close(write_end)
    return tried.returncode == 0


def identity() -> dict[str, object]:
    """The part of a sandbox's order that says who the code is and what it may use."""
    return {
        "uid": SANDBOX_UID,
        "gid": SANDBOX_GID,
        "passwd": f"sbx_user1051:x:{SANDBOX_UID}:{SANDBOX_GID}::/home/sbx_user1051:/sbin/nologin",
        "group": f"sbx_user1051:x:{SANDBOX_GID}:",
        "open_files": 1024,
    }
