"""Invoking in an execution environment, and reading what came of it."""

import json
from typing import Any

from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api.invocations import Invocation
from support.functions import ARN

REQUEST_ID = "7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f2c11"


def invoke(
    environment: ExecutionEnvironment, event: Any = None, *, timeout_s: float | None = None, **about: Any
) -> Outcome:
    """Invoke with an event, given as bytes or as what its JSON says."""
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return environment.invoke(Invocation(REQUEST_ID, data, ARN, **about), timeout_s=timeout_s)


def posted(outcome: Outcome) -> bytes:
    """The bytes that the handler's result was posted as."""
    assert isinstance(outcome, Returned), outcome
    return outcome.result.read()


def returned(outcome: Outcome) -> Any:
    """What the handler returned."""
    return json.loads(posted(outcome))


def errored(outcome: Outcome) -> Errored:
    """How the invocation failed."""
    assert isinstance(outcome, Errored), outcome
    return outcome
