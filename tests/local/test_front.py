import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from immortal_local.front import Front
from immortal_local.links import Links
from immortal_local.server import LocalAws
from immortal_local.wire import HttpRequest, Service
from support.bench import Bench

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def get(path: str) -> HttpRequest:
    return HttpRequest("GET", path, {}, {}, b"")


def test_a_link_gives_its_file_until_it_expires(tmp_path: Path) -> None:
    file = tmp_path / "code.zip"
    file.write_bytes(b"PK")
    now = [100.0]
    links = Links(lifetime_s=600, clock=lambda: now[0])
    path = links.open(file, host="host:1").removeprefix("http://host:1")

    assert links(get(path)).body == b"PK"
    now[0] += 599
    assert links(get(path)).status == 200
    now[0] += 1
    assert links(get(path)).status == 403


def test_a_guessed_link_is_refused(tmp_path: Path) -> None:
    links = Links()
    links.open(tmp_path / "code.zip", host="host:1")

    assert links(get("/_immortal/code/guess")).status == 403


def test_two_parts_cannot_answer_for_one_service() -> None:
    def emulator(_environ: "WSGIEnvironment", _start: "StartResponse") -> list[bytes]:
        return []

    front = Front(emulator, account="111122223333")
    front.add_services([Service("lambda", {})])

    with pytest.raises(ValueError, match="lambda"):
        front.add_services([Service("lambda", {})])


def test_what_is_not_ours_reaches_the_emulator_with_its_body(local: LocalAws) -> None:
    table: Any = local.client("dynamodb")
    table.create_table(
        TableName="front",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.put_item(TableName="front", Item={"k": {"S": "x"}, "v": {"B": b"\x00\xff"}})

    assert table.get_item(TableName="front", Key={"k": {"S": "x"}})["Item"]["v"]["B"] == b"\x00\xff"


def test_each_region_has_functions_of_its_own(bench: Bench) -> None:
    name = bench.make_function()
    elsewhere: Any = bench.local.client("lambda", "eu-west-1")

    with pytest.raises(ClientError, match=f"Function not found: arn:aws:lambda:eu-west-1:.*:function:{name}"):
        elsewhere.get_function(FunctionName=name)


def test_the_link_of_get_function_needs_no_signature_and_gives_the_very_zip(bench: Bench) -> None:
    name = bench.make_function()
    answered = bench.functions.get_function(FunctionName=name)

    with urllib.request.urlopen(answered["Code"]["Location"]) as response:  # noqa: S310  # our own loopback server
        assert len(response.read()) == answered["Configuration"]["CodeSize"]

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(answered["Code"]["Location"] + "x")  # noqa: S310  # our own loopback server


def test_a_link_names_the_address_by_which_its_caller_came(bench: Bench) -> None:
    client: Any = boto3.client(
        "lambda",
        endpoint_url=bench.local.endpoint.replace("127.0.0.1", "localhost"),
        region_name=bench.local.region,
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
    )

    location = client.get_function(FunctionName=bench.make_function())["Code"]["Location"]

    assert location.startswith("http://localhost:")


def test_a_fault_of_ours_is_answered_and_told_on_stderr(local: LocalAws, capfd: pytest.CaptureFixture[str]) -> None:
    def break_down(_request: HttpRequest) -> Any:
        raise ZeroDivisionError

    local.front.add_route("broken", break_down)

    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"{local.endpoint}/_immortal/broken/")  # noqa: S310  # our own loopback server
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("service", "operation"),
    [("dynamodb", "list_global_tables"), ("ec2", "describe_reserved_instances_listings")],
)
def test_what_the_emulator_lacks_is_said_once_and_in_one_line(
    local: LocalAws, capfd: pytest.CaptureFixture[str], service: str, operation: str
) -> None:
    make: Any = boto3.client
    client = make(
        service,
        endpoint_url=local.endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )

    with pytest.raises(ClientError, match="not implemented in the local AWS") as error:
        getattr(client, operation)()

    assert error.value.response["Error"]["Code"] == "NotImplementedException"
    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if operation in line]) == 1
    assert not [line for line in lines if "Traceback" in line]
