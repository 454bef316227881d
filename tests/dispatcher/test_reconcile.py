from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from immortal_dispatcher import reconcile
from immortal_dispatcher.decide import START_GRACE_MS
from immortal_dispatcher.launch import LAUNCHES_AT_MOST, Refused
from immortal_dispatcher.reconcile import LOOK_AGAIN_MS, reconcile_stop, sweep
from immortal_dispatcher.stops import Stop
from immortal_lambda.ledger import Claim, Place
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from support.accounts import FakeAccount, Said

NOW = 1_800_000_000_000
TASK = "arn:aws:ecs:eu-west-1:111122223333:task/immortal/5f3c"


def pending(run_id: str = "r-1", *, due_at_ms: int = NOW) -> Run:
    return Run(run_id, "rerun", "pending", Inline(b"{}"), NOW, NOW, function_arn="arn", launches=1, due_at_ms=due_at_ms)


def claim(account: FakeAccount, run: Run, *, task_arn: str = TASK, lease_ms: int = 60_000) -> Claim:
    account.ledger.create(run)
    held = account.ledger.claim(run.run_id, owner="me", place=Place(task_arn), now_ms=NOW, lease_ms=lease_ms)
    account.ledger.heartbeat(held, now_ms=NOW, lease_ms=lease_ms, handler_ms=NOW)
    return held


def stopped(run_id: str = "r-1", exit_code: int | None = 137) -> dict[str, Any]:
    return {
        "taskArn": TASK,
        "lastStatus": "STOPPED",
        "stopCode": "EssentialContainerExited" if exit_code is not None else "TaskFailedToStart",
        "stoppedReason": "it ended",
        "containers": [{"name": "runner"} | ({} if exit_code is None else {"exitCode": exit_code})],
        "overrides": {
            "containerOverrides": [{"name": "runner", "environment": [{"name": "IMMORTAL_RUN_ID", "value": run_id}]}]
        },
    }


def look(account: FakeAccount, said: Said, *, now_ms: int = NOW) -> None:
    sweep(account, clock=lambda: now_ms, say=said)


def test_a_task_killed_before_its_handler_began_gives_the_run_to_another(account: FakeAccount, said: Said) -> None:
    account.ledger.create(pending())
    account.ledger.claim("r-1", owner="me", place=Place(TASK), now_ms=NOW, lease_ms=60_000)
    reconcile_stop(stopped(), account, now_ms=NOW, say=said)
    run = account.ledger.read("r-1")
    assert (run.status, run.owner, run.due_at_ms >= NOW) == ("pending", "", True)
    assert "before the handler was given its event" in run.reason


def test_a_task_killed_in_the_middle_leaves_a_parked_run_that_says_so(account: FakeAccount, said: Said) -> None:
    claim(account, pending())
    reconcile_stop(stopped(), account, now_ms=NOW + 1, say=said)
    run = account.ledger.read("r-1")
    assert run.status == "parked"
    assert "exit code 137, killed by SIGKILL" in run.reason


def test_a_task_that_recorded_its_outcome_changes_nothing_when_it_stops(account: FakeAccount, said: Said) -> None:
    held = claim(account, pending())
    account.ledger.complete(held, result=Inline(b"7"), now_ms=NOW)
    reconcile_stop(stopped(exit_code=0), account, now_ms=NOW + 1, say=said)
    assert account.ledger.read("r-1").status == "complete"


def hold_second(account: FakeAccount, *, begun: bool) -> None:
    """A task that has finished r-1 and has taken r-2."""
    account.ledger.complete(claim(account, pending("r-1")), result=Inline(b"7"), now_ms=NOW)
    account.ledger.create(pending("r-2"))
    taken = account.ledger.take(account.ledger.read("r-2"), owner="me", place=Place(TASK), now_ms=NOW, lease_ms=60_000)
    if begun:
        account.ledger.heartbeat(taken, now_ms=NOW, lease_ms=60_000, handler_ms=NOW)


