import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from immortal_local.wire import ApiError, Call, HttpAnswer, HttpRequest, Service, answer


def ask(service: Service, request: HttpRequest) -> HttpAnswer:
    return answer(
        service, request, region="eu-west-1", account="111122223333", access_key_id="AKIA", request_id="the-id"
    )


def rest(
    method: str, path: str, body: bytes = b"", query: Mapping[str, list[str]] | None = None, **headers: str
) -> HttpRequest:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest(method, path, query or {}, names, body)


def target(operation: str, body: object) -> HttpRequest:
    return HttpRequest("POST", "/", {}, {"x-amz-target": operation}, json.dumps(body).encode())


def record(calls: list[Call], result: dict[str, Any] | None = None) -> Any:
    def operation(call: Call) -> dict[str, Any] | None:
        calls.append(call)
        return result

    return operation


def test_a_rest_call_is_read_from_its_path_query_headers_and_body() -> None:
    calls: list[Call] = []
    service = Service("lambda", {"Invoke": record(calls, {"StatusCode": 200})})
    path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Af/invocations"

    ask(service, rest("POST", path, b"\x00raw", {"Qualifier": ["7"]}, x_amz_invocation_type="Event"))

    assert calls[0].request == {
        "FunctionName": "arn:aws:lambda:eu-west-1:111122223333:function:f",
        "Qualifier": "7",
        "InvocationType": "Event",
        "Payload": b"\x00raw",
    }
    assert (calls[0].region, calls[0].request_id) == ("eu-west-1", "the-id")


def test_blobs_inside_json_arrive_as_bytes() -> None:
    calls: list[Call] = []
    service = Service("lambda", {"CreateFunction": record(calls)})
    body = {"FunctionName": "f", "Role": "arn:aws:iam::111122223333:role/r", "Code": {"ZipFile": "AAE="}}

    ask(service, rest("POST", "/2015-03-31/functions", json.dumps(body).encode()))

    assert calls[0].request["Code"] == {"ZipFile": b"\x00\x01"}


@pytest.mark.parametrize(
    ("query", "operation"),
    [({}, "ListLayers"), ({"find": ["LayerVersion"], "Arn": ["a"]}, "GetLayerVersionByArn")],
    ids=["without the fixed query", "with it"],
)
def test_routes_that_differ_only_in_a_fixed_query_are_told_apart(query: dict[str, list[str]], operation: str) -> None:
    service = Service("lambda", {})

    assert service.operation_name(rest("GET", "/2018-10-31/layers", query=query)) == operation


def test_a_json_call_is_named_by_its_target() -> None:
    calls: list[Call] = []
    service = Service("ecs", {"RunTask": record(calls, {"tasks": [], "failures": []})})

    answered = ask(service, target("AmazonEC2ContainerServiceV20141113.RunTask", {"taskDefinition": "t", "count": 2}))

    assert calls[0].request == {"taskDefinition": "t", "count": 2}
    assert json.loads(answered.body) == {"tasks": [], "failures": []}
    assert answered.headers["Content-Type"] == "application/x-amz-json-1.1"


def test_results_are_written_where_the_model_puts_them() -> None:
    result = {"StatusCode": 202, "ExecutedVersion": "3", "FunctionError": None, "Payload": b"[1]"}
    service = Service("lambda", {"Invoke": record([], result)})

    answered = ask(service, rest("POST", "/2015-03-31/functions/f/invocations"))

    assert (answered.status, answered.body) == (202, b"[1]")
    assert answered.headers["X-Amz-Executed-Version"] == "3"
    assert "X-Amz-Function-Error" not in answered.headers
    assert answered.headers["x-amzn-RequestId"] == "the-id"


def test_timestamps_are_written_as_seconds() -> None:
    result = {"tasks": [{"createdAt": datetime(2026, 1, 2, tzinfo=UTC)}]}
    service = Service("ecs", {"DescribeTasks": record([], result)})

    answered = ask(service, target("AmazonEC2ContainerServiceV20141113.DescribeTasks", {"tasks": ["t"]}))

    assert json.loads(answered.body)["tasks"][0]["createdAt"] == datetime(2026, 1, 2, tzinfo=UTC).timestamp()


