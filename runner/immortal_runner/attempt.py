"""One attempt at a run: its function made ready, its handler invoked, its outcome recorded."""

import sys
import uuid
from dataclasses import dataclass

from immortal_lambda.arns import FunctionArn
from immortal_lambda.clock import now_ms
from immortal_lambda.errors import ImmortalError
from immortal_lambda.ledger import Claim, LeaseLost, Ledger
from immortal_lambda.payloads import Bucket, fetch
from immortal_lambda.runs import Run
from immortal_runner.code.function import Function
from immortal_runner.differences import describe_differences, join_notes
from immortal_runner.exit_codes import ExitCode, exit_code_of
from immortal_runner.heartbeat import Heartbeat
from immortal_runner.record import Recorder
from immortal_runner.runtime_api.invocations import UNLIMITED_MS, Invocation
from immortal_runner.settings import Deadline, Settings
from immortal_runner.stop import StopSignal
from immortal_runner.workplace import Ready, Workplace

LOG_PATIENCE_S = 3.0
"""How long the outcome waits for the log."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt works with.

    Attributes:
        pulse: The same ledger, by calls that end well within a lease: the heartbeat's.
    """

    settings: Settings
    ledger: Ledger
    pulse: Ledger
    bucket: Bucket
    stop: StopSignal
    workplace: Workplace

    def make(self, claim: Claim) -> ExitCode:
        """Make the attempt.

        Returns:
            How it ended. Everything else is in the ledger.
        """
        heartbeat = Heartbeat(
            self.ledger, self.pulse, claim, lease_s=self.settings.lease_s, on_lost=lambda: self.stop.ask(grace_s=0)
        )
        try:
            return self._make_under(claim, heartbeat)
        except LeaseLost as error:
            sys.stderr.write(f"{error}\n")
            return ExitCode.LEASE_LOST
        finally:
            heartbeat.stop()

    def _make_under(self, claim: Claim, heartbeat: Heartbeat) -> ExitCode:
        try:
            return self._work(claim, heartbeat)
        except LeaseLost:
            raise
        except ImmortalError as error:
            if error.retryable:
                self.ledger.release(claim, reason=str(error), now_ms=now_ms())
                return ExitCode.RELEASED
            self.ledger.give_up(claim, reason=str(error), now_ms=now_ms())
            # With the handler begun it is this task that failed it, and so it would the next.
            return ExitCode.BROKEN if heartbeat.handler_noted else ExitCode.PARKED
        except Exception as error:
            began = "after the handler had begun" if heartbeat.handler_noted else "before the handler began"
            broken = f"the runner itself failed {began}: {type(error).__name__}. Next step: read the task's own log"
            self.ledger.give_up(claim, reason=broken, now_ms=now_ms())
            raise

    def _work(self, claim: Claim, heartbeat: Heartbeat) -> ExitCode:
        run = claim.run
        self.workplace.check_stop()
        event = fetch(run.event, self.bucket)
        ready = self.workplace.get_ready(run)
        if run.log_stream != ready.place.log_stream:
            self.ledger.note_log_stream(claim, ready.place)
        invocation, note = self._invocation(run, event, ready)
        environment = ready.environment

        def begin() -> None:
            heartbeat.note_handler_start()
            self.workplace.check_stop()

        with self.stop.heard_by(environment.interrupt):
            outcome = environment.invoke(invocation, timeout_s=None, on_start=begin)
        environment.deliver_log(LOG_PATIENCE_S)  # whoever sees the run ended finds its log complete
        Recorder(self.ledger, self.bucket, self.stop).record(claim, outcome, note=note, heartbeat=heartbeat)
        return exit_code_of(outcome)

    def _invocation(self, run: Run, event: bytes, ready: Ready) -> tuple[Invocation, str]:
        """What the handler is given, and what should be noted with its outcome."""
        fresh = self.settings.request_id == "fresh"
        invocation = Invocation(
            str(uuid.uuid4()) if fresh else run.run_id,
            event,
            str(FunctionArn.read(run.function_arn).as_invoked),
            allowed_ms=allowed_ms(self.settings.deadline, ready.described),
        )
        return invocation, join_notes(
            describe_differences(ready.described, run, memory_mb=ready.environment.function.memory_mb),
            f"the handler saw the request id {invocation.request_id}" if fresh else "",
            f"the deadline that it saw: {self.settings.deadline}" if self.settings.deadline != "unlimited" else "",
            _describe_credentials(self.settings),
        )


def allowed_ms(deadline: Deadline, function: Function) -> int:
    """What a handler is told that it has, in milliseconds from the hand-over of its event on."""
    match deadline:
        case "unlimited":
            return UNLIMITED_MS
        case "original":
            return function.timeout_s * 1000
        case seconds:
            return seconds * 1000


def _describe_credentials(settings: Settings) -> str:
    return {
        "endpoint": "",
        "static": "its credentials were fixed ones, good for an hour",
        "task-role": "it ran with the credentials of the task's role",
    }[settings.credentials]
