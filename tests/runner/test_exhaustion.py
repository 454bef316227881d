"""What runs out while a function runs: memory, in a control group with little of it; disk, on one that is small."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from immortal_runner.execution.exhaustion import count_files, is_kill, is_nearly_full, read_count, speaks_of_disk
from immortal_runner.execution.outcomes import Errored, read_error
from immortal_runner.exit_codes import ExitCode, exit_code_of
from immortal_runner.runtime_api.invocations import Invocation
from support.cgroups import can_limit_memory, limited_memory
from support.functions import ARN, Environments, make_zip, open_to_all
from support.needs import need

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"
LIMIT_BYTES = 192 << 20

IN_LITTLE_MEMORY = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
open(sys.argv[1], "w").write(str(os.getpid()))
from immortal_runner.code.layout import lay_out
from immortal_runner.execution import environment as environments
from immortal_runner.execution.credentials import StaticCredentials
from immortal_runner.execution.outcomes import Errored
from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtimes.machine import this_machine
from support.functions import ARN, FUNCTION, MemoryLog
machine = replace(this_machine(), rooms=sys.argv[4] == "room")
environments.this_machine = lambda: machine
layout = lay_out(Path(sys.argv[2]), (), Path(sys.argv[3]))
made = environments.ExecutionEnvironment(
    FUNCTION, layout, credentials=StaticCredentials("AKIAEXAMPLE", "secret", "token"), log=MemoryLog()
)
for at, event in enumerate(json.loads(sys.argv[5])):
    outcome = made.invoke(Invocation(f"request-{at}", json.dumps(event).encode(), ARN), timeout_s=None)
    if isinstance(outcome, Errored):
        print(json.dumps([outcome.family, outcome.error_type, outcome.message, outcome.note]))
    else:
        print(json.dumps(json.loads(outcome.result.read())))
made.stop()
"""

GREEDY = """
import os, signal, subprocess, sys

def handler(event, context):
    if event == "eat":
        return len(bytearray(1 << 30))
    if event == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "let another eat":
        return subprocess.run([sys.executable, "-c", "bytearray(1 << 30)"], check=False).returncode
    if event == "let another eat and fail":
        subprocess.run([sys.executable, "-c", "bytearray(1 << 30)"], check=True)
    return event
"""


@pytest.mark.parametrize("where", ["room", "bare"])
def test_a_kill_for_want_of_memory_is_told_from_other_kills(tmp_path: Path, where: str) -> None:
    need("a control group of its own", here=can_limit_memory())
    open_to_all(tmp_path)
    events = ["eat", "well", "die", "let another eat", "let another eat and fail", "well"]
    with limited_memory(LIMIT_BYTES) as join:
        code = make_zip(tmp_path / "code.zip", {"app.py": GREEDY})
        done = subprocess.run(
            [sys.executable, "-c", IN_LITTLE_MEMORY, join, code, tmp_path / "root", where, json.dumps(events)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
    assert done.returncode == 0, done.stderr
    eaten, well, died, fed, failed, well_again = (json.loads(line) for line in done.stdout.splitlines())
    killed = "Error: Runtime exited with error: signal: killed"
    assert eaten == ["memory", "Runtime.OutOfMemory", f"RequestId: request-0 {killed}", ""]
    assert died == ["exit", "Runtime.ExitError", f"RequestId: request-2 {killed}", ""]
    assert fed == -9
    assert failed[:2] == ["handler", "CalledProcessError"]
    assert "memory had run out" in failed[3]
    assert well == well_again == "well"


@pytest.fixture
def small_scratch(tmp_path: Path) -> Iterator[Path]:
    """A ``/tmp`` of one megabyte."""
    folder = tmp_path / "root/tmp"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False)  # noqa: S607
    need("a file system of its own", here=mounted.returncode == 0)
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607


def test_a_full_disk_is_told_from_an_error_that_only_speaks_of_one(small_scratch: Path, rooms: Environments) -> None:
    environment = rooms(
        "def handler(event, context):\n"
        "  if event: raise OSError(28, 'No space left on device')\n"
        "  with open('/tmp/big', 'wb') as file: file.write(bytes(2_000_000))"
    )
    said, full = (environment.invoke(Invocation(REQUEST_ID, event, ARN), timeout_s=None) for event in (b"1", b"0"))
    assert isinstance(full, Errored)
    assert (full.family, full.error_type) == ("disk", "OSError")
    assert "No space left on device" in full.message
    assert isinstance(said, Errored)
    assert said.family == ("disk" if is_nearly_full(small_scratch) else "handler")


@pytest.mark.parametrize(
    ("body", "speaks"),
    [
        ({"errorType": "OSError", "errorMessage": "[Errno 28] No space left on device: '/tmp/x'"}, True),
        ({"errorType": "Error", "errorMessage": "ENOSPC: no space left on device, write"}, True),
        ({"errorType": "java.io.IOException", "errorMessage": "No space left on device"}, True),
        ({"errorType": "Function<Errno::ENOSPC>", "errorMessage": "No space left on device @ io_write"}, True),
        ({"errorType": "OSError", "errorMessage": "[Errno 122] Disk quota exceeded"}, True),
        ({"errorType": "OSError", "errorMessage": "[Errno 2] No such file or directory"}, False),
        ({"errorType": "ValueError", "errorMessage": "28"}, False),
    ],
)
def test_errors_of_a_full_disk_are_known_in_every_language(body: dict[str, Any], *, speaks: bool) -> None:
    assert speaks_of_disk(read_error("handler", json.dumps(body).encode())) == speaks


@pytest.mark.parametrize(
    ("memberships", "files"),
    [
        (
            "0::/user.slice/x.scope\n",
            ["/sys/fs/cgroup/user.slice/x.scope/memory.events", "/sys/fs/cgroup/memory.events"],
        ),
        ("0::/\n", ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events"]),
        (
            "5:devices:/\n4:cpu,memory:/docker/ab\n0::/\n",
            [
                "/sys/fs/cgroup/memory/docker/ab/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",
                "/sys/fs/cgroup/memory.events",
                "/sys/fs/cgroup/memory.events",
            ],
        ),
        ("", []),
    ],
    ids=["v2", "v2 in a container", "v1", "none"],
)
def test_the_count_is_looked_for_where_the_kernel_keeps_it(memberships: str, files: list[str]) -> None:
    assert [str(file) for file in count_files(memberships)] == [*files, "/proc/vmstat"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", 4),
        ("pgpgin 1\noom_kill 9\ndrop_pagecache 0\n", 9),
        ("oom_kill_disable 1\n", 0),
    ],
    ids=["v2", "v1", "machine", "none"],
)
def test_the_count_is_read_in_every_form(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize(("status", "killed"), [(-9, True), (137, True), (-11, False), (1, False), (0, False)])
def test_a_shell_tells_of_the_kill_that_it_saw(status: int, *, killed: bool) -> None:
    assert is_kill(status) == killed


def test_what_ran_out_is_the_exit_code() -> None:
    assert exit_code_of(Errored("memory", "", "", b"")) == ExitCode(13)
    assert exit_code_of(Errored("disk", "", "", b"")) == ExitCode(14)
