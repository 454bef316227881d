import gc
import json
import os
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.core.base_backend import InstanceTrackerMeta
from moto.core.common_models import BaseModel
from moto.sqs.models import Message, sqs_backends
from moto.sqs.responses import SQSResponse

from immortal_local import emulator
from immortal_local.server import LocalAws
from support.bench import Bench


def test_models_of_the_emulator_can_be_freed(local: LocalAws) -> None:
    message: Any = Message("id", "body")
    freed = weakref.ref(message)
    del message
    gc.collect()

    assert local.endpoint
    assert freed() is None


def test_the_instance_tracker_is_still_where_the_patch_replaces_it() -> None:
    assert isinstance(BaseModel, InstanceTrackerMeta)
    assert "__new__" in vars(BaseModel)
    assert Message.instances_tracked == []  # type: ignore[attr-defined]  # made by moto's metaclass


def test_a_message_of_the_service_shows_its_sender_and_trace(bench: Bench) -> None:
    queue = bench.make_queue()

    emulator.send_as_service(
        queue.arn, "{}", attributes={}, sender_id="AROA:awslambda_1_20260101000000000", trace_header="Root=1-2-3"
    )

    attributes = queue.take()["Attributes"]
    assert attributes["SenderId"] == "AROA:awslambda_1_20260101000000000"
    assert attributes["AWSTraceHeader"] == "Root=1-2-3"


def test_the_queues_are_still_where_the_service_sends_to(bench: Bench) -> None:
    queue = bench.make_queue()
    _, _, _, region, account, name = queue.arn.split(":")

    assert account == emulator.account() == bench.local.account
    assert sqs_backends[account][region].queues[name].queue_arn == queue.arn
    assert hasattr(SQSResponse, "receive_message")


def start_up() -> "subprocess.Popen[str]":
    code = "from immortal_local.server import up; up()"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_up_describes_itself_in_one_line_and_stops_on_a_signal(number: signal.Signals) -> None:
    with start_up() as process:
        assert process.stdout
        described = json.loads(process.stdout.readline())
        assert described.keys() >= {"endpoint", "region", "account", "access_key_id", "secret_access_key"}
        process.send_signal(number)

        assert process.wait(30) == 0


def test_a_second_local_aws_in_one_process_is_refused(local: LocalAws) -> None:
    assert local.endpoint
    with pytest.raises(RuntimeError, match="already runs in this process"):
        LocalAws().start()


def test_a_taken_port_is_named(local: LocalAws) -> None:
    port = int(local.endpoint.rpartition(":")[2])
    code = f"from immortal_local.server import LocalAws; LocalAws(port={port}).start()"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert f"can't listen on 127.0.0.1:{port}" in ended.stderr


def test_clients_of_the_local_aws_ignore_the_surroundings(local: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setitem(os.environ, "AWS_ACCESS_KEY_ID", "somebody")

    assert local.client("sts", "eu-central-1").get_caller_identity()["Account"] == local.account


def test_a_second_start_finds_nothing_of_the_first() -> None:
    code = (
        "from immortal_local.server import LocalAws\n"
        "local = LocalAws()\n"
        "with local: local.client('sqs').create_queue(QueueName='q')\n"
        "with local: print(local.client('sqs').list_queues().get('QueueUrls'))\n"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "None\n"


def test_a_policy_of_aws_can_be_attached(bench: Bench) -> None:
    iam = bench.local.client("iam")
    arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    role = bench.role_arn.rpartition("/")[2]

    iam.attach_role_policy(RoleName=role, PolicyArn=arn)

    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert [policy["PolicyArn"] for policy in attached] == [arn]
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.attach_role_policy(RoleName=role, PolicyArn="arn:aws:iam::aws:policy/NoSuchPolicy")


def make_table(local: LocalAws, name: str) -> Any:
    tables = local.client("dynamodb")
    tables.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    tables.put_item(TableName=name, Item={"id": {"S": "1"}, "status": {"S": "old"}})
    return tables


def test_a_conditional_update_has_one_winner(local: LocalAws) -> None:
    tables = make_table(local, "claims")

    def claim(number: int) -> bool:
        try:
            tables.update_item(
                TableName="claims",
                Key={"id": {"S": "1"}},
                UpdateExpression="SET #s = :new",
                ConditionExpression="#s = :old",
                ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={":new": {"S": f"won by {number}"}, ":old": {"S": "old"}},
            )
        except tables.exceptions.ConditionalCheckFailedException:
            return False
        return True

    for _ in range(10):
        tables.put_item(TableName="claims", Item={"id": {"S": "1"}, "status": {"S": "old"}})
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(claim, range(8))) == 1


def test_an_update_that_is_refused_changes_nothing(local: LocalAws) -> None:
    tables = make_table(local, "whole")
    with pytest.raises(ClientError, match="ValidationException"):
        tables.update_item(
            TableName="whole",
            Key={"id": {"S": "1"}},
            UpdateExpression="SET #s = :new, big = :big",
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={":new": {"S": "new"}, ":big": {"S": "x" * 450_000}},
        )
    found = tables.get_item(TableName="whole", Key={"id": {"S": "1"}})["Item"]
    assert found == {"id": {"S": "1"}, "status": {"S": "old"}}
