"""What the dispatcher asks of AWS, asked of the local one."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        local.client("ecr"),
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


URI = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app@sha256:{'ab' * 32}"


class Registry:
    """The two calls of Amazon ECR, for one image; its configuration lies behind a link."""

    def __init__(self, local: LocalAws, folder: Path, *, gone: bool = False) -> None:
        self._gone = gone
        self._file = folder / "config"
        self._file.write_text(json.dumps({"config": {"Entrypoint": ["/entry"], "Cmd": ["app.handler"]}}))
        self._link = local.links.open(self._file, host=local.endpoint.removeprefix("http://"))
        self.asked: list[str] = []

    def batch_get_image(self, **asked: Any) -> dict[str, Any]:
        assert (asked["registryId"], asked["repositoryName"]) == ("123456789012", "team/app")
        self.asked.append(asked["imageIds"][0]["imageDigest"])
        if self._gone:
            return {"images": [], "failures": [{"failureCode": "ImageNotFound"}]}
        digest = f"sha256:{hashlib.sha256(self._file.read_bytes()).hexdigest()}"
        return {"images": [{"imageManifest": json.dumps({"config": {"digest": digest}})}], "failures": []}

    def get_download_url_for_layer(self, **_: Any) -> dict[str, Any]:
        return {"downloadUrl": self._link}


def make_cluster(local: LocalAws) -> None:
    local.client("ecs").create_cluster(clusterName="tasks")
    local.client("ecs").register_task_definition(
        family="idle",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "runner", "image": "runner"}],
    )


def run_of(local: LocalAws, name: str, run_id: str) -> Run:
    function = local.client("lambda").get_function_configuration(FunctionName=name)["FunctionArn"]
    return replace(RUN, run_id=run_id, function_arn=function, version="$LATEST")


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
    make_cluster(local)
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


def test_an_image_gets_a_task_definition_that_is_registered_once(
    account: AwsAccount, local: LocalAws, queue_arn: str, tmp_path: Path
) -> None:
    make_cluster(local)
    account.ecr = registry = Registry(local, tmp_path)
    image = {"PackageType": "Image", "Code": {"ImageUri": URI}, "DeadLetterConfig": {"TargetArn": queue_arn}}
    local.client("lambda").create_function(FunctionName="drawn", Role=make_role(local, "drawn"), **image)
    tasks = []
    for number in range(2):
        started = account.launch(run_of(local, "drawn", f"drawn-{number}"))
        assert isinstance(started, Started), started
        tasks.append(started.task_arn)
    described = local.client("ecs").describe_tasks(cluster="tasks", tasks=tasks)["tasks"]
    (definition_arn,) = {task["taskDefinitionArn"] for task in described}
    assert definition_arn.rpartition("/")[2].startswith("idle-image-drawn-")
    assert definition_arn.endswith(":1")
    definition = local.client("ecs").describe_task_definition(taskDefinition=definition_arn)["taskDefinition"]
    assert [each["image"] for each in definition["containerDefinitions"]] == ["runner", URI]
    assert definition["containerDefinitions"][1]["command"] == ["/entry", "app.handler"]
    assert registry.asked == [URI.partition("@")[2]]


def test_an_image_that_is_gone_is_a_refusal_that_names_it(account: AwsAccount, local: LocalAws, tmp_path: Path) -> None:
    make_cluster(local)
    account.ecr = Registry(local, tmp_path, gone=True)
    image = {"PackageType": "Image", "Code": {"ImageUri": URI.replace("ab", "cd")}}
    local.client("lambda").create_function(FunctionName="faded", Role=make_role(local, "faded"), **image)
    refused = account.launch(run_of(local, "faded", "faded"))
    assert isinstance(refused, Refused)
    assert refused.cause == "misconfigured"
    assert "team/app@sha256:cdcd" in refused.reason


def test_a_zip_costs_no_call_where_a_listing_has_shown_it_and_one_elsewhere(
    account: AwsAccount, local: LocalAws, queue_arn: str
) -> None:
    make_cluster(local)
    asked: list[str] = []
    events: Any = account.functions.meta.events
    events.register("before-call.lambda.GetFunction", lambda **_: asked.append("GetFunction"))
    attach_function(local, "listed", make_role(local, "listed"), queue_arn)
    account.candidates(queue_arn, sent_ms=now_ms())
    assert isinstance(account.launch(run_of(local, "listed", "listed")), Started)
    assert asked == []
    attach_function(local, "named", make_role(local, "named"), queue_arn)
    for number in range(3):
        assert isinstance(account.launch(run_of(local, "named", f"named-{number}")), Started)
    assert asked == ["GetFunction"]


def test_a_function_that_is_gone_is_launched_so_that_the_runner_says_so(account: AwsAccount, local: LocalAws) -> None:
    make_cluster(local)
    gone = replace(RUN, run_id="gone", function_arn="arn:aws:lambda:eu-west-1:123456789012:function:gone")
    assert isinstance(account.launch(gone), Started)
