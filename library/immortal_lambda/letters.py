"""Dead letters, and how they are read from a queue's records."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from immortal_lambda import json_text
from immortal_lambda.arns import FunctionArn, NotAFunctionArn
from immortal_lambda.errors import ImmortalError
from immortal_lambda.failures import Failure, classify

Envelope = Literal["dead_letter_queue", "destination"]

_SERVICE_SENDER = re.compile(r"(?P<role_id>AROA[A-Z0-9]+):awslambda_\S+")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class LetterUnreadable(ImmortalError):
    """No record of a failed invocation; trying again cannot help, a human must look at it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One invocation that Lambda gave up.

    Attributes:
        letter_id: SQS ``messageId``.
        envelope: The form it came in.
        request_id: Lambda's own id of the event; it names the run, so that a dead-letter queue and a destination that
            both report the same event meet in one record.
        event: JSON text; from a dead-letter queue what the caller sent, byte for byte; from a destination as Lambda
            wrote it.
        failure: Why Lambda gave up.
        failed_ms: When the letter was sent, Unix milliseconds.
        queue_arn: The queue that it was read from.
        function: The function as invoked; None from a dead-letter queue, which doesn't say.
        executed_version: The version that ran; None where the letter doesn't say.
        invocations: Invocations that Lambda made; Lambda calls the count approximate. None from a dead-letter queue.
        sender_role_id: Unique id of the role whose function failed; None where the sender is not Lambda itself.

    Source: Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
    """

    letter_id: str
    envelope: Envelope
    request_id: str
    event: str
    failure: Failure
    failed_ms: int
    queue_arn: str
    function: FunctionArn | None = None
    executed_version: str | None = None
    invocations: int | None = None
    sender_role_id: str | None = None


def read_letter(record: Mapping[str, Any]) -> DeadLetter:
    """Read one record of an SQS event as a Lambda function is given it.

    Attributes that AWS set decide before the body does: a function's own event can look like anything, a record of
    another function's failure included.

    Raises:
        LetterUnreadable: The record is none of the forms known here; the message says what it is and what to do.
    """
    attributes = {name: value.get("stringValue") or "" for name, value in record["messageAttributes"].items()}
    if source := record["attributes"].get("DeadLetterQueueSourceArn"):
        raise LetterUnreadable(
            f"moved here by the redrive policy of {source}: it is a message of that queue, not a failed invocation. "
            f"Next step: move it back to {source}, or attach the function that reads that queue"
        )
    if attributes.keys() >= {"RequestID", "ErrorCode", "ErrorMessage"}:
        return _read_dead_letter_queue(record, attributes)
    return _read_destination(record)


def _read_dead_letter_queue(record: Mapping[str, Any], attributes: Mapping[str, str]) -> DeadLetter:
    sender = _SERVICE_SENDER.fullmatch(record["attributes"].get("SenderId", ""))
    return DeadLetter(
        letter_id=record["messageId"],
        envelope="dead_letter_queue",
        request_id=_request_id(attributes["RequestID"]),
        event=record["body"],
        failure=classify(error_type=None, message=attributes["ErrorMessage"], code=attributes["ErrorCode"]),
        failed_ms=int(record["attributes"]["SentTimestamp"]),
        queue_arn=record["eventSourceARN"],
        sender_role_id=sender["role_id"] if sender else None,
    )


def _read_destination(record: Mapping[str, Any]) -> DeadLetter:
    body = record["body"]
    try:
        said = json_text.parse(body)
        context = said["requestContext"]
        function = FunctionArn.read(context["functionArn"])
        event = json_text.member(body, "requestPayload")
        request_id = context["requestId"]
    except json_text.NotJson as error:
        raise LetterUnreadable(f"no record of a failed invocation: {error}") from error
    except NotAFunctionArn as error:
        raise LetterUnreadable(f"an on-failure record that names no function: {error}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise LetterUnreadable(
            "no record of a failed invocation: it has neither the attributes RequestID, ErrorCode and ErrorMessage of "
            "a dead-letter queue nor the members requestContext and requestPayload of an on-failure destination"
        ) from error
    if context.get("condition") == "Success":
        raise LetterUnreadable(
            "the record of an invocation that succeeded. Next step: use this queue for failures only"
        )
    answer = _mapping(said.get("responsePayload"))
    return DeadLetter(
        letter_id=record["messageId"],
        envelope="destination",
        request_id=_request_id(request_id),
        event=event,
        failure=classify(
            error_type=_text(answer.get("errorType")),
            message=_text(answer.get("errorMessage")),
            condition=_text(context.get("condition")),
        ),
        failed_ms=int(record["attributes"]["SentTimestamp"]),
        queue_arn=record["eventSourceARN"],
        function=function,
        executed_version=_text(_mapping(said.get("responseContext")).get("executedVersion")),
        invocations=_count(context.get("approximateInvokeCount")),
    )


def _request_id(value: object) -> str:
    if not isinstance(value, str) or _REQUEST_ID.fullmatch(value) is None:
        raise LetterUnreadable(f"the request id {str(value)[:80]!r} is none that Lambda gives")
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """A string that can be stored: JSON can spell half characters, which UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