@pytest.mark.parametrize(("begun", "left"), [(True, "parked"), (False, "pending")], ids=["begun", "not begun"])
def test_a_task_that_is_killed_lets_go_of_the_run_that_it_had_taken_after_its_own(
    account: FakeAccount, said: Said, left: str, *, begun: bool
) -> None:
    hold_second(account, begun=begun)
    claim(account, pending("r-3"), task_arn="arn:another")
    reconcile_stop(stopped("r-1"), account, now_ms=NOW + 1, say=said)
    assert [account.ledger.read(run_id).status for run_id in ("r-1", "r-2", "r-3")] == ["complete", left, "processing"]


def test_a_task_that_ended_in_order_holds_no_run_and_none_is_looked_for(account: FakeAccount, said: Said) -> None:
    hold_second(account, begun=True)
    reconcile_stop(stopped("r-1", exit_code=0), account, now_ms=NOW + 1, say=said)
    assert account.ledger.read("r-2").status == "processing"


def test_a_task_that_failed_to_start_leaves_a_run_that_the_sweep_launches_again(
    account: FakeAccount, said: Said
) -> None:
    account.ledger.create(pending(due_at_ms=NOW + START_GRACE_MS))
    reconcile_stop(stopped(exit_code=None), account, now_ms=NOW, say=said)
    run = account.ledger.read("r-1")
    assert run.status == "pending"
    assert "TaskFailedToStart" in run.reason
    look(account, said, now_ms=run.due_at_ms)
    assert account.launched == ["r-1"]


def test_a_stopped_task_of_an_unknown_run_is_only_told(account: FakeAccount, said: Said) -> None:
    reconcile_stop(stopped("nobody"), account, now_ms=NOW, say=said)
    assert [line["said"] for line in said.lines] == ["no such run"]


def test_a_launch_that_nobody_claimed_in_time_is_made_again_under_the_next_number(
    account: FakeAccount, said: Said
) -> None:
    account.ledger.create(pending())
    look(account, said)
    run = account.ledger.read("r-1")
    assert (run.status, run.launches, run.due_at_ms) == ("pending", 2, NOW + START_GRACE_MS)
    look(account, said)
    assert account.launched == ["r-1"]


def test_each_launch_has_its_own_token(account: FakeAccount, said: Said) -> None:
    account.ledger.create(pending())
    look(account, said)
    look(account, said, now_ms=NOW + START_GRACE_MS)
    first, second = account.orders
    assert first["clientToken"] != second["clientToken"]


def test_a_refused_launch_is_tried_again_later_and_later(account: FakeAccount, said: Said) -> None:
    account.refusal = Refused("misconfigured", "no such cluster")
    account.ledger.create(pending())
    waits, now_ms = [], NOW
    for _ in range(3):
        look(account, said, now_ms=now_ms)
        run = account.ledger.read("r-1")
        waits.append(run.due_at_ms - now_ms)
        now_ms = run.due_at_ms
    assert waits[0] < waits[1] < waits[2]


def test_a_sweep_ends_when_there_is_no_room_and_the_rest_stays_due(account: FakeAccount, said: Said) -> None:
    account.refusal = Refused("capacity", "no room")
    for number in range(3):
        account.ledger.create(pending(f"r-{number}", due_at_ms=NOW - 10 + number))
    look(account, said)
    assert account.launched == ["r-0"]
    assert sorted(account.ledger.due(NOW)) == ["r-1", "r-2"]


def test_a_run_that_is_not_due_is_left_alone(account: FakeAccount, said: Said) -> None:
    account.ledger.create(pending(due_at_ms=NOW + 1))
    look(account, said)
    assert account.orders == []


def test_a_run_that_its_task_gave_back_is_launched_again(account: FakeAccount, said: Said) -> None:
    held = claim(account, pending())
    account.ledger.release(held, reason="interrupted", now_ms=NOW)
    reconcile_stop(stopped(exit_code=23), account, now_ms=NOW, say=said)
    look(account, said)
    assert account.launched == ["r-1"]


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (Stop(TASK, stopped_reason="ECS no longer knows it"), "ECS no longer knows it"),
        (Stop(TASK, "r-1", "EssentialContainerExited", "", 1), "exit code 1"),
    ],
)
def test_a_lost_lease_of_a_task_that_has_ended_parks_the_run(
    account: FakeAccount, said: Said, stop: Stop, words: str
) -> None:
    claim(account, pending(), lease_ms=10)
    account.stops = {TASK: stop}
    look(account, said, now_ms=NOW + 11)
    run = account.ledger.read("r-1")
    assert run.status == "parked"
    assert words in run.reason


