"""Runs as the command line shows them."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from immortal_cli import views
from immortal_cli.aws import Records, open_account, open_records
from immortal_cli.main import main
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import Place
from immortal_lambda.payloads import Inline, Stored, keep
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


def test_the_list_says_where_a_large_result_lies_and_fetches_none(records: Records, local: LocalAws) -> None:
    complete(records, "big-1", b'"' + b"x" * 100_000 + b'"', function="big")
    complete(records, "big-2", b'"small"', function="big")
    stored = records.ledger.read("big-1").result
    assert isinstance(stored, Stored)
    local.client("s3").delete_object(Bucket=stored.bucket, Key=stored.key)
    listed = immortal("runs", "ls", "--function", "big", "--json").lines
    place = {"stored": f"s3://{stored.bucket}/{stored.key}", "bytes": 100_002}
    assert {run["run_id"]: run["result"] for run in listed} == {"big-1": place, "big-2": "small"}


def test_a_lost_result_is_told_in_its_place(records: Records, local: LocalAws) -> None:
    complete(records, "lost-result", b"x" * 100_000)
    stored = records.ledger.read("lost-result").result
    assert isinstance(stored, Stored)
    local.client("s3").delete_object(Bucket=stored.bucket, Key=stored.key)
    assert "is gone" in show("lost-result")["result"]["unreadable"]
    complete(records, "beside")
    answer = immortal("runs", "wait", "lost-result", "beside", "--json")
    assert answer.code == 0
    lost, beside = answer.lines
    assert (lost["result"]["bytes"], beside["result"]) == (100_000, {"n": 1})


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
def test_a_refused_result_is_told_in_its_place(code: str) -> None:
    result = Stored("bucket", "key", "ab" * 32, 100_000)
    run = replace(pending("refused"), status="complete", result=result)
    shown = views.show_json(run, bucket=Refusing(code), now_ms=NOW)
    assert shown["result"]["stored"] == "s3://bucket/key"
    assert code in shown["result"]["unreadable"]


@dataclass
class Refusing:
    """A bucket that refuses, as S3 does."""

    code: str
    name: str = "bucket"

    def put(self, key: str, data: bytes) -> None:
        raise NotImplementedError

    def upload(self, key: str, source: BufferedReader) -> None:
        raise NotImplementedError

    def get(self, bucket: str, key: str) -> bytes | None:
        del bucket, key
        raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, "GetObject")


@pytest.mark.parametrize("size", [3, 100_000], ids=["in the ledger", "in the bucket"])
def test_the_event_is_printed_byte_for_byte(records: Records, size: int) -> None:
    event = b"\xff\x00\n" + b"x" * (size - 3)
    run_id = f"event-{size}"
    records.ledger.create(replace(pending(run_id), event=keep(event, name=f"{run_id}/event", bucket=records.bucket)))
    result = CliRunner().invoke(main, ["runs", "show", run_id, "--event"])
    assert (result.exit_code, result.stdout_bytes) == (0, event)


def test_the_event_is_not_asked_for_as_json(records: Records) -> None:
    complete(records, "event-json")
    assert immortal("runs", "show", "event-json", "--event", "--json").code == 2


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


@pytest.mark.parametrize("words", [("runs", "ls"), ("runs", "show", "blank")], ids=["a table", "members"])
def test_no_line_ends_in_blanks_where_no_terminal_shows_it(records: Records, words: tuple[str, ...]) -> None:
    if not immortal("runs", "ls", "--function", "blank").out:
        complete(records, "blank", function="blank")
    lines = immortal(*words).out.splitlines()
    assert len(lines) > 1
    assert [line for line in lines if line != line.rstrip()] == []


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


def test_what_is_still_open_when_time_runs_out_is_told(records: Records) -> None:
    complete(records, "w-done")
    records.ledger.create(pending("w-open"))
    answer = immortal("runs", "wait", "w-done", "w-open", "w-absent", "--timeout", "0", "--json")
    assert answer.code == 1
    assert "time ran out with these still open: w-open (pending), w-absent (not on record)" in answer.err
    assert "w-done" not in answer.err


def test_waiting_that_ends_in_time_says_nothing_of_it(records: Records) -> None:
    records.ledger.create(pending("w-parked-at-once"))
    records.ledger.park(records.ledger.read("w-parked-at-once"), reason="nobody knows", now_ms=NOW)
    assert "time ran out" not in immortal("runs", "wait", "w-parked-at-once", "--timeout", "60").err


@pytest.mark.parametrize("words", [("show",), ("logs",), ("wait", "x"), ("redrive", "x")], ids=lambda words: words[0])
@pytest.mark.parametrize("run_id", ["", " "], ids=["nothing", "a blank"])
def test_an_empty_run_id_was_asked_wrongly(words: tuple[str, ...], run_id: str) -> None:
    answer = immortal("runs", *words, run_id)
    assert answer.code == 2
    assert "a run's id is not empty" in answer.err


def test_following_waits_for_a_run_that_is_not_on_record_yet(records: Records) -> None:
    command = [sys.executable, "-m", "immortal_cli", "runs", "logs", "f-late", "--follow"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr
        try:
            assert process.stderr.readline() == b"not on record yet, waiting: f-late\n"
            complete(records, "f-late")
            assert b"run f-late is complete and has logged nothing" in process.stderr.read()
        finally:
            process.kill()


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
