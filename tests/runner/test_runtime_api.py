"""The server alone, asked over raw sockets and plain HTTP, as runtime clients of other languages ask it."""

import base64
import http.client
import json
import queue
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from immortal_runner.execution.credentials import EndpointCredentials, TemporaryCredentials
from immortal_runner.execution.outcomes import Errored, Returned
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.invocations import Answered, InitFailed, Invocation, NextAsked, StreamBroken
from immortal_runner.runtime_api.messages import Reply, Request, json_reply
from immortal_runner.runtime_api.server import RuntimeApi
from support.runtime_client import (
    ARN,
    NEXT,
    PATIENCE_S,
    RUNTIME,
    Answer,
    Events,
    ask,
    connected,
    hand_out,
    post,
    post_in_chunks,
    raw,
    read_all,
    read_answer,
    respond,
)

GIVEN = TemporaryCredentials("ASIAEXAMPLE", "secret", "session", datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=1))
ERROR = b'{"errorType":"E","errorMessage":"half-way"}'
TRAILERS = (
    "Lambda-Runtime-Function-Error-Type: E",
    f"Lambda-Runtime-Function-Error-Body: {base64.b64encode(ERROR).decode()}",
)
EMPTY_TRAILERS = ("Lambda-Runtime-Function-Error-Type:", "Lambda-Runtime-Function-Error-Body:")


@pytest.fixture
def events() -> Events:
    return queue.SimpleQueue()


@pytest.fixture
def api(events: Events) -> Iterator[RuntimeApi]:
    api = RuntimeApi(events, EndpointCredentials(lambda: GIVEN))
    yield api
    api.close()


def next_of(events: Events, kind: type) -> Any:
    """The next event of a kind; those of others before it are passed over."""
    while True:
        event = events.get(timeout=PATIENCE_S)
        if isinstance(event, kind):
            return event


def errored(events: Events) -> Errored:
    outcome = next_of(events, Answered).outcome
    assert isinstance(outcome, Errored), outcome
    return outcome


# What ``next`` gives.


@pytest.mark.conformance(42, 43, 44, 45)
def test_next_gives_the_event_with_the_headers_that_clients_need(api: RuntimeApi, events: Events) -> None:
    answer = hand_out(
        api,
        deadline_ms=1_900_000_000_000,
        trace_header="Root=1-2-3",
        client_context='{"a":\n "é😀"}',
        cognito_identity='{"cognitoIdentityId":"eu:1"}',
        tenant_id="tenant-7",
    )
    assert (answer.status, answer.data) == (200, b'{"a": 1}')
    assert events.get(timeout=1) == NextAsked()
    headers = answer.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["Lambda-Runtime-Aws-Request-Id"] == "id-1"
    assert headers["Lambda-Runtime-Deadline-Ms"] == "1900000000000"
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == ARN
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1-2-3"
    assert headers["Lambda-Runtime-Client-Context"] == '{"a":  "\\u00e9\\ud83d\\ude00"}'
    assert headers["Lambda-Runtime-Cognito-Identity"] == '{"cognitoIdentityId":"eu:1"}'
    assert headers["Lambda-Runtime-Aws-Tenant-Id"] == "tenant-7"


@pytest.mark.conformance(36)
def test_without_a_limit_each_invocation_has_a_deadline_23_days_away(api: RuntimeApi) -> None:
    for number in range(2):
        before_ms = datetime.now(UTC).timestamp() * 1000
        deadline_ms = int(hand_out(api, f"id-{number}").headers["Lambda-Runtime-Deadline-Ms"])
        assert 1_999_999_000 < deadline_ms - before_ms < 2_000_010_000
        respond(api, request_id=f"id-{number}")


@pytest.mark.conformance(84)
def test_an_invocation_without_a_trace_header_gets_one_of_its_own(api: RuntimeApi) -> None:
    given = []
    for number in range(2):
        given.append(hand_out(api, f"id-{number}").headers["Lambda-Runtime-Trace-Id"])
        respond(api, request_id=f"id-{number}")
    assert given[0] != given[1]
    assert all(re.fullmatch("Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", each) for each in given)


