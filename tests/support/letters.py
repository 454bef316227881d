"""Letters as a queue gives them to the dispatcher, and the functions that they may come from."""

import itertools
from collections.abc import Mapping
from typing import Any

from immortal_dispatcher.resolve import Candidate
from immortal_lambda.arns import FunctionArn

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:failures"

_numbers = itertools.count(1)


def function_arn(name: str) -> FunctionArn:
    return FunctionArn("aws", "eu-west-1", "111122223333", name)


def candidate(name: str, role: str = "") -> Candidate:
    return Candidate(function_arn(name), f"arn:aws:iam::111122223333:role/{role or name}", f"/aws/lambda/{name}")


def record(
    body: str = '{"n": 7}',
    *,
    request_id: str | None = None,
    attributes: Mapping[str, str] | None = None,
    sender: str = "AROAJOBROLE:awslambda_312_20261121101530123",
    receive_count: int = 1,
    message: str = "Task timed out after 3.00 seconds",
    sent_ms: int = 1_700_000_000_000,
    **system: str,
) -> dict[str, Any]:
    """A message as Lambda gives it to a function; by default a dead-letter queue's."""
    number = next(_numbers)
    said = attributes
    if said is None:
        said = {"RequestID": request_id or f"request-{number}", "ErrorCode": "200", "ErrorMessage": message}
    return {
        "messageId": f"letter-{number}",
        "receiptHandle": "handle",
        "body": body,
        "attributes": {
            "SenderId": sender,
            "SentTimestamp": str(sent_ms),
            "ApproximateReceiveCount": str(receive_count),
            "ApproximateFirstReceiveTimestamp": str(sent_ms),
            **system,
        },
        "messageAttributes": {
            name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
            for name, value in said.items()
        },
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE,
        "awsRegion": "eu-west-1",
    }
