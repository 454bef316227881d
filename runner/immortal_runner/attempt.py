"""One attempt at a run: claim, fetch, run, record."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import AccessRefused, ImmortalError, ServiceUnavailable
from immortal_lambda.ledger import Claim, LeaseLost, Ledger, NotClaimable, Place, RunUnknown
from immortal_lambda.payloads import Bucket, Payload, fetch, keep
from immortal_lambda.runs import Run, RunError
from immortal_runner.code.fetch import Download, download_all
from immortal_runner.code.function import Function, read_function
from immortal_runner.code.layout import Layout, lay_out
from immortal_runner.differences import describe_differences, join_notes
from immortal_runner.execution.credentials import EndpointCredentials, TemporaryCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.logs import LogStream, new_stream_name
from immortal_runner.execution.outcomes import Errored, Outcome, Returned
from immortal_runner.exit_codes import ExitCode, exit_code_of
from immortal_runner.heartbeat import Heartbeat
from immortal_runner.runtime_api.server import Invocation
from immortal_runner.settings import Settings
from immortal_runner.stop import StopSignal

LAMBDA_RESULT_BYTES = 6_291_556
"""What Lambda takes as a result. Source: error text recorded from AWS."""

MAX_TYPE_BYTES = 256
MAX_MESSAGE_BYTES = 8_000
MAX_LINE_BYTES = 2_000
MAX_STACK_LINES = 40
"""How much of an error goes into the ledger; the function's log has all of it."""

LOG_PATIENCE_S = 3.0
"""How long the outcome waits for the log."""

RECORD_AGAIN_S = 1.0
RECORD_TIMES = 5
"""How often an outcome is recorded anew when time may not mend the error; otherwise, until the claim is lost."""


class OutcomeLost(ImmortalError):
    """The handler has done its work and the ledger refuses to note it: a human must look before anything is rerun."""