@pytest.mark.conformance(6, 8)
@pytest.mark.parametrize(
    "event",
    [b"{}", b"null", b'"text"', b"17", '{"b": 1.0e2, "a":12345678901234567890,  "ü": "\\u00fc"}'.encode(), b"not json"],
    ids=["object", "null", "string", "number", "spelling", "no json"],
)
def test_an_event_is_given_byte_for_byte(api: RuntimeApi, event: bytes) -> None:
    assert hand_out(api, event=event).data == event


@pytest.mark.conformance(7)
def test_an_event_of_20_mb_is_given_whole_and_nobody_waits_for_its_reader(api: RuntimeApi, events: Events) -> None:
    event = bytes(range(256)) * 80_000
    connection = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)
    connection.request("GET", NEXT)
    next_of(events, NextAsked)
    api.hand_out(Invocation("id-1", event, ARN))  # returns, though nobody reads yet
    assert ask(api, "GET", "/2018-06-01/ping").status == 200
    assert read_answer(connection).data == event
    connection.request("POST", f"{RUNTIME}/invocation/id-1/response", b"1")
    assert read_answer(connection).status == 202
    connection.close()


def test_a_header_can_not_be_smuggled_in(api: RuntimeApi) -> None:
    answer = hand_out(api, trace_header="Root=1\r\nEvil: yes", tenant_id="ü\n")
    assert "Evil" not in answer.headers
    assert answer.headers["Lambda-Runtime-Trace-Id"] == "Root=1  Evil: yes"


# What is answered to what.


@pytest.mark.conformance(83)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{RUNTIME}/invocation/id-1/response", 202),
        ("POST", f"{RUNTIME}/invocation/id-1/error", 202),
        ("POST", f"{RUNTIME}/init/error", 202),
        ("POST", f"{RUNTIME}/invocation/other/response", 400),
        ("POST", f"{RUNTIME}/invocation/other/error", 400),
        ("GET", f"{RUNTIME}/nothing", 404),
        ("GET", f"{RUNTIME}/restore/next", 404),
        ("POST", NEXT, 404),
        ("POST", "/", 404),
        ("POST", "/2020-01-01/extension/register", 404),
        ("GET", "/2018-06-01/ping", 200),
        ("GET", "/2026-01-15/metadata/execution-environment", 404),
    ],
)
def test_every_answer_has_a_type_and_every_acceptance_is_a_202_in_json(
    api: RuntimeApi, method: str, path: str, status: int
) -> None:
    hand_out(api)
    answer = ask(api, method, path, b"{}" if method == "POST" else b"")
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    if status == 202:
        assert json.loads(answer.data) == {"status": "OK"}


def refused(answer: Answer) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status, answer.error_type


def test_an_answer_to_another_invocation_is_refused(api: RuntimeApi, events: Events) -> None:
    assert refused(respond(api)) == (400, "InvalidRequestID")  # before any was handed out
    hand_out(api, "id-1")
    respond(api, request_id="id-1")
    hand_out(api, "id-2")
    assert refused(respond(api, request_id="id-1")) == (400, "InvalidRequestID")
    assert next_of(events, Answered).request_id == "id-1"
    assert respond(api, request_id="id-2").status == 202


