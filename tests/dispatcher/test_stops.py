from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from immortal_dispatcher.decide import GiveBack, Park, Postpone
from immortal_dispatcher.launch import LAUNCHES_AT_MOST
from immortal_dispatcher.stops import Stop, after_stop, describe, read_stop
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run, Status
from immortal_runner.exit_codes import ExitCode

TASK = "arn:aws:ecs:eu-west-1:111122223333:task/immortal/5f3c"
NOW = 1_800_000_000_000
RUN = Run("r-1", "rerun", "processing", Inline(b"{}"), 0, 0, task_arn=TASK, launches=1, handler_ms=7)
KILLED = Stop(TASK, "r-1", "EssentialContainerExited", "Essential container in task exited", 137)


def task(**members: Any) -> dict[str, Any]:
    return {
        "taskArn": TASK,
        "lastStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "containers": [
            {"name": "aws-guardduty-agent-x", "exitCode": 0},
            {"name": "runner", "exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"},
        ],
        "overrides": {
            "containerOverrides": [
                {"name": "aws-guardduty-agent-x"},
                {"name": "runner", "environment": [{"name": "IMMORTAL_RUN_ID", "value": "r-1"}]},
            ]
        },
        **members,
    }


def test_the_runner_is_found_among_the_containers_that_aws_adds() -> None:
    stop = read_stop(task())
    assert stop is not None
    assert (stop.run_id, stop.exit_code) == ("r-1", 137)


def test_a_task_that_still_runs_has_not_stopped() -> None:
    assert read_stop(task(lastStatus="DEPROVISIONING")) is None


def test_a_task_that_never_started_has_no_exit_code() -> None:
    stop = read_stop(task(stopCode="TaskFailedToStart", containers=[{"name": "runner"}]))
    assert stop is not None
    assert stop.exit_code is None


@pytest.mark.parametrize("said", ["2027-01-15T08:00:00.25Z", datetime(2027, 1, 15, 8, 0, 0, 250_000, UTC)], ids=repr)
def test_when_a_task_stopped_is_read_from_events_and_descriptions(said: object) -> None:
    stop = read_stop(task(stoppedAt=said))
    assert stop is not None
    assert stop.stopped_ms == NOW + 250


def test_a_stop_is_described_with_all_that_ecs_knows() -> None:
    stop = read_stop(task())
    assert stop is not None
    assert describe(stop) == (
        "task 5f3c stopped (EssentialContainerExited, Essential container in task exited, exit code 137, killed by "
        "SIGKILL, OutOfMemoryError: Container killed due to memory usage)"
    )


def test_a_run_that_the_task_held_is_parked_with_the_stop_in_its_reason() -> None:
    decision = after_stop(RUN, KILLED, now_ms=NOW)
    assert isinstance(decision, Park)
    assert "killed by SIGKILL" in decision.reason
    assert "Next step:" in decision.reason


def test_a_run_whose_handler_had_not_begun_is_given_to_another_task() -> None:
    decision = after_stop(replace(RUN, handler_ms=0), KILLED, now_ms=NOW)
    assert isinstance(decision, GiveBack)
    assert "before the handler was given its event" in decision.reason
    exhausted = after_stop(replace(RUN, handler_ms=0, launches=LAUNCHES_AT_MOST), KILLED, now_ms=NOW)
    assert isinstance(exhausted, Park)


def test_a_run_that_the_task_never_claimed_is_launched_again_later() -> None:
    waits = []
    for launches in range(1, LAUNCHES_AT_MOST):
        waiting = replace(RUN, status="pending", task_arn="", launches=launches)
        decision = after_stop(waiting, KILLED, now_ms=NOW)
        assert isinstance(decision, Postpone)
        assert "before it claimed the run" in str(decision.reason)
        waits.append((decision.due_at_ms - NOW) // 60_000)
    assert waits == [0, 1, 2, 4, 8, 15, 15, 15, 15]


def test_a_run_that_no_task_of_many_ever_claimed_is_parked() -> None:
    waiting = replace(RUN, status="pending", task_arn="", launches=LAUNCHES_AT_MOST, reason="older")
    decision = after_stop(waiting, KILLED, now_ms=NOW)
    assert isinstance(decision, Park)
    assert "launched 10 times" in decision.reason
    assert "killed by SIGKILL) before it claimed the run" in decision.reason


def test_a_run_that_its_task_gave_back_keeps_its_own_reason_and_due_time() -> None:
    assert after_stop(replace(RUN, status="pending"), KILLED, now_ms=NOW) is None


def test_the_end_of_a_twin_task_means_nothing_for_a_run_in_other_hands() -> None:
    assert after_stop(replace(RUN, task_arn="arn:another"), KILLED, now_ms=NOW) is None


def test_the_end_of_a_task_says_nothing_of_a_waiting_run_that_it_was_not_started_for() -> None:
    given_back = replace(RUN, run_id="r-2", status="pending", task_arn="arn:another")
    assert after_stop(given_back, KILLED, now_ms=NOW) is None


def test_every_exit_code_of_the_runner_but_that_of_a_fault_means_that_it_holds_nothing() -> None:
    assert [code.name for code in ExitCode if not replace(KILLED, exit_code=code).in_order] == ["BROKEN"]


@pytest.mark.parametrize("exit_code", [0, 10, 21, 23])
def test_an_idle_task_that_ended_in_order_says_nothing_of_a_run_that_another_gave_back(exit_code: int) -> None:
    given_back = replace(RUN, status="pending", task_arn="arn:another", launches=LAUNCHES_AT_MOST)
    assert after_stop(given_back, replace(KILLED, exit_code=exit_code), now_ms=NOW) is None


def test_a_task_that_could_not_even_start_the_runner_did_not_end_in_order() -> None:
    waiting = replace(RUN, status="pending", task_arn="", launches=1)
    for exit_code in (1, 70, 126, 137, None):
        assert isinstance(after_stop(waiting, replace(KILLED, exit_code=exit_code), now_ms=NOW), Postpone)


@pytest.mark.parametrize("status", ["complete", "error", "cancelled", "parked"])
def test_a_run_that_has_ended_stays_as_it_is(status: Status) -> None:
    assert after_stop(replace(RUN, status=status), KILLED, now_ms=NOW) is None
