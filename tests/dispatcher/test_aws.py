"""What the dispatcher asks of AWS, asked of the local one."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from immortal_dispatcher.aws import AwsAccount
from immortal_dispatcher.launch import Refused, Started
from immortal_dispatcher.settings import Settings
from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import ServiceUnavailable
from immortal_lambda.ledger import Ledger
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run
from immortal_local.server import LocalAws
from support.accounts import Bucket
from support.bench import TRUST, zip_files

RUN = Run("r-1", "rerun", "pending", Inline(b"{}"), 0, 0, launches=1)


@pytest.fixture
def account(local: LocalAws, ledger: Ledger) -> Iterator[AwsAccount]:
    settings = Settings("runs", "payloads", "tasks", "idle", ("subnet-1",))
    yield AwsAccount(
        settings,
        ledger,
        Bucket(),
        local.client("ecs"),
        local.client("lambda"),
        local.client("iam"),
        local.client("logs"),
    )
    for function in local.client("lambda").list_functions()["Functions"]:
        local.client("lambda").delete_function(FunctionName=function["FunctionName"])


@pytest.fixture
def queue_arn(local: LocalAws) -> str:
    sqs = local.client("sqs")
    url = sqs.create_queue(QueueName="failures")["QueueUrl"]
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def make_role(local: LocalAws, name: str) -> str:
    role = local.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    return str(role["Arn"])


def attach_function(local: LocalAws, name: str, role_arn: str, queue_arn: str) -> None:
    local.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role_arn,
        Handler="app.handler",
        Code={"ZipFile": zip_files({"app.py": "def handler(event, context): pass"})},
        DeadLetterConfig={"TargetArn": queue_arn},
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_function_attached_after_the_last_listing_is_found_for_letters_sent_since(
    account: AwsAccount, local: LocalAws, queue_arn: str
) -> None:
    role_arn = make_role(local, "listing")
    attach_function(local, "early", role_arn, queue_arn)
    assert [found.function.name for found in account.candidates(queue_arn, sent_ms=now_ms())] == ["early"]
    listed_ms = now_ms()
    attach_function(local, "late", role_arn, queue_arn)
    found = account.candidates(queue_arn, sent_ms=listed_ms + 1)
    assert sorted(candidate.function.name for candidate in found) == ["early", "late"]
    assert {candidate.role_arn for candidate in found} == {role_arn}


def test_a_letter_sent_before_the_listing_costs_no_other(account: AwsAccount, local: LocalAws, queue_arn: str) -> None:
    assert account.candidates(queue_arn, sent_ms=now_ms()) == ()
    attach_function(local, "unseen", make_role(local, "unlisted"), queue_arn)
    assert account.candidates(queue_arn, sent_ms=now_ms() - 60_000) == ()


def test_a_role_made_again_has_another_id_once_it_is_asked_for_afresh(account: AwsAccount, local: LocalAws) -> None:
    role_arn = make_role(local, "again")
    first = account.role_id(role_arn, fresh=False)
    local.client("iam").delete_role(RoleName="again")
    make_role(local, "again")
    assert account.role_id(role_arn, fresh=False) == first
    assert account.role_id(role_arn, fresh=True) != first


def test_a_role_that_is_gone_has_no_id(account: AwsAccount) -> None:
    assert account.role_id("arn:aws:iam::123456789012:role/gone", fresh=False) is None


def test_a_missing_cluster_is_a_refusal_that_names_it(account: AwsAccount) -> None:
    answer = account.launch(RUN)
    assert isinstance(answer, Refused)
    assert answer.cause == "misconfigured"
    assert "ClusterNotFoundException" in answer.reason


def test_the_same_launch_ordered_twice_is_one_task(account: AwsAccount, local: LocalAws) -> None:
    local.client("ecs").create_cluster(clusterName="tasks")
    local.client("ecs").register_task_definition(
        family="idle",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "runner", "image": "runner"}],
    )
    first, second = account.launch(RUN), account.launch(RUN)
    assert isinstance(first, Started)
    assert first == second


def test_a_task_that_ecs_no_longer_knows_has_ended(account: AwsAccount, local: LocalAws) -> None:
    local.client("ecs").create_cluster(clusterName="tasks")
    stop = account.find_stop("arn:aws:ecs:eu-west-1:123456789012:task/tasks/0123456789abcdef0123456789abcdef")
    assert stop is not None
    assert stop.stopped_reason == "ECS no longer knows it"


def test_published_versions_are_seen_and_the_log_names_the_one_that_ran(
    local: LocalAws, account: AwsAccount, queue_arn: str
) -> None:
    functions, name = local.client("lambda"), "versioned"
    attach_function(local, name, make_role(local, name), queue_arn)
    function = FunctionArn.read(functions.get_function_configuration(FunctionName=name)["FunctionArn"])
    assert not account.has_versions(function, sent_ms=now_ms() - 10_000)
    functions.publish_version(FunctionName=name)
    assert account.has_versions(function, sent_ms=now_ms())
    answer = functions.invoke(FunctionName=f"{name}:1", Payload=b"{}")
    request_id = answer["ResponseMetadata"]["RequestId"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(ServiceUnavailable):  # the log lags behind
            found = account.logged_version(f"/aws/lambda/{name}", request_id, sent_ms=now_ms())
            break
    assert found == "1"
    with pytest.raises(ServiceUnavailable, match="doesn't show request nobody yet"):
        account.logged_version(f"/aws/lambda/{name}", "nobody", sent_ms=now_ms())
    assert account.logged_version(f"/aws/lambda/{name}", "nobody", sent_ms=1) is None
