"""Ordering a task for a run: what ECS is asked, and what its answer means."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from immortal_dispatcher.settings import Settings
from immortal_lambda.runs import Run

CONTAINER = "runner"
RUN_ID = "IMMORTAL_RUN_ID"

Cause = Literal["capacity", "throttled", "unavailable", "refused", "misconfigured"]

LAUNCHES_AT_MOST = 10
"""Launches after which a run whose tasks came to no outcome is parked: each costs, and an eleventh would end alike."""

_MINUTE_MS = 60_000
_RELAUNCH_MOST_MS = 15 * _MINUTE_MS
_WAITS: dict[Cause, tuple[int, int]] = {
    "capacity": (_MINUTE_MS, 15 * _MINUTE_MS),
    "throttled": (_MINUTE_MS, 5 * _MINUTE_MS),
    "unavailable": (_MINUTE_MS, 15 * _MINUTE_MS),
    "refused": (5 * _MINUTE_MS, 60 * _MINUTE_MS),
    "misconfigured": (5 * _MINUTE_MS, 60 * _MINUTE_MS),
}
"""The first wait and the longest, by cause: what a human must mend is asked less often than what time mends."""

_CAUSES: dict[str, Cause] = {
    "ThrottlingException": "throttled",
    "Throttling": "throttled",
    "TooManyRequestsException": "throttled",
    "RequestLimitExceeded": "throttled",
    "AccessDeniedException": "refused",
    "AccessDenied": "refused",
    "BlockedException": "refused",
    "UnrecognizedClientException": "refused",
    "ServerException": "unavailable",
    "InternalFailure": "unavailable",
    "ServiceUnavailable": "unavailable",
}


@dataclass(frozen=True, slots=True)
class Started:
    """ECS has taken the order, now or on an earlier call with the same token."""

    task_arn: str


@dataclass(frozen=True, slots=True)
class Refused:
    """ECS has not taken the order, or never answered."""

    cause: Cause
    reason: str


def order_task(run: Run, settings: Settings, *, task_definition: str | None = None) -> dict[str, Any]:
    """Write a ``RunTask`` request for a run; the same launch of the same run gives the same request.

    Args:
        task_definition: Of the function's own image; None for the runner's alone.
    """
    return {
        "cluster": settings.cluster,
        "taskDefinition": task_definition or settings.task_definition,
        "count": 1,
        "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": _network(settings)},
        "overrides": {
            "containerOverrides": [{"name": CONTAINER, "environment": [{"name": RUN_ID, "value": run.run_id}]}]
        },
        "startedBy": f"immortal/{run.run_id}"[:128],
        "clientToken": name_launch(run),
        "tags": [{"key": "immortal:run-id", "value": run.run_id}],
        "enableECSManagedTags": True,
    }


def name_launch(run: Run) -> str:
    """Name one launch of one run, so that ECS starts it once.

    Its due time is part of the name: launches are counted anew once a human has taken up the run again, and under a
    name that it knows ECS would answer with the old task.

    Returns:
        64 hex characters, all that RunTask's ``clientToken`` takes. ECS forgets it an hour after the task's end, at the
        latest after a day: it helps the run's claim and does not replace it.

    Source: ECS developer guide, "Ensuring idempotency".
    """
    return hashlib.sha256(f"{run.run_id}/{run.launches}/{run.due_at_ms}".encode()).hexdigest()


def read_answer(answer: Mapping[str, Any]) -> Started | Refused:
    """Read what ``RunTask`` answered; most refusals come with HTTP status 200.

    Source: ECS developer guide, "API failure reasons".
    """
    if tasks := answer.get("tasks"):
        return Started(tasks[0]["taskArn"])
    said = [f"{failure.get('reason', 'no reason given')} {failure.get('detail', '')}" for failure in answer["failures"]]
    return Refused("capacity", "; ".join(text.strip() for text in said) or "ECS started no task and gave no reason")


def read_error(code: str, message: str, *, status: int, task_arns: tuple[str, ...] = ()) -> Started | Refused:
    """Read the error that ``RunTask`` raised.

    Args:
        status: HTTP status.
        task_arns: ``resourceIds`` of a ``ConflictException``: the tasks that this token has already started.
    """
    if code == "ConflictException":
        return Started(task_arns[0] if task_arns else "")
    cause: Cause = "unavailable" if status >= 500 else _CAUSES.get(code, "misconfigured")  # noqa: PLR2004  # HTTP
    return Refused(cause, f"{code}: {message}")


def wait_ms(cause: Cause, launches: int) -> int:
    """Say how long to wait before the next launch: doubled with each one, up to the longest wait of the cause."""
    first, longest = _WAITS[cause]
    return min(first << min(max(launches - 1, 0), 16), longest)


def relaunch_wait_ms(launches: int) -> int:
    """Say how long a run waits whose tasks so far came to no outcome.

    Returns:
        Milliseconds: none after the first launch, a minute after the second, then doubled up to 15 minutes.
    """
    return 0 if launches <= 1 else min(_MINUTE_MS << min(launches - 2, 16), _RELAUNCH_MOST_MS)


def was_refused(run: Run) -> bool:
    """Whether ECS did not take the newest order: then no task began, and none came to nothing.

    The record's reason is the only place that says so; it is the one that :func:`explain_wait` wrote.
    """
    return run.reason.startswith(_refusal(run.launches))


def explain_wait(refused: Refused, launches: int) -> str:
    """Say why a run waits and what a human could do, in one sentence for the record."""
    steps: dict[Cause, str] = {
        "capacity": "raise the account's Fargate vCPU quota if this lasts",
        "throttled": "nothing, unless this lasts",
        "unavailable": "nothing, unless this lasts",
        "refused": "grant what is named here to the role that the message names",
        "misconfigured": "mend what is named here, for example with immortal deploy",
    }
    return (
        f"{_refusal(launches)} ({refused.cause}): {refused.reason}. It is tried again by itself. "
        f"Next step: {steps[refused.cause]}"
    )


def _refusal(launches: int) -> str:
    return f"launch {launches} was not accepted"


def _network(settings: Settings) -> dict[str, Any]:
    groups = {"securityGroups": list(settings.security_groups)} if settings.security_groups else {}
    return {"subnets": list(settings.subnets), "assignPublicIp": settings.assign_public_ip, **groups}
