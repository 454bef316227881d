"""Invoking: one invocation, from a target and an event to its outcome and the tail of its log."""

import json
import time
from dataclasses import dataclass

from immortal_local.functions.pool import Pool
from immortal_local.functions.store import Target
from immortal_runner.code.archive import ArchiveRefused
from immortal_runner.execution.outcomes import Errored, Family, Outcome, Returned
from immortal_runner.record import LAMBDA_RESULT_BYTES
from immortal_runner.runtime_api.invocations import Invocation

__all__ = ["Answer", "Invoker"]


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
        return self.outcome.result.read() if isinstance(self.outcome, Returned) else self.outcome.body

    @property
    def failed(self) -> bool:
        """Whether it is a function error."""
        return isinstance(self.outcome, Errored)


class Invoker:
    """Runs invocations in the pool's environments, each under its function's time limit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def invoke(
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
        try:
            return self._invoke(target, event, request_id, trace_header, client_context)
        except ArchiveRefused as error:
            return Answer(_not_unzipped(error), target.version.number, b"")

    def _invoke(
        self, target: Target, event: bytes, request_id: str, trace_header: str | None, client_context: str | None
    ) -> Answer:
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
    if isinstance(outcome, Errored) or outcome.result.size_bytes <= LAMBDA_RESULT_BYTES:
        return outcome
    message = f"Response payload size exceeded maximum allowed payload size ({LAMBDA_RESULT_BYTES} bytes)."
    return _error("handler", "Function.ResponseSizeTooLarge", message)


def _not_unzipped(error: ArchiveRefused) -> Errored:
    """Fail as the code's start would: what the zip does is the function's fault, and is retried no longer than that.

    What AWS answers here is not known.
    """
    return _error("init", "Runtime.InvalidZipFile", f"Lambda could not unzip the deployment package: {error}")


def _error(family: Family, error_type: str, message: str) -> Errored:
    body = json.dumps({"errorMessage": message, "errorType": error_type}).encode()
    return Errored(family, error_type, message, body)
