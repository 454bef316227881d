"""What becomes of a message: the run that it makes, and what an already recorded run asks for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from immortal_dispatcher.resolve import Finding, Found
from immortal_lambda.failures import Failure
from immortal_lambda.letters import DeadLetter
from immortal_lambda.payloads import Payload
from immortal_lambda.runs import Origin, Run

START_GRACE_MS = 10 * 60 * 1000
"""How long an ordered task may take to claim its run before the launch counts as lost."""

MESSAGE_CHARS = 2048
"""How much of a failure's message is kept: a destination's record repeats up to 6 MB of it, the ledger holds 400 KB."""

NextStep = Literal["launch", "take_up", "nothing"]


def draft_run(letter: DeadLetter, finding: Finding, *, event: Payload, now_ms: int) -> Run:
    """Make the run of a letter: pending when its function was found, parked with the reason otherwise."""
    run = Run(
        run_id=letter.request_id,
        kind="rerun",
        status="pending",
        event=event,
        created_ms=now_ms,
        updated_ms=now_ms,
        failure=_cut(letter.failure),
        origin=Origin(letter.queue_arn, letter.letter_id, letter.failed_ms),
    )
    if isinstance(finding, Found):
        return _pending(run, finding, now_ms)
    return replace(run, status="parked", reason=finding.reason, ended_ms=now_ms)


def draft_unreadable(record: Mapping[str, Any], *, reason: str, event: Payload, now_ms: int) -> Run:
    """Make the parked run of a message that is no letter; the message's own id names it, its body is kept."""
    return Run(
        run_id=record["messageId"],
        kind="rerun",
        status="parked",
        event=event,
        created_ms=now_ms,
        updated_ms=now_ms,
        ended_ms=now_ms,
        reason=reason,
        origin=Origin(record["eventSourceARN"], record["messageId"], int(record["attributes"]["SentTimestamp"])),
    )


def next_step(drafted: Run, recorded: Run | None, *, redelivered: bool) -> NextStep:
    """Decide what follows once the ledger was asked to record a run.

    Args:
        drafted: What was to be recorded.
        recorded: What already stood there; None when the draft was recorded.
        redelivered: Whether the queue has delivered this message before: whoever got it then may have died between
            recording and launching.
    """
    if recorded is None or _same_write(drafted, recorded):
        return "launch" if drafted.status == "pending" else "nothing"
    if recorded.status == "pending" and redelivered:
        return "launch"
    if recorded.status == "parked" and not recorded.function_arn and drafted.function_arn:
        return "take_up"
    return "nothing"


def _pending(run: Run, found: Found, now_ms: int) -> Run:
    assert run.origin  # noqa: S101  # for the type checker: every draft has one
    return replace(
        run,
        function=found.function.name,
        function_arn=str(found.function),
        version=found.version,
        origin=replace(run.origin, found_by=found.found_by),
        launches=1,
        due_at_ms=now_ms + START_GRACE_MS,
    )


def _same_write(drafted: Run, recorded: Run) -> bool:
    """Whether the recorded run is the draft itself: the write came through and only its answer was lost."""
    return recorded.created_ms == drafted.created_ms and recorded.origin == drafted.origin


def _cut(failure: Failure) -> Failure:
    if len(failure.message) <= MESSAGE_CHARS:
        return failure
    return replace(failure, message=failure.message[: MESSAGE_CHARS - 1] + "…")
