"""What a runtime client does on the wire, played with the plainest means."""

import http.client
import json
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtime_api.server import RuntimeApi

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:report-builder"
RUNTIME = "/2018-06-01/runtime"
NEXT = f"{RUNTIME}/invocation/next"
PATIENCE_S = 10

Events = queue.SimpleQueue[Any]


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    data: bytes

    @property
    def error_type(self) -> str:
        said: str = json.loads(self.data)["errorType"]
        return said


def ask(api: RuntimeApi, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Ask over a connection of its own."""
    connection = http.client.HTTPConnection(api.address, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body or None, {name.replace("_", "-"): headers[name] for name in headers})
        return read_answer(connection)
    finally:
        connection.close()


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    with connection.getresponse() as answer:
        return Answer(answer.status, answer.headers, answer.read())


def hand_out(api: RuntimeApi, request_id: str = "id-1", event: bytes = b'{"a": 1}', **about: Any) -> Answer:
    """Hand an invocation out, and take it."""
    api.hand_out(Invocation(request_id, event, ARN, **about))
    return ask(api, "GET", NEXT)


def respond(api: RuntimeApi, body: bytes = b"{}", request_id: str = "id-1", **headers: str) -> Answer:
    return ask(api, "POST", f"{RUNTIME}/invocation/{request_id}/response", body, **headers)


@contextmanager
def connected(api: RuntimeApi) -> Iterator[socket.socket]:
    host, _, port = api.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        yield connection


def raw(api: RuntimeApi, *pieces: bytes) -> bytes:
    """Send bytes as they are and say that there are no more; give all that comes back until the server closes."""
    with connected(api) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed early, perhaps with an answer
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request as bytes."""
    lines = [f"POST {RUNTIME}/{path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def post_in_chunks(path: str, *chunks: bytes, trailers: tuple[str, ...] = (), end: bool = True) -> bytes:
    """A request with a chunked body as bytes; without its end, it breaks off after the last chunk."""
    head = "\r\n".join([f"POST {RUNTIME}/{path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", ""]).encode()
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + body + ("\r\n".join(["0", *trailers, "", ""]).encode() if end else b"")
