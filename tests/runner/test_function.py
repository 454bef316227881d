from typing import Any

import pytest

from immortal_runner.code.function import FunctionRefused, read_function

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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": "kms"}}}, "kms:Decrypt"),
        ({"DurableConfig": {"ExecutionTimeout": 1}}, "durable function"),
        ({"PackageType": "Image", "Runtime": None}, "container image"),
        ({"Runtime": "cobol85"}, "cobol85"),
        ({"State": "Failed", "StateReason": "broken"}, "Failed: broken"),
    ],
    ids=["environment", "durable", "image", "runtime", "state"],
)
def test_what_cannot_be_rerun_as_it_was_is_refused(changes: dict[str, Any], says: str) -> None:
    """Conformance 48 and 75."""
    with pytest.raises(FunctionRefused, match=says):
        read_function(answer(**changes))
