"""Runs as the command line shows them."""

import json
import time
from typing import Any

import pytest

from immortal_cli.aws import Records, open_account, open_records
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import Place
from immortal_lambda.payloads import Inline, keep
from immortal_lambda.runs import Origin, Run, RunError
from immortal_local.server import LocalAws
from support.commands import immortal

KEYS = {
    "run_id", "kind", "status", "function", "function_arn", "version", "attempt", "failure", "result", "error",
    "reason", "note", "created_at", "updated_at", "claimed_at", "handler_at", "ended_at", "task_arn", "log_group",
    "log_stream", "found_by", "lease_lost",
}  # fmt: skip
NOW = 1_795_000_000_123


@pytest.fixture(scope="module")
def records(deployed: dict[str, Any], local: LocalAws) -> Records:
    """The records of an installation whose reconciler sleeps: it would park what these tests leave half done."""
    del deployed
    events = local.client("events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    return open_records(open_account(), "immortal")


def pending(run_id: str, function: str = "job") -> Run:
    return Run(
        run_id,
        "rerun",
        "pending",
        Inline(b"{}"),
        NOW,
        NOW,
        function=function,
        function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{function}",
        version="$LATEST",
        failure=Failure("timeout", "Task timed out"),
        origin=Origin("arn:queue", "letter", NOW, "the only one"),
        launches=1,
        due_at_ms=NOW + 600_000,
    )


def complete(records: Records, run_id: str, result: bytes = b'{"n": 1}', function: str = "job") -> None:
    records.ledger.create(pending(run_id, function))
    claim = records.ledger.claim(run_id, owner="me", place=Place("arn:task"), now_ms=NOW + 1, lease_ms=1000)
    payload = keep(result, name=f"{run_id}/result", bucket=records.bucket)
    records.ledger.complete(claim, result=payload, now_ms=NOW + 2)


def show(run_id: str) -> dict[str, Any]:
    (shown,) = immortal("runs", "show", run_id, "--json").lines
    return dict(shown)


def test_a_complete_run_has_all_keys_and_its_result(records: Records) -> None:
    complete(records, "done")
    shown = show("done")
    assert shown.keys() == KEYS
    assert (shown["status"], shown["result"], shown["error"]) == ("complete", {"n": 1}, None)
    assert shown["failure"] == {"class": "timeout", "message": "Task timed out"}
    assert (shown["created_at"], shown["ended_at"]) == ("2026-11-18T11:06:40.123Z", "2026-11-18T11:06:40.125Z")
    assert (shown["found_by"], shown["task_arn"], shown["lease_lost"]) == ("the only one", "arn:task", False)


def test_a_pending_run_has_the_same_keys(records: Records) -> None:
    records.ledger.create(pending("waiting"))
    shown = show("waiting")
    assert shown.keys() == KEYS
    assert (shown["claimed_at"], shown["result"], shown["log_stream"]) == (None, None, None)


def test_a_result_in_the_bucket_is_fetched(records: Records) -> None:
    complete(records, "large", json.dumps("x" * 100_000).encode())
    assert show("large")["result"] == "x" * 100_000


def test_an_error_is_shown_with_type_message_and_stack(records: Records) -> None:
    records.ledger.create(pending("failed"))
    claim = records.ledger.claim("failed", owner="me", place=Place(), now_ms=NOW, lease_ms=1000)
    records.ledger.fail(claim, error=RunError("ValueError", "row 17", ("line 1",)), now_ms=NOW)
    assert show("failed")["error"] == {"type": "ValueError", "message": "row 17", "stack_trace": ["line 1"]}
    assert "row 17" in immortal("runs", "show", "failed").out


def test_a_run_that_nobody_holds_any_more_is_not_shown_as_running(records: Records) -> None:
    records.ledger.create(pending("lost"))
    records.ledger.claim("lost", owner="me", place=Place(), now_ms=NOW, lease_ms=10)
    assert show("lost")["lease_lost"]
    assert "processing (lease lost)" in immortal("runs", "show", "lost").out


def test_a_run_in_good_hands_is_shown_as_processing(records: Records) -> None:
    records.ledger.create(pending("held"))
    now_ms = time.time_ns() // 1_000_000
    records.ledger.claim("held", owner="me", place=Place(), now_ms=now_ms, lease_ms=600_000)
    assert not show("held")["lease_lost"]
    assert "lease lost" not in immortal("runs", "show", "held").out


def test_the_list_can_be_narrowed(records: Records) -> None:
    for number in range(3):
        complete(records, f"listed-{number}", function="listed")
    records.ledger.create(pending("listed-waiting", "listed"))
    found = immortal("runs", "ls", "--function", "listed", "--json").lines
    assert {run["run_id"] for run in found} == {"listed-0", "listed-1", "listed-2", "listed-waiting"}
    waiting = immortal("runs", "ls", "--function", "listed", "--status", "pending", "--json").lines
    assert [run["run_id"] for run in waiting] == ["listed-waiting"]
    assert len(immortal("runs", "ls", "--limit", "2", "--json").lines) == 2


def test_the_list_for_people_has_a_head_and_a_row_a_run(records: Records) -> None:
    complete(records, "row", function="rows")
    head, row = immortal("runs", "ls", "--function", "rows").out.splitlines()
    assert head.split()[:3] == ["RUN", "STATUS", "FUNCTION"]
    assert row.split()[:3] == ["row", "complete", "rows"]


def test_waiting_for_complete_runs_succeeds(records: Records) -> None:
    complete(records, "w-1")
    complete(records, "w-2")
    answer = immortal("runs", "wait", "w-1", "w-2", "--json")
    assert answer.code == 0
    assert [run["run_id"] for run in answer.lines] == ["w-1", "w-2"]


def test_waiting_for_a_run_that_ended_otherwise_fails(records: Records) -> None:
    complete(records, "w-good")
    records.ledger.create(pending("w-parked"))
    records.ledger.park(records.ledger.read("w-parked"), reason="nobody knows", now_ms=NOW)
    answer = immortal("runs", "wait", "w-good", "w-parked")
    assert answer.code == 1


@pytest.mark.parametrize("run_id", ["w-never-came", "w-waits"])
def test_waiting_ends_at_its_limit_with_a_failure(records: Records, run_id: str) -> None:
    records.ledger.create(pending("w-waits"))
    assert immortal("runs", "wait", run_id, "--timeout", "0").code == 1


def test_waiting_needs_to_know_for_what(records: Records) -> None:
    del records
    assert immortal("runs", "wait").code == 2
    assert immortal("runs", "wait", "x", "--all").code == 2


def test_waiting_for_all_fails_while_one_is_not_complete(records: Records) -> None:
    records.ledger.create(pending("w-one-of-all"))
    assert immortal("runs", "wait", "--all", "--timeout", "0").code == 1


def test_an_unknown_run_is_told_with_the_next_step(records: Records) -> None:
    del records
    answer = immortal("runs", "show", "nobody")
    assert answer.code == 1
    assert "no run 'nobody' on record. Next step: immortal runs ls" in answer.err


def test_a_run_that_has_logged_nothing_says_so(records: Records) -> None:
    complete(records, "silent")
    answer = immortal("runs", "logs", "silent")
    assert answer.code == 1
    assert "has logged nothing" in answer.err


def test_an_installation_that_is_not_there_is_told(records: Records) -> None:
    del records
    answer = immortal("runs", "ls", "--name", "elsewhere")
    assert answer.code == 1
    assert "no stack 'elsewhere-store'" in answer.err