class Account(Protocol):
    """All that an attempt asks of AWS beside the ledger. ``aws.py`` asks boto3."""

    def get_function(self, name: str, qualifier: str | None) -> Mapping[str, Any]:
        """GetFunction's answer."""
        ...

    def get_layer(self, version_arn: str) -> tuple[str, str]:
        """The link to a layer version's zip, and the zip's hash."""
        ...

    def assume_role(self, role_arn: str, function_name: str) -> TemporaryCredentials:
        """Become a role for an hour."""
        ...

    def open_log_stream(self, group: str, name: str) -> LogStream:
        """Open a log stream."""
        ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A function that is ready to start, the event for it, and what should be noted with the outcome."""

    environment: ExecutionEnvironment
    invocation: Invocation
    note: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt works with.

    Attributes:
        pulse: The same ledger, by calls that end well within a lease: the heartbeat's.
        owner: Names this process in the ledger.
        task_arn: The task that carries the attempt; empty outside ECS.
    """

    settings: Settings
    ledger: Ledger
    pulse: Ledger
    bucket: Bucket
    account: Account
    owner: str
    task_arn: str
    stop: StopSignal

    def make(self) -> ExitCode:
        """Make the attempt.

        Returns:
            What the task exits with. Everything else is in the ledger.
        """
        try:
            claim = self.ledger.claim(
                self.settings.run_id,
                owner=self.owner,
                place=Place(task_arn=self.task_arn),
                now_ms=_now_ms(),
                lease_ms=round(self.settings.lease_s * 1000),
            )
        except (NotClaimable, RunUnknown) as refusal:
            _say(f"nothing to do: {refusal}")
            return ExitCode.NOTHING_TO_DO
        heartbeat = Heartbeat(
            self.pulse, claim, lease_s=self.settings.lease_s, on_lost=lambda: self.stop.ask(grace_s=0)
        )
        try:
            return self._make_under(claim, heartbeat)
        except LeaseLost as error:
            _say(str(error))
            return ExitCode.LEASE_LOST
        finally:
            heartbeat.stop()

    def _make_under(self, claim: Claim, heartbeat: Heartbeat) -> ExitCode:
        try:
            with self._prepare(claim) as prepared:
                return self._run(prepared, claim, heartbeat)
        except LeaseLost:
            raise
        except ImmortalError as error:
            if error.retryable:
                self.ledger.release(claim, reason=str(error), now_ms=_now_ms())
                return ExitCode.RELEASED
            self.ledger.give_up(claim, reason=str(error), now_ms=_now_ms())
            return ExitCode.PARKED
        except Exception as error:
            began = "after the handler had begun" if heartbeat.handler_noted else "before the handler began"
            broken = f"the runner itself failed {began}: {type(error).__name__}. Next step: read the task's own log"
            self.ledger.give_up(claim, reason=broken, now_ms=_now_ms())
            raise

    @contextmanager
    def _prepare(self, claim: Claim) -> Iterator[_Prepared]:
        """Fetch the function and its event, and make an environment that is ready to start."""
        run = claim.run
        event = fetch(run.event, self.bucket)
        invoked = FunctionArn.read(run.function_arn)
        answer = self.account.get_function(str(invoked.unqualified), _qualifier(run, invoked))
        function = read_function(answer)
        self._check_stop()
        with ThreadPoolExecutor(max_workers=1) as threads:  # its role is assumed while its code is on its way
            credentials = threads.submit(
                EndpointCredentials, lambda: self.account.assume_role(function.role_arn, function.name)
            )
            layout = self._lay_out(function, answer)
        self._check_stop()
        log = self.account.open_log_stream(function.log_group, new_stream_name(function.version, datetime.now(UTC)))
        self.ledger.note_log_stream(claim, Place(log_group=log.group, log_stream=log.name))
        environment = ExecutionEnvironment(
            function,
            layout,
            credentials=credentials.result(),
            log=log,
            variables={"AWS_ENDPOINT_URL": self.settings.endpoint_url} if self.settings.endpoint_url else {},
        )
        try:
            yield _Prepared(
                environment, Invocation(run.run_id, event, str(invoked)), describe_differences(function, run)
            )
        finally:
            environment.stop()

    def _run(self, prepared: _Prepared, claim: Claim, heartbeat: Heartbeat) -> ExitCode:
        environment = prepared.environment
        with self.stop.heard_by(environment.interrupt):
            outcome = environment.invoke(prepared.invocation, timeout_s=None, on_start=heartbeat.note_handler_start)
        environment.deliver_log(LOG_PATIENCE_S)  # whoever sees the run ended finds its log complete
        for tried in count():
            if heartbeat.lost:
                break
            try:
                self._record(claim, outcome, prepared.note)
            except LeaseLost:
                raise
            except Exception as error:
                if tried >= RECORD_TIMES and not getattr(error, "retryable", False):
                    raise OutcomeLost(f"the handler finished, but its outcome can't be recorded: {error}") from error
                _say(f"the outcome can't be recorded yet: {type(error).__name__}: {error}")
                time.sleep(RECORD_AGAIN_S)
            else:
                return exit_code_of(outcome)
        raise LeaseLost(f"run {claim.run.run_id}: the claim was lost while the handler worked; nothing is recorded")

    def _check_stop(self) -> None:
        if self.stop.asked:
            raise ServiceUnavailable("the task was stopped before the handler had begun")

    def _lay_out(self, function: Function, answer: Mapping[str, Any]) -> Layout:
        code = Download(f"the code of {function.name}", answer["Code"]["Location"], function.code_sha256)
        layers = [self._layer_download(arn) for arn in function.layers]
        with tempfile.TemporaryDirectory(prefix="immortal-download-") as folder:
            zips = download_all([lambda: code, *layers], Path(folder))
            return lay_out(zips[0], zips[1:], self.settings.work_dir)

    def _layer_download(self, arn: str) -> Callable[[], Download]:
        def ask() -> Download:
            link, sha256 = self.account.get_layer(arn)
            return Download(f"the layer {arn}", link, sha256)

        return ask

    def _record(self, claim: Claim, outcome: Outcome, note: str) -> None:
        match outcome:
            case Returned(result):
                payload, remark = self._keep(result, f"{claim.run.run_id}/result")
                self.ledger.complete(claim, result=payload, now_ms=_now_ms(), note=join_notes(note, remark))
            case Errored(family="interrupted"):
                reason = "the task was stopped before the handler had finished"
                self.ledger.release(claim, reason=reason, now_ms=_now_ms())
            case Errored(error_type=error_type, message=message, stack_trace=stack_trace):
                stack = tuple(cut_text(line, MAX_LINE_BYTES) for line in stack_trace[:MAX_STACK_LINES])
                error = RunError(cut_text(error_type, MAX_TYPE_BYTES), cut_text(message, MAX_MESSAGE_BYTES), stack)
                self.ledger.fail(claim, error=error, now_ms=_now_ms(), note=note)

    def _keep(self, result: bytes, name: str) -> tuple[Payload | None, str]:
        """Keep a result, and say what an operator should know of it."""
        too_big = f"the result has {len(result)} bytes; Lambda takes {LAMBDA_RESULT_BYTES}"
        remark = too_big if len(result) > LAMBDA_RESULT_BYTES else ""
        try:
            return keep(result, name=name, bucket=self.bucket), remark
        except (AccessRefused, ServiceUnavailable) as error:
            if error.retryable and not self.stop.asked:
                raise
            # The work is done: doing it again would not store its result either, and there is no time to wait.
            return None, join_notes(
                remark, f"the handler returned {len(result)} bytes that could not be stored: {error}"
            )


def _qualifier(run: Run, invoked: FunctionArn) -> str | None:
    """The version that ran, where the letter says it; else the version or alias that was invoked."""
    return (run.version if run.version != "$LATEST" else "") or invoked.qualifier


def cut_text(text: str, max_bytes: int) -> str:
    """A text that leaves room for others in the ledger's item, which DynamoDB limits to 400 KB."""
    data = text.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return text
    return f"{data[:max_bytes].decode('utf-8', 'ignore')}… ({len(data)} bytes)"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
