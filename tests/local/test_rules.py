import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto.events.models import EventsBackend, Rule, events_backends

from immortal_local.rule_decisions import matches, read_rate, shape_input, transform
from immortal_local.server import LocalAws
from support.bench import Bench, Eventually, Queue

STOPPED = {
    "source": "aws.ecs",
    "detail-type": "ECS Task State Change",
    "detail": {
        "lastStatus": "STOPPED",
        "containers": [{"name": "runner", "exitCode": 137}, {"name": "sidecar", "exitCode": 0}],
    },
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param({"source": ["aws.ecs"]}, True, id="plain"),
        pytest.param({"source": ["aws.s3"]}, False, id="plain-other"),
        pytest.param({"detail": {"containers": {"exitCode": [137]}}}, True, id="in-an-array-of-objects"),
        pytest.param({"detail": {"containers": {"exitCode": [1]}}}, False, id="in-no-object-of-the-array"),
        pytest.param(
            {"detail": {"containers": {"name": ["runner"], "exitCode": [137]}}}, True, id="one-object-has-both"
        ),
        pytest.param({"detail": {"containers": {"name": ["runner"], "exitCode": [0]}}}, False, id="no-object-has-both"),
        pytest.param({"detail": {"containers": {"exitCode": [{"numeric": [">", 100]}]}}}, True, id="numeric"),
        pytest.param({"detail": {"lastStatus": [{"prefix": "STOP"}]}}, True, id="prefix"),
        pytest.param({"detail": {"stopCode": [{"exists": False}]}}, True, id="absent"),
        pytest.param({"detail": {"nothing": {"below": [{"exists": False}]}}}, True, id="absent-with-its-parent"),
        pytest.param({"detail": {"lastStatus": [{"exists": False}]}}, False, id="present"),
        pytest.param({"$or": [{"source": ["x"]}, {"detail": {"lastStatus": ["STOPPED"]}}]}, True, id="or"),
    ],
)
def test_a_pattern_matches_as_eventbridge_matches_it(pattern: dict[str, Any], *, expected: bool) -> None:
    assert matches(pattern, STOPPED) is expected


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text(), min_size=1))
def test_an_event_matches_the_pattern_of_its_own_values(detail: dict[str, Any]) -> None:
    pattern = {"detail": {key: [value] for key, value in detail.items() if key != "$or"}}
    assert matches(pattern, {"detail": detail})


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("rate(1 minute)", 60),
        ("rate(2 hours)", 7200),
        ("rate(1 day)", 86400),
        ("cron(0 * * * ? *)", None),
        ("rate(0 minutes)", None),
    ],
)
def test_a_rate_is_read_in_seconds(expression: str, seconds: float | None) -> None:
    assert read_rate(expression) == seconds


def test_a_template_quotes_what_stands_outside_of_quotes() -> None:
    event = {"id": "e", "detail": {"name": 'a "b"', "count": 3}}
    paths = {"name": "$.detail.name", "count": "$.detail.count", "detail": "$.detail", "none": "$.nothing"}
    template = (
        '{"n": <name>, "text": "<name> has <count>", "all": <detail>, "none": <none>, "rule": <aws.events.rule-name>}'
    )

    assert json.loads(transform(template, paths, event, "arn:aws:events:r:1:rule/mine")) == {
        "n": 'a "b"',
        "text": 'a "b" has 3',
        "all": {"name": 'a "b"', "count": 3},
        "none": None,
        "rule": "mine",
    }


def test_a_target_gets_a_constant_a_part_or_the_event() -> None:
    event = {"detail": {"a": 1}}
    assert shape_input({"Input": '{"x": 1}'}, event, "") == '{"x": 1}'
    assert json.loads(shape_input({"InputPath": "$.detail"}, event, "")) == {"a": 1}
    assert json.loads(shape_input({}, event, "")) == event


def put_rule(bench: Bench, target: dict[str, Any], **rule: Any) -> str:
    name = bench.new_name("rule")
    events = bench.local.client("events")
    events.put_rule(Name=name, **rule)
    events.put_targets(Rule=name, Targets=[{"Id": "t", **target}])
    return name


