"""The platform's own lines in a function's log, as text (START, END, REPORT) or as JSON (``platform.start`` …).

Source: log events recorded from AWS in November 2025 for the text; for JSON the Lambda developer guide, "Lambda
Telemetry API Event schema reference" and "Log-level filtering", table "System log level event mapping".
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from immortal_runner.code.function import Function
from immortal_runner.execution.outcomes import Errored, Outcome

_LEVELS = ("DEBUG", "INFO", "WARN")


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

    @property
    def billed_ms(self) -> int:
        """What Lambda would bill."""
        return math.ceil(self.duration_ms + (self.init_ms or 0))


def init_start(function: Function, now: datetime) -> str:
    """The line before the first of the code outside the handler.

    In text there is none: Lambda's tells the runtime's version and nothing else, and ours is another's.
    """
    if function.log_format != "JSON":
        return ""
    record = {
        "initializationType": "on-demand",
        "phase": "init",
        "functionName": function.name,
        "functionVersion": function.version,
    }
    return _event(function, "DEBUG", "platform.initStart", record, now)


def extension(
    function: Function, name: str, state: str, events: Iterable[str], *, error_type: str, now: datetime
) -> str:
    """The line that says how an extension stands.

    Source: for the text, logs of functions with extensions that their users published from 2020 to 2026.
    """
    if function.log_format == "JSON":
        record = {"name": name, "state": state, "events": list(events)}
        failed = {"errorType": error_type} if error_type else {}
        return _event(function, "WARN" if error_type else "INFO", "platform.extension", {**record, **failed}, now)
    said = f"EXTENSION\tName: {name}\tState: {state}\tEvents: [{', '.join(events)}]"
    return f"{said}\tError Type: {error_type}\n" if error_type else f"{said}\n"


def start(function: Function, request_id: str, now: datetime) -> str:
    """The line before the handler's first."""
    if function.log_format == "JSON":
        record = {"requestId": request_id, "version": function.version}
        return _event(function, "INFO", "platform.start", record, now)
    return f"START RequestId: {request_id} Version: {function.version}\n"


def end(function: Function, request_id: str, outcome: Outcome, measured: Measured, now: datetime) -> str:
    """The lines after the handler's last."""
    if function.log_format == "JSON":
        return _end_as_json(function, request_id, outcome, measured, now)
    return (
        _last_word(request_id, outcome, now)
        + f"END RequestId: {request_id}\n"
        + "\t".join(_report_fields(request_id, outcome, function.memory_mb, measured))
        + "\t\n"
    )


def _event(function: Function, level: str, event: str, record: Mapping[str, Any], now: datetime) -> str:
    """One JSON line, if the function's system log level lets it pass."""
    threshold = function.system_log_level if function.system_log_level in _LEVELS else "INFO"
    if _LEVELS.index(level) < _LEVELS.index(threshold):
        return ""
    return json.dumps({"time": _in_iso(now), "type": event, "record": record}, separators=(",", ":")) + "\n"


def _end_as_json(function: Function, request_id: str, outcome: Outcome, measured: Measured, now: datetime) -> str:
    status = _status(outcome)
    failed = isinstance(outcome, Errored)
    duration = {"durationMs": round(measured.duration_ms, 3)}
    init = {} if measured.init_ms is None else {"initDurationMs": round(measured.init_ms, 3)}
    metrics = {
        **duration,
        "billedDurationMs": measured.billed_ms,
        "memorySizeMB": function.memory_mb,
        "maxMemoryUsedMB": measured.peak_memory_mb,
        **init,
    }
    done = {"requestId": request_id, **status, "metrics": duration}
    report = {"requestId": request_id, "metrics": metrics, **status}
    return _event(function, "WARN" if failed else "DEBUG", "platform.runtimeDone", done, now) + _event(
        function, "WARN" if failed else "INFO", "platform.report", report, now
    )


def _status(outcome: Outcome) -> dict[str, str]:
    match outcome:
        case Errored(family="timeout"):
            return {"status": "timeout"}
        case Errored(error_type=error_type):
            return {"status": "error", "errorType": error_type}
        case _:
            return {"status": "success"}


def _last_word(request_id: str, outcome: Outcome, now: datetime) -> str:
    match outcome:
        case Errored(family="timeout", message=message):
            return f"{_in_iso(now)} {request_id} {message.partition(' Error: ')[2]}\n"
        case Errored(family="exit" | "memory" | "interrupted", error_type=error_type, message=message):
            return f"{message}\n{error_type}\n"
        case _:
            return ""


def _report_fields(request_id: str, outcome: Outcome, memory_mb: int, measured: Measured) -> list[str]:
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {measured.duration_ms:.2f} ms",
        f"Billed Duration: {measured.billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {measured.peak_memory_mb} MB",
    ]
    if measured.init_ms is not None:
        fields.append(f"Init Duration: {measured.init_ms:.2f} ms")
    match outcome:
        case Errored(family="timeout"):
            fields.append("Status: timeout")
        case Errored(family="exit" | "init" | "memory" | "interrupted", error_type=error_type):
            fields += ["Status: error", f"Error Type: {error_type}"]
    return fields


def _in_iso(now: datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"
