import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_local.functions.deliveries import write_sender_id
from immortal_local.functions.retries import GiveUp, Policy, Retry, after_error, after_refusal
from support.bench import Bench, Eventually, zip_files

FAILING = """
import time

def handler(event, context):
    time.sleep(event.get("sleep_s", 0))
    raise ValueError(event.get("why", "no"))
"""

POLICY = Policy(retries=2, age_s=21_600.0)


def invoke(bench: Bench, name: str, payload: bytes, **more: Any) -> str:
    """Invoke as an event; give the request id."""
    answered = bench.functions.invoke(FunctionName=name, InvocationType="Event", Payload=payload, **more)
    assert (answered["StatusCode"], answered["Payload"].read()) == (202, b"")
    assert "ExecutedVersion" not in answered
    return answered["ResponseMetadata"]["RequestId"]


def attributes(message: Any) -> dict[str, tuple[str, str]]:
    return {name: (each["DataType"], each["StringValue"]) for name, each in message["MessageAttributes"].items()}


@pytest.mark.parametrize(("attempts", "wait_s"), [(1, 60.0), (2, 120.0)])
def test_lambda_waits_one_minute_and_then_two(attempts: int, wait_s: float) -> None:
    assert after_error(POLICY, attempts=attempts, age_s=0) == Retry(wait_s)


def test_the_third_failure_is_the_last() -> None:
    assert after_error(POLICY, attempts=3, age_s=0) == GiveUp("RetriesExhausted")


def test_an_event_that_would_be_too_old_for_its_next_attempt_is_given_up_now() -> None:
    policy = Policy(retries=2, age_s=60.0)

    assert after_error(policy, attempts=1, age_s=0.1) == GiveUp("EventAgeExceeded")


@given(refusals=st.integers(1, 1000), age_s=st.floats(0, 50_000))
def test_a_refused_event_waits_up_to_five_minutes_until_it_is_too_old(refusals: int, age_s: float) -> None:
    match after_refusal(POLICY, refusals=refusals, age_s=age_s):
        case Retry(wait_s):
            assert age_s < POLICY.age_s
            assert 1 <= wait_s <= 300
        case GiveUp(condition):
            assert age_s >= POLICY.age_s
            assert condition == "EventAgeExceeded"


@given(retries=st.integers(0, 2), age_s=st.floats(60, 21_600))
def test_every_event_ends(retries: int, age_s: float) -> None:
    policy, now_s = Policy(retries, age_s), 0.0

    for attempts in range(1, 4):
        match after_error(policy, attempts=attempts, age_s=now_s):
            case Retry(wait_s):
                now_s += wait_s
            case GiveUp():
                break
    else:
        pytest.fail("a fourth attempt")


def test_the_service_signs_with_the_role_and_the_time() -> None:
    now = datetime(2026, 10, 2, 10, 15, 30, 123_456, tzinfo=UTC)

    assert re.fullmatch(r"AROAX:awslambda_\d{1,3}_20261002101530123", write_sender_id("AROAX", now))


def test_a_failed_event_becomes_a_dead_letter_byte_for_byte(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})
    event = b'{"why" :  "r\xc3\xa4tsel", "n": 1.0e2}'

    request_id = invoke(bench, name, event)

    letter = queue.take()
    assert letter["Body"].encode() == event
    assert letter["MD5OfBody"] == hashlib.md5(event, usedforsecurity=False).hexdigest()
    assert attributes(letter) == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "rätsel"),
    }
    role: Any = bench.local.client("iam").get_role(RoleName=bench.role_arn.rpartition("/")[2])
    sender = letter["Attributes"]["SenderId"]
    assert re.fullmatch(re.escape(role["Role"]["RoleId"]) + r":awslambda_\d+_\d{17}", sender)
    assert letter["Attributes"]["AWSTraceHeader"].startswith("Root=1-")


def test_a_zip_that_leaves_its_folder_becomes_a_dead_letter_after_the_normal_retries(bench: Bench) -> None:
    dead, failed = bench.make_queue(), bench.make_queue()
    code = {"ZipFile": zip_files({"../../x": "evil"})}
    name = bench.make_function(Code=code, DeadLetterConfig={"TargetArn": dead.arn})
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": failed.arn}}
    )

    invoke(bench, name, b"{}")

    kind, message = attributes(dead.take())["ErrorMessage"]
    assert kind == "String"
    assert "leaves the folder" in message
    context = failed.take_json()["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetriesExhausted", 3)