def put_event(local: LocalAws, source: str, detail: dict[str, Any]) -> None:
    entry = {"Source": source, "DetailType": "test", "Detail": json.dumps(detail)}
    assert local.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_an_event_reaches_a_queue_whole(bench: Bench) -> None:
    queue = bench.make_queue()
    put_rule(bench, {"Arn": queue.arn}, EventPattern=json.dumps({"source": ["queue.test"]}))

    put_event(bench.local, "queue.test", {"a": 1})

    event = queue.take_json()
    assert event["detail"] == {"a": 1}
    assert event["account"] == bench.local.account
    assert event["time"].endswith("Z")
    assert "ingestion-time" not in event


def test_an_event_invokes_a_function(bench: Bench) -> None:
    queue = bench.make_queue()
    code = (
        "import boto3, json, os\n"
        "def handler(event, context):\n"
        "    boto3.client('sqs').send_message(QueueUrl=os.environ['QUEUE'], MessageBody=json.dumps(event))\n"
    )
    name = bench.make_function(code, Environment={"Variables": {"QUEUE": queue.url}}, Timeout=20)
    arn = bench.functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    put_rule(bench, {"Arn": arn}, EventPattern=json.dumps({"source": ["function.test"]}))

    put_event(bench.local, "function.test", {"b": 2})

    assert queue.take_json(20)["detail"] == {"b": 2}


def test_a_disabled_rule_delivers_nothing_and_a_schedule_no_events(bench: Bench) -> None:
    disabled, scheduled, marker = bench.make_queue(), bench.make_queue(), bench.make_queue()
    pattern = json.dumps({"source": ["disabled.test"]})
    put_rule(bench, {"Arn": disabled.arn}, EventPattern=pattern, State="DISABLED")
    put_rule(bench, {"Arn": scheduled.arn}, ScheduleExpression="rate(365 days)")
    put_rule(bench, {"Arn": marker.arn}, EventPattern=pattern)

    put_event(bench.local, "disabled.test", {})

    marker.take()
    assert disabled.counts() == scheduled.counts() == (0, 0)


def test_an_event_that_cannot_be_delivered_reaches_the_dead_letter_queue(bench: Bench) -> None:
    dead = bench.make_queue()
    missing = f"arn:aws:lambda:us-east-1:{bench.local.account}:function:not-there"
    name = put_rule(
        bench,
        {"Arn": missing, "DeadLetterConfig": {"Arn": dead.arn}},
        EventPattern=json.dumps({"source": ["dead.test"]}),
    )

    put_event(bench.local, "dead.test", {"c": 3})

    message = dead.take()
    values = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
    assert json.loads(message["Body"])["detail"] == {"c": 3}
    assert values["RULE_ARN"].endswith(f"rule/{name}")
    assert values["TARGET_ARN"] == missing
    assert values["ERROR_CODE"] == "NO_RESOURCE"


def test_a_schedule_fires_again_and_again_in_scaled_time(bench: Bench) -> None:
    queue = bench.make_queue()
    name = put_rule(bench, {"Arn": queue.arn, "Input": '{"sweep": true}'}, ScheduleExpression="rate(1 minute)")
    started = time.monotonic()

    for _ in range(3):
        assert queue.take_json() == {"sweep": True}

    bench.local.client("events").disable_rule(Name=name)
    assert time.monotonic() - started < 60  # three minutes, had they not been scaled


def test_a_disabled_schedule_rests(bench: Bench, eventually: Eventually) -> None:
    queue = bench.make_queue()
    name = put_rule(bench, {"Arn": queue.arn}, ScheduleExpression="rate(1 minute)")
    assert queue.take_json()["detail-type"] == "Scheduled Event"

    bench.local.client("events").disable_rule(Name=name)
    drain(queue)
    eventually(lambda: queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=2).get("Messages") is None)


def drain(queue: Queue) -> None:
    while queue.sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages"):
        pass


def test_a_cron_schedule_is_refused_with_what_is_carried_out(local: LocalAws) -> None:
    with pytest.raises(ClientError, match=r"rate\(\.\.\.\)"):
        local.client("events").put_rule(Name="cron", ScheduleExpression="cron(0 10 * * ? *)")


# Contracts: what the patches name in moto


def test_rules_are_still_asked_for_every_event_of_their_bus(local: LocalAws) -> None:
    backend: EventsBackend = events_backends[local.account]["us-east-1"]
    rule = backend.put_rule(name="contract", event_pattern='{"source": ["a"]}')

    assert isinstance(rule, Rule)
    assert backend.event_buses["default"].rules["contract"] is rule
    assert rule.event_pattern.get_pattern() == {"source": ["a"]}
    assert rule.state == "ENABLED"
    assert rule.targets == []
