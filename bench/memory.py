"""How much memory the runner itself holds while a handler runs: at first, and after much work."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.lines import Line
from bench.stage import stage
from bench.tasks import read_result, record_run, task_environment
from immortal_lambda.aws import client

INVOCATIONS = 100
LOG_MB = 200
LIMIT_MB = 60
LIMIT_GROWTH_MB = 4
COMPARED = 10
SAMPLE_S = 0.01
CODE = f"""
import time
def handler(event, context):
    began = time.time()
    for _ in range({LOG_MB * 100 // INVOCATIONS} if event["log"] else 0):
        print("x" * 9_999)
    time.sleep(event["rest_s"])
    return [began, time.time()]
"""


def measure() -> Iterator[Line]:
    client.cache_clear()
    with stage(CODE) as on, tempfile.TemporaryDirectory() as folder:
        run_ids = [f"memory-{number}" for number in range(INVOCATIONS)]
        record_run(on, run_ids[0], {"log": False, "rest_s": 1})
        for run_id in run_ids[1:]:
            record_run(on, run_id, {"log": True, "rest_s": 0.05})
        settings = {"IMMORTAL_DRAIN_RUNS": str(INVOCATIONS), "IMMORTAL_DRAIN_S": "600"}
        environment = task_environment(on, run_ids[0], Path(folder), **settings)
        command = [sys.executable, "-m", "immortal_runner"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as runner:
            samples = list(_watch(runner))
        assert runner.returncode == 0
        handled = sorted(read_result(on, run_id) for run_id in run_ids)
    held = [_most_mb(samples, began, ended) for began, ended in handled]
    growth_mb = max(held[-COMPARED:]) - max(held[1 : COMPARED + 1])
    yield Line("runner's memory while a handler runs", f"{held[0]:.0f} MB", f"limit {LIMIT_MB} MB")
    yield Line(f"  the most, over {len(held)} invocations and {LOG_MB} MB of log", f"{max(held):.0f} MB", "")
    yield Line("  growth from the first of them to the last", f"{growth_mb:.0f} MB", f"limit {LIMIT_GROWTH_MB} MB")


def _watch(runner: "subprocess.Popen[bytes]") -> Iterator[tuple[float, float]]:
    """Tell again and again, until it ends, what a process holds: Unix seconds, MB."""
    process = psutil.Process(runner.pid)
    while runner.poll() is None:
        try:
            yield time.time(), process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            return
        time.sleep(SAMPLE_S)


def _most_mb(samples: list[tuple[float, float]], began: float, ended: float) -> float:
    return max(mb for at, mb in samples if began <= at <= ended)
