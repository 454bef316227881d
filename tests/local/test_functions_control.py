import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.bench import Bench, zip_files

CREATED = {
    "FunctionName",
    "FunctionArn",
    "Runtime",
    "Role",
    "Handler",
    "CodeSize",
    "Description",
    "Timeout",
    "MemorySize",
    "LastModified",
    "CodeSha256",
    "Version",
    "TracingConfig",
    "RevisionId",
    "State",
    "StateReason",
    "StateReasonCode",
    "PackageType",
    "Architectures",
    "EphemeralStorage",
    "SnapStart",
    "RuntimeVersionConfig",
    "LoggingConfig",
}
"""What AWS answers to CreateFunction with nothing but the required members. Source: recorded in November 2025."""


NO_LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:none:1"


def request(bench: Bench, **changes: Any) -> dict[str, Any]:
    return {
        "FunctionName": bench.new_name("function"),
        "Runtime": "python3.12",
        "Handler": "app.handler",
        "Role": bench.role_arn,
        "Code": {"ZipFile": zip_files({"app.py": "def handler(event, context): ...\n"})},
        **changes,
    }


def body(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    said = error.value.response["Error"]
    return said["Code"], said["Message"]


def test_a_new_function_shows_the_members_that_aws_shows(bench: Bench) -> None:
    answered = bench.functions.create_function(**request(bench))

    assert body(answered).keys() == CREATED
    assert answered["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (answered["State"], answered["StateReasonCode"]) == ("Pending", "Creating")
    assert (answered["Version"], answered["Timeout"], answered["MemorySize"]) == ("$LATEST", 3, 128)


def test_a_function_is_active_by_the_next_call(bench: Bench) -> None:
    name = bench.make_function()

    bench.functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"MaxAttempts": 1})

    configuration = bench.functions.get_function(FunctionName=name)["Configuration"]
    assert configuration["LastUpdateStatus"] == "Successful"
    assert "StateReason" not in configuration


