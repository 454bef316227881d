"""An installation from its first stack to its last resource, on the local AWS."""

import json
import re
from typing import Any

import boto3
import pytest

from immortal_cli import options
from immortal_cli.aws import Account
from immortal_cli.deploy import refuse_unreachable_image
from immortal_cli.errors import Failed
from immortal_cli.templates import TEMPLATE_NAMES, read_template
from immortal_local.server import LocalAws
from support.bench import TRUST, zip_files
from support.commands import immortal


def stacks(local: LocalAws) -> dict[str, str]:
    found = local.client("cloudformation").describe_stacks()["Stacks"]
    return {stack["StackName"]: stack["StackStatus"] for stack in found}


def test_deploying_answers_with_one_object_of_all_outputs(deployed: dict[str, Any], local: LocalAws) -> None:
    assert deployed["FailureQueueArn"].startswith("arn:aws:sqs:")
    assert deployed.keys() >= {"LedgerTable", "PayloadBucket", "Cluster", "TaskRoleArn", "DispatcherFunction"}
    assert stacks(local) == {
        "immortal-store": "CREATE_COMPLETE",
        "immortal-runner": "CREATE_COMPLETE",
        "immortal-fallback": "CREATE_COMPLETE",
    }


def test_deploying_again_changes_nothing(deployed: dict[str, Any]) -> None:
    answer = immortal("deploy", "--json")
    assert answer.code == 0
    assert answer.lines == [deployed]
    assert answer.err.count("no changes") == 3


def test_what_was_given_once_is_kept_by_the_next_deployment(deployed: dict[str, Any], local: LocalAws) -> None:
    assert immortal("deploy", "--image", "registry.example/runner:1", "--parameter", "Cpu=512").code == 0
    assert immortal("deploy", "--parameter", "Memory=1024").code == 0
    definition = local.client("ecs").describe_task_definition(taskDefinition=deployed["TaskDefinition"])
    task = definition["taskDefinition"]
    assert task["containerDefinitions"][0]["image"] == "registry.example/runner:1"
    assert (task["cpu"], task["memory"]) == ("512", "1024")


