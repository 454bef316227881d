"""The Lambda Runtime API: the one server that a runtime client talks to.

One server serves one child process. It answers; what its answers mean for the invocation is decided by whoever reads
its events. Statuses and types are exact, because the clients are: a reply to ``next`` without a content type is a
segmentation fault in two of them.

Source: Lambda developer guide, "Using the Lambda runtime API"; clients of seven languages, read and run.
"""

import base64
import json
import queue
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11

from immortal_lambda.errors import ImmortalError
from immortal_runner.execution.credentials import EndpointCredentials
from immortal_runner.execution.outcomes import Errored, Outcome, Returned, read_error

UNLIMITED_MS = 2_000_000_000
"""The deadline of an invocation that has none, counted from now: 23 days.

Larger values make Node's timers fire at once, overflow Java's ``int``, or abort the clients written in C++.
"""

_PREFIX = "/2018-06-01/runtime/"
_HEADER_BYTES = 4 * 1024 * 1024
_READ_BYTES = 256 * 1024
_ACCEPTED = {"status": "OK"}


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event for a function, with everything that its context shows.

    Attributes:
        event: The original bytes: order, number spelling and all.
        function_arn: As invoked, alias or version included.
        deadline_ms: Unix milliseconds; None for no limit.
        client_context: JSON text.
    """

    request_id: str
    event: bytes
    function_arn: str
    deadline_ms: int | None = None
    trace_header: str | None = None
    client_context: str | None = None
    cognito_identity: str | None = None


@dataclass(frozen=True, slots=True)
class NextAsked:
    """The runtime is ready for an event."""


@dataclass(frozen=True, slots=True)
class InitFailed:
    """The code outside the handler failed."""

    error: Errored


@dataclass(frozen=True, slots=True)
class Answered:
    """The handler's outcome was posted."""

    request_id: str
    outcome: Outcome


