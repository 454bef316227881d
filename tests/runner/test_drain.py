"""A task that has finished its run takes others that wait for the same function, and nothing is lost or done twice."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from immortal_cli.tail import Tail
from immortal_dispatcher.reconcile import reconcile_stop
from immortal_lambda.clock import now_ms
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from immortal_runner.drain import may_take_another
from immortal_runner.exit_codes import ExitCode
from support.accounts import FakeAccount, Said
from support.gates import Call, gate_before
from support.stages import RUN_ID, Stage, served_by_ecs, zipped

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/immortal/5f3c"

CODE = """
import os, sys, time
calls = []
def handler(event, context):
    calls.append(context.aws_request_id)
    print("worked on", context.aws_request_id)
    if event == "raise":
        raise ValueError("row 17")
    if event == "die":
        os._exit(3)
    if event == "sleep":
        time.sleep(60)
    time.sleep(event if isinstance(event, float) else 0)
    return [os.getpid(), len(calls)]
"""


def record(stage: Stage, arn: str, **events: str) -> None:
    """Record runs, the oldest first: ``r_1='"sleep"'``."""
    for number, (run_id, event) in enumerate(events.items()):
        stage.record(arn, Inline(event.encode()), run_id=run_id, updated_ms=now_ms() - 10_000 + number)


def drain(stage: Stage, own: str = RUN_ID, **settings: object) -> "subprocess.Popen[str]":
    return stage.start(IMMORTAL_RUN_ID=own, **settings)  # type: ignore[arg-type]


def end(runner: "subprocess.Popen[str]") -> tuple[int, str]:
    _, said = runner.communicate(timeout=60)
    return runner.returncode, said


def stopped(own: str, exit_code: int, task_arn: str = TASK) -> dict[str, Any]:
    return {
        "taskArn": task_arn,
        "lastStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "containers": [{"name": "runner", "exitCode": exit_code}],
        "overrides": {
            "containerOverrides": [{"name": "runner", "environment": [{"name": "IMMORTAL_RUN_ID", "value": own}]}]
        },
    }


def states(stage: Stage, *run_ids: str) -> list[tuple[str, int]]:
    return [(run.status, run.attempt) for run in map(stage.ledger.read, run_ids)]


def logged(stage: Stage, run: Run) -> Counter[str]:
    return Counter(line.split()[-1] for line in stage.log(run).splitlines() if line.startswith("worked on"))


def logs_of(stage: Stage, run: Run) -> list[str]:
    """What ``immortal runs logs`` prints."""
    lines = Tail(stage.local.client("logs")).new_lines(
        run.log_group, run.log_stream, from_ms=run.claimed_ms, until_ms=run.ended_ms
    )
    return [line.text for line in lines]


def test_runs_that_wait_are_finished_by_the_task_that_is_there_already(stage: Stage) -> None:
    arn = stage.create(CODE)
    record(stage, arn, own="1", fails='"raise"', dies='"die"', last="1")
    code, said = end(drain(stage, "own"))
    assert (code, said.count("taken after")) == (ExitCode.COMPLETE, 3)
    assert states(stage, "own", "fails", "dies", "last") == [
        ("complete", 1),
        ("error", 1),
        ("error", 1),
        ("complete", 1),
    ]
    runs = [stage.ledger.read(run_id) for run_id in ("own", "fails", "dies", "last")]
    assert len({run.log_stream for run in runs}) == 1
    assert set(logged(stage, runs[0]).values()) == {1}
    assert all(run.claimed_ms <= run.handler_ms <= run.ended_ms for run in runs)
    for run in runs:
        assert [line.split()[2] for line in logs_of(stage, run) if line.startswith(("START", "REPORT"))] == [
            run.run_id
        ] * 2
    assert [run.launches for run in runs] == [1, 2, 2, 2]
    assert all(runs[0].ended_ms <= run.claimed_ms for run in runs[1:])


def test_the_environment_stays_warm_and_a_crash_starts_a_fresh_one(stage: Stage) -> None:
    record(stage, stage.create(CODE), dies='"die"', one="1", other="2")
    code, _ = end(drain(stage, "dies"))
    assert code == ExitCode.PROCESS_DIED
    (pid, first), (same_pid, second) = sorted(stage.result(stage.ledger.read(run_id)) for run_id in ("one", "other"))
    assert (same_pid, first, second) == (pid, 1, 2)


def test_a_task_takes_no_more_runs_than_it_may(stage: Stage) -> None:
    record(stage, stage.create(CODE), own="1", second="2", third="3")
    end(drain(stage, "own", IMMORTAL_DRAIN_RUNS=1))
    assert Counter(states(stage, "own", "second", "third")) == {("complete", 1): 2, ("pending", 0): 1}


def test_a_task_takes_no_run_once_its_time_for_that_is_over(stage: Stage) -> None:
    record(stage, stage.create(CODE), own="1", second="2")
    end(drain(stage, "own", IMMORTAL_DRAIN_S=0))
    assert states(stage, "own", "second") == [("complete", 1), ("pending", 0)]


def test_only_runs_of_the_same_code_invoked_by_the_same_name_are_taken(stage: Stage) -> None:
    arn = stage.create(CODE)
    stage.local.client("lambda").publish_version(FunctionName=arn)
    record(stage, arn, own="1")
    record(stage, f"{arn}:1", by_its_number="1")
    stage.record(arn, Inline(b"1"), run_id="other-version", version="1")
    record(stage, f"{arn}-2", other_function="1")
    end(drain(stage, "own"))
    others = ("by_its_number", "other-version", "other_function")
    assert states(stage, "own", *others) == [("complete", 1), *[("pending", 0)] * 3]


def test_a_function_that_was_changed_meanwhile_is_left_to_a_task_that_has_its_new_code(stage: Stage) -> None:
    arn = stage.create(CODE)
    record(stage, arn, own="1.5", second="2")
    runner = drain(stage, "own")
    stage.until(lambda run: run.handler_ms, "own")
    stage.local.client("lambda").update_function_code(
        FunctionName=arn, ZipFile=zipped("def handler(e, c): return 'new'")
    )
    end(runner)
    assert states(stage, "own", "second") == [("complete", 1), ("pending", 0)]


def test_two_tasks_share_the_work_and_each_run_is_made_once(stage: Stage) -> None:
    runs = [f"r{number}" for number in range(12)]
    record(stage, stage.create(CODE), **dict.fromkeys(runs, "0.1"))
    for runner in [drain(stage, "r0"), drain(stage, "r1")]:
        assert end(runner)[0] == ExitCode.COMPLETE
    assert states(stage, *runs) == [("complete", 1)] * 12
    streams = {run.log_stream: run for run in map(stage.ledger.read, runs)}
    assert len(streams) == 2
    assert sum((logged(stage, run) for run in streams.values()), Counter()) == Counter(runs)


@pytest.fixture
def task(stage: Stage) -> Iterator[dict[str, str]]:
    """What makes a runner the task ``TASK``."""
    del stage
    with served_by_ecs(TASK, memory_mb=512, credentials={}) as environment:
        yield environment


def test_a_task_killed_in_its_second_run_leaves_that_run_to_a_human_and_the_others_as_they_are(
    stage: Stage, task: dict[str, str]
) -> None:
    arn = stage.create(CODE)
    record(stage, arn, own="1", second='"sleep"')
    runner = drain(stage, "own", **task)
    stage.until(lambda run: run.handler_ms, "second")
    record(stage, arn, third="1")
    runner.kill()
    end(runner)
    account = FakeAccount(stage.ledger)
    for _ in range(2):  # events are delivered at least once
        reconcile_stop(stopped("own", 137), account, now_ms=now_ms(), say=Said())
    assert states(stage, "own", "second", "third") == [("complete", 1), ("parked", 1), ("pending", 0)]
    assert "exit code 137, killed by SIGKILL" in stage.ledger.read("second").reason


def test_a_run_that_another_task_works_on_is_not_disturbed_by_its_own_idle_task(
    stage: Stage, task: dict[str, str]
) -> None:
    record(stage, stage.create(CODE), own="1", second='"sleep"')
    runner = drain(stage, "own", grace_s=0.5, **task)
    working = stage.until(lambda run: run.handler_ms, "second")
    idle = drain(stage, "second")
    assert end(idle)[0] == ExitCode.NOTHING_TO_DO
    account = FakeAccount(stage.ledger)
    idle_stopped = stopped("second", ExitCode.NOTHING_TO_DO, "arn:idle")
    reconcile_stop(idle_stopped, account, now_ms=now_ms(), say=Said())
    assert stage.ledger.read("second").fence == working.fence
    runner.send_signal(signal.SIGTERM)
    assert end(runner)[0] == ExitCode.COMPLETE
    given_back = stage.ledger.read("second")
    reconcile_stop(idle_stopped, account, now_ms=now_ms(), say=Said())
    reconcile_stop(stopped("own", ExitCode.COMPLETE), account, now_ms=now_ms(), say=Said())
    assert stage.ledger.read("second") == given_back
    assert (given_back.status, given_back.owner) == ("pending", "")
    assert "was stopped" in given_back.reason


def test_a_run_redriven_meanwhile_is_made_once_more_and_the_record_of_its_first_attempt_is_gone(stage: Stage) -> None:
    arn = stage.create(CODE)
    record(stage, arn, own='"raise"', second="2.0")
    runner = drain(stage, "own")
    stage.until(lambda run: run.handler_ms, "second")
    failed = stage.ledger.read("own")
    assert stage.ledger.redrive(failed, now_ms=now_ms())
    assert end(runner)[0] == ExitCode.HANDLER_ERROR
    assert states(stage, "own", "second") == [("error", 2), ("complete", 1)]


def test_a_run_that_moved_on_since_it_was_seen_is_left_alone(stage: Stage) -> None:
    record(stage, stage.create(CODE), own="1", second="1")
    with gate_before(str(stage.local.describe()["endpoint"])) as (gate, address):
        gate.hold(lambda target, body: target.endswith("UpdateItem") and b'":launch": {"N": "1"}' in body)
        runner = drain(stage, "own", AWS_ENDPOINT_URL_DYNAMODB=address)
        gate.await_call()
        assert stage.ledger.park(stage.ledger.read("second"), reason="an operator said so", now_ms=now_ms())
        gate.let_through()
        assert end(runner)[0] == ExitCode.COMPLETE
    assert states(stage, "own", "second") == [("complete", 1), ("parked", 0)]


def is_update(words: bytes) -> Call:
    return lambda target, body: target.endswith("UpdateItem") and words in body


MOMENTS: dict[str, tuple[Call, int, list[tuple[str, int]]]] = {
    "claiming": (is_update(b"attempt = attempt"), ExitCode.RELEASED, [("pending", 1), ("pending", 0)]),
    "preparing": (is_update(b'"log_group"'), ExitCode.RELEASED, [("pending", 1), ("pending", 0)]),
    "beginning": (is_update(b'"handler_at"'), ExitCode.RELEASED, [("pending", 1), ("pending", 0)]),
    "recording": (is_update(b'"complete"'), ExitCode.COMPLETE, [("complete", 1), ("pending", 0)]),
    "looking": (lambda target, _: target.endswith("Query"), ExitCode.COMPLETE, [("complete", 1), ("pending", 0)]),
    "taking": (is_update(b'":launch": {"N": "1"}'), ExitCode.COMPLETE, [("complete", 1), ("pending", 1)]),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stop_at_any_moment_leaves_every_run_finished_or_to_be_had(stage: Stage, moment: str) -> None:
    held, exit_code, left = MOMENTS[moment]
    record(stage, stage.create(CODE), own="1", second="1")
    with gate_before(str(stage.local.describe()["endpoint"])) as (gate, address):
        gate.hold(held)
        runner = drain(stage, "own", grace_s=0, AWS_ENDPOINT_URL_DYNAMODB=address)
        gate.await_call()
        runner.send_signal(signal.SIGTERM)
        gate.let_through()
        began = monotonic()
        found, said = end(runner)
    assert (found, states(stage, "own", "second")) == (exit_code, left), said
    assert monotonic() - began < 10


@pytest.mark.parametrize(
    ("code", "goes_on"),
    [
        (ExitCode.COMPLETE, True),
        (ExitCode.HANDLER_ERROR, True),
        (ExitCode.PROCESS_DIED, True),
        (ExitCode.PARKED, True),
        (ExitCode.INIT_ERROR, False),
        (ExitCode.OUT_OF_MEMORY, False),
        (ExitCode.DISK_FULL, False),
        (ExitCode.LEASE_LOST, False),
        (ExitCode.RELEASED, False),
        (ExitCode.BROKEN, False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_how_an_attempt_ended_decides_whether_another_run_is_taken(code: ExitCode, *, goes_on: bool) -> None:
    assert may_take_another(code, stopping=False, late=False) is goes_on
    assert not may_take_another(code, stopping=True, late=False)
    assert not may_take_another(code, stopping=False, late=True)