def test_every_attempt_has_the_same_request_id(bench: Bench, eventually: Eventually) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})
    request_id = invoke(bench, name, b"{}")
    queue.take()

    def starts() -> list[str]:
        return [line for line in bench.log_lines(name) if line.startswith("START")]

    eventually(lambda: len(starts()) == 3)
    assert set(starts()) == {f"START RequestId: {request_id} Version: $LATEST\n"}


def test_an_event_that_ran_out_of_time_says_so_in_its_dead_letter(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, Timeout=1, DeadLetterConfig={"TargetArn": queue.arn})
    bench.functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)

    request_id = invoke(bench, name, b'{"sleep_s": 60}')

    said = attributes(queue.take())["ErrorMessage"][1]
    assert said == f"RequestId: {request_id} Error: Task timed out after 1.00 seconds"


def test_the_error_message_is_cut_at_one_kilobyte(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})

    invoke(bench, name, json.dumps({"why": "ä" * 2000}).encode())

    assert attributes(queue.take())["ErrorMessage"] == ("String", "ä" * 512)


def test_an_error_without_a_message_leaves_a_dead_letter_too(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})

    invoke(bench, name, b'{"why": ""}')

    assert attributes(queue.take())["ErrorMessage"] == ("String", "ValueError")


def test_an_error_message_with_control_characters_can_be_sent(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})

    invoke(bench, name, json.dumps({"why": "a\x00b"}).encode())

    assert attributes(queue.take())["ErrorMessage"][1] == "a\N{REPLACEMENT CHARACTER}b"


def test_both_a_dead_letter_and_a_record_are_sent_where_both_are_set(bench: Bench) -> None:
    letters, records = bench.make_queue(), bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": letters.arn})
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": records.arn}}
    )

    request_id = invoke(bench, name, b'{"why": "both"}')

    assert attributes(letters.take())["RequestID"][1] == request_id
    record = records.take_json()
    arn = f"arn:aws:lambda:us-east-1:{bench.local.account}:function:{name}:$LATEST"
    assert record["version"] == "1.0"
    assert datetime.now(UTC) - datetime.fromisoformat(record["timestamp"]) < timedelta(seconds=30)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["timestamp"])
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": arn,
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    }
    assert record["requestPayload"] == {"why": "both"}
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert (record["responsePayload"]["errorMessage"], record["responsePayload"]["requestId"]) == ("both", request_id)


def test_success_is_recorded_where_it_is_asked_for(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function("def handler(event, context):\n    return {'got': event}\n")
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": queue.arn}}
    )

    invoke(bench, name, b"[1]")

    record = queue.take_json()
    assert record["requestContext"]["condition"] == "Success"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["responsePayload"] == {"got": [1]}


def test_an_event_too_old_for_its_retry_is_given_up_after_one_attempt(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING)
    bench.functions.put_function_event_invoke_config(
        FunctionName=name,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": queue.arn}},
    )

    invoke(bench, name, b"{}")

    context = queue.take_json()["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)


def test_a_function_that_is_switched_off_gives_its_events_up_untried(bench: Bench) -> None:
    letters, records = bench.make_queue(), bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": letters.arn})
    bench.functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": records.arn}}
    )

    invoke(bench, name, b"")

    assert letters.take()["Body"] == "{}"
    record = records.take_json()
    assert record.keys() == {"version", "timestamp", "requestContext", "requestPayload"}
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["approximateInvokeCount"] == 0


def test_a_throttled_event_is_tried_until_there_is_room(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function("import time\n\ndef handler(event, context):\n    time.sleep(0.2)\n    return event\n")
    bench.functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": queue.arn}}
    )

    for number in range(5):
        invoke(bench, name, str(number).encode())

    records = [queue.take_json() for _ in range(5)]
    assert sorted(record["requestPayload"] for record in records) == [0, 1, 2, 3, 4]
    assert {record["requestContext"]["approximateInvokeCount"] for record in records} == {1}


def test_versions_share_the_dead_letter_queue_of_latest(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING)
    bench.functions.publish_version(FunctionName=name)
    bench.functions.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": queue.arn})

    invoke(bench, name, b"{}", Qualifier="1")

    assert attributes(queue.take())["ErrorMessage"][1] == "no"


