"""Deliveries: how Lambda hands on what became of an asynchronous event, to dead-letter targets and destinations."""

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from immortal_local import emulator
from immortal_local.characters import NOT_XML
from immortal_local.functions.invoking import Answer
from immortal_local.functions.store import Target
from immortal_local.parts import Ground
from immortal_runner.execution.outcomes import Errored

__all__ = ["Conclusion", "Deliveries", "describe_conclusion", "write_sender_id"]

_MAX_MESSAGE_BYTES = 1024

Invoke = Callable[[str, str, bytes], object]
"""Takes region, function ARN and event, and invokes asynchronously."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The conclusion of an asynchronous event, good or bad.

    Attributes:
        condition: ``Success``, or why it was given up.
        attempts: How often it was tried.
        answer: Of the last attempt; None if there was none.
        error_code: HTTP status of the last attempt.
        error_message: What the dead letter says.
    """

    target: Target
    request_id: str
    payload: bytes
    trace_header: str
    condition: str
    attempts: int
    answer: Answer | None
    error_code: int
    error_message: str


class Deliveries:
    """Sends dead letters and records."""

    def __init__(self, ground: Ground, invoke: Invoke) -> None:
        self._ground = ground
        self._invoke = invoke

    def send_dead_letter(self, arn: str, conclusion: Conclusion) -> None:
        """Send the event itself, byte for byte, to a queue or topic, with the error in three attributes.

        Source: Lambda developer guide, "Capturing records of Lambda asynchronous invocations"; recorded messages.
        """
        attributes = {
            "RequestID": {"DataType": "String", "StringValue": conclusion.request_id},
            "ErrorCode": {"DataType": "Number", "StringValue": str(conclusion.error_code)},
            "ErrorMessage": {"DataType": "String", "StringValue": _cut(conclusion.error_message)},
        }
        self._send(arn, conclusion, conclusion.payload.decode(), attributes)

    def send_record(self, arn: str, conclusion: Conclusion) -> None:
        """Send the record of a conclusion to a destination."""
        record = describe_conclusion(conclusion, datetime.now(UTC))
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        match arn.split(":")[2]:
            case "sqs" | "sns":
                self._send(arn, conclusion, text, {})
            case "lambda":
                self._invoke(conclusion.target.region, arn, text.encode())
            case "events":
                self._put_event(arn, conclusion, text)
            case "s3":
                self._put_object(arn, conclusion, text)

    def _send(self, arn: str, conclusion: Conclusion, text: str, attributes: dict[str, Any]) -> None:
        if arn.split(":")[2] == "sns":
            sns = self._ground.client("sns", conclusion.target.region)
            sns.publish(TopicArn=arn, Message=text, MessageAttributes=attributes)
            return
        emulator.send_as_service(
            arn,
            text,
            attributes=attributes,
            sender_id=write_sender_id(self._role_id(conclusion.target), datetime.now(UTC)),
            trace_header=conclusion.trace_header,
        )

    def _role_id(self, target: Target) -> str:
        role = target.version.configuration["Role"].rpartition("/")[2]
        return str(self._ground.client("iam").get_role(RoleName=role)["Role"]["RoleId"])

    def _put_event(self, arn: str, conclusion: Conclusion, text: str) -> None:
        kind = "Success" if conclusion.condition == "Success" else "Failure"
        entry = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {kind}",
            "Detail": text,
            "EventBusName": arn,
            "Resources": [arn, conclusion.target.qualified_arn],
            "Time": datetime.now(UTC),
        }
        self._ground.client("events", conclusion.target.region).put_events(Entries=[entry])

    def _put_object(self, arn: str, conclusion: Conclusion, text: str) -> None:
        now = datetime.now(UTC)
        name = f"{now:%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
        key = f"aws/lambda/async/{conclusion.target.name}/{now:%Y/%m/%d}/{name}"
        s3 = self._ground.client("s3", conclusion.target.region)
        s3.put_object(Bucket=arn.rpartition(":")[2], Key=key, Body=text.encode())


def describe_conclusion(conclusion: Conclusion, now: datetime) -> dict[str, Any]:
    """Write the record that destinations get.

    Source: recorded messages; what never ran has no response.
    """
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
        "requestContext": {
            "requestId": conclusion.request_id,
            "functionArn": conclusion.target.qualified_arn,
            "condition": conclusion.condition,
            "approximateInvokeCount": conclusion.attempts,
        },
        "requestPayload": _read(conclusion.payload),
    }
    if conclusion.answer is not None:
        record["responseContext"] = {"statusCode": 200, "executedVersion": conclusion.answer.version}
        if isinstance(conclusion.answer.outcome, Errored):
            record["responseContext"]["functionError"] = "Unhandled"
        record["responsePayload"] = _read(conclusion.answer.payload)
    return record


def _read(payload: bytes) -> Any:
    """Parse JSON; what is none travels as a string."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode("utf-8", "replace")


def _cut(message: str) -> str:
    """Keep the first kilobyte, no half character and none that a message can't hold."""
    sendable = NOT_XML.sub("\N{REPLACEMENT CHARACTER}", message)
    return sendable.encode()[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def write_sender_id(role_id: str, now: datetime) -> str:
    """Write the sender that SQS shows for messages put by the Lambda service itself.

    Source: two messages copied from live queues, 2021 and 2026.
    """
    number = random.randint(1, 999)  # noqa: S311  # some number of theirs, no secret
    return f"{role_id}:awslambda_{number}_{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03d}"
