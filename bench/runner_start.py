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
from immortal_lambda.aws import client, open_ledger
from immortal_lambda.failures import Failure
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Origin, Run
from immortal_runner.runtime_api.server import Answered, Invocation, RuntimeApi

ROUNDS = 9
LIMIT_MS = 500
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
    return float(event.outcome.result) - began  # type: ignore[union-attr]


def _runner_s(on: Stage, run_id: str) -> float:
    now_ms = time.time_ns() // 1_000_000
    ledger = open_ledger(on.outputs["LedgerTable"])
    origin = Origin(on.outputs["FailureQueueArn"], run_id, now_ms)
    ledger.create(
        Run(
            run_id,
            "rerun",
            "pending",
            Inline(b"{}"),
            now_ms,
            now_ms,
            function="measured",
            function_arn=on.function_arn,
            failure=Failure("timeout", ""),
            origin=origin,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "IMMORTAL_RUN_ID": run_id,
            "IMMORTAL_LEDGER_TABLE": on.outputs["LedgerTable"],
            "IMMORTAL_PAYLOAD_BUCKET": on.outputs["PayloadBucket"],
            "IMMORTAL_WORK_DIR": folder,
        }
        began = time.time()
        subprocess.run([sys.executable, "-m", "immortal_runner"], env=environment, check=True)
    result = ledger.read(run_id).result
    assert isinstance(result, Inline)
    return float(result.data) - began
