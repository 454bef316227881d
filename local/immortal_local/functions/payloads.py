"""Payloads: what Invoke takes as an event, checked as AWS checks it."""

import base64
import json
import re
from typing import Any

from immortal_local.wire import ApiError

__all__ = ["check_payload", "read_client_context"]

MAX_SYNCHRONOUS_BYTES = 6_291_456
MAX_ASYNCHRONOUS_BYTES = 1_048_576
"""Raised from 256 KB in October 2025. Source: Lambda quotas."""

_SOURCE = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
_EXPECTED = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_VALUE_START = frozenset('"{[-0123456789tfn')


def check_payload(payload: bytes, *, asynchronous: bool) -> bytes:
    """Check an event.

    Returns:
        The event byte for byte; ``{}`` for none.

    Raises:
        ApiError: Too big, or no JSON, in the words of the parser that AWS uses.
    """
    limit = MAX_ASYNCHRONOUS_BYTES if asynchronous else MAX_SYNCHRONOUS_BYTES
    if len(payload) > limit and asynchronous:
        message = f"{len(payload)} byte payload is too large for the Event invocation type (limit {limit} bytes)"
        raise ApiError("RequestTooLargeException", message)
    if len(payload) > limit:
        message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        raise ApiError("RequestTooLargeException", message)
    if not payload:
        return b"{}"
    if fault := _find_fault(payload):
        message = f"Could not parse request body into json: Could not parse payload into json: {fault}"
        raise ApiError("InvalidRequestContentException", message)
    return payload


def _find_fault(payload: bytes) -> str | None:
    first = payload[0]
    if first >= 0x80:  # noqa: PLR2004  # the first byte that is no ASCII
        reason = f"Unexpected character ((CTRL-CHAR, code {first})): expected a valid value {_EXPECTED}"
        return f"{reason}\n at {_SOURCE.format(line=1, column=1)}"
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        line, column = _locate(payload[: error.start])
        reason = f"Invalid UTF-8 start byte 0x{payload[error.start]:x}"
        return f"{reason}\n at {_SOURCE.format(line=line, column=column + 1)}"
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = _SOURCE.format(line=error.lineno, column=error.colno)
        return f"{_describe(text, error)}\n at {where}"
    except (ValueError, RecursionError) as error:
        return f"{error}\n at {_SOURCE.format(line=1, column=1)}"
    return None


def _locate(before: bytes) -> tuple[int, int]:
    return before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1


def _describe(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :]
    if not rest:
        return "Unexpected end-of-input"
    if word := re.match(r"[A-Za-z_$][\w$]*", rest):
        return f"Unrecognized token '{word[0]}': was expecting {_EXPECTED}"
    wanted = f": expected a valid value {_EXPECTED}" if rest[0] not in _VALUE_START else f": {error.msg}"
    return f"Unexpected character ('{rest[0]}' (code {ord(rest[0])})){wanted}"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"Non-standard token '{name}': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow")


def read_client_context(header: str | None) -> str | None:
    """Decode the client context that a caller sent.

    Raises:
        ApiError: It is no base64 of a JSON object.
    """
    if header is None:
        return None
    try:
        text = base64.b64decode(header, validate=True).decode()
        if isinstance(json.loads(text), dict):
            return text
    except ValueError:
        pass
    raise ApiError("InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.")