def test_settings_come_back_as_they_were_given(bench: Bench) -> None:
    queue = bench.make_queue()
    given: dict[str, Any] = {
        "Timeout": 900,
        "MemorySize": 10_240,
        "Environment": {"Variables": {"COLOUR": "blue"}},
        "EphemeralStorage": {"Size": 1024},
        "DeadLetterConfig": {"TargetArn": queue.arn},
        "Architectures": ["arm64"],
        "TracingConfig": {"Mode": "Active"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/mine"},
    }
    name = bench.make_function(**given, Tags={"team": "blue"})

    answered = bench.functions.get_function(FunctionName=name)

    assert {key: answered["Configuration"][key] for key in given} == given  # type: ignore[literal-required]
    assert answered["Tags"] == {"team": "blue"}


@pytest.mark.parametrize(
    "form",
    ["{name}", "{account}:function:{name}", "function:{name}", "arn:aws:lambda:us-east-1:{account}:function:{name}"],
)
def test_a_function_is_found_by_any_form_of_its_name(bench: Bench, form: str) -> None:
    name = bench.make_function()
    given = form.format(name=name, account=bench.local.account)

    assert bench.functions.get_function_configuration(FunctionName=given)["FunctionName"] == name
    latest = bench.functions.get_function_configuration(FunctionName=f"{given}:$LATEST")
    assert latest["FunctionArn"].endswith(f":function:{name}:$LATEST")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
        ({"MemorySize": 10_241}, "ValidationException", "less than or equal to 10240"),
        ({"Runtime": "python2.0"}, "ValidationException", "Value 'python2.0' at 'runtime' failed to satisfy"),
        ({"Runtime": "python2.7"}, "InvalidParameterValueException", "python2.7 is no longer supported"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "AWS_REGION"),
        ({"Environment": {"Variables": {"BIG": "x" * 4096}}}, "InvalidParameterValueException", "4096 byte limit"),
        ({"Role": "arn:aws:iam::123456789012:role/nobody"}, "InvalidParameterValueException", "cannot be assumed"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip uploaded file"),
        ({"Code": {"ZipFile": b""}}, "InvalidParameterValueException", "non-empty zip"),
        ({"Code": {"S3Bucket": "nowhere", "S3Key": "k"}}, "InvalidParameterValueException", "NoSuchBucket"),
        ({"Layers": [NO_LAYER]}, "InvalidParameterValueException", f"Layer version {NO_LAYER} does not exist."),
        (
            {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:none"}},
            "InvalidParameterValueException",
            "none does not exist",
        ),
    ],
    ids=[
        "time above",
        "memory above",
        "runtime",
        "retired runtime",
        "reserved name",
        "environment too big",
        "role",
        "no zip",
        "empty zip",
        "no object",
        "layer",
        "dead-letter queue",
    ],
)
def test_bad_settings_are_refused_as_aws_does(bench: Bench, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ClientError) as error:
        bench.functions.create_function(**request(bench, **changes))

    assert refusal(error)[0] == code
    assert words in refusal(error)[1]


def test_a_fifo_queue_takes_no_dead_letters(bench: Bench) -> None:
    sqs: Any = bench.local.client("sqs")
    name = bench.new_name("queue") + ".fifo"
    sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
    arn = f"arn:aws:sqs:us-east-1:{bench.local.account}:{name}"

    with pytest.raises(ClientError, match="FIFO"):
        bench.functions.create_function(**request(bench, DeadLetterConfig={"TargetArn": arn}))


def test_code_that_unzips_to_more_than_250_mb_is_refused(bench: Bench) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as zeros:
        for _ in range(251):
            zeros.write(bytes(1024 * 1024))

    with pytest.raises(ClientError, match="Unzipped size must be smaller than 262144000 bytes"):
        bench.functions.create_function(**request(bench, Code={"ZipFile": buffer.getvalue()}))


def test_a_taken_name_is_refused(bench: Bench) -> None:
    name = bench.make_function()

    with pytest.raises(bench.functions.exceptions.ResourceConflictException, match=f"Function already exist: {name}"):
        bench.make_function(FunctionName=name)


def test_an_unknown_function_is_named_by_its_arn(bench: Bench) -> None:
    arn = f"arn:aws:lambda:us-east-1:{bench.local.account}:function:nobody"

    with pytest.raises(bench.functions.exceptions.ResourceNotFoundException, match=f"Function not found: {arn}"):
        bench.functions.get_function(FunctionName="nobody")


def test_code_comes_from_s3_as_well(bench: Bench) -> None:
    s3: Any = bench.local.client("s3")
    bucket = bench.new_name("bucket")
    s3.create_bucket(Bucket=bucket)
    zipped = zip_files({"app.py": "def handler(event, context): ...\n"})
    s3.put_object(Bucket=bucket, Key="code.zip", Body=zipped)

    answered = bench.functions.create_function(**request(bench, Code={"S3Bucket": bucket, "S3Key": "code.zip"}))

    assert answered["CodeSize"] == len(zipped)


def test_updates_give_a_new_revision_and_obey_an_old_one(bench: Bench) -> None:
    name = bench.make_function()
    before = bench.functions.get_function_configuration(FunctionName=name)

    updated = bench.functions.update_function_configuration(
        FunctionName=name, Timeout=7, RevisionId=before["RevisionId"]
    )

    assert (updated["LastUpdateStatus"], updated["Timeout"], updated["MemorySize"]) == ("InProgress", 7, 128)
    assert updated["RevisionId"] != before["RevisionId"]
    with pytest.raises(bench.functions.exceptions.PreconditionFailedException):
        bench.functions.update_function_configuration(FunctionName=name, Timeout=8, RevisionId=before["RevisionId"])


def test_an_empty_target_takes_the_dead_letter_queue_away(bench: Bench) -> None:
    name = bench.make_function(DeadLetterConfig={"TargetArn": bench.make_queue().arn})

    updated = bench.functions.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": ""})

    assert "DeadLetterConfig" not in updated


def test_new_code_has_a_new_hash(bench: Bench) -> None:
    name = bench.make_function()
    before = bench.functions.get_function_configuration(FunctionName=name)["CodeSha256"]

    updated = bench.functions.update_function_code(FunctionName=name, ZipFile=zip_files({"app.py": "# new"}))

    assert updated["CodeSha256"] != before
    assert bench.functions.get_function_configuration(FunctionName=name)["CodeSha256"] == updated["CodeSha256"]


def test_a_version_is_published_once_per_change_and_never_changes(bench: Bench) -> None:
    name = bench.make_function(Timeout=5)
    functions = bench.functions

    first = functions.publish_version(FunctionName=name)
    again = functions.publish_version(FunctionName=name)
    functions.update_function_configuration(FunctionName=name, Timeout=6)
    second = functions.publish_version(FunctionName=name, Description="six")

    assert [first["Version"], again["Version"], second["Version"]] == ["1", "1", "2"]
    assert second["Description"] == "six"
    kept = functions.get_function(FunctionName=name, Qualifier="1")["Configuration"]
    assert (kept["Timeout"], kept["FunctionArn"]) == (5, first["FunctionArn"])
    versions = functions.list_versions_by_function(FunctionName=name)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1", "2"]


def test_publishing_something_else_than_expected_is_refused(bench: Bench) -> None:
    name = bench.make_function()

    with pytest.raises(bench.functions.exceptions.InvalidParameterValueException, match="is different from current"):
        bench.functions.publish_version(FunctionName=name, CodeSha256="AAAA")


def test_aliases_point_to_versions(bench: Bench) -> None:
    functions = bench.functions
    name = bench.make_function()
    functions.publish_version(FunctionName=name)

    made = functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1", Description="d")

    assert body(made).keys() == {"AliasArn", "Name", "FunctionVersion", "Description", "RevisionId"}
    through = functions.get_function_configuration(FunctionName=name, Qualifier="live")
    assert (through["Version"], through["FunctionArn"]) == ("1", made["AliasArn"])
    moved = functions.update_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert (moved["FunctionVersion"], moved["Description"]) == ("$LATEST", "d")
    assert [alias["Name"] for alias in functions.list_aliases(FunctionName=name)["Aliases"]] == ["live"]
    functions.delete_alias(FunctionName=name, Name="live")
    with pytest.raises(functions.exceptions.ResourceNotFoundException, match="Cannot find alias arn"):
        functions.get_alias(FunctionName=name, Name="live")


def test_an_alias_needs_a_version_that_exists(bench: Bench) -> None:
    name = bench.make_function()

    with pytest.raises(bench.functions.exceptions.ResourceNotFoundException, match=f"{name}:9"):
        bench.functions.create_alias(FunctionName=name, Name="live", FunctionVersion="9")


def test_a_version_that_an_alias_uses_stays(bench: Bench) -> None:
    name = bench.make_function()
    bench.functions.publish_version(FunctionName=name)
    bench.functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

    with pytest.raises(bench.functions.exceptions.ResourceConflictException, match="live"):
        bench.functions.delete_function(FunctionName=name, Qualifier="1")


def test_a_deleted_function_is_gone_with_its_versions(bench: Bench) -> None:
    name = bench.make_function()
    bench.functions.publish_version(FunctionName=name)

    answered = bench.functions.delete_function(FunctionName=name)

    assert answered["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(bench.functions.exceptions.ResourceNotFoundException):
        bench.functions.get_function(FunctionName=name, Qualifier="1")


def test_long_lists_come_in_pages(bench: Bench) -> None:
    names = {bench.make_function() for _ in range(53)}

    pages = list(bench.functions.get_paginator("list_functions").paginate())

    listed = [function for page in pages for function in page["Functions"]]
    assert len(pages) > 1
    assert names <= {function["FunctionName"] for function in listed}
    assert all("State" not in function for function in listed)


def test_all_versions_are_listed_on_demand(bench: Bench) -> None:
    name = bench.make_function()
    bench.functions.publish_version(FunctionName=name)
    pages = bench.functions.get_paginator("list_functions").paginate(FunctionVersion="ALL")

    arns = [function["FunctionArn"] for page in pages for function in page["Functions"]]

    assert [arn.rpartition(f":{name}:")[2] for arn in arns if f":{name}:" in arn] == ["$LATEST", "1"]


def test_layers_have_versions_and_links(bench: Bench) -> None:
    functions = bench.functions
    layer = bench.new_name("layer")
    zipped = zip_files({"python/colours.py": "BLUE = 1\n"})

    first = functions.publish_layer_version(
        LayerName=layer, Content={"ZipFile": zipped}, CompatibleRuntimes=["python3.12"], Description="colours"
    )
    second = functions.publish_layer_version(LayerName=layer, Content={"ZipFile": zipped})

    assert (first["Version"], second["Version"]) == (1, 2)
    by_arn = functions.get_layer_version_by_arn(Arn=first["LayerVersionArn"])
    by_number = functions.get_layer_version(LayerName=layer, VersionNumber=1)
    assert by_arn["Description"] == by_number["Description"] == "colours"
    assert by_arn["Content"]["CodeSize"] == len(zipped)
    listed = functions.list_layer_versions(LayerName=layer)["LayerVersions"]
    assert [version["Version"] for version in listed] == [2, 1]
    fitting = functions.list_layers(CompatibleRuntime="python3.12")["Layers"]
    assert [each["LatestMatchingVersion"]["Version"] for each in fitting if each["LayerName"] == layer] == [1]
    functions.delete_layer_version(LayerName=layer, VersionNumber=1)
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_layer_version_by_arn(Arn=first["LayerVersionArn"])


def test_tags_are_added_and_taken_away(bench: Bench) -> None:
    name = bench.make_function(Tags={"a": "1", "b": "2"})
    arn = bench.functions.get_function_configuration(FunctionName=name)["FunctionArn"]

    bench.functions.tag_resource(Resource=arn, Tags={"c": "3"})
    bench.functions.untag_resource(Resource=arn, TagKeys=["a"])

    assert bench.functions.list_tags(Resource=arn)["Tags"] == {"b": "2", "c": "3"}


def test_permissions_are_kept_and_shown(bench: Bench) -> None:
    functions = bench.functions
    name = bench.make_function()
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]

    functions.add_permission(
        FunctionName=name,
        StatementId="bucket",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::photos",
        SourceAccount="111122223333",
    )

    policy = json.loads(functions.get_policy(FunctionName=name)["Policy"])
    assert policy["Statement"] == [
        {
            "Sid": "bucket",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": arn,
            "Condition": {
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"},
                "StringEquals": {"AWS:SourceAccount": "111122223333"},
            },
        }
    ]
    functions.remove_permission(FunctionName=name, StatementId="bucket")
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_policy(FunctionName=name)


def test_an_event_invoke_config_is_put_updated_and_deleted(bench: Bench) -> None:
    functions = bench.functions
    queue = bench.make_queue()
    name = bench.make_function()

    put = functions.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": queue.arn}}
    )
    updated = functions.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)

    assert put["FunctionArn"].endswith(f"{name}:$LATEST")
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": queue.arn}}
    assert "MaximumEventAgeInSeconds" not in put
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    assert len(functions.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]) == 1
    functions.delete_function_event_invoke_config(FunctionName=name)
    with pytest.raises(functions.exceptions.ResourceNotFoundException, match="doesn't have an EventInvokeConfig"):
        functions.get_function_event_invoke_config(FunctionName=name)


