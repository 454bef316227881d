"""A stranger's code sees nothing of the runner: not its environment, its memory, its descriptors or its files.

To open ``/proc/PID/mem`` needs what attaching a debugger needs; no test here attaches to anything.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from immortal_lambda.payloads import Inline
from immortal_runner import privacy
from immortal_runner.execution.outcomes import Returned
from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtimes.machine import this_machine
from support.functions import ARN, Environments
from support.needs import need
from support.stages import Stage

PRIES = """
import os

def openable(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True

def handler(event, context):
    running = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    pids = event.get("pids") or [pid for pid in running if pid != os.getpid()]
    ways = [f"/proc/{pid}/{way}" for pid in pids for way in ("environ", "mem", "maps", "fd/0", "cwd/.")]
    files = [os.path.join(folder, name) for folder, _, names in os.walk(event["folder"]) for name in names]
    return [[way for way in ways if openable(way)], [file for file in files if openable(file)], os.getuid()]
"""


@contextmanager
def process_with_secrets(
    code: str = "", *, python: str = sys.executable, user: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A process that has what a function must not see."""
    process = subprocess.Popen(
        [python, "-c", f"{code}\nprint('ready', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"SECRET": "hush"},
        user=user,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_handler_can_not_look_into_a_process_of_the_runners_user(rooms: Environments, tmp_path: Path) -> None:
    need("root, to give the function a user of its own", here=os.getuid() == 0)
    downloads = tmp_path / "downloads"
    downloads.mkdir(mode=0o700)
    (downloads / "0.zip").write_text("somebody's code")
    with process_with_secrets() as process:
        event: dict[str, Any] = {"pids": [process.pid, os.getpid()], "folder": str(downloads)}
        outcome = rooms(PRIES).invoke(Invocation("id", json.dumps(event).encode(), ARN), timeout_s=30)
    assert isinstance(outcome, Returned), outcome
    assert json.loads(outcome.result.read()) == [[], [], 993]


def test_a_handler_finds_no_process_of_the_runner_that_started_it(stage: Stage) -> None:
    need("a function with a user of its own", here=this_machine().rooms and os.getuid() == 0)
    stage.record(stage.create(PRIES), Inline(json.dumps({"folder": stage.work_dir}).encode()))
    _, run = stage.run()
    assert stage.result(run) == [[], [], 993]


@pytest.mark.parametrize("hidden", [True, False], ids=["hidden", "as any process"])
def test_a_hidden_process_is_closed_even_to_others_of_its_user(*, hidden: bool) -> None:
    need("root, to become somebody else", here=os.getuid() == 0)
    python = shutil.which("python3", path=os.defpath)
    need("an interpreter that every user may start", here=python is not None)
    assert python is not None
    hide = Path(privacy.__file__).read_text() + "\nhide_memory()"
    with process_with_secrets(hide if hidden else "", python=python, user=993) as process:
        look = f"open('/proc/{process.pid}/environ').read(); open('/proc/{process.pid}/mem')"
        looked = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False, timeout=30, user=993)
    assert ("PermissionError" in looked.stderr) is hidden
