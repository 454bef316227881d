"""What is recorded of an outcome, and how often that is tried."""

import sys
import time
from dataclasses import dataclass
from itertools import count

from immortal_lambda.clock import now_ms
from immortal_lambda.errors import AccessRefused, ImmortalError, ServiceUnavailable
from immortal_lambda.ledger import Claim, LeaseLost, Ledger
from immortal_lambda.payloads import Bucket, Payload, keep
from immortal_lambda.quotes import shorten
from immortal_lambda.runs import RunError
from immortal_runner.differences import join_notes
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.heartbeat import Heartbeat
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.stop import StopSignal

LAMBDA_RESULT_BYTES = 6_291_556
"""What Lambda takes as a result. Source: error text recorded from AWS."""

MAX_TYPE_BYTES = 256
MAX_MESSAGE_BYTES = 8_000
MAX_LINE_BYTES = 2_000
MAX_STACK_LINES = 40
"""How much of an error goes into the ledger; the function's log has all of it."""

RECORD_AGAIN_S = 1.0
RECORD_TIMES = 5
"""How often an outcome is recorded anew when time may not mend the error; otherwise, until the claim is lost."""


class OutcomeLost(ImmortalError):
    """The handler has done its work and the ledger refuses to note it: a human must look before anything is rerun."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records outcomes under a claim."""

    ledger: Ledger
    bucket: Bucket
    stop: StopSignal

    def record(self, claim: Claim, outcome: Outcome, *, note: str, heartbeat: Heartbeat) -> None:
        """Record an outcome, as often as the ledger needs and for as long as the claim holds.

        A claim that nobody could renew may still stand in the ledger, which knows best: it is asked once at least.

        Raises:
            LeaseLost: The claim is no longer this one.
            OutcomeLost: The ledger refuses it for good.
        """
        for tried in count():
            try:
                self._record_once(claim, outcome, note)
            except LeaseLost:
                raise
            except Exception as error:
                if tried >= RECORD_TIMES and not getattr(error, "retryable", False):
                    raise OutcomeLost(f"the handler finished, but its outcome can't be recorded: {error}") from error
                if heartbeat.lost:
                    lost = f"run {claim.run.run_id}: the claim was lost, and the outcome can't be recorded: {error}"
                    raise LeaseLost(lost) from error
                sys.stderr.write(f"the outcome can't be recorded yet: {type(error).__name__}: {error}\n")
                time.sleep(RECORD_AGAIN_S)
            else:
                return

    def _record_once(self, claim: Claim, outcome: Outcome, note: str) -> None:
        match outcome:
            case Returned(result):
                payload, remark = self._keep_result(result, f"{claim.run.run_id}/result")
                self.ledger.complete(claim, result=payload, now_ms=now_ms(), note=join_notes(note, remark))
            case Errored(family="interrupted"):
                reason = "the task was stopped before the handler had finished"
                self.ledger.release(claim, reason=reason, now_ms=now_ms())
            case Errored(partial=partial):
                written, remark = self._keep_partial(partial, f"{claim.run.run_id}/partial")
                note = join_notes(note, outcome.note, remark)
                self.ledger.fail(claim, error=shorten_error(outcome), now_ms=now_ms(), partial=written, note=note)

    def _keep_result(self, result: Body, name: str) -> tuple[Payload | None, str]:
        """Keep a result, and say what an operator should know of it."""
        too_big = f"the result has {result.size_bytes} bytes; Lambda takes {LAMBDA_RESULT_BYTES}"
        kept, remark = self._keep(result, name, "the handler returned")
        return kept, join_notes(too_big if result.size_bytes > LAMBDA_RESULT_BYTES else "", remark)

    def _keep_partial(self, partial: Body | None, name: str) -> tuple[Payload | None, str]:
        """Keep what a handler had written of its result before it failed."""
        if partial is None or not partial.size_bytes:
            return None, ""
        kept, remark = self._keep(partial, name, "the handler had written")
        return (
            kept,
            remark or f"the result is what the handler had written before it failed, {partial.size_bytes} bytes",
        )

    def _keep(self, body: Body, name: str, how: str) -> tuple[Payload | None, str]:
        """Keep bytes; None and the reason where they can't be stored.

        The work is done: doing it again would not store them either, and a task that is stopped can't wait.
        """
        try:
            return keep(body, name=name, bucket=self.bucket), ""
        except (AccessRefused, ServiceUnavailable) as error:
            if error.retryable and not self.stop.asked:
                raise
            return None, f"{how} {body.size_bytes} bytes that could not be stored: {error}"


def shorten_error(errored: Errored) -> RunError:
    """An error that leaves room for others in the ledger's item, which DynamoDB limits to 400 KB."""
    return RunError(
        shorten(errored.error_type, MAX_TYPE_BYTES),
        shorten(errored.message, MAX_MESSAGE_BYTES),
        tuple(shorten(line, MAX_LINE_BYTES) for line in errored.stack_trace[:MAX_STACK_LINES]),
    )
