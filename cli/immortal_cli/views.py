"""How a run is shown: its JSON with stable keys, and its words in a table."""

import json
from datetime import UTC, datetime
from typing import Any

from immortal_cli.aws import describe_failure
from immortal_lambda.errors import ImmortalError
from immortal_lambda.payloads import Bucket, Payload, Stored, fetch
from immortal_lambda.runs import Run

COLUMNS = ("RUN", "STATUS", "FUNCTION", "ATTEMPT", "FAILURE", "UPDATED (UTC)", "TASK")


def show_json(run: Run, *, bucket: Bucket | None, now_ms: int) -> dict[str, Any]:
    """Give all that a program may ask of a run; times are ISO 8601 in UTC with milliseconds.

    Args:
        bucket: Where a large result is fetched from; without it, the result says only where it lies.
    """
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "status": run.status,
        "function": run.function or None,
        "function_arn": run.function_arn or None,
        "version": run.version or None,
        "attempt": run.attempt,
        "failure": {"class": run.failure.failure_class, "message": run.failure.message} if run.failure else None,
        "result": _show_result(run.result, bucket) if run.result else None,
        "error": {
            "type": run.error.error_type,
            "message": run.error.message,
            "stack_trace": list(run.error.stack_trace),
        }
        if run.error
        else None,
        "reason": run.reason or None,
        "note": run.note or None,
        "created_at": show_time(run.created_ms),
        "updated_at": show_time(run.updated_ms),
        "claimed_at": show_time(run.claimed_ms),
        "handler_at": show_time(run.handler_ms),
        "ended_at": show_time(run.ended_ms),
        "task_arn": run.task_arn or None,
        "log_group": run.log_group or None,
        "log_stream": run.log_stream or None,
        "found_by": (run.origin.found_by or None) if run.origin else None,
        "lease_lost": run.lease_lost(now_ms),
    }


def show_row(run: Run, *, now_ms: int) -> tuple[str, ...]:
    """Give a run as a row of a table."""
    return (
        run.run_id,
        show_status(run, now_ms=now_ms),
        run.function or "-",
        str(run.attempt),
        run.failure.failure_class if run.failure else "-",
        (show_time(run.updated_ms) or "-")[:19].replace("T", " "),
        run.task_arn.rpartition("/")[2][:12] or "-",
    )


def show_status(run: Run, *, now_ms: int) -> str:
    """Give a run's status; one that nobody holds any more is not shown as running."""
    return "processing (lease lost)" if run.lease_lost(now_ms) else run.status


def show_members(run: Run, *, bucket: Bucket, now_ms: int) -> list[tuple[str, str]]:
    """Give a run as pairs of name and text, those that say something."""
    shown = show_json(run, bucket=bucket, now_ms=now_ms) | {"status": show_status(run, now_ms=now_ms)}
    return [(name, _text(value)) for name, value in shown.items() if value not in (None, "", False)]


def show_time(ms: int) -> str | None:
    """Write Unix milliseconds as ISO 8601 in UTC; None for 0, which means never."""
    if not ms:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show_result(result: Payload, bucket: Bucket | None) -> Any:
    """A result itself, or where it lies; one that can't be had must not keep the rest of the record from being read."""
    if isinstance(result, Stored):
        place = {"stored": f"s3://{result.bucket}/{result.key}", "bytes": result.size_bytes}
        if bucket is None:
            return place
        try:
            return _read_json(fetch(result, bucket))
        except Exception as error:
            why = str(error) if isinstance(error, ImmortalError) else describe_failure(error)
            if why is None:
                raise
            return place | {"unreadable": why}
    return _read_json(result.data)


def _read_json(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