def test_a_config_on_latest_does_nothing_for_a_version(bench: Bench) -> None:
    unused, used = bench.make_queue(), bench.make_queue()
    name = bench.make_function(FAILING)
    bench.functions.publish_version(FunctionName=name)
    for qualifier, queue in (("$LATEST", unused), ("1", used)):
        bench.functions.put_function_event_invoke_config(
            FunctionName=name,
            Qualifier=qualifier,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": queue.arn}},
        )

    invoke(bench, name, b"{}", Qualifier="1")

    context = used.take_json()["requestContext"]
    assert context["functionArn"].endswith(f"{name}:1")
    assert unused.counts() == (0, 0)


def test_a_dead_letter_goes_to_a_topic_as_well(bench: Bench) -> None:
    sns: Any = bench.local.client("sns")
    queue = bench.make_queue()
    topic = sns.create_topic(Name=bench.new_name("topic"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": topic})

    request_id = invoke(bench, name, b'{"why":  "topic"}')

    envelope = queue.take_json()
    assert (envelope["TopicArn"], envelope["Message"]) == (topic, '{"why":  "topic"}')
    assert envelope["MessageAttributes"] == {
        "RequestID": {"Type": "String", "Value": request_id},
        "ErrorCode": {"Type": "Number", "Value": "200"},
        "ErrorMessage": {"Type": "String", "Value": "topic"},
    }


def test_a_record_goes_to_a_function_and_a_bucket(bench: Bench, eventually: Eventually) -> None:
    s3: Any = bench.local.client("s3")
    bucket = bench.new_name("bucket")
    s3.create_bucket(Bucket=bucket)
    name, next_name = bench.make_function(FAILING), bench.make_function(FAILING)
    next_arn = f"arn:aws:lambda:us-east-1:{bench.local.account}:function:{next_name}"
    for function, destination in ((name, next_arn), (next_name, f"arn:aws:s3:::{bucket}")):
        bench.functions.put_function_event_invoke_config(
            FunctionName=function, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": destination}}
        )

    request_id = invoke(bench, name, b"{}")

    eventually(lambda: "Contents" in s3.list_objects_v2(Bucket=bucket))
    key = s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"]
    assert re.fullmatch(
        rf"aws/lambda/async/{next_name}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\dT\d\d\.\d\d\.\d\d-[0-9a-f-]{{36}}", key
    )
    record = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert record["requestPayload"]["requestContext"]["requestId"] == request_id


def test_a_record_goes_to_an_event_bus(bench: Bench) -> None:
    events: Any = bench.local.client("events")
    bus, queue = bench.new_name("bus"), bench.make_queue()
    bus_arn = events.create_event_bus(Name=bus)["EventBusArn"]
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "1", "Arn": queue.arn}])
    name = bench.make_function(FAILING)
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": bus_arn}}
    )

    invoke(bench, name, b"{}")

    event = queue.take_json()
    assert event["detail-type"] == "Lambda Function Invocation Result - Failure"
    assert event["detail"]["requestContext"]["condition"] == "RetriesExhausted"
    assert event["resources"] == [bus_arn, event["detail"]["requestContext"]["functionArn"]]


def test_a_dead_letter_that_cannot_be_sent_is_told(
    bench: Bench, eventually: Eventually, capfd: pytest.CaptureFixture[str]
) -> None:
    queue = bench.make_queue()
    name = bench.make_function(FAILING, DeadLetterConfig={"TargetArn": queue.arn})
    queue.sqs.delete_queue(QueueUrl=queue.url)
    told: list[str] = []

    request_id = invoke(bench, name, b"{}")

    def is_told() -> bool:
        told.append(capfd.readouterr().err)
        return f"the dead letter of {request_id} is lost" in "".join(told)

    eventually(is_told)


def test_a_hundred_events_at_once_are_all_handled(bench: Bench) -> None:
    queue = bench.make_queue()
    name = bench.make_function("def handler(event, context):\n    return event\n")
    bench.functions.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": queue.arn}}
    )

    for number in range(100):
        invoke(bench, name, str(number).encode())

    assert sorted(queue.take_json()["responsePayload"] for _ in range(100)) == list(range(100))
