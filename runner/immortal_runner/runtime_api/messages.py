"""Requests and replies of the servers that the code inside an execution environment talks to, as plain values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole.

    Attributes:
        method: In capitals, as it came.
        path: As it came; a query, if any, is still on it.
        headers: By lower-case name; the last of several with one name.
        body: Any bytes.
        cut_bytes: How much of the body's end was let go because it was too long.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        headers: Beyond the type and the length, which are always sent.
        content_type: Without parameters: with a charset, Python's client hands its handler raw bytes.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


class Extensions(Protocol):
    """All that the Runtime API's server asks of the Extensions, Telemetry and Logs API that it carries."""

    def answer(self, request: Request) -> Reply | None:
        """Answer a request, on its connection's own thread: it may wait. None drops the connection."""
        ...

    def close(self) -> None:
        """Let go of all that wait in ``answer``, for good: the server closes."""
        ...


def json_reply(status: int, said: Mapping[str, object], headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An answer in JSON."""
    return Reply(status, json.dumps(said).encode(), headers)


def refusal(status: int, error_type: str, message: str) -> Reply:
    """An error in the form that all of these APIs share."""
    return json_reply(status, {"errorMessage": message, "errorType": error_type})
