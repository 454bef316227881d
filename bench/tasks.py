"""Runs as the dispatcher records them, and tasks as ECS starts them, without either."""

import json
import os
import time
from pathlib import Path
from typing import Any

from bench.stage import FUNCTION, Stage
from immortal_lambda.aws import open_ledger
from immortal_lambda.failures import Failure
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Origin, Run


def record_run(on: Stage, run_id: str, event: Any) -> None:
    """Record a run that waits for a task."""
    now_ms = time.time_ns() // 1_000_000
    waiting = Run(
        run_id,
        "rerun",
        "pending",
        Inline(json.dumps(event).encode()),
        now_ms,
        now_ms,
        function=FUNCTION,
        function_arn=on.function_arn,
        failure=Failure("timeout", ""),
        origin=Origin(on.outputs["FailureQueueArn"], run_id, now_ms),
    )
    open_ledger(on.outputs["LedgerTable"]).create(waiting)


def task_environment(on: Stage, run_id: str, work_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a task for a run."""
    return {
        **os.environ,
        "IMMORTAL_RUN_ID": run_id,
        "IMMORTAL_LEDGER_TABLE": on.outputs["LedgerTable"],
        "IMMORTAL_PAYLOAD_BUCKET": on.outputs["PayloadBucket"],
        "IMMORTAL_WORK_DIR": str(work_dir),
        **settings,
    }


def read_result(on: Stage, run_id: str) -> Any:
    """What a run's handler returned."""
    result = open_ledger(on.outputs["LedgerTable"]).read(run_id).result
    assert isinstance(result, Inline), f"run {run_id} has no result"
    return json.loads(result.data)