RuntimeEvent = NextAsked | InitFailed | Answered


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    trailers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class RuntimeApi:
    """A Runtime API on a loopback port of the system's choosing; it listens as soon as it is made.

    Args:
        events: Where it puts what the runtime does, as ``RuntimeEvent``.
        credentials: Served on the credentials endpoint, if given.
    """

    def __init__(self, events: "queue.SimpleQueue[Any]", credentials: EndpointCredentials | None = None) -> None:
        self._events = events
        self._credentials = credentials
        self._handouts: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: str | None = None
        self._answered = True
        self._closed = False
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=self._accept, name="runtime-api", daemon=True).start()

    @property
    def address(self) -> str:
        """``host:port``, as ``AWS_LAMBDA_RUNTIME_API`` wants it."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def hand_out(self, invocation: Invocation) -> None:
        """Give an invocation to the runtime that asked for one, or asks next."""
        with self._lock:
            self._current, self._answered = invocation.request_id, False
        self._handouts.put(invocation)

    def close(self) -> None:
        """Stop serving; connections drop, as they do when Lambda takes an environment away."""
        self._closed = True
        self._handouts.put(None)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="runtime-api-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                self._converse(connection)
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _converse(self, connection: socket.socket) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_BYTES)
        while not self._closed:
            try:
                request = _receive(protocol, connection)
            except h11.RemoteProtocolError as error:
                if protocol.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                    _send(protocol, connection, _refusal(400, "InvalidRequest", str(error)), closing=True)
                return
            if request is None:
                return
            reply = self._answer(request)
            if reply is None:
                return
            _send(protocol, connection, reply)
            if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
                return
            protocol.start_next_cycle()

    def _answer(self, request: _Request) -> _Reply | None:
        match request.method, request.path.removeprefix(_PREFIX).split("/"):
            case "GET", ["invocation", "next"]:
                return self._next()
            case "POST", ["invocation", request_id, "response"]:
                return self._take_response(request_id, request)
            case "POST", ["invocation", request_id, "error"]:
                return self._take(request_id, read_error("handler", request.body))
            case "POST", ["init", "error"]:
                self._events.put(InitFailed(read_error("init", request.body)))
                return _json_reply(202, _ACCEPTED)
            case "GET", ["", "2018-06-01", "ping"]:
                return _Reply(200, b"pong")
            case "GET", ["", "2021-04-23", "credentials"] if self._credentials is not None:
                return self._give_credentials(self._credentials, request)
        return _refusal(404, "NotFound", f"{request.method} {request.path} is no call of the Runtime API")

    def _next(self) -> _Reply | None:
        self._events.put(NextAsked())
        invocation = self._handouts.get()
        if invocation is None:
            return None
        return _Reply(200, invocation.event, tuple(_next_headers(invocation, time.time_ns() // 1_000_000)))

    def _take_response(self, request_id: str, request: _Request) -> _Reply:
        try:
            outcome = _read_response(request)
        except ValueError as error:
            return _refusal(400, "InvalidTrailer", f"the error in the trailers is not base64: {error}")
        return self._take(request_id, outcome)

    def _take(self, request_id: str, outcome: Outcome) -> _Reply:
        with self._lock:
            if request_id != self._current:
                return _refusal(400, "InvalidRequestID", f"{request_id} is not the invocation that is under way")
            if self._answered:
                return _refusal(403, "InvalidStateTransition", f"{request_id} was answered before")
            self._answered = True
        self._events.put(Answered(request_id, outcome))
        return _json_reply(202, _ACCEPTED)

    def _give_credentials(self, credentials: EndpointCredentials, request: _Request) -> _Reply:
        if request.headers.get("authorization") != credentials.token:
            return _refusal(403, "AccessDenied", "the authorization token is not the one in the environment")
        try:
            return _json_reply(200, credentials.document())
        except ImmortalError as error:
            return _refusal(500, "CredentialsUnavailable", str(error))


def _next_headers(invocation: Invocation, now_ms: int) -> Iterable[tuple[str, str]]:
    deadline_ms = now_ms + UNLIMITED_MS if invocation.deadline_ms is None else invocation.deadline_ms
    yield "Lambda-Runtime-Aws-Request-Id", invocation.request_id
    yield "Lambda-Runtime-Deadline-Ms", str(deadline_ms)
    yield "Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn
    if invocation.trace_header:
        yield "Lambda-Runtime-Trace-Id", invocation.trace_header
    if invocation.client_context:
        yield "Lambda-Runtime-Client-Context", json.dumps(json.loads(invocation.client_context))
    if invocation.cognito_identity:
        yield "Lambda-Runtime-Cognito-Identity", invocation.cognito_identity


def _read_response(request: _Request) -> Outcome:
    """Read a response: one that failed half-way says so only in its trailers."""
    error_type = request.trailers.get("lambda-runtime-function-error-type")
    if error_type is None:
        return Returned(request.body)
    body = base64.b64decode(request.trailers.get("lambda-runtime-function-error-body", ""))
    return read_error("handler", body or json.dumps({"errorType": error_type, "errorMessage": ""}).encode())


def _receive(protocol: h11.Connection, connection: socket.socket) -> _Request | None:
    """Read one request whole; None when the client has gone."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            if protocol.they_are_waiting_for_100_continue:
                connection.sendall(protocol.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            protocol.receive_data(connection.recv(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            target = head.target.decode("ascii", "replace")
            return _Request(head.method.decode(), target, _texts(head.headers), bytes(body), _texts(event.headers))
        else:
            return None


def _send(protocol: h11.Connection, connection: socket.socket, reply: _Reply, *, closing: bool = False) -> None:
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(reply.body))),
        *reply.headers,
        *([("Connection", "close")] if closing else []),
    ]
    head = protocol.send(h11.Response(status_code=reply.status, headers=headers)) or b""
    body = protocol.send(h11.Data(data=reply.body)) or b""
    end = protocol.send(h11.EndOfMessage()) or b""
    connection.sendall(head + body + end)


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode().lower(): value.decode("utf-8", "replace") for name, value in headers}


def _json_reply(status: int, said: Mapping[str, str]) -> _Reply:
    return _Reply(status, json.dumps(said).encode())


def _refusal(status: int, error_type: str, message: str) -> _Reply:
    return _json_reply(status, {"errorMessage": message, "errorType": error_type})
