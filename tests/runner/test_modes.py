"""What a handler sees of its rerun, by default and in each mode, told by a runner as ECS starts it."""

from typing import Any

import pytest

from immortal_runner.attempt import allowed_ms
from immortal_runner.exit_codes import ExitCode
from immortal_runner.workplace import memory_of
from support.functions import FUNCTION
from support.stages import RUN_ID, Stage, served_by_ecs, zipped

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/immortal/5f3c"

TELLS = """
import boto3, os
def handler(event, context):
    left_ms = context.get_remaining_time_in_millis()
    return {
        "request_id": context.aws_request_id,
        "name": context.function_name,
        "version": context.function_version,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "log": [context.log_group_name, context.log_stream_name],
        "client_context": context.client_context,
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "left_ms": left_ms,
        "trace": os.environ["_X_AMZN_TRACE_ID"],
        "variables": sorted(os.environ),
        "me": boto3.client("sts").get_caller_identity()["Arn"],
        "keys": [value for name, value in os.environ.items() if name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")],
    }
"""


def tell(stage: Stage, arn: str, **settings: object) -> tuple[dict[str, Any], str]:
    """What the handler said, and the run's note."""
    stage.record(arn, version="1" if arn.endswith(":live") else "$LATEST")
    code, run = stage.run(**settings)
    assert code == ExitCode.COMPLETE, run
    told: dict[str, Any] = stage.result(run)
    assert told["log"] == [run.log_group, run.log_stream]
    return told, run.note


@pytest.mark.conformance(39, 41, 51)
def test_the_context_is_that_of_the_invocation_that_failed(stage: Stage) -> None:
    arn = stage.create(TELLS, MemorySize=256)
    functions = stage.local.client("lambda")
    functions.publish_version(FunctionName=arn)
    functions.create_alias(FunctionName=arn, Name="live", FunctionVersion="1")
    functions.update_function_code(FunctionName=arn, ZipFile=zipped("def handler(event, context): return 'new'"))
    functions.publish_version(FunctionName=arn)
    functions.update_alias(FunctionName=arn, Name="live", FunctionVersion="2")
    told, _ = tell(
        stage,
        f"{arn}:live",
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2/credentials/0123",
        ECS_AGENT_URI="http://169.254.170.2/api/0123",
        AWS_EXECUTION_ENV="AWS_ECS_FARGATE",
    )
    name = arn.split(":")[-1]
    assert (told["request_id"], told["name"], told["version"], told["arn"]) == (RUN_ID, name, "1", f"{arn}:live")
    assert (told["memory"], told["client_context"], told["identity"]) == ("256", None, [None, None])
    assert told["left_ms"] > 1.99e9
    assert told["trace"].endswith(";Sampled=0")
    assert told["me"].endswith(f":assumed-role/runner-tests/{name}")
    assert not [each for each in told["variables"] if each.startswith(("ECS_", "IMMORTAL_")) or "RELATIVE" in each]


@pytest.mark.conformance(35, 40)
def test_a_handler_can_be_given_its_own_deadline_a_new_request_id_and_fixed_credentials(stage: Stage) -> None:
    arn = stage.create(TELLS)
    told, note = tell(
        stage,
        f"{arn}:$LATEST",
        IMMORTAL_DEADLINE="original",
        IMMORTAL_REQUEST_ID="fresh",
        IMMORTAL_CREDENTIALS="static",
        IMMORTAL_EXTENSIONS="off",
    )
    assert told["arn"] == arn
    assert 0 < told["left_ms"] <= 1000
    assert told["request_id"] != RUN_ID
    assert f"the handler saw the request id {told['request_id']}" in note
    assert "the deadline that it saw: original" in note
    assert "good for an hour" in note
    assert len(told["keys"]) == 2
    assert told["me"].endswith(f":assumed-role/runner-tests/{arn.split(':')[-1]}")


def test_a_function_can_run_as_the_role_of_its_task_and_is_told_of_the_memory_that_the_task_leaves_it(
    stage: Stage,
) -> None:
    sts = stage.local.client("sts")
    given = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/runner-tests", RoleSessionName="the-task")
    served = {
        "AccessKeyId": given["Credentials"]["AccessKeyId"],
        "SecretAccessKey": given["Credentials"]["SecretAccessKey"],
        "Token": given["Credentials"]["SessionToken"],
        "Expiration": "2099-01-01T00:00:00Z",
    }
    with served_by_ecs(TASK, memory_mb=2048, credentials=served) as environment:
        told, note = tell(stage, stage.create(TELLS), IMMORTAL_CREDENTIALS="task-role", **environment)
    assert told["me"].endswith(":assumed-role/runner-tests/the-task")
    assert told["memory"] == "1948"
    assert "was told of 1948 MB" in note
    assert "the task's role" in note
    assert stage.ledger.read(RUN_ID).task_arn == TASK


def test_a_task_without_a_role_runs_nothing_as_its_role(stage: Stage) -> None:
    stage.record(stage.create(TELLS))
    code, run = stage.run(IMMORTAL_CREDENTIALS="task-role")
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "this task has no role. Next step:" in run.reason


@pytest.mark.conformance(78)
def test_code_that_is_newer_than_its_failure_is_left_to_a_human_where_that_was_asked_for(stage: Stage) -> None:
    stage.record(stage.create(TELLS), failed_ms=1_700_000_000_000)
    code, run = stage.run(IMMORTAL_CHANGED_CODE="park")
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "the function was changed at 20" in run.reason
    assert "UTC, after it had failed at 2023-11-14 22:13:20 UTC" in run.reason
    assert f"immortal runs redrive {RUN_ID}" in run.reason


@pytest.mark.conformance(60)
def test_a_version_that_was_deleted_is_parked(stage: Stage) -> None:
    arn = stage.create(TELLS)
    functions = stage.local.client("lambda")
    functions.publish_version(FunctionName=arn)
    functions.delete_function(FunctionName=arn, Qualifier="1")
    stage.record(arn, version="1")
    code, run = stage.run()
    assert (code, run.status) == (ExitCode.PARKED, "parked")
    assert "is gone. Next step:" in run.reason


def test_a_deadline_is_counted_in_the_unit_of_its_mode() -> None:
    assert allowed_ms("unlimited", FUNCTION) == 2_000_000_000
    assert allowed_ms("original", FUNCTION) == FUNCTION.timeout_s * 1000
    assert allowed_ms(2_147_483, FUNCTION) == 2_147_483_000


@pytest.mark.parametrize(("task_mb", "told_mb"), [(0, 128), (128, 128), (228, 128), (512, 412), (8192, 8092)])
def test_a_function_is_told_of_no_less_memory_than_it_has(task_mb: int, told_mb: int) -> None:
    assert memory_of(FUNCTION, task_mb) == told_mb
