"""The ledger on a real table: who comes late or twice changes nothing."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from immortal_lambda.aws import DynamoTable
from immortal_lambda.errors import ServiceUnavailable
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import RETENTION_S, Claim, LeaseLost, Ledger, NotClaimable, Place, RunUnknown
from immortal_lambda.payloads import Inline, Stored
from immortal_lambda.runs import STATUSES, TRANSITIONS, Origin, Run, RunError, Status
from immortal_local.server import LocalAws

NOW = 1_795_000_000_000
LEASE = 60_000

RUN = Run(
    run_id="r-1",
    kind="rerun",
    status="pending",
    event=Inline(b'{"a": 1}'),
    created_ms=NOW,
    updated_ms=NOW,
    function="report-builder",
    function_arn="arn:aws:lambda:eu-west-1:123456789012:function:report-builder",
    version="$LATEST",
    failure=Failure("timeout", "Task timed out after 3.00 seconds"),
    origin=Origin("arn:aws:sqs:eu-west-1:123456789012:failures", "m-1", NOW - 5, "the only function with this queue"),
    due_at_ms=NOW + 600_000,
)
RESULT = Inline(b"[2, 3]")


def claim(ledger: Ledger, owner: str = "first", *, now_ms: int = NOW, run_id: str = "r-1") -> Claim:
    return ledger.claim(run_id, owner=owner, place=Place("task-1", "group", "stream"), now_ms=now_ms, lease_ms=LEASE)


def test_a_run_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    stored = replace(RUN, event=Stored("bucket", "key", "ab" * 32, 70_000))
    assert ledger.create(stored) is None
    assert ledger.read("r-1") == stored


def test_a_run_is_recorded_once(ledger: Ledger) -> None:
    ledger.create(RUN)
    claim(ledger)
    found = ledger.create(replace(RUN, created_ms=NOW + 1))
    assert found is not None
    assert (found.status, found.created_ms) == ("processing", NOW)


def test_an_unknown_run_is_said_to_be_unknown(ledger: Ledger) -> None:
    with pytest.raises(RunUnknown, match=r"'nothing'.*immortal runs ls"):
        ledger.read("nothing")
    with pytest.raises(RunUnknown):
        claim(ledger, run_id="nothing")


def test_a_claim_is_taken_by_one_alone(ledger: Ledger) -> None:
    ledger.create(RUN)
    barrier, claims, refusals = threading.Barrier(8), [], []

    def race(owner: str) -> None:
        barrier.wait()
        try:
            claims.append(claim(ledger, owner))
        except NotClaimable:
            refusals.append(owner)

    threads = [threading.Thread(target=race, args=(f"runner-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(claims), len(refusals)) == (1, 7)
    run = ledger.read("r-1")
    assert (run.owner, run.fence, run.attempt, run.status) == (claims[0].owner, 1, 1, "processing")
    assert (run.task_arn, run.lease_until_ms, run.due_at_ms) == ("task-1", NOW + LEASE, NOW + LEASE)


def test_the_same_owner_may_ask_again(ledger: Ledger) -> None:
    """The answer to a write can get lost; boto3 then sends it a second time."""
    ledger.create(RUN)
    assert claim(ledger).fence == claim(ledger).fence == ledger.read("r-1").fence == 1


def test_a_lease_that_ran_out_may_be_taken_over_and_its_owner_records_nothing_more(ledger: Ledger) -> None:
    ledger.create(RUN)
    late = claim(ledger, "late")
    with pytest.raises(NotClaimable):
        claim(ledger, "new", now_ms=NOW + LEASE)
    new = claim(ledger, "new", now_ms=NOW + LEASE + 1)
    assert (new.fence, new.run.attempt) == (2, 2)
    writes: list[Callable[[], object]] = [
        lambda: ledger.heartbeat(late, now_ms=NOW, lease_ms=LEASE),
        lambda: ledger.complete(late, result=RESULT, now_ms=NOW),
        lambda: ledger.fail(late, error=RunError("E", "m"), now_ms=NOW),
        lambda: ledger.give_up(late, reason="x", now_ms=NOW),
        lambda: ledger.release(late, reason="x", now_ms=NOW),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="no longer in these hands"):
            write()
    ledger.complete(new, result=RESULT, now_ms=NOW)
    assert ledger.read("r-1").status == "complete"


def test_a_handler_that_has_begun_is_never_begun_again_by_whoever_comes_by(ledger: Ledger) -> None:
    ledger.create(RUN)
    begun = claim(ledger)
    ledger.heartbeat(begun, now_ms=NOW, lease_ms=LEASE, handler_ms=NOW)
    with pytest.raises(NotClaimable):
        claim(ledger, "stray", now_ms=NOW + 100 * LEASE)
    ledger.complete(begun, result=RESULT, now_ms=NOW + 200 * LEASE)


def test_a_heartbeat_holds_the_claim(ledger: Ledger) -> None:
    ledger.create(RUN)
    held = claim(ledger)
    ledger.heartbeat(held, now_ms=NOW + 50_000, lease_ms=LEASE, handler_ms=NOW + 3)
    run = ledger.read("r-1")
    assert (run.lease_until_ms, run.due_at_ms, run.handler_ms) == (NOW + 50_000 + LEASE, NOW + 50_000 + LEASE, NOW + 3)
    with pytest.raises(NotClaimable):
        claim(ledger, "other", now_ms=NOW + LEASE + 1)


def test_a_result_is_recorded_and_nothing_follows_it(ledger: Ledger) -> None:
    ledger.create(RUN)
    held = claim(ledger)
    ledger.complete(held, result=RESULT, now_ms=NOW + 9, note="big")
    ledger.complete(held, result=RESULT, now_ms=NOW + 9, note="big")  # the answer to the first was lost
    run = ledger.read("r-1")
    assert (run.status, run.result, run.note, run.ended_ms, run.due_at_ms) == ("complete", RESULT, "big", NOW + 9, 0)
    assert list(ledger.due(NOW * 2)) == []
    with pytest.raises(LeaseLost):
        ledger.fail(held, error=RunError("E", "m"), now_ms=NOW + 10)
    with pytest.raises(NotClaimable, match="complete"):
        claim(ledger, "other", now_ms=NOW * 2)
    assert not ledger.park(run, reason="x", now_ms=NOW)
    assert ledger.read("r-1").status == "complete"


def test_an_error_is_recorded_with_its_stack(ledger: Ledger) -> None:
    ledger.create(RUN)
    error = RunError("ValueError", "row 17", ("  File a.py\n",))
    ledger.fail(claim(ledger), error=error, now_ms=NOW + 9)
    run = ledger.read("r-1")
    assert (run.status, run.error) == ("error", error)


def test_a_released_run_is_due_at_once_and_can_be_claimed(ledger: Ledger) -> None:
    ledger.create(RUN)
    ledger.release(claim(ledger), reason="the task was stopped", now_ms=NOW + 5)
    run = ledger.read("r-1")
    assert (run.status, run.reason, run.owner, run.due_at_ms) == ("pending", "the task was stopped", "", NOW + 5)
    assert list(ledger.due(NOW + 5)) == ["r-1"]
    assert claim(ledger, "next").run.attempt == 2


def test_a_run_is_parked_only_as_it_was_read(ledger: Ledger) -> None:
    ledger.create(RUN)
    seen = ledger.read("r-1")
    claim(ledger)
    assert not ledger.park(seen, reason="never started", now_ms=NOW)
    assert ledger.park(ledger.read("r-1"), reason="task stopped", now_ms=NOW + 7)
    run = ledger.read("r-1")
    assert (run.status, run.reason, run.due_at_ms, run.lease_until_ms) == ("parked", "task stopped", 0, 0)


def test_a_redriven_run_is_due_at_once_and_its_limits_start_anew(ledger: Ledger, table: DynamoTable) -> None:
    ledger.create(replace(RUN, launches=4))
    ledger.fail(claim(ledger), error=RunError("ValueError", "row 17"), now_ms=NOW + 5, note="newer code")
    assert ledger.redrive(ledger.read("r-1"), now_ms=NOW + 9)
    run = ledger.read("r-1")
    assert (run.status, run.due_at_ms, run.updated_ms, run.launches) == ("pending", NOW + 9, NOW + 9, 0)
    assert (run.attempt, run.fence, run.event) == (1, 1, RUN.event)
    assert not raw(table).keys() & {"reason", "error", "ended_at", "expires_at", "note"}
    assert list(ledger.due(NOW + 9)) == ["r-1"]
    assert claim(ledger, "next").run.attempt == 2


def test_a_run_is_redriven_as_the_function_that_it_now_names(ledger: Ledger) -> None:
    ledger.create(replace(RUN, status="parked", reason="nobody knows", function="", function_arn="", version=""))
    parked = ledger.read("r-1")
    assert ledger.redrive(replace(parked, function="f", function_arn="arn:f", version="7"), now_ms=NOW)
    run = ledger.read("r-1")
    assert (run.status, run.reason, run.function, run.function_arn, run.version) == ("pending", "", "f", "arn:f", "7")


def test_a_run_is_redriven_once_and_only_as_it_was_read(ledger: Ledger) -> None:
    ledger.create(RUN)
    ledger.park(RUN, reason="x", now_ms=NOW)
    seen = ledger.read("r-1")
    assert ledger.redrive(seen, now_ms=NOW)
    assert not ledger.redrive(seen, now_ms=NOW + 1)
    assert ledger.read("r-1").due_at_ms == NOW


@pytest.mark.parametrize("status", sorted(set(STATUSES) - {"parked", "error"}))
def test_only_a_parked_or_failed_run_is_redriven(ledger: Ledger, status: Status) -> None:
    ledger.create(replace(RUN, status=status))
    assert not ledger.redrive(ledger.read("r-1"), now_ms=NOW)
    assert ledger.read("r-1").status == status


def test_ended_runs_leave_the_record_after_a_while(ledger: Ledger, table: DynamoTable) -> None:
    ledger.create(RUN)
    assert "expires_at" not in raw(table)
    ledger.complete(claim(ledger), result=RESULT, now_ms=NOW)
    assert raw(table)["expires_at"] == NOW // 1000 + RETENTION_S


def take(ledger: Ledger, run: Run, owner: str = "drainer") -> Claim:
    return ledger.take(run, owner=owner, place=Place("task-2", "group", "stream"), now_ms=NOW + 50, lease_ms=LEASE)


def test_runs_that_wait_for_the_same_code_are_found_longest_unchanged_first(ledger: Ledger) -> None:
    ledger.create(replace(RUN, run_id="newer", updated_ms=NOW + 2))
    ledger.create(replace(RUN, run_id="older", updated_ms=NOW + 1))
    ledger.create(replace(RUN, run_id="claimed", updated_ms=NOW))
    claim(ledger, run_id="claimed")
    ledger.create(replace(RUN, run_id="alias", function_arn=f"{RUN.function_arn}:live"))
    ledger.create(replace(RUN, run_id="version", version="7"))
    ledger.create(replace(RUN, run_id="unresolved", function_arn=""))
    assert [run.run_id for run in ledger.waiting_like(RUN, page=2)] == ["older", "newer"]
    assert list(ledger.waiting_like(replace(RUN, function_arn=""))) == []


def test_a_look_for_waiting_runs_costs_no_more_than_it_may(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immortal_lambda.ledger.LOOK_AT_MOST", 3)
    for number in range(4):
        ledger.create(replace(RUN, run_id=f"other-{number}", version="7", updated_ms=NOW - 10 + number))
    ledger.create(RUN)
    assert list(ledger.waiting_like(RUN, page=2)) == []


def test_a_waiting_run_is_taken_as_it_was_read_and_that_counts_as_a_launch(ledger: Ledger) -> None:
    ledger.create(replace(RUN, launches=1))
    seen = ledger.read("r-1")
    taken = take(ledger, seen)
    run = ledger.read("r-1")
    assert (run.status, run.owner, run.attempt, run.launches, run.task_arn) == ("processing", "drainer", 1, 2, "task-2")
    assert (run.log_group, run.log_stream, run.due_at_ms) == ("group", "stream", NOW + 50 + LEASE)
    assert take(ledger, seen).fence == taken.fence  # the answer to the first was lost
    with pytest.raises(NotClaimable, match="in other hands"):
        take(ledger, seen, "another")


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger, run: ledger.park(run, reason="x", now_ms=NOW + 1),
        lambda ledger, run: ledger.order_launch(run, due_at_ms=NOW + 1, now_ms=NOW + 1),
        lambda ledger, run: (
            ledger.park(run, reason="x", now_ms=NOW + 1)
            and ledger.redrive(replace(ledger.read("r-1"), function_arn="arn:other"), now_ms=NOW + 2)
        ),
    ],
    ids=["parked", "launched", "redriven as another function"],
)
def test_a_waiting_run_that_moved_on_is_not_taken(ledger: Ledger, change: Callable[[Ledger, Run], object]) -> None:
    ledger.create(RUN)
    seen = ledger.read("r-1")
    assert change(ledger, seen)
    with pytest.raises(NotClaimable):
        take(ledger, seen)


def test_a_run_that_is_gone_is_not_taken(ledger: Ledger) -> None:
    with pytest.raises(RunUnknown):
        take(ledger, RUN)


def test_the_runs_that_a_task_holds_are_found(ledger: Ledger) -> None:
    for number in range(3):
        ledger.create(replace(RUN, run_id=f"r-{number}"))
    claim(ledger, run_id="r-0")
    held = take(ledger, ledger.read("r-1"))
    assert [run.run_id for run in ledger.held_by("task-2")] == ["r-1"]
    ledger.complete(held, result=RESULT, now_ms=NOW + 60)
    assert list(ledger.held_by("task-2")) == []


def test_what_a_failed_run_had_written_is_kept_until_it_is_redriven(ledger: Ledger, table: DynamoTable) -> None:
    ledger.create(RUN)
    ledger.fail(claim(ledger), error=RunError("E", "m"), partial=Inline(b"half a"), now_ms=NOW + 9)
    run = ledger.read("r-1")
    assert (run.status, run.result) == ("error", Inline(b"half a"))
    assert ledger.redrive(run, now_ms=NOW + 10)
    assert "result" not in raw(table)


def test_runs_are_listed_by_status_newest_change_first(ledger: Ledger) -> None:
    for number in range(7):
        ledger.create(replace(RUN, run_id=f"r-{number}", updated_ms=NOW + number))
    claim(ledger, run_id="r-3", now_ms=NOW + 100)
    assert [run.run_id for run in ledger.list()] == ["r-3", "r-6", "r-5", "r-4", "r-2", "r-1", "r-0"]
    assert [run.run_id for run in ledger.list(("pending",), page=2)] == ["r-6", "r-5", "r-4", "r-2", "r-1", "r-0"]


def test_due_runs_are_found_longest_overdue_first(ledger: Ledger) -> None:
    for number in range(3):
        ledger.create(replace(RUN, run_id=f"r-{number}", due_at_ms=NOW + 10 - number))
    assert list(ledger.due(NOW + 9)) == ["r-2", "r-1"]
    assert list(ledger.due(NOW)) == []


def test_a_launch_is_counted_once(ledger: Ledger) -> None:
    ledger.create(RUN)
    seen = ledger.read("r-1")
    assert ledger.order_launch(seen, due_at_ms=NOW + 1, now_ms=NOW) is not None
    assert ledger.order_launch(seen, due_at_ms=NOW + 1, now_ms=NOW) is None
    assert ledger.read("r-1").launches == 1


def test_a_table_that_is_missing_is_an_outage_that_names_the_call(local: LocalAws) -> None:
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        Ledger(DynamoTable(local.client("dynamodb"), "nothing")).read("r-1")


def test_a_ledger_out_of_reach_is_an_outage() -> None:
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    nowhere = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:1",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ServiceUnavailable, match="dynamodb:PutItem"):
        Ledger(DynamoTable(nowhere, "runs")).create(RUN)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_says_what_may_follow_it(status: Any) -> None:
    assert TRANSITIONS[status] <= set(STATUSES)


def raw(table: DynamoTable) -> dict[str, Any]:
    return dict(table.get({"run_id": "r-1", "part": "run"}) or {})
