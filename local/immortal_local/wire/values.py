"""What goes over the wire, as values: requests, answers, calls and errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ApiError", "Call", "HttpAnswer", "HttpRequest", "Operation"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request as it came in.

    Attributes:
        path: Still percent-encoded, without the query.
        query: Decoded, each name with all its values.
        headers: Names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One HTTP answer, ready to be sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation.

    Attributes:
        request: The parameters by their API names; blobs are bytes, timestamps are datetimes.
        request_id: Also answered as ``x-amzn-RequestId``; for Lambda's Invoke it is the invocation's own id.
        headers: Names in lower case.
    """

    operation: str
    request: dict[str, Any]
    region: str
    account: str
    access_key_id: str
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


Operation = Callable[[Call], "dict[str, Any] | None"]
"""Carries out a call: gives the members of the answer by their API names, or None for an empty one."""


class ApiError(Exception):
    """An error that the caller gets in the form of the service's protocol.

    Attributes:
        code: The error shape's name, for example ``ResourceNotFoundException``.
        status: HTTP status; None takes the status that the model gives the shape, else 400.
        members: Further members of the error shape.
    """

    def __init__(self, code: str, message: str, status: int | None = None, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members
