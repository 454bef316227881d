"""What becomes of a message and of a run: what is recorded, launched, left for later or set aside."""

from dataclasses import dataclass, replace
from typing import Literal

from immortal_dispatcher.launch import LAUNCHES_AT_MOST, relaunch_wait_ms, was_refused
from immortal_dispatcher.resolve import Finding, Found
from immortal_lambda.letters import DeadLetter, Delivery
from immortal_lambda.payloads import Payload
from immortal_lambda.quotes import shorten
from immortal_lambda.runs import Origin, Run

START_GRACE_MS = 10 * 60 * 1000
"""How long an ordered task may take to claim its run before the launch counts as lost."""

REASON_BYTES = 2000
"""How long a reason may be, whatever it quotes: it has to fit the ledger's item and a terminal."""

_LAST_WORD_BYTES = 500

NextStep = Literal["launch", "take_up", "nothing"]


@dataclass(frozen=True, slots=True)
class Launch:
    """Order another task for the run."""


@dataclass(frozen=True, slots=True)
class Park:
    """Set the run aside for a human."""

    reason: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """Leave the run as it is and look again later.

    Attributes:
        reason: Why the run waits, for its record; None where the record already says it, or the run waits for nothing.
    """

    due_at_ms: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let another task take the run: the one that held it is gone, and had not begun."""

    due_at_ms: int
    reason: str


def draft_run(letter: DeadLetter, finding: Finding, *, event: Payload, now_ms: int) -> Run:
    """Make the run of a letter: pending when its function was found, parked with the reason otherwise."""
    run = Run(
        run_id=letter.request_id,
        kind="rerun",
        status="pending",
        event=event,
        created_ms=now_ms,
        updated_ms=now_ms,
        failure=letter.failure,
        origin=Origin(letter.queue_arn, letter.letter_id, letter.failed_ms),
    )
    if isinstance(finding, Found):
        return _pending(run, finding, now_ms)
    return replace(run, status="parked", reason=shorten(finding.reason, REASON_BYTES), ended_ms=now_ms)


def draft_unreadable(delivery: Delivery, *, reason: str, event: Payload, now_ms: int) -> Run:
    """Make the parked run of a message that is no letter; the message's own id names it, its body is kept."""
    return Run(
        run_id=delivery.letter_id,
        kind="rerun",
        status="parked",
        event=event,
        created_ms=now_ms,
        updated_ms=now_ms,
        ended_ms=now_ms,
        reason=shorten(reason, REASON_BYTES),
        origin=Origin(delivery.queue_arn, delivery.letter_id, delivery.sent_ms or now_ms),
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


def after_due(run: Run, *, now_ms: int) -> Launch | Postpone | Park:
    """Decide what a pending run asks for whose due time has come.

    An order that ECS refused has cost nothing: it is repeated for as long as it takes. A run whose tasks began and came
    to no outcome is launched again later and later, and parked in the end.
    """
    if was_refused(run):
        return Launch()
    if run.launches_accepted >= LAUNCHES_AT_MOST:
        return Park(explain_exhausted(run))
    wait_ms = relaunch_wait_ms(run.launches_accepted)
    return Postpone(now_ms + wait_ms) if now_ms - run.updated_ms < wait_ms else Launch()


def explain_exhausted(run: Run, last: str = "") -> str:
    """Say that a run was launched as often as it may be, and what a human can do.

    Args:
        last: How its newest task ended, where that is known better than from the record.
    """
    last = last or run.reason or "its newest task did not claim the run in time"
    return (
        f"launched {run.launches_accepted} times without an outcome (attempts begun in all: {run.attempt}); the last "
        f"time: {shorten(last, _LAST_WORD_BYTES)}. Next step: mend what is named there (the image, the subnets, the "
        f"runner's log tell more), then immortal runs redrive {run.run_id}"
    )


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
