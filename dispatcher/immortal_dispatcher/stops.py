"""Stopped tasks: how ECS tells of them, and what that means for the run that they carried."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from immortal_dispatcher.decide import GiveBack, Park, Postpone, explain_exhausted
from immortal_dispatcher.launch import CONTAINER, LAUNCHES_AT_MOST, RUN_ID, relaunch_wait_ms
from immortal_lambda.runs import Run

_SIGNALLED = 128

_IN_ORDER = frozenset({0, *range(10, 30)})
"""The runner's own exit codes: it ended by itself, and holds nothing. Source: docs/rerun.md."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How a task ended, as far as ECS knows.

    Attributes:
        run_id: The run that it was started for; empty when the task names none.
        stop_code: ECS's class of the end, for example ``EssentialContainerExited``; empty when ECS gives none.
        stopped_reason: ECS's own words.
        exit_code: Of the runner's container; None when it never ran.
        container_reason: What ECS says about the runner's container, for example that it ran out of memory.
        stopped_ms: When it ended, Unix milliseconds; 0 where ECS doesn't say.

    Source: ECS API reference, "Task" and "Container".
    """

    task_arn: str
    run_id: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    exit_code: int | None = None
    container_reason: str = ""
    stopped_ms: int = 0

    @property
    def in_order(self) -> bool:
        """Whether the runner ended by itself, with nothing in hand."""
        return self.exit_code in _IN_ORDER


def read_stop(task: Mapping[str, Any]) -> Stop | None:
    """Read a task as ``DescribeTasks`` and the event "ECS Task State Change" show it; None while it has not stopped."""
    if task.get("lastStatus") != "STOPPED":
        return None
    runner = _named_runner(task.get("containers", []))
    return Stop(
        task_arn=task["taskArn"],
        run_id=_run_id(task),
        stop_code=task.get("stopCode", ""),
        stopped_reason=task.get("stoppedReason", ""),
        exit_code=runner.get("exitCode"),
        container_reason=runner.get("reason", ""),
        stopped_ms=_read_time(task.get("stoppedAt")),
    )


def after_stop(run: Run, stop: Stop, *, now_ms: int) -> Park | Postpone | GiveBack | None:
    """Decide what a task's end means for a run that it was started for or held; None when it means nothing.

    A run that the task held, and whose handler it had begun, is parked: its outcome was not recorded, so nobody knows
    how far the handler came. A run that was not begun is launched again, later each time, and parked in the end. A task
    that came when another had already taken its run ended in order: whoever had the run says what becomes of it. So
    does whatever has befallen a run since the task ended: ECS tells of an end more than once.
    """
    held = run.task_arn == stop.task_arn
    if run.status == "processing" and held:
        return after_loss(run, stop, now_ms=now_ms)
    if run.status == "pending" and not held and _left_unclaimed(run, stop):
        unclaimed = f"{describe(stop)} before it claimed the run"
        if run.launches_accepted >= LAUNCHES_AT_MOST:
            return Park(explain_exhausted(run, unclaimed))
        return Postpone(
            now_ms + relaunch_wait_ms(run.launches_accepted),
            f"{unclaimed}. It is launched again by itself. Next step: nothing, unless this lasts; then look at the "
            "image, the subnets and the runner's log",
        )
    return None


def after_loss(run: Run, stop: Stop, *, now_ms: int) -> Park | GiveBack:
    """Decide what becomes of a run whose task is gone while it held the run."""
    if run.handler_ms:
        return Park(explain_lost(stop, run.run_id))
    unbegun = f"{describe(stop)} before the handler was given its event"
    if run.launches_accepted >= LAUNCHES_AT_MOST:
        return Park(explain_exhausted(run, unbegun))
    return GiveBack(now_ms + relaunch_wait_ms(run.launches_accepted), unbegun)


def explain_lost(stop: Stop, run_id: str) -> str:
    """Say that a task ended while it held a run, and what a human can do."""
    return (
        f"{describe(stop)} before an outcome was recorded: how far the handler came is not known. Next step: see what "
        f"it did (immortal runs logs {run_id}), then immortal runs redrive {run_id} if it may run twice"
    )


def describe(stop: Stop) -> str:
    """Say how a task ended: ``task 5f3c stopped (EssentialContainerExited, exit code 137, killed by SIGKILL)``."""
    said = [
        stop.stop_code,
        stop.stopped_reason,
        f"exit code {stop.exit_code}" if stop.exit_code is not None else "",
        _signal(stop.exit_code),
        stop.container_reason,
    ]
    details = ", ".join(filter(None, said))
    return f"task {stop.task_arn.rpartition('/')[2]} stopped" + (f" ({details})" if details else "")


def _left_unclaimed(run: Run, stop: Stop) -> bool:
    """Whether a pending run still waits for this very task, which was started for it and came to grief."""
    untouched = not stop.stopped_ms or run.updated_ms <= stop.stopped_ms
    return run.run_id == stop.run_id and not stop.in_order and untouched


def _signal(exit_code: int | None) -> str:
    if exit_code is None or exit_code <= _SIGNALLED:
        return ""
    try:
        return f"killed by {signal.Signals(exit_code - _SIGNALLED).name}"
    except ValueError:
        return ""


def _named_runner(containers: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The runner among the containers; AWS adds some of its own to a task, such as GuardDuty's."""
    return next((container for container in containers if container.get("name") == CONTAINER), {})


def _run_id(task: Mapping[str, Any]) -> str:
    override = _named_runner(task.get("overrides", {}).get("containerOverrides", []))
    variables: dict[str, str] = {pair["name"]: pair["value"] for pair in override.get("environment", [])}
    return variables.get(RUN_ID, "")


def _read_time(said: str | datetime | None) -> int:
    """Read a time: an event has it as text, ``DescribeTasks`` gives an object."""
    time = datetime.fromisoformat(said) if isinstance(said, str) else said
    return round(time.timestamp() * 1000) if time else 0
