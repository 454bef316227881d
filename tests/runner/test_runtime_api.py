"""The server alone, asked over raw sockets and plain HTTP, as runtime clients of other languages ask it."""

import base64
import http.client
import json
import queue
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from immortal_runner.execution.credentials import EndpointCredentials, TemporaryCredentials
from immortal_runner.execution.outcomes import Errored, Returned
from immortal_runner.runtime_api.server import Answered, InitFailed, Invocation, NextAsked, RuntimeApi

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:report-builder"
RUNTIME = "/2018-06-01/runtime"
GIVEN = TemporaryCredentials("ASIAEXAMPLE", "secret", "session", datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=1))

Events = queue.SimpleQueue[Any]


@pytest.fixture
def events() -> Events:
    return queue.SimpleQueue()


@pytest.fixture
def api(events: Events) -> Iterator[RuntimeApi]:
    api = RuntimeApi(events, EndpointCredentials(lambda: GIVEN))
    yield api
    api.close()


def ask(api: RuntimeApi, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(api.address, timeout=5)
    connection.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.data = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def hand_out(api: RuntimeApi, request_id: str = "id-1", **about: Any) -> http.client.HTTPResponse:
    api.hand_out(Invocation(request_id, b'{"a": 1}', ARN, **about))
    return ask(api, "GET", f"{RUNTIME}/invocation/next")


def raw(api: RuntimeApi, data: bytes) -> bytes:
    host, _, port = api.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_next_gives_the_event_with_the_headers_that_clients_need(api: RuntimeApi, events: Events) -> None:
    answer = hand_out(api, deadline_ms=1_900_000_000_000, trace_header="Root=1-2-3", client_context='{"a":"é"}')
    assert (answer.status, answer.data) == (200, b'{"a": 1}')  # type: ignore[attr-defined]
    assert isinstance(events.get(timeout=1), NextAsked)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Lambda-Runtime-Aws-Request-Id"] == "id-1"
    assert answer.headers["Lambda-Runtime-Deadline-Ms"] == "1900000000000"
    assert answer.headers["Lambda-Runtime-Invoked-Function-Arn"] == ARN
    assert answer.headers["Lambda-Runtime-Trace-Id"] == "Root=1-2-3"
    assert answer.headers["Lambda-Runtime-Client-Context"] == '{"a": "\\u00e9"}'


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{RUNTIME}/invocation/id-1/response", 202),
        ("POST", f"{RUNTIME}/invocation/id-1/error", 202),
        ("POST", f"{RUNTIME}/init/error", 202),
        ("POST", f"{RUNTIME}/invocation/other/response", 400),
        ("GET", f"{RUNTIME}/nothing", 404),
        ("POST", "/", 404),
        ("GET", "/2018-06-01/ping", 200),
    ],
)
def test_every_answer_has_a_type_and_every_acceptance_is_a_202_in_json(
    api: RuntimeApi, method: str, path: str, status: int
) -> None:
    """Conformance 83."""
    hand_out(api)
    answer = ask(api, method, path, b"{}" if method == "POST" else b"")
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    if status == 202:
        assert json.loads(answer.data) == {"status": "OK"}  # type: ignore[attr-defined]


def test_an_invocation_is_answered_once(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    assert ask(api, "POST", f"{RUNTIME}/invocation/id-1/response", b"1").status == 202
    again = ask(api, "POST", f"{RUNTIME}/invocation/id-1/response", b"2")
    assert again.status == 403
    assert json.loads(again.data)["errorType"] == "InvalidStateTransition"  # type: ignore[attr-defined]
    events.get(timeout=1)
    assert events.get(timeout=1) == Answered("id-1", Returned(b"1"))
    assert events.empty()


def test_a_chunked_body_with_an_error_in_its_trailers_has_failed(api: RuntimeApi, events: Events) -> None:
    """Conformance 18 and 66."""
    hand_out(api)
    error = base64.b64encode(b'{"errorType":"E","errorMessage":"half-way"}').decode()
    answer = raw(
        api,
        (
            f"POST {RUNTIME}/invocation/id-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
            "3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: E\r\n"
            f"Lambda-Runtime-Function-Error-Body: {error}\r\n\r\n"
        ).encode(),
    )
    assert answer.startswith(b"HTTP/1.1 202")
    events.get(timeout=1)
    outcome = events.get(timeout=1).outcome
    assert isinstance(outcome, Errored)
    assert (outcome.error_type, outcome.message) == ("E", "half-way")


def test_a_chunked_body_with_empty_trailers_has_succeeded(api: RuntimeApi, events: Events) -> None:
    """Conformance 4."""
    hand_out(api)
    raw(
        api,
        f"POST {RUNTIME}/invocation/id-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n".encode(),
    )
    events.get(timeout=1)
    assert events.get(timeout=1).outcome == Returned(b"abc")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(api: RuntimeApi, events: Events) -> None:
    """Conformance 5."""
    hand_out(api)
    host, _, port = api.address.partition(":")
    body = b"x" * 3_000_000
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            f"POST {RUNTIME}/invocation/id-1/response HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 202")
    events.get(timeout=1)
    assert events.get(timeout=1).outcome == Returned(body)


def test_a_header_of_two_megabytes_is_taken(api: RuntimeApi) -> None:
    hand_out(api)
    answer = raw(
        api,
        f"POST {RUNTIME}/invocation/id-1/error HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        f"Lambda-Runtime-Function-XRay-Error-Cause: {'x' * 2_000_000}\r\n\r\n{{}}".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff" * 100, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
    ids=["bytes", "cut", "length"],
)
def test_garbage_is_answered_and_the_server_lives(api: RuntimeApi, garbage: bytes) -> None:
    assert raw(api, garbage).startswith(b"HTTP/1.1 400")
    assert hand_out(api).status == 200


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"errorType": 7}', b"[" * 100_000], ids=["text", "list", "number", "deep"]
)
def test_an_error_that_is_no_error_object_is_kept(api: RuntimeApi, events: Events, body: bytes) -> None:
    hand_out(api)
    ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", body)
    events.get(timeout=1)
    outcome = events.get(timeout=1).outcome
    assert isinstance(outcome, Errored)
    assert (outcome.family, outcome.body) == ("handler", body)


def test_an_init_error_is_told(api: RuntimeApi, events: Events) -> None:
    ask(api, "POST", f"{RUNTIME}/init/error", b'{"errorType":"Runtime.ImportModuleError","errorMessage":"m"}')
    failed = events.get(timeout=1)
    assert isinstance(failed, InitFailed)
    assert failed.error.family == "init"


def test_credentials_want_their_token(api: RuntimeApi) -> None:
    assert ask(api, "GET", "/2021-04-23/credentials").status == 403
    assert ask(api, "GET", "/2021-04-23/credentials", Authorization="guess").status == 403
    token = api._credentials.token  # type: ignore[union-attr]
    answer = ask(api, "GET", "/2021-04-23/credentials", Authorization=token)
    assert json.loads(answer.data) == {  # type: ignore[attr-defined]
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "secret",
        "Token": "session",
        "Expiration": "2030-01-01T01:00:00Z",
    }


def test_closing_drops_who_waits(api: RuntimeApi) -> None:
    connection = http.client.HTTPConnection(api.address, timeout=5)
    connection.request("GET", f"{RUNTIME}/invocation/next")
    api.close()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