@pytest.mark.parametrize(
    "destination",
    ["arn:aws:sqs:us-east-1:123456789012:none", "arn:aws:lambda:us-east-1:123456789012:function:none"],
    ids=["queue", "function"],
)
def test_a_destination_must_exist(bench: Bench, destination: str) -> None:
    name = bench.make_function()

    with pytest.raises(ClientError, match="none"):
        bench.functions.put_function_event_invoke_config(
            FunctionName=name, DestinationConfig={"OnFailure": {"Destination": destination}}
        )


def test_concurrency_is_reserved_out_of_the_accounts(bench: Bench) -> None:
    functions = bench.functions
    name = bench.make_function()

    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=100)

    assert functions.get_function(FunctionName=name)["Concurrency"]["ReservedConcurrentExecutions"] == 100
    assert functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 900
    with pytest.raises(functions.exceptions.InvalidParameterValueException, match="below its minimum value"):
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=901)
    functions.delete_function_concurrency(FunctionName=name)
    assert "Concurrency" not in functions.get_function(FunctionName=name)


def test_recursion_is_stopped_unless_allowed(bench: Bench) -> None:
    name = bench.make_function()

    assert bench.functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    bench.functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    assert bench.functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"


def test_an_operation_that_is_missing_says_so(bench: Bench) -> None:
    with pytest.raises(ClientError, match="lambda:ListCapacityProviders is not implemented in the local AWS"):
        bench.functions.list_capacity_providers()
