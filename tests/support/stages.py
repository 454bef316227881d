"""A function on the local AWS, a run for it in the ledger, and runners as ECS starts them: processes of their own."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from immortal_lambda.aws import DynamoTable, PayloadBucket
from immortal_lambda.clock import now_ms
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import Ledger
from immortal_lambda.payloads import Inline, Payload, fetch
from immortal_lambda.runs import Origin, Run
from immortal_local.server import LocalAws
from immortal_local.tasks.credentials import CredentialsServer

RUN_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"


def zipped(files: str | Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
            archive.writestr(name, text)
    return data.getvalue()


@dataclass
class Stage:
    """A function on the local AWS, a run for it in the ledger, and runners on demand."""

    local: LocalAws
    table: DynamoTable
    ledger: Ledger
    bucket: PayloadBucket
    work_dir: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def create(self, code: str | Mapping[str, str], **changes: Any) -> str:
        name = f"f-{self.table.name}"
        role = "arn:aws:iam::123456789012:role/runner-tests"
        functions = self.local.client("lambda")
        answer = functions.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler="app.handler",
            Timeout=1,
            Code={"ZipFile": zipped(code)},
            **changes,
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        return str(answer["FunctionArn"])

    def record(self, arn: str, event: Payload | None = None, *, failed_ms: int | None = None, **changes: Any) -> None:
        now = now_ms()
        run = Run(
            run_id=RUN_ID,
            kind="rerun",
            status="pending",
            event=event or Inline(b"{}"),
            created_ms=now,
            updated_ms=now,
            function=arn.split(":")[6],
            function_arn=arn,
            version="$LATEST",
            failure=Failure("timeout", "Task timed out after 1.00 seconds"),
            origin=Origin("arn:aws:sqs:eu-west-1:123456789012:q", "m", failed_ms or now),
            launches=1,
            due_at_ms=now + 600_000,
        )
        assert self.ledger.create(replace(run, **changes)) is None

    def environment(self) -> dict[str, str]:
        about = self.local.describe()
        return {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": about["endpoint"],
            "AWS_DEFAULT_REGION": about["region"],
            "AWS_ACCESS_KEY_ID": about["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": about["secret_access_key"],
            "IMMORTAL_RUN_ID": RUN_ID,
            "IMMORTAL_LEDGER_TABLE": self.table.name,
            "IMMORTAL_PAYLOAD_BUCKET": self.bucket.name,
            "IMMORTAL_WORK_DIR": self.work_dir,
        }

    def start(
        self, *, lifeline: int | None = None, lease_s: float = 60, grace_s: float = 20, **settings: object
    ) -> subprocess.Popen[str]:
        """Start a runner; a setting such as ``IMMORTAL_DEADLINE`` is named in full."""
        kept = {} if lifeline is None else {"IMMORTAL_LIFELINE_FD": str(lifeline)}
        kept |= {"IMMORTAL_LEASE_S": str(lease_s), "IMMORTAL_STOP_GRACE_S": str(grace_s)}
        process = subprocess.Popen(
            [sys.executable, "-m", "immortal_runner"],
            env=self.environment() | kept | {name: str(value) for name, value in settings.items()},
            pass_fds=[] if lifeline is None else [lifeline],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, **settings: object) -> tuple[int, Run]:
        process = self.start(**settings)  # type: ignore[arg-type]
        process.communicate(timeout=60)
        return process.returncode, self.ledger.read(RUN_ID)

    def until(self, met: Callable[[Run], object], run_id: str = RUN_ID) -> Run:
        deadline = time.monotonic() + 20
        while not met(run := self.ledger.read(run_id)):
            assert time.monotonic() < deadline, run
            time.sleep(0.02)
        return run

    def log(self, run: Run) -> str:
        logs = self.local.client("logs")
        events = logs.get_log_events(logGroupName=run.log_group, logStreamName=run.log_stream, startFromHead=True)
        return "".join(event["message"] for event in events["events"])

    def result(self, run: Run) -> Any:
        assert run.result is not None, run
        return json.loads(fetch(run.result, self.bucket))

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@contextmanager
def served_by_ecs(task_arn: str, *, memory_mb: int, credentials: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a task that ECS serves its metadata and its role's credentials."""
    server = CredentialsServer()
    server.listen("127.0.0.1")
    metadata = {"TaskARN": task_arn, "Limits": {"CPU": 1, "Memory": memory_mb}}
    paths = server.add_task(credentials=lambda: credentials, metadata=lambda: metadata)
    yield {
        "ECS_CONTAINER_METADATA_URI_V4": server.endpoint + paths.metadata,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.endpoint}{paths.credentials}",
    }
    server.close()
