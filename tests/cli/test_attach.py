"""Attaching real functions of the local AWS."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from immortal_local.server import LocalAws
from support.bench import TRUST, zip_files
from support.commands import immortal

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Function:
    """A function with a role of its own."""

    name: str
    local: LocalAws

    @property
    def target(self) -> str:
        configuration = self.local.client("lambda").get_function_configuration(FunctionName=self.name)
        return str(configuration.get("DeadLetterConfig", {}).get("TargetArn", ""))

    @property
    def trust(self) -> Any:
        return self.local.client("iam").get_role(RoleName=self.name)["Role"]["AssumeRolePolicyDocument"]

    @property
    def policies(self) -> list[str]:
        return list(self.local.client("iam").list_role_policies(RoleName=self.name)["PolicyNames"])


@pytest.fixture
def make(local: LocalAws) -> Callable[..., Function]:
    def make(kind: str = "thumbnails", **settings: Any) -> Function:
        name = f"{kind}-{next(_numbers)}"
        role = local.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        local.client("lambda").create_function(
            **{
                "FunctionName": name,
                "Runtime": "python3.13",
                "Role": role["Role"]["Arn"],
                "Handler": "app.handler",
                "Code": {"ZipFile": zip_files({"app.py": "def handler(event, context): pass"})},
                **settings,
            }
        )
        return Function(name, local)

    return make


def test_attach_sets_queue_right_and_trust_and_detach_takes_them_back(
    deployed: dict[str, Any], make: Callable[..., Function]
) -> None:
    function = make()
    assert immortal("attach", function.name, "--yes").code == 0
    assert function.target == deployed["FailureQueueArn"]
    assert function.policies == ["immortal-immortal-letters"]
    (statement,) = [statement for statement in function.trust["Statement"] if statement.get("Sid") == "ImmortalRunner"]
    assert statement["Principal"] == {"AWS": deployed["TaskRoleArn"]}
    assert immortal("detach", function.name, "--yes").code == 0
    assert (function.target, function.policies, function.trust) == ("", [], TRUST)


def test_attaching_twice_changes_nothing_the_second_time(
    deployed: dict[str, Any], make: Callable[..., Function]
) -> None:
    del deployed
    function = make()
    immortal("attach", function.name, "--yes")
    answer = immortal("attach", function.name)
    assert answer.code == 0
    assert "nothing to change" in answer.err


def test_the_queue_that_was_there_before_comes_back(
    deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]
) -> None:
    sqs = local.client("sqs")
    url = sqs.create_queue(QueueName="of-the-team")["QueueUrl"]
    theirs = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    function = make(DeadLetterConfig={"TargetArn": theirs})
    answer = immortal("attach", function.name, "--yes")
    assert f"{theirs} → {deployed['FailureQueueArn']}" in answer.out
    immortal("detach", function.name, "--yes")
    assert function.target == theirs


def test_the_queue_that_was_there_before_comes_back_whichever_installation_came_last(
    deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]
) -> None:
    sqs = local.client("sqs")
    url = sqs.create_queue(QueueName="of-another-team")["QueueUrl"]
    theirs = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    function = make(DeadLetterConfig={"TargetArn": theirs})
    (second,) = immortal("deploy", "--name", "second", "--json").lines
    immortal("attach", function.name, "--yes")
    assert immortal("attach", function.name, "--yes", "--name", "second").code == 0
    assert function.target == second["FailureQueueArn"] != deployed["FailureQueueArn"]
    assert immortal("detach", function.name, "--yes").code == 0
    assert (function.target, function.policies) == (second["FailureQueueArn"], ["immortal-second-letters"])
    assert immortal("detach", function.name, "--yes", "--name", "second").code == 0
    arn = local.client("lambda").get_function_configuration(FunctionName=function.name)["FunctionArn"]
    tags = local.client("lambda").list_tags(Resource=arn)["Tags"]
    assert (function.target, function.policies, function.trust, tags) == (theirs, [], TRUST, {})
    assert immortal("destroy", "--name", "second", "--purge", "--yes").code == 0


def test_nothing_changes_unless_the_plan_is_agreed_to(deployed: dict[str, Any], make: Callable[..., Function]) -> None:
    del deployed
    function = make()
    answer = immortal("attach", function.name, typed="n\n")
    assert answer.code == 1
    assert "DeadLetterConfig" in answer.out
    assert (function.target, function.policies) == ("", [])


def test_the_plan_is_also_said_in_json(deployed: dict[str, Any], make: Callable[..., Function]) -> None:
    del deployed
    lines = immortal("attach", make().name, "--yes", "--json").lines
    assert [line["part"] for line in lines][-1] == "DeadLetterConfig"
    assert all(line.keys() == {"what", "part", "change"} for line in lines)


def test_an_unknown_name_is_answered_with_the_nearest(deployed: dict[str, Any], make: Callable[..., Function]) -> None:
    del deployed
    function = make("invoices")
    answer = immortal("attach", "invoises", "--yes")
    assert answer.code == 1
    assert f'no function "invoises" in us-east-1. Nearest: {function.name}.' in answer.err


def test_functions_that_share_a_role_are_pointed_out(
    deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]
) -> None:
    del deployed
    first = make()
    role_arn = local.client("iam").get_role(RoleName=first.name)["Role"]["Arn"]
    second = make(Role=role_arn)
    immortal("attach", first.name, "--yes")
    answer = immortal("attach", second.name, "--yes")
    assert f"{second.name}: shares the role {first.name} with {first.name}" in answer.err
    immortal("detach", second.name, "--yes")
    assert first.policies == ["immortal-immortal-letters"]


def test_arns_name_functions_too(deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]) -> None:
    function = make()
    arn = local.client("lambda").get_function_configuration(FunctionName=function.name)["FunctionArn"]
    assert immortal("attach", arn, function.name, "--yes").code == 0
    assert function.target == deployed["FailureQueueArn"]
    elsewhere = immortal("detach", arn.replace("us-east-1", "eu-west-1"), "--yes")
    assert elsewhere.code == 1
    assert "no function" in elsewhere.err
    assert immortal("detach", arn, "--yes").code == 0
    assert function.target == ""


@pytest.mark.parametrize("verb", ["attach", "detach"])
@pytest.mark.parametrize("form", ["{name}:live", "{arn}:live", "{arn}:7", "{name}:$LATEST"])
def test_a_version_or_an_alias_is_refused_with_the_name_to_give(
    verb: str, form: str, deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]
) -> None:
    del deployed
    function = make()
    arn = local.client("lambda").get_function_configuration(FunctionName=function.name)["FunctionArn"]
    answer = immortal(verb, form.format(name=function.name, arn=arn), "--yes")
    assert answer.code == 1
    assert "belongs to the function as a whole" in answer.err
    assert f"Next step: name it {function.name}" in answer.err


@pytest.mark.parametrize("text", ["123456789012:function:job", "arn:aws:s3:::bucket"])
def test_what_is_no_whole_arn_is_told(text: str, deployed: dict[str, Any]) -> None:
    del deployed
    answer = immortal("attach", text, "--yes")
    assert answer.code == 1
    assert "ARN" in answer.err


def test_published_versions_are_pointed_out(
    deployed: dict[str, Any], local: LocalAws, make: Callable[..., Function]
) -> None:
    del deployed
    function = make()
    assert "published versions" not in immortal("attach", function.name, typed="n\n").err
    local.client("lambda").publish_version(FunctionName=function.name)
    answer = immortal("attach", function.name, typed="n\n")
    assert f"{function.name}: has published versions" in answer.err
    assert "on-failure destination" in answer.err


@pytest.mark.parametrize("purge", [False, True], ids=["without its runner", "without anything"])
def test_a_function_is_detached_from_an_installation_that_is_gone(
    local: LocalAws, make: Callable[..., Function], *, purge: bool
) -> None:
    sqs = local.client("sqs")
    url = sqs.create_queue(QueueName=f"before-{purge}")["QueueUrl"]
    theirs = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    function = make(DeadLetterConfig={"TargetArn": theirs})
    assert immortal("deploy", "--name", "leaves").code == 0
    assert immortal("attach", function.name, "--name", "leaves", "--yes").code == 0
    assert immortal("destroy", "--name", "leaves", *(["--purge", "--yes"] if purge else [])).code == 0
    answer = immortal("detach", function.name, "--name", "leaves", "--yes")
    assert answer.code == 0, answer.err
    assert (function.target, function.policies, function.trust) == (theirs, [], TRUST)
    assert ("there is no stack leaves-store" in answer.err) == purge
    again = immortal("detach", function.name, "--name", "leaves")
    assert "nothing to change" in again.err
    if not purge:
        immortal("destroy", "--name", "leaves", "--purge", "--yes")


def test_destroying_tells_which_functions_are_still_attached(
    deployed: dict[str, Any], make: Callable[..., Function]
) -> None:
    del deployed
    function = make()
    immortal("attach", function.name, "--yes")
    answer = immortal("destroy", "--purge", typed="n\n")
    assert "Still attached:" in answer.err
    assert function.name in answer.err
