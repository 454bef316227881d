"""Orphans: what a runner does that is the container's first process, here as the one that adopts what is left below."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from support.needs import need

AS_FIRST_PROCESS = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from immortal_runner.execution.child import Child
from immortal_runner.execution.orphans import adopt_orphans
from immortal_runner.runtimes.machine import identity

mark, who_dies = sys.argv[1:]
adopt_orphans()
read_end, write_end = os.pipe()
ended = threading.Event()
program = f"(setsid sh -c 'sleep {mark} & echo ready; sleep {mark}') & sleep {mark}"
order = {"room": False, "argv": ["/bin/sh", "-c", program], "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/", **identity()}
statuses = []
child = Child(order, output=write_end, on_exit=lambda status: (statuses.append(status), ended.set()))
assert b"ready" in os.read(read_end, 99)
if who_dies == "sandbox":
    os.kill(child._process.pid, signal.SIGKILL)
else:
    child.kill()
assert ended.wait(10)
print(statuses)
subprocess.run(["sh", "-c", "setsid true & exit 0"], start_new_session=True)  # somebody who looks into the container
bystander = subprocess.run(["true"])  # a child of ours, whose end nobody may take away from us
print(bystander.returncode)

def dead():
    stats = [each.read_text().rpartition(")")[2].split() for each in Path("/proc").glob("[0-9]*/stat")]
    return [each for each in stats if each[:2] == ["Z", str(os.getpid())]]

deadline = time.monotonic() + 10
while dead() and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(dead()))
"""


@pytest.mark.parametrize("who_dies", ["sandbox", "code"])
def test_nothing_of_a_function_outlives_it_or_stays_as_a_zombie(who_dies: str) -> None:
    need("root, to be another user than the function", here=os.getuid() == 0)
    mark = f"7{time.time_ns() % 10_000_000:07}"
    done = subprocess.run(
        [sys.executable, "-c", AS_FIRST_PROCESS, mark, who_dies],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[-9]", "0", "0"]
    assert not [each for each in psutil.process_iter(["cmdline"]) if mark in " ".join(each.info["cmdline"] or [])]
