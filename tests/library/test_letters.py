"""The shapes stand for what AWS sent in answers recorded in November 2025 (dead-letter queues and destinations)."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_lambda.arns import FunctionArn
from immortal_lambda.letters import LetterUnreadable, read_letter

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"
TIMED_OUT = f"RequestId: {REQUEST_ID} Error: Task timed out after 3.00 seconds"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:failures"
FUNCTION = "arn:aws:lambda:eu-west-1:111122223333:function:report-builder"


def attribute(value: str, kind: str = "String") -> dict[str, Any]:
    return {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": kind}


def record(
    body: str, *, attributes: dict[str, Any] | None = None, system: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "messageId": "b1d9f0aa-6f0d-4d1e-8a55-3e1a54f0c001",
        "receiptHandle": "AQEB",
        "body": body,
        "attributes": {
            "SenderId": "AROAEXAMPLEROLE000001:awslambda_312_20261002101530123",
            "SentTimestamp": "1790936130500",
            "ApproximateReceiveCount": "1",
            **(system or {}),
        },
        "messageAttributes": attributes or {},
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE,
        "awsRegion": "eu-west-1",
    }


def dead_letter(body: str, message: str = TIMED_OUT, **system: str) -> dict[str, Any]:
    attributes = {
        "RequestID": attribute(REQUEST_ID),
        "ErrorCode": attribute("200", "Number"),
        "ErrorMessage": attribute(message),
    }
    return record(body, attributes=attributes, system=system)


def destination(**changes: Any) -> dict[str, Any]:
    said = {
        "version": "1.0",
        "timestamp": "2026-10-02T10:15:30.123Z",
        "requestContext": {
            "requestId": REQUEST_ID,
            "functionArn": f"{FUNCTION}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"report": "q3"},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorType": "Sandbox.Timedout", "errorMessage": TIMED_OUT},
    }
    return said | changes


def test_a_dead_letter_keeps_the_event_byte_for_byte() -> None:
    letter = read_letter(dead_letter('{"b": 1.10,  "a":1e400}'))
    assert letter.event == '{"b": 1.10,  "a":1e400}'
    assert letter.request_id == REQUEST_ID
    assert letter.failure.failure_class == "timeout"
    assert letter.function is None
    assert letter.sender_role_id == "AROAEXAMPLEROLE000001"
    assert letter.failed_ms == 1790936130500


def test_a_sender_that_is_not_lambda_itself_says_nothing_of_the_role() -> None:
    assert read_letter(dead_letter("{}", SenderId="AROAEXAMPLEROLE000001:my-function")).sender_role_id is None
    assert read_letter(dead_letter("{}", SenderId="AIDAEXAMPLE")).sender_role_id is None


def test_a_destination_names_its_function_and_version() -> None:
    letter = read_letter(record(json.dumps(destination())))
    assert letter.function == FunctionArn.read(f"{FUNCTION}:$LATEST")
    assert str(letter.function.as_invoked) == FUNCTION
    assert letter.executed_version == "$LATEST"
    assert letter.invocations == 3
    assert letter.failure.failure_class == "timeout"


def test_a_destination_of_an_event_that_never_ran_has_no_response() -> None:
    said = destination()
    del said["responseContext"], said["responsePayload"]
    said["requestContext"] |= {"condition": "ZeroReservedConcurrency", "approximateInvokeCount": 0}
    letter = read_letter(record(json.dumps(said)))
    assert letter.failure.failure_class == "never_ran"
    assert letter.executed_version is None


def test_a_destination_keeps_the_spelling_of_the_payload() -> None:
    body = json.dumps(destination()).replace('{"report": "q3"}', '{"n":1.10,"big":1e400}')
    assert read_letter(record(body)).event == '{"n":1.10,"big":1e400}'


def test_an_event_that_looks_like_a_failure_of_another_function_is_still_an_event() -> None:
    body = json.dumps(destination())
    letter = read_letter(dead_letter(body))
    assert letter.envelope == "dead_letter_queue"
    assert letter.event == body


@pytest.mark.parametrize(
    ("unreadable", "says"),
    [
        (record("not json"), "not readable as JSON"),
        (record("[1,2]"), "neither the attributes"),
        (record('"text"'), "neither the attributes"),
        (record("[" * 100_000), "not readable as JSON"),
        (record(json.dumps({"requestContext": {"functionArn": "x"}, "requestPayload": 1})), "names no function"),
        (record(json.dumps({**destination(), "requestContext": {"functionArn": 7}})), "neither the attributes"),
        (record("{}", system={"DeadLetterQueueSourceArn": QUEUE}), "redrive policy"),
        (record("{}", system={"DeadLetterQueueSourceArn": "x" * 600_000}), "x…'"),
        (record(json.dumps(destination())) | {"eventSourceARN": "failures"}, "no message as SQS gives it"),
        (record(json.dumps(destination()), system={"SentTimestamp": "today"}), "no message as SQS gives it"),
        ({"messageId": "m"}, "no message as SQS gives it"),
        (dead_letter("{}") | {"body": None}, "no message as SQS gives it"),
        (dead_letter("{}") | {"messageAttributes": None}, "neither the attributes"),
        (
            dead_letter("{}") | {"messageAttributes": {"RequestID": 7, "ErrorCode": {}, "ErrorMessage": []}},
            "request id",
        ),
        (dead_letter("{}") | {"messageAttributes": {"RequestID": attribute("a")}}, "neither the attributes"),
    ],
    ids=[
        "no json",
        "a list",
        "a text",
        "deep",
        "no function",
        "no arn",
        "redriven",
        "redriven from nowhere",
        "no queue",
        "no time",
        "no members",
        "no body",
        "no attributes",
        "no texts",
        "one attribute alone",
    ],
)
def test_what_is_no_letter_says_what_it_is(unreadable: dict[str, Any], says: str) -> None:
    with pytest.raises(LetterUnreadable, match=says):
        read_letter(unreadable)


def test_the_record_of_a_success_is_no_letter() -> None:
    said = destination()
    said["requestContext"]["condition"] = "Success"
    with pytest.raises(LetterUnreadable, match="succeeded"):
        read_letter(record(json.dumps(said)))


@pytest.mark.parametrize("arn", ["x" * 600_000, FUNCTION.replace("eu-west-1", "e" * 600_000)])
def test_what_is_quoted_is_cut(arn: str) -> None:
    said = destination()
    said["requestContext"]["functionArn"] = arn
    with pytest.raises(LetterUnreadable, match="names no function") as caught:
        read_letter(record(json.dumps(said)))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("version", ["$LATEST", "17"])
def test_the_version_that_ran_is_believed(version: str) -> None:
    said = destination(responseContext={"executedVersion": version})
    assert read_letter(record(json.dumps(said))).executed_version == version


@pytest.mark.parametrize("version", ["", "live", "$LATEST ", "17\n", "1" * 600_000, "\u0667", 7, None])
def test_another_version_is_not(version: object) -> None:
    said = destination(responseContext={"executedVersion": version})
    assert read_letter(record(json.dumps(said))).executed_version is None


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 200, "../../etc", "a/b"])
def test_a_request_id_that_lambda_never_gave_is_refused(request_id: str) -> None:
    forged = dead_letter("{}")
    forged["messageAttributes"]["RequestID"] = attribute(request_id)
    with pytest.raises(LetterUnreadable, match="request id"):
        read_letter(forged)


def test_half_characters_in_an_error_can_be_stored() -> None:
    said = destination(responsePayload={"errorType": "E", "errorMessage": "\ud800"})
    read_letter(record(json.dumps(said))).failure.message.encode("utf-8")


@given(
    body=st.text(), attributes=st.dictionaries(st.sampled_from(["RequestID", "ErrorCode", "ErrorMessage"]), st.text())
)
def test_any_record_is_read_or_refused(body: str, attributes: dict[str, str]) -> None:
    with suppress(LetterUnreadable):
        read_letter(record(body, attributes={name: attribute(value) for name, value in attributes.items()}))
