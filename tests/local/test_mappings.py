import hashlib
import itertools
import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from immortal_local.functions.batches import Filter, failed_messages
from support.bench import Bench, Eventually, Queue

ECHO = """
import json, os, boto3

def handler(event, context):
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=os.environ["ECHO"], MessageBody=json.dumps(event))
    answer = json.loads(os.environ.get("ANSWER", "null"))
    if answer == "raise":
        raise ValueError("no")
    if answer == "fail the bad":
        bad = [each["messageId"] for each in event["Records"] if "bad" in each["body"]]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in bad]}
    return answer
"""
"""Sends each event on to a queue where the test reads it, and answers what the test asked for."""


def make_echo(bench: Bench, echo: Queue, answer: Any = None) -> str:
    variables = {"ECHO": echo.url, "ANSWER": json.dumps(answer)}
    return bench.make_function(ECHO, Timeout=10, MemorySize=256, Environment={"Variables": variables})


def attach(bench: Bench, queue: Queue, name: str, **settings: Any) -> str:
    made = bench.functions.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=name, **settings)
    return made["UUID"]


def take_bodies(echo: Queue) -> list[str]:
    return [record["body"] for record in echo.take_json()["Records"]]


def test_a_message_reaches_the_function_as_aws_writes_it_and_is_deleted(bench: Bench, eventually: Eventually) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    attach(bench, queue, make_echo(bench, echo))

    message_id = queue.send("hällo", Colour="blue")

    record = echo.take_json()["Records"][0]
    handle, attributes = record.pop("receiptHandle"), record.pop("attributes")
    attribute = b"\0\0\0\x06Colour\0\0\0\x06String\x01\0\0\0\x04blue"
    assert record == {
        "messageId": message_id,
        "body": "hällo",
        "messageAttributes": {
            "Colour": {
                "stringValue": "blue",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            }
        },
        "md5OfBody": hashlib.md5("hällo".encode(), usedforsecurity=False).hexdigest(),
        "md5OfMessageAttributes": hashlib.md5(attribute, usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.arn,
        "awsRegion": "us-east-1",
    }
    assert handle
    assert attributes["ApproximateReceiveCount"] == "1"
    assert attributes.keys() >= {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"}
    eventually(lambda: queue.counts() == (0, 0))


def test_a_message_is_picked_up_within_a_tenth_of_a_second(bench: Bench) -> None:
    queue, name = bench.make_queue(), bench.make_function()
    bench.functions.invoke(FunctionName=name)  # now there is a warm environment
    attach(bench, queue, name)
    waited: list[float] = []

    for _ in range(5):
        began = time.monotonic()
        queue.send("x")
        while queue.counts() != (0, 0):
            pass
        waited.append(time.monotonic() - began)

    assert min(waited) < 0.1


def test_what_waits_comes_in_batches_of_the_size_that_is_set(bench: Bench) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    for number in range(4):
        queue.send(str(number))

    attach(bench, queue, make_echo(bench, echo), BatchSize=2)

    batches = [take_bodies(echo) for _ in range(2)]
    assert sorted(len(batch) for batch in batches) == [2, 2]
    assert sorted(itertools.chain(*batches)) == ["0", "1", "2", "3"]


def test_a_window_gathers_what_comes_one_by_one(bench: Bench) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    attach(bench, queue, make_echo(bench, echo), BatchSize=20, MaximumBatchingWindowInSeconds=1)

    for number in range(12):
        queue.send(str(number))

    assert sorted(take_bodies(echo)) == sorted(str(number) for number in range(12))


def test_a_batch_whose_function_fails_comes_back_after_its_visibility_timeout(bench: Bench) -> None:
    dead = bench.make_queue()
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2})
    queue, echo = bench.make_queue(VisibilityTimeout="10", RedrivePolicy=policy), bench.make_queue()
    name = make_echo(bench, echo, "raise")
    attach(bench, queue, name)
    message_id = queue.send("x")
    first = echo.take_json()["Records"][0]
    assert queue.counts() == (0, 1)

    queue.sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=first["receiptHandle"], VisibilityTimeout=1)
    second = echo.take_json()["Records"][0]
    queue.sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=second["receiptHandle"], VisibilityTimeout=1)

    assert second["attributes"]["ApproximateReceiveCount"] == "2"
    letter = dead.take()
    assert (letter["MessageId"], letter["Attributes"]["DeadLetterQueueSourceArn"]) == (message_id, queue.arn)


