"""Running: one invocation, from a target and an event to its outcome and the tail of its log."""

import json
import time
from dataclasses import dataclass

from immortal_local.functions.pool import Pool
from immortal_local.functions.store import Target
from immortal_runner.outcomes import Errored, Outcome, Returned
from immortal_runner.runtime_api import Invocation

__all__ = ["MAX_RESULT_BYTES", "Answer", "Runner"]

MAX_RESULT_BYTES = 6_291_556
"""Source: recorded answer to an oversize response."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an invocation ended.

    Attributes:
        version: The one that ran.
        log_tail: The last 4 KB of what it logged.
    """

    outcome: Outcome
    version: str
    log_tail: bytes

    @property
    def payload(self) -> bytes:
        """The result, or the error in Lambda's JSON."""
        return self.outcome.result if isinstance(self.outcome, Returned) else self.outcome.body

    @property
    def failed(self) -> bool:
        """Whether it is a function error."""
        return isinstance(self.outcome, Errored)


class Runner:
    """Runs invocations in the pool's environments, each under its function's time limit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def run(
        self,
        target: Target,
        event: bytes,
        *,
        request_id: str,
        trace_header: str | None = None,
        client_context: str | None = None,
    ) -> Answer:
        """Run one invocation.

        Raises:
            ApiError: Throttled, or the version can't be run here; nothing ran.
        """
        timeout_s = target.version.configuration["Timeout"]
        with self._pool.lease(target) as warm:
            invocation = Invocation(
                request_id=request_id,
                event=event,
                function_arn=target.arn,
                deadline_ms=time.time_ns() // 1_000_000 + timeout_s * 1000,
                trace_header=trace_header,
                client_context=client_context,
            )
            outcome = warm.environment.invoke(invocation, timeout_s=timeout_s)
            return Answer(_limit(outcome), target.version.number, warm.environment.log_tail)


def _limit(outcome: Outcome) -> Outcome:
    """Turn a result that is too big into the error that Lambda makes of it."""
    if isinstance(outcome, Errored) or len(outcome.result) <= MAX_RESULT_BYTES:
        return outcome
    message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESULT_BYTES} bytes)."
    error_type = "Function.ResponseSizeTooLarge"
    body = json.dumps({"errorMessage": message, "errorType": error_type}).encode()
    return Errored("handler", error_type, message, body)
