"""What an outcome leaves in the ledger."""

from typing import Any, cast

import pytest

from immortal_lambda.clock import now_ms
from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import Claim, LeaseLost, Ledger, Place
from immortal_lambda.payloads import Inline, Stored, fetch
from immortal_lambda.runs import Run, Status
from immortal_runner.execution.outcomes import Errored, Family, Outcome, Returned, interrupted, out_of_memory
from immortal_runner.exit_codes import ExitCode, exit_code_of
from immortal_runner.heartbeat import Heartbeat
from immortal_runner.record import MAX_STACK_LINES, Recorder, shorten_error
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.stop import StopSignal
from support.accounts import Bucket

BROKEN_STREAM = Errored("handler", "TypeError", "row 17", b"{}", partial=Body(b"half a"))


def claimed(ledger: Ledger) -> Claim:
    now = now_ms()
    ledger.create(Run("r-1", "rerun", "pending", Inline(b"{}"), now, now))
    return ledger.claim("r-1", owner="me", place=Place(), now_ms=now, lease_ms=60_000)


def record(ledger: Ledger, outcome: Outcome, bucket: Bucket | None = None) -> Run:
    claim = claimed(ledger)
    heartbeat = Heartbeat(ledger, ledger, claim, lease_s=60, on_lost=lambda: None)
    try:
        recorder = Recorder(ledger, bucket or Bucket(), StopSignal())
        recorder.record(claim, outcome, note="a difference", heartbeat=heartbeat)
    finally:
        heartbeat.stop()
    return ledger.read("r-1")


def test_what_a_stream_brought_before_it_failed_is_kept_beside_the_error(ledger: Ledger) -> None:
    run = record(ledger, BROKEN_STREAM)
    assert (run.status, run.result) == ("error", Inline(b"half a"))
    assert run.error is not None
    assert run.error.error_type == "TypeError"
    assert run.note == "a difference; the result is what the handler had written before it failed, 6 bytes"


def test_a_large_part_of_a_stream_travels_by_claim_check(ledger: Ledger) -> None:
    bucket, part = Bucket(), b"x" * 100_000
    run = record(ledger, Errored("exit", "Runtime.ExitError", "killed", b"{}", partial=Body(part)), bucket)
    assert isinstance(run.result, Stored)
    assert fetch(run.result, bucket) == part


def test_a_part_that_may_not_be_stored_does_not_hide_the_error(ledger: Ledger) -> None:
    class Closed(Bucket):
        def upload(self, key: str, source: object) -> None:
            del key, source
            raise AccessRefused("s3:PutObject was refused")

    run = record(ledger, Errored("handler", "E", "m", b"{}", partial=Body(b"x" * 100_000)), Closed())
    assert (run.status, run.result) == ("error", None)
    assert "the handler had written 100000 bytes that could not be stored: s3:PutObject was refused" in run.note


class LostHeartbeat:
    """One that could not renew the claim in time."""

    lost = True


class Away(Ledger):
    """A ledger that can't be reached."""

    def complete(self, claim: Claim, **_: Any) -> None:
        raise ServiceUnavailable(f"no way to {claim.run.run_id}")


@pytest.mark.parametrize(("outcome", "left"), [(Returned(Body(b"7")), "complete"), (interrupted("r-1"), "pending")])
def test_a_claim_that_only_this_task_took_for_lost_still_takes_the_outcome(
    ledger: Ledger, outcome: Outcome, left: Status
) -> None:
    claim = claimed(ledger)
    Recorder(ledger, Bucket(), StopSignal()).record(claim, outcome, note="", heartbeat=cast("Any", LostHeartbeat()))
    assert ledger.read("r-1").status == left


def test_a_claim_that_was_lost_is_given_up_when_the_ledger_can_not_be_asked(ledger: Ledger) -> None:
    claim = claimed(ledger)
    recorder = Recorder(Away(ledger.table), Bucket(), StopSignal())
    with pytest.raises(LeaseLost, match="no way to r-1"):
        recorder.record(claim, Returned(Body(b"7")), note="", heartbeat=cast("Any", LostHeartbeat()))


def test_a_run_that_ran_out_of_memory_says_so(ledger: Ledger) -> None:
    run = record(ledger, out_of_memory("r-1"))
    assert run.error is not None
    assert (run.error.error_type, run.error.message.endswith("signal: killed")) == ("Runtime.OutOfMemory", True)


def test_what_the_environment_noted_goes_on_record(ledger: Ledger) -> None:
    run = record(ledger, Errored("handler", "E", "m", b"{}", note="a process of its own was killed for memory"))
    assert run.note == "a difference; a process of its own was killed for memory"


@pytest.mark.parametrize(
    ("family", "code"),
    [
        ("handler", ExitCode.HANDLER_ERROR),
        ("init", ExitCode.INIT_ERROR),
        ("exit", ExitCode.PROCESS_DIED),
        ("timeout", ExitCode.PROCESS_DIED),
        ("memory", ExitCode.OUT_OF_MEMORY),
        ("disk", ExitCode.DISK_FULL),
        ("interrupted", ExitCode.RELEASED),
    ],
)
def test_the_exit_code_names_the_family_of_the_outcome(family: Family, code: ExitCode) -> None:
    assert exit_code_of(Errored(family, "E", "m", b"")) == code
    assert exit_code_of(Returned(Body(b"1"))) == ExitCode.COMPLETE


def test_an_error_is_cut_to_what_a_record_can_hold() -> None:
    error = shorten_error(Errored("handler", "é" * 500, "ü" * 9_000, b"", ("line " * 1_000,) * 100))
    assert len(error.error_type.encode()) <= 256
    assert len(error.message.encode()) <= 8_000
    assert len(error.stack_trace) == MAX_STACK_LINES
    assert all(len(line.encode()) <= 2_000 for line in error.stack_trace)
