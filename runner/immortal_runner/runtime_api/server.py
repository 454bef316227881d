"""The Lambda Runtime API: the one server that a runtime client talks to.

One server serves one child process. It answers; what its answers mean for the invocation is decided by whoever reads
its events. Statuses and types are exact, because the clients are: a reply to ``next`` without a content type is a
segmentation fault in two of them.

Source: Lambda developer guide, "Using the Lambda runtime API"; clients of seven languages, read and run.
"""

import base64
import json
import queue
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from immortal_lambda.errors import ImmortalError
from immortal_runner.execution.credentials import EndpointCredentials
from immortal_runner.execution.outcomes import Errored, Family, Outcome, Returned, read_error
from immortal_runner.runtime_api.bodies import Body, Spool
from immortal_runner.runtime_api.connections import Connection, Listener
from immortal_runner.runtime_api.invocations import (
    Answered,
    InitFailed,
    Invocation,
    NextAsked,
    StreamBroken,
    next_reply,
)
from immortal_runner.runtime_api.messages import Extensions, Reply, Request, json_reply, refusal
from immortal_runner.runtime_api.rules import Standing, knows_response_mode
from immortal_runner.runtime_api.wire import Garbled, Head, Truncated

MAX_KEPT_BYTES = 16 * 1024 * 1024
"""How much of a body is kept that is no result; clients post errors of 2 MB."""

_PREFIX = "/2018-06-01/runtime/"
_EXTENSIONS_PREFIXES = ("/2020-01-01/extension/", "/2022-07-01/telemetry", "/2020-08-15/logs")
_ACCEPTED = json_reply(202, {"status": "OK"})


