"""How long the runner takes to the handler's first instruction, against AWS's runtime client alone."""

import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.lines import Line, middle_ms
from bench.stage import Stage, stage
from bench.tasks import read_result, record_run, task_environment
from immortal_lambda.aws import client
from immortal_runner.runtime_api.invocations import Answered, Invocation
from immortal_runner.runtime_api.server import RuntimeApi

ROUNDS = 9
LIMIT_MS = 300
CODE = "import time\nNOW = time.time\ndef handler(event, context): return NOW()"


def measure() -> Iterator[Line]:
    client.cache_clear()
    with stage(CODE) as on:
        alone, ours = [], []
        for number in range(ROUNDS):
            alone.append(_client_alone_s())
            ours.append(_runner_s(on, f"start-{number}"))
    above = middle_ms(ours) - middle_ms(alone)
    yield Line("runner's start to handler's first instruction", f"{middle_ms(ours):.0f} ms", "")
    yield Line("  awslambdaric alone", f"{middle_ms(alone):.0f} ms", "")
    yield Line("  the runner adds", f"{above:.0f} ms", f"limit {LIMIT_MS} ms")


def _client_alone_s() -> float:
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    api = RuntimeApi(events)
    api.hand_out(Invocation("id", b"{}", "arn"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text(CODE)
        environment = {**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address, "PYTHONPATH": folder}
        began = time.time()
        process = subprocess.Popen([sys.executable, "-m", "awslambdaric", "app.handler"], env=environment)
        while not isinstance(event := events.get(timeout=20), Answered):
            pass
        process.kill()
        process.wait()
    api.close()
    return float(event.outcome.result.read()) - began  # type: ignore[union-attr]


def _runner_s(on: Stage, run_id: str) -> float:
    record_run(on, run_id, {})
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        command = [sys.executable, "-m", "immortal_runner"]
        subprocess.run(command, env=task_environment(on, run_id, Path(folder)), check=True)
    return float(read_result(on, run_id)) - began
