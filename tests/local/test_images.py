"""Container images on the local AWS, as far as no Docker engine is needed."""

import pytest
from botocore.exceptions import ClientError

from immortal_local.images import resolve_uri
from support.bench import Bench

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("uri", "repository"),
    [
        ("app", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"),
        ("app:latest", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"),
        ("registry:5000/team/app:v1", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"),
        ("210987654321.dkr.ecr.us-east-1.amazonaws.com/a/b:v1", "210987654321.dkr.ecr.us-east-1.amazonaws.com/a/b"),
        (
            f"210987654321.dkr.ecr.us-east-1.amazonaws.com/a@sha256:{DIGEST}",
            "210987654321.dkr.ecr.us-east-1.amazonaws.com/a",
        ),
    ],
)
def test_an_image_is_resolved_to_its_digest_in_amazon_ecr(uri: str, repository: str) -> None:
    assert resolve_uri(uri, DIGEST, account="123456789012", region="eu-west-1") == f"{repository}@sha256:{DIGEST}"


def test_without_docker_an_image_can_be_made_a_function_and_not_be_invoked(bench: Bench) -> None:
    name = bench.new_name("drawn")
    made = bench.functions.create_function(
        FunctionName=name, Role=bench.role_arn, PackageType="Image", Code={"ImageUri": f"app@sha256:{DIGEST}"}
    )
    assert made["CodeSha256"] == DIGEST
    code = bench.functions.get_function(FunctionName=name)["Code"]
    assert code["ImageUri"] == f"app@sha256:{DIGEST}"
    assert code["ResolvedImageUri"].endswith(f".amazonaws.com/app@sha256:{DIGEST}")
    with pytest.raises(ClientError, match=r"InvalidRuntimeException.*--engine docker"):
        bench.functions.invoke(FunctionName=name)


def test_without_docker_a_tag_resolves_to_nothing(bench: Bench) -> None:
    name = bench.new_name("tagged")
    bench.functions.create_function(
        FunctionName=name, Role=bench.role_arn, PackageType="Image", Code={"ImageUri": "app:latest"}
    )
    assert "ResolvedImageUri" not in bench.functions.get_function(FunctionName=name)["Code"]
