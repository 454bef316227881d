"""Runs as DynamoDB items and back."""

from collections.abc import Mapping
from typing import Any

from immortal_lambda.failures import Failure
from immortal_lambda.payloads import Inline, Payload, Stored
from immortal_lambda.runs import Origin, Run, RunError

_PLAIN = {
    "kind": "kind",
    "status": "status",
    "created_at": "created_ms",
    "updated_at": "updated_ms",
    "function": "function",
    "function_arn": "function_arn",
    "version": "version",
    "reason": "reason",
    "attempt": "attempt",
    "launches": "launches",
    "refusals": "refusals",
    "owner": "owner",
    "fence": "fence",
    "lease_until": "lease_until_ms",
    "due_at": "due_at_ms",
    "claimed_at": "claimed_ms",
    "handler_at": "handler_ms",
    "ended_at": "ended_ms",
    "note": "note",
    "task_arn": "task_arn",
    "log_group": "log_group",
    "log_stream": "log_stream",
}
"""Members of an item that are a field of a run, as they stand. Times are numbers, Unix milliseconds."""

_ALWAYS = frozenset({"kind", "status", "created_at", "updated_at", "attempt", "launches", "fence", "lease_until"})


def to_item(run: Run) -> dict[str, Any]:
    """Write a run as an item: plain values, empty members left out."""
    item: dict[str, Any] = {"run_id": run.run_id, "part": "run"}
    for member, field in _PLAIN.items():
        value = getattr(run, field)
        if value or member in _ALWAYS:
            item[member] = value
    if run.due_at_ms:
        item["due"] = "due"
    item |= payload_members("event", run.event)
    if run.failure:
        item["failure"] = {"class": run.failure.failure_class, "message": run.failure.message}
    if run.origin:
        origin = run.origin
        item["origin"] = {
            "queue_arn": origin.queue_arn,
            "letter_id": origin.letter_id,
            "failed_at": origin.failed_ms,
            "found_by": origin.found_by,
        }
    return item


def from_item(item: Mapping[str, Any]) -> Run:
    """Read a run from an item."""
    plain = {field: item[member] for member, field in _PLAIN.items() if member in item}
    failure, origin, error = item.get("failure"), item.get("origin"), item.get("error")
    return Run(
        run_id=item["run_id"],
        event=_payload(item["event"]),
        failure=Failure(failure["class"], failure["message"]) if failure else None,
        origin=Origin(origin["queue_arn"], origin["letter_id"], origin["failed_at"], origin["found_by"])
        if origin
        else None,
        result=_payload(item["result"]) if "result" in item else None,
        error=RunError(error["type"], error["message"], tuple(error["stack_trace"])) if error else None,
        **plain,
    )


def payload_members(name: str, payload: Payload) -> dict[str, Any]:
    """Write a payload as the member of an item: bytes as they are, or the pointer to them."""
    if isinstance(payload, Inline):
        return {name: payload.data}
    pointer = {"bucket": payload.bucket, "key": payload.key, "sha256": payload.sha256, "size_bytes": payload.size_bytes}
    return {name: pointer}


def _payload(member: Any) -> Payload:
    if isinstance(member, Mapping):
        return Stored(member["bucket"], member["key"], member["sha256"], member["size_bytes"])
    return Inline(bytes(member))
