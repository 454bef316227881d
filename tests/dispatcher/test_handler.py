"""The two handlers as Lambda calls them, against the local AWS."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from immortal_dispatcher import handler
from immortal_lambda.aws import DynamoTable, client
from immortal_lambda.ledger import Ledger, Place
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from immortal_local.server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, LocalAws
from support.letters import record

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/gone/0123456789abcdef0123456789abcdef"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def environment(local: LocalAws, table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    variables = {
        "AWS_ENDPOINT_URL": local.endpoint,
        "AWS_REGION": local.region,
        "AWS_DEFAULT_REGION": local.region,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "IMMORTAL_LEDGER_TABLE": table.name,
        "IMMORTAL_PAYLOAD_BUCKET": "payloads",
        "IMMORTAL_CLUSTER": "gone",
        "IMMORTAL_TASK_DEFINITION": "gone",
        "IMMORTAL_SUBNETS": "subnet-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for remembered in (handler._account, client):
        remembered.cache_clear()
    yield
    for remembered in (handler._account, client):
        remembered.cache_clear()


def processing(ledger: Ledger, run_id: str) -> None:
    ledger.create(Run(run_id, "rerun", "pending", Inline(b"{}"), now_ms(), now_ms(), function_arn="arn", launches=1))
    ledger.claim(run_id, owner="me", place=Place(TASK), now_ms=now_ms(), lease_ms=60_000)


def stopped_event(run_id: str) -> dict[str, Any]:
    variables = [{"name": "IMMORTAL_RUN_ID", "value": run_id}]
    detail = {
        "taskArn": TASK,
        "lastStatus": "STOPPED",
        "containers": [{"name": "runner", "exitCode": 137}],
        "overrides": {"containerOverrides": [{"name": "runner", "environment": variables}]},
    }
    return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}


@pytest.mark.usefixtures("environment")
def test_the_answer_names_the_messages_that_must_come_again(table: DynamoTable) -> None:
    fine, poor = record("?", attributes={}), record("?" * 100_000, attributes={})  # there is no bucket for the second
    answer = handler.handler({"Records": [fine, poor]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": poor["messageId"]}]}
    assert Ledger(table).read(fine["messageId"]).status == "parked"


@pytest.mark.usefixtures("environment")
def test_the_end_of_a_task_concerns_its_own_run_alone(ledger: Ledger) -> None:
    processing(ledger, "r-1")
    overdue = Run("r-2", "rerun", "pending", Inline(b"{}"), 1, 1, function_arn="arn", launches=1, due_at_ms=1)
    ledger.create(overdue)
    handler.reconcile(stopped_event("r-1"), None)
    assert "killed by SIGKILL" in ledger.read("r-1").reason
    assert ledger.read("r-2") == overdue


@pytest.mark.usefixtures("environment")
def test_the_clock_makes_the_reconciler_look_at_what_is_due(ledger: Ledger) -> None:
    processing(ledger, "r-1")
    ledger.create(Run("r-2", "rerun", "pending", Inline(b"{}"), 1, 1, function_arn="arn", launches=1, due_at_ms=1))
    handler.reconcile({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}, None)
    assert ledger.read("r-1").status == "processing"
    assert ledger.read("r-2").launches == 2