def test_an_invocation_is_answered_once(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    assert respond(api, b"1").status == 202
    assert refused(respond(api, b"2")) == (403, "InvalidStateTransition")
    assert refused(ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", ERROR)) == (403, "InvalidStateTransition")
    assert events.get(timeout=1) == NextAsked()
    assert events.get(timeout=1) == Answered("id-1", Returned(Body(b"1")))
    assert events.empty()


def test_after_an_init_error_no_event_is_given(api: RuntimeApi, events: Events) -> None:
    assert ask(api, "POST", f"{RUNTIME}/init/error", ERROR).status == 202
    assert refused(ask(api, "GET", NEXT)) == (403, "InvalidStateTransition")
    assert refused(ask(api, "POST", f"{RUNTIME}/init/error", ERROR)) == (403, "InvalidStateTransition")
    failed = events.get(timeout=1)
    assert isinstance(failed, InitFailed)
    assert (failed.error.family, failed.error.error_type) == ("init", "E")
    assert events.empty()


def test_an_init_error_between_two_events_is_refused(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    respond(api)
    assert refused(ask(api, "POST", f"{RUNTIME}/init/error", ERROR)) == (403, "InvalidStateTransition")
    next_of(events, Answered)
    assert events.empty()


def test_an_init_error_in_the_middle_of_an_invocation_ends_it(api: RuntimeApi, events: Events) -> None:
    """Ruby's client says so when the event is no JSON."""
    hand_out(api)
    assert ask(api, "POST", f"{RUNTIME}/init/error", ERROR).status == 202
    assert next_of(events, InitFailed).error.body == ERROR
    assert refused(respond(api)) == (403, "InvalidStateTransition")


def test_an_unknown_response_mode_is_refused_and_ends_the_invocation(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    answer = respond(api, b"x" * 100_000, Lambda_Runtime_Function_Response_Mode="telepathic")
    assert refused(answer) == (400, "InvalidFunctionResponseMode")
    assert errored(events).error_type == "Runtime.InvalidResponseModeHeader"


def test_credentials_want_their_token(api: RuntimeApi) -> None:
    assert ask(api, "GET", "/2021-04-23/credentials").status == 403
    assert ask(api, "GET", "/2021-04-23/credentials", Authorization="guess").status == 403
    assert isinstance(api._credentials, EndpointCredentials)
    answer = ask(api, "GET", "/2021-04-23/credentials", Authorization=api._credentials.token)
    assert json.loads(answer.data) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "secret",
        "Token": "session",
        "Expiration": "2030-01-01T01:00:00Z",
    }


# What is made of bodies.


@pytest.mark.conformance(4)
@pytest.mark.parametrize("trailers", [(), EMPTY_TRAILERS], ids=["left out", "named"])
def test_a_chunked_body_with_empty_trailers_has_succeeded(
    api: RuntimeApi, events: Events, trailers: tuple[str, ...]
) -> None:
    hand_out(api)
    raw(api, post_in_chunks("invocation/id-1/response", b"abc", b"de", trailers=trailers))
    assert next_of(events, Answered).outcome == Returned(Body(b"abcde"))


@pytest.mark.conformance(18)
def test_a_stream_with_an_error_in_its_trailers_has_failed_and_its_part_is_kept(
    api: RuntimeApi, events: Events
) -> None:
    hand_out(api)
    answer = raw(api, post_in_chunks("invocation/id-1/response", b"abc", trailers=TRAILERS))
    assert answer.startswith(b"HTTP/1.1 202")
    error = errored(events)
    assert (error.error_type, error.message, error.body) == ("E", "half-way", ERROR)
    assert error.partial == Body(b"abc")


@pytest.mark.parametrize(("said", "message"), [("", ""), ("%%%", "%%%")], ids=["without a body", "not in base64"])
def test_an_error_in_the_trailers_is_one_however_it_is_spelt(
    api: RuntimeApi, events: Events, said: str, message: str
) -> None:
    hand_out(api)
    trailers = (TRAILERS[0], f"Lambda-Runtime-Function-Error-Body: {said}")
    assert raw(api, post_in_chunks("invocation/id-1/response", trailers=trailers)).startswith(b"HTTP/1.1 202")
    assert errored(events).message == message


@pytest.mark.parametrize(
    "request_bytes",
    [
        post_in_chunks("invocation/id-1/response", b"abc", end=False),
        post("invocation/id-1/response", b"abcdef")[:-3],
    ],
    ids=["chunked", "counted"],
)
def test_a_stream_that_breaks_off_is_told_with_what_had_come(
    api: RuntimeApi, events: Events, request_bytes: bytes
) -> None:
    hand_out(api)
    answer = raw(api, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"TruncatedHTTPRequest" in answer
    assert next_of(events, StreamBroken) == StreamBroken("id-1", Body(b"abc"))
    assert respond(api).status == 202  # the invocation still waits for its answer


def test_an_error_that_breaks_off_is_no_answer(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    assert b"TruncatedHTTPRequest" in raw(api, post("invocation/id-1/error", ERROR)[:-3])
    next_of(events, NextAsked)
    assert events.empty()


def test_the_prelude_of_an_http_response_is_kept(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    streamed = b'{"statusCode":201}' + bytes(8) + b"body"
    respond(api, streamed, Lambda_Runtime_Function_Response_Mode="streaming")
    assert next_of(events, Answered).outcome == Returned(Body(streamed))


@pytest.mark.conformance(5)
def test_a_client_that_waits_for_100_continue_is_told_to_go_on(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    body = b"x" * 3_000_000
    request = post("invocation/id-1/response", body, "Expect: 100-continue")
    with connected(api) as connection:
        connection.sendall(request[: -len(body)])
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 202")
    assert next_of(events, Answered).outcome == Returned(Body(body))


@pytest.mark.conformance(11, 13)
@pytest.mark.parametrize("body", [b"\xff\x00\x01", b"x" * 10_000_000, b""], ids=["bytes", "10 MB", "nothing"])
def test_a_result_is_kept_byte_for_byte_and_none_is_too_large(api: RuntimeApi, events: Events, body: bytes) -> None:
    hand_out(api)
    assert respond(api, body, Content_Type="application/unknown").status == 202
    assert next_of(events, Answered).outcome == Returned(Body(body))


def test_a_result_that_the_disk_does_not_take_is_an_outcome(events: Events, tmp_path: Path) -> None:
    api = RuntimeApi(events, spool=tmp_path / "gone")
    hand_out(api)
    with suppress(http.client.HTTPException, OSError):  # the server drops the connection, perhaps with an answer
        assert respond(api, b"x" * 3_000_000).status == 507
    error = errored(events)
    assert (error.family, error.error_type) == ("disk", "Runtime.ResultNotKept")
    assert ask(api, "GET", "/2018-06-01/ping").status == 200
    api.close()


@pytest.mark.conformance(19)
def test_a_header_of_two_megabytes_is_taken(api: RuntimeApi) -> None:
    hand_out(api)
    cause = f"Lambda-Runtime-Function-XRay-Error-Cause: {'x' * 2_000_000}"
    assert raw(api, post("invocation/id-1/error", b"{}", cause)).startswith(b"HTTP/1.1 202")


@pytest.mark.conformance(20)
def test_an_error_of_2_mb_is_kept_whole(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", json.dumps({"errorMessage": "x" * 2_000_000}).encode())
    assert len(errored(events).message) == 2_000_000


def test_of_an_error_without_end_the_beginning_is_kept(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    sent = b'{"errorMessage": "' + b"x" * 20_000_000 + b'"}'
    assert ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", sent).status == 202
    error = errored(events)
    assert error.body == sent[: 16 * 1024 * 1024]
    assert error.message.startswith(f"the error has {len(sent)} bytes, of which {16 * 1024 * 1024} were kept: ")


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"errorType": 7}', b"[" * 100_000], ids=["text", "list", "number", "deep"]
)
def test_an_error_that_is_no_error_object_is_kept(api: RuntimeApi, events: Events, body: bytes) -> None:
    hand_out(api)
    ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", body)
    error = errored(events)
    assert (error.family, error.body) == ("handler", body)


def test_a_header_says_nothing_about_the_error(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    ask(api, "POST", f"{RUNTIME}/invocation/id-1/error", ERROR, Lambda_Runtime_Function_Error_Type="Other")
    assert errored(events).error_type == "E"


# How clients keep their connections.


def test_a_client_of_http_1_0_is_served_and_let_go(api: RuntimeApi, events: Events) -> None:
    api.hand_out(Invocation("id-1", b"{}", ARN))
    with connected(api) as connection:
        connection.sendall(f"GET {NEXT} HTTP/1.0\r\n\r\n".encode())
        assert read_all(connection).endswith(b"\r\n\r\n{}")
    with connected(api) as connection:
        connection.sendall(b"POST " + post("invocation/id-1/response", b"1")[5:].replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert read_all(connection).startswith(b"HTTP/1.1 202")
    assert next_of(events, Answered).outcome == Returned(Body(b"1"))


def test_lines_may_end_as_on_unix(api: RuntimeApi) -> None:
    assert raw(api, b"GET /2018-06-01/ping HTTP/1.1\nHost: x\n\n").endswith(b"pong")


def test_requests_may_follow_each_other_without_waiting(api: RuntimeApi, events: Events) -> None:
    ping, asked = b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n", f"GET {NEXT} HTTP/1.1\r\n\r\n".encode()
    with connected(api) as connection:
        connection.sendall(ping + asked + post("invocation/id-1/response", b"1") + ping)
        next_of(events, NextAsked)
        api.hand_out(Invocation("id-1", b'"event"', ARN))
        assert next_of(events, Answered).outcome == Returned(Body(b"1"))
        connection.shutdown(1)
        received = read_all(connection)
    parts = [received.find(each) for each in (b"pong", b'"event"', b"202 Accepted")]
    assert parts == sorted(parts)
    assert -1 not in parts
    assert received.endswith(b"pong")


def test_a_poller_that_went_away_takes_no_event_with_it(api: RuntimeApi, events: Events) -> None:
    gone = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)
    gone.request("GET", NEXT)
    next_of(events, NextAsked)
    gone.close()
    assert hand_out(api).data == b'{"a": 1}'


def test_asking_on_leaves_the_invocation_under_way_unanswered(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    assert next_of(events, NextAsked) == NextAsked(skipped=False)
    another = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)  # than the one that took it: it came anew
    another.request("GET", NEXT)
    assert next_of(events, NextAsked) == NextAsked(skipped=True)
    another.close()


def test_a_poller_that_asks_late_for_an_invocation_that_waits_has_skipped_nothing(
    api: RuntimeApi, events: Events
) -> None:
    api.hand_out(Invocation("id-1", b"{}", ARN))
    assert events.empty()
    assert ask(api, "GET", NEXT).status == 200
    assert next_of(events, NextAsked) == NextAsked(skipped=False)


@pytest.mark.conformance(79)
def test_of_several_pollers_each_takes_one_event_and_none_has_skipped_anything() -> None:
    events: Events = queue.SimpleQueue()
    api = RuntimeApi(events, pollers=2)
    pollers = [http.client.HTTPConnection(api.address, timeout=PATIENCE_S) for _ in range(2)]
    for poller in pollers:
        poller.request("GET", NEXT)
        assert next_of(events, NextAsked) == NextAsked(skipped=False)
    for number, poller in enumerate(pollers):
        api.hand_out(Invocation(f"id-{number}", b"%d" % number, ARN))
        assert read_answer(poller).data == b"%d" % number
        poller.request("POST", f"{RUNTIME}/invocation/id-{number}/response", b"%d" % number)
        assert read_answer(poller).status == 202
        assert next_of(events, Answered) == Answered(f"id-{number}", Returned(Body(b"%d" % number)))
    api.hand_out(Invocation("id-2", b"2", ARN))
    for poller in pollers:
        poller.request("GET", NEXT)
        assert next_of(events, NextAsked) == NextAsked(skipped=False)
    api.close()
    for poller in pollers:
        poller.close()


def test_closing_drops_who_waits(api: RuntimeApi) -> None:
    connection = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)
    connection.request("GET", NEXT)
    api.close()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()


def test_once_the_runtime_is_gone_all_that_it_said_is_among_the_events(api: RuntimeApi, events: Events) -> None:
    hand_out(api)
    with connected(api) as connection:
        connection.sendall(post_in_chunks("invocation/id-1/response", b"abc", end=False))
    api.drain(PATIENCE_S)
    said = [events.get_nowait() for _ in range(2)]
    assert said == [NextAsked(), StreamBroken("id-1", Body(b"abc"))]


# What extensions ask.


class Extensions:
    """Answers with what it was asked; one path waits until the server closes, one drops its connection."""

    def __init__(self) -> None:
        self.closed: queue.SimpleQueue[None] = queue.SimpleQueue()

    def answer(self, request: Request) -> Reply | None:
        if request.path.endswith("drop"):
            return None
        if request.path.endswith("wait"):
            self.closed.get(timeout=PATIENCE_S)
        return json_reply(
            200, {"asked": request.path, "said": request.body.decode()}, (("Name", request.headers["n"]),)
        )

    def close(self) -> None:
        self.closed.put(None)


@pytest.mark.parametrize(
    "path",
    ["/2020-01-01/extension/register", "/2022-07-01/telemetry", "/2022-07-01/telemetry/", "/2020-08-15/logs?a=b"],
)
def test_extensions_are_answered_by_their_own_api(path: str) -> None:
    api = RuntimeApi(queue.SimpleQueue(), extensions=Extensions())
    answer = ask(api, "PUT", path, b"body", N="name")
    api.close()
    assert (answer.status, json.loads(answer.data)) == (200, {"asked": path, "said": "body"})
    assert answer.headers["Name"] == "name"


def test_an_extension_may_wait_or_be_dropped_while_the_runtime_is_served() -> None:
    api = RuntimeApi(queue.SimpleQueue(), extensions=Extensions())
    waiting = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)
    waiting.request("GET", "/2020-01-01/extension/wait", headers={"n": "x"})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(api, "GET", "/2020-01-01/extension/drop")
    assert hand_out(api).status == 200
    api.close()
    waiting.close()