def test_a_member_that_the_model_does_not_have_is_our_own_fault_and_loud() -> None:
    service = Service("ecs", {"DescribeTasks": record([], {"tusks": []})})

    with pytest.raises(KeyError, match="tusks"):
        ask(service, target("AmazonEC2ContainerServiceV20141113.DescribeTasks", {"tasks": ["t"]}))


def test_a_missing_parameter_is_named() -> None:
    service = Service("ecs", {"DescribeTasks": record([])})

    answered = ask(service, target("AmazonEC2ContainerServiceV20141113.DescribeTasks", {}))

    assert answered.status == 400
    assert answered.headers["x-amzn-ErrorType"] == "ValidationException"
    assert "tasks" in json.loads(answered.body)["message"]


def test_a_body_that_is_no_json_is_refused() -> None:
    service = Service("lambda", {"CreateFunction": record([])})

    answered = ask(service, rest("POST", "/2015-03-31/functions", b"{"))

    assert answered.headers["x-amzn-ErrorType"] == "SerializationException"


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("Timeout", 0, "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than"),
        ("Role", "nobody", "Value 'nobody' at 'role' failed to satisfy constraint: Member must satisfy regular"),
        ("PackageType", "Rar", "Member must satisfy enum value set: [Zip, Image]"),
        ("Description", "x" * 257, "Member must have length less than or equal to 256"),
    ],
    ids=["range", "pattern", "enumeration", "length"],
)
def test_a_constrained_service_refuses_in_the_words_of_aws(member: str, value: object, words: str) -> None:
    service = Service("lambda", {"CreateFunction": record([])}, constrained=True)
    body = {"FunctionName": "f", "Role": "arn:aws:iam::111122223333:role/r", "Code": {}, member: value}

    answered = ask(service, rest("POST", "/2015-03-31/functions", json.dumps(body).encode()))

    assert answered.headers["x-amzn-ErrorType"] == "ValidationException"
    assert json.loads(answered.body)["message"].startswith("1 validation error detected: ")
    assert words in json.loads(answered.body)["message"]


def refuse(code: str, **members: Any) -> Any:
    def operation(_call: Call) -> None:
        raise ApiError(code, "because", **members)

    return operation


def test_a_rest_error_has_the_status_and_the_members_of_its_shape() -> None:
    service = Service("lambda", {"Invoke": refuse("TooManyRequestsException", Reason="CallerRateLimitExceeded")})

    answered = ask(service, rest("POST", "/2015-03-31/functions/f/invocations"))

    assert answered.status == 429
    assert json.loads(answered.body) == {"message": "because", "Reason": "CallerRateLimitExceeded", "Type": "User"}


def test_a_json_error_is_named_by_its_type() -> None:
    service = Service("ecs", {"DescribeTasks": refuse("ClusterNotFoundException")})

    answered = ask(service, target("AmazonEC2ContainerServiceV20141113.DescribeTasks", {"tasks": ["t"]}))

    assert answered.status == 400
    assert json.loads(answered.body) == {
        "__type": "com.amazonaws.ecs#ClusterNotFoundException",
        "message": "because",
    }


def test_what_is_not_implemented_says_so_and_what_there_is() -> None:
    service = Service("lambda", {"Invoke": record([])}, whole=True)

    answered = ask(service, rest("GET", "/2015-03-31/functions"))

    assert answered.status == 501
    assert json.loads(answered.body)["message"] == (
        "lambda:ListFunctions is not implemented in the local AWS. It has: Invoke."
    )


@pytest.mark.parametrize(
    ("service", "owned"),
    [
        (Service("ecs", {"RunTask": record([])}), False),
        (Service("ecs", {"StopTask": record([])}), True),
        (Service("ecs", {}, kept=frozenset({"StopTask"})), True),
        (Service("ecs", {}, whole=True), True),
    ],
    ids=["another operation", "the operation", "kept back", "whole service"],
)
def test_only_what_is_owned_is_kept_from_the_emulator(service: Service, *, owned: bool) -> None:
    assert service.owns(target("AmazonEC2ContainerServiceV20141113.StopTask", {})) is owned
