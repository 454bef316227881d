"""The platform's own lines in a function's log: START, END and REPORT, worded as Lambda words them.

Source: log events recorded from AWS in November 2025.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from immortal_runner.execution.outcomes import Errored, Outcome


@dataclass(frozen=True, slots=True)
class Measured:
    """What an invocation took.

    Attributes:
        duration_ms: From the hand-over of the event to the outcome.
        init_ms: What the code outside the handler took; None when the process was there already.
        peak_memory_mb: The most memory that the process held; 0 where unknown.
    """

    duration_ms: float
    init_ms: float | None
    peak_memory_mb: int


def start(request_id: str, version: str) -> str:
    """The line before the handler's first."""
    return f"START RequestId: {request_id} Version: {version}\n"


def end(request_id: str, outcome: Outcome, *, memory_mb: int, measured: Measured, now: datetime) -> str:
    """The lines after the handler's last."""
    return (
        _last_word(request_id, outcome, now)
        + f"END RequestId: {request_id}\n"
        + "\t".join(_report_fields(request_id, outcome, memory_mb, measured))
        + "\t\n"
    )


def _last_word(request_id: str, outcome: Outcome, now: datetime) -> str:
    match outcome:
        case Errored(family="timeout", message=message):
            said = message.partition(" Error: ")[2]
            return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z {request_id} {said}\n"
        case Errored(family="exit" | "interrupted", error_type=error_type, message=message):
            return f"{message}\n{error_type}\n"
        case _:
            return ""


def _report_fields(request_id: str, outcome: Outcome, memory_mb: int, measured: Measured) -> list[str]:
    billed_ms = math.ceil(measured.duration_ms + (measured.init_ms or 0))
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {measured.duration_ms:.2f} ms",
        f"Billed Duration: {billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {measured.peak_memory_mb} MB",
    ]
    if measured.init_ms is not None:
        fields.append(f"Init Duration: {measured.init_ms:.2f} ms")
    match outcome:
        case Errored(family="timeout"):
            fields.append("Status: timeout")
        case Errored(family="exit" | "init" | "interrupted", error_type=error_type):
            fields += ["Status: error", f"Error Type: {error_type}"]
    return fields
