"""Dead letters, and how they are read from a queue's records."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from immortal_lambda import json_text
from immortal_lambda.arns import FunctionArn, NotAFunctionArn
from immortal_lambda.errors import ImmortalError
from immortal_lambda.failures import Failure, classify
from immortal_lambda.quotes import quote

Envelope = Literal["dead_letter_queue", "destination"]

_SERVICE_SENDER = re.compile(r"(?P<role_id>AROA[A-Z0-9]{1,128}):awslambda_\S+")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_VERSION = re.compile(r"\$LATEST|[0-9]{1,20}")
_QUEUE_ARN = re.compile(r"arn:aws[a-z-]{0,20}:sqs:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,80}(\.fifo)?")
_NUMBER = re.compile(r"[0-9]{1,15}")


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
        executed_version: The version that ran, ``$LATEST`` or a number; None where the letter doesn't say.
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a queue says of a message, whatever the message is.

    Attributes:
        letter_id: SQS ``messageId``; its hash where it is none that SQS gives. It can name a run.
        body: The message; where that is no text, its JSON.
        queue_arn: The queue that it was read from; empty where the record names none.
        sent_ms: When it was sent, Unix milliseconds; 0 where the record doesn't say.
        deliveries: How often the queue has delivered it; 2 where the record doesn't say, as it may have been before.
        sender: Who sent it, as SQS saw it; empty where the record doesn't say.
        source_arn: The queue whose redrive policy moved it here; empty when none did.
        attributes: The texts among the message's own attributes.
    """

    letter_id: str
    body: str
    queue_arn: str
    sent_ms: int
    deliveries: int
    sender: str
    source_arn: str
    attributes: Mapping[str, str]


def read_delivery(record: Mapping[str, Any]) -> Delivery:
    """Read what a queue says of a message; a record of any shape has something to say."""
    system, queue_arn = _mapping(record.get("attributes")), _string(record.get("eventSourceARN"))
    return Delivery(
        letter_id=_name(str(record.get("messageId"))),
        body=_body(record.get("body", "")),
        queue_arn=queue_arn if _QUEUE_ARN.fullmatch(queue_arn) else "",
        sent_ms=_number(system.get("SentTimestamp"), otherwise=0),
        deliveries=_number(system.get("ApproximateReceiveCount"), otherwise=2),
        sender=_string(system.get("SenderId")),
        source_arn=_string(system.get("DeadLetterQueueSourceArn")),
        attributes={
            name: _string(_mapping(value).get("stringValue"))
            for name, value in _mapping(record.get("messageAttributes")).items()
        },
    )


def read_letter(record: Mapping[str, Any]) -> DeadLetter:
    """Read one record of an SQS event as a Lambda function is given it.

    Attributes that AWS set decide before the body does: a function's own event can look like anything, a record of
    another function's failure included.

    Raises:
        LetterUnreadable: The record is none of the forms known here; the message says what it is and what to do.
    """
    delivery = read_delivery(record)
    if not (delivery.queue_arn and delivery.sent_ms and isinstance(record.get("body"), str)):
        raise LetterUnreadable(
            "no message as SQS gives it to a function: body, eventSourceARN or SentTimestamp is missing or wrong. "
            "Next step: let nothing but the event source mapping of the failure queue invoke the dispatcher"
        )
    if delivery.source_arn:
        source = delivery.source_arn if _QUEUE_ARN.fullmatch(delivery.source_arn) else quote(delivery.source_arn)
        raise LetterUnreadable(
            f"moved here by the redrive policy of {source}: it is a message of that queue, not a failed invocation. "
            f"Next step: move it back to {source}, or attach the function that reads that queue"
        )
    if delivery.attributes.keys() >= {"RequestID", "ErrorCode", "ErrorMessage"}:
        return _read_dead_letter_queue(delivery)
    return _read_destination(delivery)


def _read_dead_letter_queue(delivery: Delivery) -> DeadLetter:
    said = delivery.attributes
    sender = _SERVICE_SENDER.fullmatch(delivery.sender)
    return DeadLetter(
        letter_id=delivery.letter_id,
        envelope="dead_letter_queue",
        request_id=_request_id(said["RequestID"]),
        event=delivery.body,
        failure=classify(error_type=None, message=said["ErrorMessage"], code=said["ErrorCode"]),
        failed_ms=delivery.sent_ms,
        queue_arn=delivery.queue_arn,
        sender_role_id=sender["role_id"] if sender else None,
    )


def _read_destination(delivery: Delivery) -> DeadLetter:
    try:
        said = json_text.parse(delivery.body)
        context = said["requestContext"]
        function = FunctionArn.read(context["functionArn"])
        event = json_text.member(delivery.body, "requestPayload")
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
        letter_id=delivery.letter_id,
        envelope="destination",
        request_id=_request_id(request_id),
        event=event,
        failure=classify(
            error_type=_text(answer.get("errorType")),
            message=_text(answer.get("errorMessage")),
            condition=_text(context.get("condition")),
        ),
        failed_ms=delivery.sent_ms,
        queue_arn=delivery.queue_arn,
        function=function,
        executed_version=_version(_mapping(said.get("responseContext")).get("executedVersion")),
        invocations=_count(context.get("approximateInvokeCount")),
    )


def _request_id(value: object) -> str:
    if not isinstance(value, str) or _REQUEST_ID.fullmatch(value) is None:
        raise LetterUnreadable(f"the request id {quote(value)} is none that Lambda gives")
    return value


def _body(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _name(letter_id: str) -> str:
    """A message's id if it can be a key, else a hash of it: ids that SQS gives can."""
    if _REQUEST_ID.fullmatch(letter_id):
        return letter_id
    return hashlib.sha256(letter_id.encode("utf-8", "surrogatepass")).hexdigest()


def _version(value: object) -> str | None:
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else None


def _number(value: object, *, otherwise: int) -> int:
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else otherwise


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
