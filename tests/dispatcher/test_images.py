import hashlib
import json
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from immortal_dispatcher.images import (
    FunctionImage,
    ImageConfig,
    ImageReference,
    ImageUnreadable,
    ask_for,
    name_family,
    program,
    read_config,
    read_image,
    read_manifest,
    read_reference,
    write_definition,
    write_wrapper,
)
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import Run

DIGEST = "sha256:" + "ab" * 32
URI = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/thumbnails@{DIGEST}"
IMAGE = FunctionImage("thumbnails", URI)
CONFIG = ImageConfig(("/lambda-entrypoint.sh",), ("app.handler",), "/var/task", ("PATH",))
LOG = {"logDriver": "awslogs", "options": {"awslogs-group": "/immortal/runner"}}
BASE: dict[str, Any] = {
    "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/immortal-runner:7",
    "family": "immortal-runner",
    "cpu": "1024",
    "memory": "2048",
    "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
    "taskRoleArn": "arn:aws:iam::123456789012:role/task",
    "ephemeralStorage": {"sizeInGiB": 21},
    "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
    "containerDefinitions": [
        {
            "name": "runner",
            "image": "immortal-runner:latest",
            "essential": True,
            "stopTimeout": 30,
            "cpu": 0,
            "environment": [{"name": "IMMORTAL_LEDGER_TABLE", "value": "runs"}],
            "mountPoints": [],
            "logConfiguration": LOG,
        }
    ],
}


def answer(**configuration: Any) -> dict[str, Any]:
    return {
        "Configuration": {"FunctionName": "thumbnails", "PackageType": "Image", **configuration},
        "Code": {"RepositoryType": "ECR", "ImageUri": "elsewhere:latest", "ResolvedImageUri": URI},
    }


def test_a_zip_is_no_image() -> None:
    assert read_image({"Configuration": {"PackageType": "Zip"}, "Code": {"Location": "secret"}}) is None


def test_the_resolved_image_counts_with_what_the_function_overrides() -> None:
    asked = {"EntryPoint": ["/bin/serve"], "Command": ["a", "b"], "WorkingDirectory": "/srv"}
    found = read_image(answer(ImageConfigResponse={"ImageConfig": asked}))
    assert found == FunctionImage("thumbnails", URI, ("/bin/serve",), ("a", "b"), "/srv")
    assert read_image(answer()) == IMAGE


def test_an_image_that_lambda_could_not_read_is_refused() -> None:
    with pytest.raises(ImageUnreadable, match="access denied"):
        read_image(answer(ImageConfigResponse={"Error": {"ErrorCode": "x", "Message": "access denied"}}))
    with pytest.raises(ImageUnreadable, match="ResolvedImageUri"):
        read_image({**answer(), "Code": {"ImageUri": "x"}})


@pytest.mark.parametrize(
    ("arn", "version", "qualifier"),
    [("", "$LATEST", None), (":live", "$LATEST", "live"), (":live", "3", "3"), ("", "4", "4"), ("", "", None)],
)
def test_the_version_that_ran_is_asked_for(arn: str, version: str, qualifier: str | None) -> None:
    plain = "arn:aws:lambda:eu-west-1:123456789012:function:f"
    run = Run("r", "rerun", "pending", Inline(b"{}"), 0, 0, function_arn=plain + arn, version=version)
    assert ask_for(run) == {"FunctionName": plain} | ({"Qualifier": qualifier} if qualifier else {})


def test_a_reference_names_registry_repository_and_digest() -> None:
    assert read_reference(URI) == ImageReference("123456789012", "team/thumbnails", DIGEST)
    assert read_reference(URI.replace("@", ":v1@")).repository == "team/thumbnails"
    with pytest.raises(ImageUnreadable, match="no image in Amazon ECR"):
        read_reference("docker.io/library/python:3.13")