def test_a_redriven_message_tells_the_function_where_it_came_from(bench: Bench) -> None:
    dead, echo = bench.make_queue(), bench.make_queue()
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
    queue = bench.make_queue(VisibilityTimeout="0", RedrivePolicy=policy)
    attach(bench, dead, make_echo(bench, echo))
    queue.send("x")

    queue.take()
    queue.sqs.receive_message(QueueUrl=queue.url)

    record = echo.take_json()["Records"][0]
    assert record["attributes"]["DeadLetterQueueSourceArn"] == queue.arn
    assert record["eventSourceARN"] == dead.arn


def test_only_the_messages_that_are_reported_stay(bench: Bench, eventually: Eventually) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    for body in ("good 1", "bad", "good 2"):
        queue.send(body)
    name = make_echo(bench, echo, "fail the bad")

    attach(bench, queue, name, FunctionResponseTypes=["ReportBatchItemFailures"])

    assert len(take_bodies(echo)) == 3
    eventually(lambda: queue.counts() == (0, 1))


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, {"a"}),
        ({"batchItemFailures": [{"foo": "notvalid"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, {"a", "b"}),
        ({"batchItemFailures": "a"}, {"a", "b"}),
        ("text", {"a", "b"}),
    ],
    ids=["null", "empty", "none", "no list", "one", "no key", "empty key", "null key", "unknown", "string", "text"],
)
def test_an_answer_that_cannot_be_understood_fails_the_whole_batch(answer: Any, failed: set[str]) -> None:
    assert failed_messages(json.dumps(answer).encode(), ["a", "b"]) == failed


@pytest.mark.parametrize(
    ("pattern", "body", "passes"),
    [
        ({"body": {"kind": ["a"]}}, '{"kind": "a"}', True),
        ({"body": {"kind": ["a"]}}, '{"kind": "b"}', False),
        ({"body": {"kind": ["a"]}}, "no json", False),
        ({"body": {"n": [{"numeric": [">", 3]}]}}, '{"n": 4}', True),
        ({"body": {"kind": [{"exists": False}]}}, '{"other": 1}', True),
        ({"body": ["plain"]}, "plain", True),
    ],
    ids=["equal", "different", "no json", "numeric", "absent", "plain"],
)
def test_a_filter_looks_into_the_body(pattern: Any, body: str, *, passes: bool) -> None:
    wanted = Filter({"Filters": [{"Pattern": json.dumps(pattern)}]})
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": body, "MD5OfBody": ""}

    assert wanted.passes(message, queue_arn="arn:aws:sqs:us-east-1:111122223333:q") is passes


def test_what_a_filter_drops_is_deleted(bench: Bench, eventually: Eventually) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    criteria = {"Filters": [{"Pattern": json.dumps({"body": {"kind": ["a"]}})}]}
    attach(bench, queue, make_echo(bench, echo), FilterCriteria=criteria)

    queue.send('{"kind": "b"}')
    queue.send('{"kind": "a"}')

    assert take_bodies(echo) == ['{"kind": "a"}']
    eventually(lambda: queue.counts() == (0, 0))


def test_a_mapping_goes_through_its_states(bench: Bench, eventually: Eventually) -> None:
    functions = bench.functions
    queue, echo = bench.make_queue(), bench.make_queue()
    name = make_echo(bench, echo)

    made = functions.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=name)
    identifier = made["UUID"]

    members = {name for name in made if name != "ResponseMetadata"}
    assert members == {
        "BatchSize",
        "EventSourceArn",
        "EventSourceMappingArn",
        "FunctionArn",
        "FunctionResponseTypes",
        "LastModified",
        "MaximumBatchingWindowInSeconds",
        "State",
        "StateTransitionReason",
        "UUID",
    }
    assert (made["State"], made["BatchSize"], made["ResponseMetadata"]["HTTPStatusCode"]) == ("Creating", 10, 202)
    assert functions.get_event_source_mapping(UUID=identifier)["State"] == "Enabled"
    assert functions.update_event_source_mapping(UUID=identifier, Enabled=False)["State"] == "Disabling"
    assert functions.get_event_source_mapping(UUID=identifier)["State"] == "Disabled"
    queue.send("while disabled")
    assert functions.update_event_source_mapping(UUID=identifier, Enabled=True)["State"] == "Enabling"
    assert take_bodies(echo) == ["while disabled"]
    eventually(lambda: queue.counts() == (0, 0))
    assert functions.delete_event_source_mapping(UUID=identifier)["State"] == "Deleting"
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_event_source_mapping(UUID=identifier)


