"""What this machine offers to run a function with: an interpreter, a runtime client, and rooms to close code in."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from immortal_runner.runtimes.distributions import top_level_files, with_requirements
from immortal_runner.runtimes.table import Runtime, find_runtime

SANDBOX = Path(__file__).parents[1] / "execution/sandbox.py"
SANDBOX_ENVIRONMENT = {name: value for name in ("LD_LIBRARY_PATH",) if (value := os.environ.get(name))}
"""What the sandbox's interpreter, which is ours, needs to start; the code in the sandbox gets none of it.

In the runner's image the interpreter's libraries lie beside it, where nothing else looks for them.
"""
BOOTSTRAP = Path(__file__).with_name("python_bootstrap.py")
BASE_IMAGE_BOOTSTRAP = Path("/var/runtime/bootstrap")

SANDBOX_UID, SANDBOX_GID = 993, 990
"""The user of every Lambda function, ``sbx_user1051``. Source: answers recorded from 25 runtimes on AWS."""

_BUNDLED = ("awslambdaric", "boto3")
"""What Lambda's Python runtimes bring along; what these need comes with them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, seen as a host of functions.

    Attributes:
        python: The interpreter itself, not a virtual environment's link to it.
        python_home: The folder that it needs, with its standard library.
        packages: The runtime's modules by the name of their file or folder, and where they lie.
        rooms: Whether code can be given namespaces of its own.
        base_image: Whether this is a container made from one of AWS's base images, which bring all this themselves.
        image: The runtime that the container was made for, where it says so; None elsewhere.
    """

    python: Path
    python_home: Path
    rooms: bool
    base_image: bool
    image: Runtime | None
    packages: Mapping[str, Path] = field(repr=False)


@cache
def this_machine() -> Machine:
    """Look at this machine, once per process.

    Raises:
        RuntimeRefused: The image says that it was made for a runtime that there isn't.
    """
    made_for = os.environ.get("IMMORTAL_RUNTIME")
    base_image = bool(made_for) or os.access(BASE_IMAGE_BOOTSTRAP, os.X_OK)
    python_home = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Machine(
        python=python_home / "bin" / version,
        python_home=python_home,
        rooms=not base_image and _rooms_work(),
        base_image=base_image,
        image=find_runtime(made_for) if made_for else None,
        packages={} if base_image else {"bootstrap.py": BOOTSTRAP, **top_level_files(with_requirements(_BUNDLED))},
    )


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
                env=SANDBOX_ENVIRONMENT,
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