def test_a_manifest_leads_to_the_configuration_and_an_index_to_the_manifest_of_the_processor() -> None:
    assert read_manifest(json.dumps({"config": {"digest": "sha256:c"}}), architecture="X86_64") == (
        "config",
        "sha256:c",
    )
    index = {
        "manifests": [
            {"digest": "sha256:other", "platform": {"architecture": "unknown"}},
            {"digest": "sha256:intel", "platform": {"architecture": "amd64"}},
            {"digest": "sha256:arm", "platform": {"architecture": "arm64"}},
        ]
    }
    assert read_manifest(json.dumps(index), architecture="ARM64") == ("manifest", "sha256:arm")
    assert read_manifest(json.dumps(index), architecture="X86_64") == ("manifest", "sha256:intel")
    with pytest.raises(ImageUnreadable, match="arm64"):
        read_manifest(json.dumps({"manifests": index["manifests"][:2]}), architecture="ARM64")


def test_a_configuration_must_be_the_one_that_its_digest_names() -> None:
    config = {"Entrypoint": ["/e"], "Cmd": None, "WorkingDir": "/var/task", "Env": ["PATH=/bin", "A=b=c"]}
    data = json.dumps({"architecture": "amd64", "config": config}).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert read_config(data, digest=digest) == ImageConfig(("/e",), (), "/var/task", ("PATH", "A"))
    with pytest.raises(ImageUnreadable, match="is not the one"):
        read_config(data + b" ", digest=digest)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (IMAGE, ["/lambda-entrypoint.sh", "app.handler"]),
        (FunctionImage("f", URI, command=("other.handler",)), ["/lambda-entrypoint.sh", "other.handler"]),
        (FunctionImage("f", URI, entry_point=("/e",)), ["/e", "app.handler"]),
    ],
)
def test_entry_point_and_command_are_overridden_each_by_itself(image: FunctionImage, words: list[str]) -> None:
    assert list(program(image, CONFIG)) == words
    with pytest.raises(ImageUnreadable, match="which program to start"):
        program(IMAGE, ImageConfig())


@cache
def register_shape() -> Any:
    model = boto3.client("ecs", region_name="eu-west-1").meta.service_model
    return model.operation_model("RegisterTaskDefinition").input_shape


def test_the_definition_is_one_that_ecs_takes() -> None:
    written = write_definition(IMAGE, CONFIG, BASE)
    assert not ParamValidator().validate(written, register_shape()).has_errors()


def test_all_but_the_image_and_its_start_comes_from_the_runners_own_definition() -> None:
    written = write_definition(IMAGE, CONFIG, BASE)
    same = ("cpu", "memory", "executionRoleArn", "taskRoleArn", "ephemeralStorage", "runtimePlatform")
    assert {name: written[name] for name in same} == {name: BASE[name] for name in same}
    runner, function = written["containerDefinitions"]
    assert (runner["name"], runner["image"], runner["essential"]) == ("runner", "immortal-runner:latest", True)
    assert runner["environment"][0] == BASE["containerDefinitions"][0]["environment"][0]
    assert (function["name"], function["image"], function["essential"]) == ("function", URI, False)
    assert (function["user"], function["readonlyRootFilesystem"]) == ("993:990", True)
    assert (function["logConfiguration"], function["stopTimeout"]) == (LOG, 30)
    assert function["memory"] == 2048 - 100
    assert function["command"] == ["/lambda-entrypoint.sh", "app.handler"]
    assert function["workingDirectory"] == "/var/task"
    assert "environment" not in function, "it would beat what the image sets"


def test_the_wrapper_drops_what_leads_to_the_tasks_own_role_and_nothing_that_the_image_set() -> None:
    dropped = write_wrapper(("HOME", "PATH")).partition(";")[0].split()
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in dropped
    assert "HOSTNAME" in dropped
    assert not {"HOME", "PATH"} & set(dropped)


def test_the_same_image_has_the_same_name_and_another_has_another() -> None:
    name = name_family(IMAGE, BASE)
    assert name == name_family(IMAGE, BASE)
    assert name.startswith("immortal-image-thumbnails-")
    others = [
        name_family(FunctionImage("thumbnails", URI.replace("ab", "cd")), BASE),
        name_family(FunctionImage("thumbnails", URI, command=("x",)), BASE),
        name_family(FunctionImage("thumbnails", URI, entry_point=("x",)), BASE),
        name_family(IMAGE, {**BASE, "taskDefinitionArn": BASE["taskDefinitionArn"] + "1"}),
    ]
    assert len({name, *others}) == 5
    assert len(name_family(FunctionImage("f" * 200, URI), BASE)) <= 255