def test_a_lost_lease_of_a_task_that_still_runs_is_left_to_it(account: FakeAccount, said: Said) -> None:
    claim(account, pending(), lease_ms=10)
    account.stops = {TASK: None}
    look(account, said, now_ms=NOW + 11)
    run = account.ledger.read("r-1")
    assert (run.status, run.fence, run.reason) == ("processing", 1, "")
    assert list(account.ledger.due(NOW + 11)) == []


def test_a_lost_lease_without_a_task_parks_the_run(account: FakeAccount, said: Said) -> None:
    claim(account, pending(), task_arn="", lease_ms=10)
    look(account, said, now_ms=NOW + 11)
    assert account.ledger.read("r-1").status == "parked"


def test_a_run_that_cannot_be_looked_at_does_not_keep_the_next_one_waiting(account: FakeAccount, said: Said) -> None:
    claim(account, pending("r-1"), lease_ms=10)  # its task is one that the account fails to look up
    account.ledger.create(pending("r-2", due_at_ms=NOW + 11))
    look(account, said, now_ms=NOW + 11)
    assert account.launched == ["r-2"]
    assert [line["run_id"] for line in said.lines if line["said"] == "looked in vain"] == ["r-1"]


def test_a_run_that_cannot_be_looked_at_goes_behind_those_that_became_due_after_it(
    account: FakeAccount, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "SWEEP_AT_MOST", 1)
    claim(account, pending("r-1"), lease_ms=10)  # its task is one that the account fails to look up
    account.ledger.create(pending("r-2", due_at_ms=NOW + 11))
    look(account, said, now_ms=NOW + 11)
    assert account.launched == []
    look(account, said, now_ms=NOW + 11)
    assert account.launched == ["r-2"]
    assert account.ledger.read("r-1").due_at_ms == NOW + 11 + LOOK_AGAIN_MS
    assert account.ledger.read("r-1").reason == ""


def test_a_sweep_looks_at_no_more_runs_than_it_may_and_the_rest_stay_due(
    account: FakeAccount, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "SWEEP_AT_MOST", 2)
    for number in range(3):
        account.ledger.create(pending(f"r-{number}", due_at_ms=NOW - 10 + number))
    look(account, said)
    assert account.launched == ["r-0", "r-1"]
    assert list(account.ledger.due(NOW)) == ["r-2"]


