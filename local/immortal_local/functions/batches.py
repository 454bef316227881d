"""Batches: SQS messages as a function sees them, and what its answer says of each. No I/O."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moto.events.models import EventPattern

__all__ = ["Filter", "failed_messages", "write_event"]


def write_event(messages: Sequence[Mapping[str, Any]], *, queue_arn: str) -> bytes:
    """Write the event of a batch.

    Args:
        messages: As ReceiveMessage gives them, with all their attributes.

    Source: recorded events.
    """
    records = [_write_record(message, queue_arn) for message in messages]
    return json.dumps({"Records": records}, ensure_ascii=False, separators=(",", ":")).encode()


def _write_record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {
            name: _write_attribute(attribute) for name, attribute in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _write_attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": attribute["DataType"]}
    if "BinaryValue" in attribute:
        written["binaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    else:
        written["stringValue"] = attribute["StringValue"]
    return written


def failed_messages(result: bytes, message_ids: Sequence[str]) -> frozenset[str]:
    """Read which messages of a batch failed, from what the function returned under ReportBatchItemFailures.

    Returns:
        Message ids: none for an empty answer, all for one that can't be understood.

    Source: Lambda developer guide, "Implementing partial batch responses"; recorded answers.
    """
    try:
        answer = json.loads(result) if result else None
    except ValueError:
        return frozenset(message_ids)
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if failures is None:
        return frozenset() if answer is None or isinstance(answer, dict) else frozenset(message_ids)
    if not isinstance(failures, list):
        return frozenset(message_ids)
    named = [failure.get("itemIdentifier") if isinstance(failure, dict) else None for failure in failures]
    known = frozenset(name for name in message_ids if name in named)
    return known if all(name in known for name in named) else frozenset(message_ids)


class Filter:
    """A mapping's FilterCriteria: a message passes if one of the patterns matches.

    Raises:
        ValueError: A pattern is no JSON object.
    """

    def __init__(self, criteria: Mapping[str, Any] | None) -> None:
        self._patterns = [_read_pattern(each.get("Pattern", "{}")) for each in (criteria or {}).get("Filters", [])]

    def passes(self, message: Mapping[str, Any], *, queue_arn: str) -> bool:
        """Whether the function gets the message; what it doesn't get is deleted, as on AWS."""
        if not self._patterns:
            return True
        record = _write_record(message, queue_arn)
        return any(_matches(pattern, record) for pattern in self._patterns)


def _read_pattern(text: str) -> dict[str, Any]:
    pattern = json.loads(text)
    if not isinstance(pattern, dict):
        raise ValueError("a pattern must be a JSON object")  # noqa: TRY004  # the caller refuses all bad patterns alike
    return pattern


def _matches(pattern: Mapping[str, Any], record: dict[str, Any]) -> bool:
    """Match a pattern; one that looks into the body needs a body that is JSON."""
    if isinstance(pattern.get("body"), dict):
        try:
            record = {**record, "body": json.loads(record["body"])}
        except ValueError:
            return False
    matches: Callable[[dict[str, Any]], bool] = EventPattern.load(json.dumps(pattern)).matches_event  # type: ignore[assignment]  # moto types whole events; a record is one as good
    return matches(record)