def test_the_dispatcher_reads_the_failure_queue_and_answers_for_each_message(
    deployed: dict[str, Any], local: LocalAws
) -> None:
    (mapping,) = local.client("lambda").list_event_source_mappings(FunctionName=deployed["DispatcherFunction"])[
        "EventSourceMappings"
    ]
    assert mapping["EventSourceArn"] == deployed["FailureQueueArn"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_misspelt_parameter_changes_nothing(deployed: dict[str, Any]) -> None:
    del deployed
    answer = immortal("deploy", "--parameter", "Imgae=x")
    assert answer.code == 1
    assert "Nearest: Image" in answer.err


def test_a_parameter_that_deploy_fills_in_itself_changes_nothing(deployed: dict[str, Any], local: LocalAws) -> None:
    del deployed
    answer = immortal("deploy", "--parameter", "Name=other")
    assert answer.code == 1
    assert "Next step: --name" in answer.err
    assert not [stack for stack in stacks(local) if stack.startswith("other")]


def test_on_aws_a_missing_image_is_answered_with_the_command_that_builds_it(shell: pytest.MonkeyPatch) -> None:
    del shell
    account = Account(boto3.Session(region_name="eu-west-1"), {"cloudformation": on_aws()})
    with pytest.raises(Failed, match="Next step: immortal image build"):
        refuse_unreachable_image(account, None, deployed=False)
    refuse_unreachable_image(account, "111122223333.dkr.ecr.eu-west-1.amazonaws.com/runner:1", deployed=False)
    refuse_unreachable_image(account, None, deployed=True)


def on_aws() -> Any:
    return boto3.client("cloudformation", "eu-west-1", endpoint_url="https://cloudformation.eu-west-1.amazonaws.com")


def test_a_parameter_without_a_value_was_asked_wrongly() -> None:
    assert immortal("deploy", "--parameter", "Image").code == 2


def test_a_stack_that_fails_says_which_resource_and_why(local: LocalAws) -> None:
    local.client("ecs").create_cluster(clusterName="bad")
    local.client("logs").create_log_group(logGroupName="/immortal/bad/runner")
    answer = immortal("deploy", "--name", "bad")
    assert answer.code == 1
    assert "bad-runner is ROLLBACK_COMPLETE" in answer.err
    assert "RunnerLog" in answer.err
    local.client("logs").delete_log_group(logGroupName="/immortal/bad/runner")
    again = immortal("deploy", "--name", "bad")
    assert "removing what an earlier attempt left" in again.err
    assert again.code == 0
    assert immortal("destroy", "--name", "bad", "--purge", "--yes").code == 0


def test_a_region_without_a_default_network_asks_for_subnets(local: LocalAws, shell: pytest.MonkeyPatch) -> None:
    ec2 = local.client("ec2", "eu-north-1")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    with shell.context() as patch:
        patch.setenv("AWS_REGION", "eu-north-1")
        patch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
        answer = immortal("deploy")
    assert answer.code == 1
    assert "--subnets" in answer.err


def test_destroying_keeps_what_lives_long_and_names_it(local: LocalAws) -> None:
    (outputs,) = immortal("deploy", "--name", "gone", "--json").lines
    answer = immortal("destroy", "--name", "gone")
    assert answer.code == 0
    assert [stack for stack in stacks(local) if stack.startswith("gone-")] == ["gone-store"]
    for kept in (outputs["LedgerTable"], outputs["PayloadBucket"], outputs["FailureQueueUrl"]):
        assert f"{kept}\n" in answer.err
    assert local.client("dynamodb").describe_table(TableName=outputs["LedgerTable"])
    assert local.client("s3").head_bucket(Bucket=outputs["PayloadBucket"])


def test_deploying_after_destroying_takes_up_what_was_kept(local: LocalAws) -> None:
    (before,) = immortal("deploy", "--name", "again", "--json").lines
    name = attached_function(local, "again")
    destroyed = immortal("destroy", "--name", "again")
    assert f"Still attached: {name}. " in destroyed.err
    assert f"Better first: immortal detach {name} --name again" in destroyed.err
    answer = immortal("deploy", "--name", "again", "--json")
    assert answer.code == 0, answer.err
    (after,) = answer.lines
    lasting = ("LedgerTable", "PayloadBucket", "FailureQueueArn")
    assert [after[output] for output in lasting] == [before[output] for output in lasting]
    assert f"Next step: immortal attach {name} --name again" in answer.err
    assert immortal("runs", "ls", "--name", "again").code == 0
    assert immortal("attach", name, "--name", "again", "--yes").code == 0
    trust = local.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    ours = [statement["Principal"] for statement in trust["Statement"] if "Sid" in statement]
    assert ours == [{"AWS": after["TaskRoleArn"]}]
    assert "attach" not in immortal("deploy", "--name", "again").err.lower()
    assert immortal("destroy", "--name", "again", "--purge", "--yes").code == 0
    assert not [stack for stack in stacks(local) if stack.startswith("again-")]


def attached_function(local: LocalAws, installation: str) -> str:
    """Make a function with a role of its own, attached."""
    name = f"of-{installation}"
    role = local.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    code = {"ZipFile": zip_files({"app.py": "def handler(event, context): pass"})}
    local.client("lambda").create_function(
        FunctionName=name, Runtime="python3.13", Role=role["Arn"], Handler="app.handler", Code=code
    )
    assert immortal("attach", name, "--name", installation, "--yes").code == 0
    return name


@pytest.mark.parametrize("name", ["bad name", "", "Upper", "under_score", "1st", "x" * 32, "ümlaut", "trailing\n"])
def test_a_name_that_cloudformation_refuses_is_refused_before_anything_is_made(name: str, local: LocalAws) -> None:
    before = stacks(local)
    answer = immortal("deploy", "--name", name)
    assert answer.code == 2
    assert "can't name stacks" in answer.err
    assert stacks(local) == before


def test_names_are_refused_as_the_templates_refuse_them() -> None:
    demanded = {
        found[1]
        for template in TEMPLATE_NAMES
        for found in re.finditer(
            r'  Name:\n    Type: String\n.*\n    AllowedPattern: "(.*)"', read_template(template).text
        )
    }
    assert demanded == {options.NAME.pattern}


def test_purging_asks_first_and_takes_everything(local: LocalAws) -> None:
    (outputs,) = immortal("deploy", "--name", "purged", "--json").lines
    refused = immortal("destroy", "--name", "purged", "--purge", typed="n\n")
    assert refused.code == 1
    assert stacks(local)["purged-store"] == "CREATE_COMPLETE"
    assert immortal("destroy", "--name", "purged", "--purge", typed="y\n").code == 0
    assert outputs["LedgerTable"] not in local.client("dynamodb").list_tables()["TableNames"]
    buckets = local.client("s3").list_buckets()["Buckets"]
    assert outputs["PayloadBucket"] not in {bucket["Name"] for bucket in buckets}


def test_destroying_what_is_not_there_is_no_error(local: LocalAws) -> None:
    del local
    answer = immortal("destroy", "--name", "never")
    assert answer.code == 0
    assert answer.err.count("not there") == 3