def test_a_run_given_back_again_and_again_is_launched_later_and_later_and_parked_in_the_end(
    account: FakeAccount, said: Said
) -> None:
    account.ledger.create(pending(due_at_ms=NOW))
    now_ms, waits, given_back_ms = NOW, [], NOW
    for number in range(1, LAUNCHES_AT_MOST + 1):
        place = Place(f"task-{number}")
        held = account.ledger.claim("r-1", owner=f"o-{number}", place=place, now_ms=now_ms, lease_ms=60_000)
        account.ledger.release(held, reason="the task was stopped", now_ms=now_ms)
        given_back_ms = now_ms
        while (run := account.ledger.read("r-1")).status == "pending" and run.launches == number:
            now_ms = max(now_ms, run.due_at_ms)
            look(account, said, now_ms=now_ms)
        waits.append((now_ms - given_back_ms) // 60_000)
    assert waits == [0, 1, 2, 4, 8, 15, 15, 15, 15, 0]
    assert (run.status, run.attempt, run.launches) == ("parked", LAUNCHES_AT_MOST, LAUNCHES_AT_MOST)
    assert "the task was stopped" in run.reason
    assert list(account.ledger.due(now_ms + START_GRACE_MS)) == []


def test_a_run_that_waits_its_turn_keeps_the_reason_for_which_it_was_given_back(
    account: FakeAccount, said: Said
) -> None:
    held = claim(account, replace(pending(), launches=3))
    account.ledger.release(held, reason="the task was stopped", now_ms=NOW)
    look(account, said)
    run = account.ledger.read("r-1")
    assert (run.status, run.reason, run.due_at_ms) == ("pending", "the task was stopped", NOW + 120_000)
    assert account.orders == []


def test_a_run_that_found_no_room_many_times_still_waits_for_it(account: FakeAccount, said: Said) -> None:
    account.refusal = Refused("capacity", "no room")
    account.ledger.create(pending())
    now_ms = NOW
    for _ in range(2 * LAUNCHES_AT_MOST):
        look(account, said, now_ms=now_ms)
        now_ms = account.ledger.read("r-1").due_at_ms
    assert len(account.orders) == 2 * LAUNCHES_AT_MOST
    assert account.ledger.read("r-1").status == "pending"


def test_a_run_that_found_no_room_many_times_is_not_parked_when_its_first_task_is_stopped(
    account: FakeAccount, said: Said
) -> None:
    account.refusal = Refused("capacity", "no room")
    account.ledger.create(pending())
    now_ms = NOW
    for _ in range(LAUNCHES_AT_MOST):
        look(account, said, now_ms=now_ms)
        now_ms = account.ledger.read("r-1").due_at_ms
    account.refusal = None
    look(account, said, now_ms=now_ms)
    held = account.ledger.claim("r-1", owner="me", place=Place(TASK), now_ms=now_ms, lease_ms=60_000)
    account.ledger.release(held, reason="the task was stopped", now_ms=now_ms)
    orders = len(account.orders)
    look(account, said, now_ms=now_ms)
    look(account, said, now_ms=account.ledger.read("r-1").due_at_ms)
    assert len(account.orders) == orders + 1
    account.ledger.park(account.ledger.read("r-1"), reason="an operator said so", now_ms=now_ms)
    account.ledger.redrive(account.ledger.read("r-1"), now_ms=now_ms)
    assert account.ledger.read("r-1").launches_accepted == 0


def test_a_stop_that_is_told_again_says_nothing_of_the_launch_that_followed_it(
    account: FakeAccount, said: Said
) -> None:
    account.ledger.create(replace(pending(due_at_ms=NOW + START_GRACE_MS), launches=LAUNCHES_AT_MOST - 1))
    stop = stopped(exit_code=1) | {"stoppedAt": datetime.fromtimestamp(NOW / 1000 + 1, UTC).isoformat()}
    reconcile_stop(stop, account, now_ms=NOW + 2_000, say=said)
    now_ms = account.ledger.read("r-1").due_at_ms
    look(account, said, now_ms=now_ms)
    launched = account.ledger.read("r-1")
    reconcile_stop(stop, account, now_ms=now_ms + 1, say=said)
    assert account.ledger.read("r-1") == launched
    assert (launched.launches, launched.due_at_ms) == (LAUNCHES_AT_MOST, now_ms + START_GRACE_MS)


def test_a_redriven_run_starts_a_new_task_although_its_launches_are_counted_anew(
    account: FakeAccount, said: Said
) -> None:
    account.ledger.create(replace(pending(), launches=0))
    look(account, said)
    account.ledger.park(account.ledger.read("r-1"), reason="lost", now_ms=NOW)
    account.ledger.redrive(account.ledger.read("r-1"), now_ms=NOW + 1)
    look(account, said, now_ms=NOW + 1)
    first, second = account.orders
    assert first["clientToken"] != second["clientToken"]


def test_a_run_that_moved_on_in_the_meantime_is_not_parked(account: FakeAccount) -> None:
    claim(account, pending())
    stale = account.ledger.read("r-1")
    account.ledger.complete(Claim(stale, "me", stale.fence), result=Inline(b"7"), now_ms=NOW)
    assert not account.ledger.park(replace(stale), reason="late", now_ms=NOW)
    assert account.ledger.read("r-1").status == "complete"
