from typing import Any

import pytest

from immortal_runner.code.function import FunctionNotReady, FunctionRefused, read_function

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:report-builder"


def answer(**changes: Any) -> dict[str, Any]:
    configuration = {
        "FunctionName": "report-builder",
        "FunctionArn": f"{ARN}:7",
        "Runtime": "python3.13",
        "Role": "arn:aws:iam::123456789012:role/r",
        "Handler": "app.handler",
        "CodeSize": 100,
        "Timeout": 3,
        "MemorySize": 256,
        "LastModified": "2026-11-21T10:00:00.000+0000",
        "CodeSha256": "abc=",
        "Version": "7",
        "Environment": {"Variables": {"PASSWORD": "hidden"}},
        "Layers": [{"Arn": f"{ARN}:layer:1"}, {"Arn": f"{ARN}:layer:2"}],
        "PackageType": "Zip",
        "Architectures": ["arm64"],
        "State": "Active",
    }
    return {"Configuration": configuration | changes, "Code": {"Location": "https://example"}}


def test_a_function_is_read_as_getfunction_describes_it() -> None:
    function = read_function(answer(LoggingConfig={"LogFormat": "JSON", "LogGroup": "own"}))
    assert (function.arn, function.version, function.region) == (ARN, "7", "eu-west-1")
    assert function.layers == (f"{ARN}:layer:1", f"{ARN}:layer:2")
    assert (function.log_group, function.log_format) == ("own", "JSON")
    assert function.architecture == "arm64"


def test_without_a_log_group_it_is_lambdas_own() -> None:
    assert read_function(answer()).log_group == "/aws/lambda/report-builder"


def test_the_environment_is_never_shown() -> None:
    assert "hidden" not in repr(read_function(answer()))


@pytest.mark.conformance(48, 75)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": "kms"}}}, "kms:Decrypt"),
        ({"DurableConfig": {"ExecutionTimeout": 1}}, "durable function"),
        (
            {"PackageType": "Image", "ImageConfigResponse": {"Error": {"ErrorCode": "X", "Message": "kms"}}},
            r"image configuration.*\(X: kms\)",
        ),
        ({"Runtime": "cobol85"}, "cobol85"),
        ({"Runtime": "go1.x"}, "Next step: move the function to provided.al2023"),
        ({"State": "Deleting"}, "Deleting"),
        ({"State": "Failed", "StateReason": "broken"}, "Failed: broken"),
    ],
    ids=["environment", "durable", "image configuration", "runtime", "go", "deleting", "state"],
)
def test_what_cannot_be_rerun_as_it_was_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FunctionRefused, match=says):
        read_function(answer(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"State": "Pending", "StateReason": "The function is being created."},
        {"LastUpdateStatus": "InProgress", "LastUpdateStatusReason": "The function is being created."},
    ],
    ids=["created", "updated"],
)
def test_what_lambda_is_still_at_work_on_is_a_matter_of_time(changes: dict[str, Any]) -> None:
    with pytest.raises(FunctionNotReady, match=r"The function is being created\.") as refused:
        read_function(answer(**changes))
    assert refused.value.retryable


@pytest.mark.parametrize("state", ["Inactive", "ActiveNonInvocable"])
def test_a_function_that_sleeps_still_has_its_code(state: str) -> None:
    assert read_function(answer(State=state, LastUpdateStatus="Failed")).name == "report-builder"


@pytest.mark.conformance(74)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}}, "SnapStart"),
        ({"MasterArn": ARN}, "Lambda@Edge"),
        ({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "tenant"),
        ({"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {}}}, "Managed Instances"),
    ],
    ids=["SnapStart", "Edge", "tenants", "Managed Instances"],
)
def test_what_only_lambda_does_for_a_function_is_noted(changes: dict[str, Any], says: str) -> None:
    (note,) = read_function(answer(**changes)).notes
    assert says in note


def test_a_snapshot_that_is_not_made_and_file_systems_are_no_note() -> None:
    function = read_function(
        answer(
            SnapStart={"ApplyOn": "None", "OptimizationStatus": "Off"},
            FileSystemConfigs=[{"Arn": "arn:aws:elasticfilesystem:x", "LocalMountPath": "/mnt/data"}],
        )
    )
    assert (function.notes, function.mounts) == ((), ("/mnt/data",))
