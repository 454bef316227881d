"""What the runtime is handed, and what it did: invocations and events, as values."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from immortal_runner.execution.outcomes import Errored, Outcome
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.messages import Reply

UNLIMITED_MS = 2_000_000_000
"""The deadline of an invocation that has none, counted from now: 23 days.

Larger values make Node's timers fire at once, overflow Java's ``int``, or abort the clients written in C++.
"""


_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event for a function, with everything that its context shows.

    Attributes:
        event: The original bytes: order, number spelling and all.
        function_arn: As invoked, alias or version included.
        deadline_ms: Unix milliseconds; None counts it from the hand-over of the event.
        allowed_ms: Until a deadline that is counted so; nobody enforces it.
        trace_header: ``Root=…;Parent=…;Sampled=0``; a new one is made up where there is none.
        client_context: JSON text.
        cognito_identity: JSON text with ``cognitoIdentityId`` and ``cognitoIdentityPoolId``.
        tenant_id: For a function with tenant isolation.
    """

    request_id: str
    event: bytes
    function_arn: str
    deadline_ms: int | None = None
    allowed_ms: int = UNLIMITED_MS
    trace_header: str | None = None
    client_context: str | None = None
    cognito_identity: str | None = None
    tenant_id: str | None = None


@dataclass(frozen=True, slots=True)
class NextAsked:
    """The runtime is ready for an event.

    Attributes:
        skipped: Whether the runtime left the invocation under way unanswered. False says nothing about that
            invocation: another poller is ready.
    """

    skipped: bool = False


@dataclass(frozen=True, slots=True)
class InitFailed:
    """The code outside the handler failed."""

    error: Errored


@dataclass(frozen=True, slots=True)
class Answered:
    """The handler's outcome was posted."""

    request_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class StreamBroken:
    """A response broke off: its connection ended within the body. As a rule the process's end follows.

    Attributes:
        partial: What had come until then.
    """

    request_id: str
    partial: Body


RuntimeEvent = NextAsked | InitFailed | Answered | StreamBroken


def next_reply(invocation: Invocation, now_ms: int) -> Reply:
    """What ``next`` is answered."""
    return Reply(200, invocation.event, tuple(_headers(invocation, now_ms)))


def _headers(invocation: Invocation, now_ms: int) -> Iterator[tuple[str, str]]:
    deadline_ms = now_ms + invocation.allowed_ms if invocation.deadline_ms is None else invocation.deadline_ms
    yield "Lambda-Runtime-Aws-Request-Id", invocation.request_id
    yield "Lambda-Runtime-Deadline-Ms", str(deadline_ms)
    yield "Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn
    # Always: without one, Ruby's client shows the handler that of the invocation before.
    yield "Lambda-Runtime-Trace-Id", invocation.trace_header or new_trace_header(now_ms)
    if invocation.client_context:
        yield "Lambda-Runtime-Client-Context", _in_ascii(invocation.client_context)
    if invocation.cognito_identity:
        yield "Lambda-Runtime-Cognito-Identity", _in_ascii(invocation.cognito_identity)
    if invocation.tenant_id:
        yield "Lambda-Runtime-Aws-Tenant-Id", invocation.tenant_id


def new_trace_header(now_ms: int) -> str:
    """Begin a trace that nobody records.

    Source: X-Ray developer guide, "Tracing header".
    """
    return f"Root=1-{now_ms // 1000:08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"


def _in_ascii(json_text: str) -> str:
    """JSON as a header takes it. What is not ASCII stands within a string, where it may be spelt as an escape."""
    return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], json_text)