class RuntimeApi:
    """A Runtime API on a loopback port of the system's choosing; it listens as soon as it is made.

    Args:
        events: Where it puts what the runtime does, as ``RuntimeEvent``.
        credentials: Served on the credentials endpoint, if given.
        extensions: Answers what extensions ask, if given; closed with the server.
        spool: Folder for results that outgrow memory; the system's folder for temporary files unless given.
        pollers: How many of them ask for events at the same time: ``AWS_LAMBDA_MAX_CONCURRENCY``.
    """

    def __init__(
        self,
        events: "queue.SimpleQueue[Any]",
        credentials: EndpointCredentials | None = None,
        extensions: Extensions | None = None,
        *,
        spool: Path | None = None,
        pollers: int = 1,
    ) -> None:
        self._events = events
        self._credentials = credentials
        self._extensions = extensions
        self._spool = spool
        self._pollers = pollers
        self._changed = threading.Condition()
        self._standing = Standing()
        self._waiting: list[Connection] = []
        self._kept_back: Invocation | None = None
        self._closed = False
        self._listener = Listener(self._converse)

    @property
    def address(self) -> str:
        """``host:port``, as ``AWS_LAMBDA_RUNTIME_API`` wants it."""
        return self._listener.address

    @property
    def serving(self) -> bool:
        """Whether it still takes connections."""
        return self._listener.is_alive

    @property
    def ready(self) -> bool:
        """Whether a poller waits for an event right now."""
        return bool(self._waiting)

    def hand_out(self, invocation: Invocation) -> None:
        """Give an invocation to the runtime that asked for one, or asks next."""
        with self._changed:
            self._standing = self._standing.handed(invocation.request_id)
            self._kept_back = invocation
            self._serve_waiting()

    def drain(self, timeout_s: float) -> None:
        """Wait, not for ever, until every connection of the runtime has ended, as they do when its process is dead.

        Then everything that it said is among the events: an answer that it just managed to post, a stream that broke.
        """
        self._listener.drain(timeout_s)

    def close(self) -> None:
        """Stop serving; connections drop, as they do when Lambda takes an environment away."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._extensions is not None:
            self._extensions.close()
        self._listener.close()

    def _converse(self, connection: Connection) -> None:
        try:
            while not self._closed and self._serve_next(connection):
                connection.idle_since = time.monotonic()
        except Garbled as error:
            connection.send(refusal(400, "InvalidRequest", str(error)), closing=True)
        except Truncated as error:
            connection.send(refusal(400, "TruncatedHTTPRequest", str(error)), closing=True)
        finally:
            with self._changed:
                if connection in self._waiting:
                    self._waiting.remove(connection)
                self._changed.notify_all()

    def _serve_next(self, connection: Connection) -> bool:
        """Wait for a request and answer it; say whether the connection goes on."""
        head = connection.wire.read_head()
        return head is not None and self._serve_request(connection, head)

    def _serve_request(self, connection: Connection, head: Head) -> bool:
        """Answer one request; say whether the connection goes on."""
        connection.keeps_alive = head.keeps_alive
        match head.method, _route(head.path):
            case "GET", ["invocation", "next"]:
                connection.wire.read_body(head, _let_go)
                connection.idle_since = None
                reply = self._next(connection)
                if reply is None:
                    return self._await_event(connection)
            case "POST", ["invocation", request_id, "response"]:
                reply = self._take_response(connection, head, request_id)
                if reply is None:
                    return head.keeps_alive
            case "POST", ["invocation", request_id, "error"]:
                request = self._read_whole(connection, head)
                reply = self._take(connection, request_id, read_error("handler", request.body, request.cut_bytes))
                if reply is None:
                    return head.keeps_alive
            case _:
                request = self._read_whole(connection, head)
                connection.idle_since = None
                reply = self._answer(connection, request)
                if reply is None:
                    return False
        connection.send(reply, closing=not head.keeps_alive)
        return head.keeps_alive

    def _next(self, connection: Connection) -> Reply | None:
        """Let a poller wait for an event, which is sent by whoever hands it out."""
        connection.await_sent()  # of what it asked for before: nobody who hands out waits for it to read
        with self._changed:
            after = self._standing.asked()
            if isinstance(after, Reply):
                return after
            self._standing = after
            self._waiting.append(connection)
            self._events.put(NextAsked(self._has_skipped()))
            self._serve_waiting()
            return None

    def _has_skipped(self) -> bool:
        """Whether whoever asks for an event leaves the one that it holds unanswered.

        A runtime with one poller has nobody else who could ask, on whatever connection it does. Where there are
        several, nothing tells: Node's client asks ahead, on the connection of an invocation that it works on.
        """
        return self._pollers == 1 and self._standing.busy and self._kept_back is None

    def _serve_waiting(self) -> None:
        """Send the invocation that was kept back to whoever waits for one, under the lock."""
        while self._kept_back is not None and self._waiting:
            connection = self._waiting.pop(0)
            with suppress(OSError):  # it has gone: the next one, or whoever asks next
                connection.wire.check_presence()
                connection.send_soon(next_reply(self._kept_back, time.time_ns() // 1_000_000))
                self._kept_back = None
            self._changed.notify_all()

    def _await_event(self, connection: Connection) -> bool:
        """Wait until a poller was served and says more; False when it has gone instead."""
        if not connection.wire.wait_for_more():
            return False
        with self._changed:  # it asks on without waiting for its answer
            self._changed.wait_for(lambda: connection not in self._waiting)
        return not self._closed

    def _take_response(self, connection: Connection, head: Head, request_id: str) -> Reply | None:
        """Take a result, however long it is and however long it takes; None once that has been said."""
        after = self._standing.answering(request_id)
        if isinstance(after, Reply):
            connection.wire.read_body(head, _let_go)
            return after
        mode = head.headers.get("lambda-runtime-function-response-mode", "")
        if not knows_response_mode(mode):
            connection.wire.read_body(head, _let_go)
            return self._refuse_response_mode(connection, request_id, mode)
        connection.idle_since = None
        spool = Spool(self._spool)
        try:
            trailers = connection.wire.read_body(head, spool.write)
            return self._take(connection, request_id, _read_response(spool.finish(), trailers))
        except (Truncated, Garbled):
            self._events.put(StreamBroken(request_id, spool.finish()))
            raise
        except OSError as error:
            spool.close()
            outcome = _not_kept(spool.arrived_bytes, error)
            self._take(connection, request_id, outcome, refusal(507, outcome.error_type, outcome.message))
            raise  # what is left of it has nowhere to go

    def _refuse_response_mode(self, connection: Connection, request_id: str, mode: str) -> Reply | None:
        said = f"the function response mode {mode[:80]!r} is unknown; Lambda knows streaming"
        outcome = _said_by_us("handler", "Runtime.InvalidResponseModeHeader", said)
        return self._take(connection, request_id, outcome, refusal(400, "InvalidFunctionResponseMode", said))

    def _take(
        self, connection: Connection, request_id: str, outcome: Outcome, reply: Reply = _ACCEPTED
    ) -> Reply | None:
        """Take an invocation's outcome and reply to it; give what it is refused with instead.

        The reply goes first, for the runtime goes on with it while the outcome is looked at; but whatever the runtime
        says next comes after the outcome, whichever connection it says it on.
        """
        connection.await_sent()  # the event itself: nobody shall wait under the lock
        with self._changed:
            after = self._standing.answering(request_id)
            if isinstance(after, Reply):
                return after
            self._standing = after
            with suppress(OSError):  # the client has gone; its answer stands
                connection.send_soon(reply)
            self._events.put(Answered(request_id, outcome))
            return None

    def _take_init_error(self, error: Errored) -> Reply:
        with self._changed:
            after = self._standing.init_failed()
            if isinstance(after, Reply):
                return after
            self._standing = after
            self._events.put(InitFailed(error))
            return _ACCEPTED

    def _read_whole(self, connection: Connection, head: Head) -> Request:
        """Read a request whose body is no result."""
        spool = Spool(self._spool, max_bytes=MAX_KEPT_BYTES)
        connection.wire.read_body(head, spool.write)
        body = spool.finish()
        try:
            cut_bytes = spool.arrived_bytes - body.size_bytes
            return Request(head.method, head.path, head.headers, body.read(), cut_bytes)
        finally:
            body.close()

    def _answer(self, connection: Connection, request: Request) -> Reply | None:
        if self._extensions is not None and request.path.startswith(_EXTENSIONS_PREFIXES):
            connection.of_extension = True
            return self._extensions.answer(request)
        match request.method, _route(request.path):
            case "POST", ["init", "error"]:
                return self._take_init_error(read_error("init", request.body, request.cut_bytes))
            case "GET", ["", "2018-06-01", "ping"]:
                return Reply(200, b"pong")
            case "GET", ["", "2021-04-23", "credentials"] if self._credentials is not None:
                return _give_credentials(self._credentials, request)
        return refusal(404, "NotFound", f"{request.method} {request.path[:200]} is no call of the Runtime API")


def _route(path: str) -> list[str]:
    return path.partition("?")[0].removeprefix(_PREFIX).split("/")


def _let_go(_piece: bytes) -> None:
    """Take a body that nobody asked for."""


def _give_credentials(credentials: EndpointCredentials, request: Request) -> Reply:
    if not secrets.compare_digest(request.headers.get("authorization", "").encode(), credentials.token.encode()):
        return refusal(403, "AccessDenied", "the authorization token is not the one in the environment")
    try:
        return json_reply(200, credentials.document())
    except ImmortalError as error:
        return refusal(500, "CredentialsUnavailable", str(error))


def _read_response(body: Body, trailers: Mapping[str, str]) -> Outcome:
    """Read a response: one that failed half-way says so only in its trailers, which are empty otherwise."""
    error_type = trailers.get("lambda-runtime-function-error-type", "")
    said = trailers.get("lambda-runtime-function-error-body", "")
    if not (error_type or said):
        return Returned(body)
    try:
        error = base64.b64decode(said, validate=True)
    except ValueError:
        error = said.encode()
    if not error:
        error = json.dumps({"errorType": error_type, "errorMessage": ""}).encode()
    return replace(read_error("handler", error), partial=body)


def _not_kept(arrived_bytes: int, error: OSError) -> Errored:
    said = f"the result could not be kept: {error.strerror or error} after {arrived_bytes} bytes"
    return _said_by_us("disk", "Runtime.ResultNotKept", said)


def _said_by_us(family: Family, error_type: str, message: str) -> Errored:
    body = json.dumps({"errorType": error_type, "errorMessage": message}).encode()
    return Errored(family, error_type, message, body)