def test_a_mapping_made_disabled_polls_nothing(bench: Bench) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    queue.send("x")

    identifier = attach(bench, queue, make_echo(bench, echo), Enabled=False)

    assert bench.functions.get_event_source_mapping(UUID=identifier)["State"] == "Disabled"
    assert queue.take()["Attributes"]["ApproximateReceiveCount"] == "1"


def test_an_updated_mapping_calls_the_other_function(bench: Bench, eventually: Eventually) -> None:
    queue, first, second = bench.make_queue(), bench.make_queue(), bench.make_queue()
    identifier = attach(bench, queue, make_echo(bench, first))
    queue.send("to the first")
    assert take_bodies(first) == ["to the first"]
    eventually(lambda: queue.counts() == (0, 0))

    bench.functions.update_event_source_mapping(UUID=identifier, FunctionName=make_echo(bench, second))
    queue.send("to the second")

    assert take_bodies(second) == ["to the second"]


def test_mappings_are_listed_by_queue_and_by_function(bench: Bench) -> None:
    queue, echo = bench.make_queue(), bench.make_queue()
    name = make_echo(bench, echo)
    identifier = attach(bench, queue, name)
    lists: Any = bench.functions.list_event_source_mappings

    assert [each["UUID"] for each in lists(EventSourceArn=queue.arn)["EventSourceMappings"]] == [identifier]
    assert [each["UUID"] for each in lists(FunctionName=name)["EventSourceMappings"]] == [identifier]
    assert lists(EventSourceArn=echo.arn)["EventSourceMappings"] == []


def test_a_second_mapping_of_the_same_pair_is_refused(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function()
    identifier = attach(bench, queue, name)

    with pytest.raises(bench.functions.exceptions.ResourceConflictException, match=identifier):
        attach(bench, queue, name)


@pytest.mark.parametrize(
    ("queue", "settings", "words"),
    [
        ({}, {"EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:none"}, "NonExistentQueue"),
        ({"VisibilityTimeout": "2"}, {}, "visibility timeout: 2 seconds is less than Function timeout: 3 seconds"),
        ({}, {"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0"),
        ({}, {"FilterCriteria": {"Filters": [{"Pattern": "None"}]}}, "Invalid filter pattern definition."),
        ({}, {"StartingPosition": "LATEST"}, "Unsupported StartingPosition"),
    ],
    ids=["no queue", "visibility", "no window", "filter", "for streams"],
)
def test_a_mapping_that_cannot_work_is_refused(
    bench: Bench, queue: dict[str, str], settings: dict[str, Any], words: str
) -> None:
    source = bench.make_queue(**queue)

    with pytest.raises(ClientError, match=words):
        bench.functions.create_event_source_mapping(
            **{"EventSourceArn": source.arn, "FunctionName": bench.make_function(), **settings}
        )


def test_a_mapping_outlives_its_queue_without_a_noise(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    queue = bench.make_queue()
    identifier = attach(bench, queue, bench.make_function())

    queue.sqs.delete_queue(QueueUrl=queue.url)

    assert bench.functions.get_event_source_mapping(UUID=identifier)["State"] == "Enabled"
    assert "died" not in capfd.readouterr().err


def test_a_mapping_outlives_its_function(bench: Bench) -> None:
    queue, name = bench.make_queue(), bench.make_function()
    identifier = attach(bench, queue, name)

    bench.functions.delete_function(FunctionName=name)

    listed = bench.functions.list_event_source_mappings(EventSourceArn=queue.arn)["EventSourceMappings"]
    assert [(each["UUID"], each["FunctionArn"].endswith(name)) for each in listed] == [(identifier, True)]


def test_a_fifo_queue_keeps_its_order(bench: Bench) -> None:
    echo = bench.make_queue()
    sqs: Any = bench.local.client("sqs")
    name = bench.new_name("queue") + ".fifo"
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{bench.local.account}:{name}"
    attach(bench, Queue(url, arn, sqs), make_echo(bench, echo), BatchSize=1)

    for number in range(4):
        sqs.send_message(QueueUrl=url, MessageBody=str(number), MessageGroupId="g")

    assert [take_bodies(echo)[0] for _ in range(4)] == ["0", "1", "2", "3"]
