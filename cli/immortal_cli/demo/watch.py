"""What happens to the demo's event, told as it happens."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from immortal_cli.aws import Account
from immortal_lambda.ledger import Ledger, RunUnknown
from immortal_lambda.runs import Run

_LOOK_S = 0.1
_PLATFORM = ("START ", "END ", "REPORT ", "INIT_START ")
_BILLED = re.compile(r"Billed Duration: (\d+) ms")


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened.

    Attributes:
        at_ms: Unix milliseconds.
    """

    at_ms: int
    text: str


@dataclass(slots=True)
class Watch:
    """Follows one event through the function's log and the ledger.

    Attributes:
        timeout_s: The function's limit.
        attempts: Attempts that Lambda has begun.
        billed_ms: What Lambda has billed for them.
    """

    account: Account
    ledger: Ledger
    request_id: str
    log_group: str
    timeout_s: int
    attempts: int = 0
    billed_ms: int = 0
    _seen: set[str] = field(default_factory=set)
    _last: Run | None = None

    def follow(self, give_up_s: float) -> Iterator[Moment]:
        """Give what happens, in order, until the run has ended or the time is up."""
        give_up_at = time.monotonic() + give_up_s
        while time.monotonic() < give_up_at:
            events = self._new_events()
            run = self._read_run()  # after its log: the run names its log stream before the first line is written
            lines = [moment for event in events for moment in self._tell_line(event, run)]
            yield from sorted([*lines, *self._tell_run(run)], key=lambda moment: moment.at_ms)
            self._last = run
            if run is not None and run.ended:
                return
            time.sleep(_LOOK_S)

    @property
    def run(self) -> Run | None:
        """The run as it was seen last."""
        return self._last

    def _new_events(self) -> list[dict[str, Any]]:
        logs = self.account.client("logs")
        try:
            found = logs.filter_log_events(logGroupName=self.log_group)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        fresh = [event for event in found if event["eventId"] not in self._seen]
        self._seen.update(event["eventId"] for event in fresh)
        return fresh

    def _read_run(self) -> Run | None:
        try:
            return self.ledger.read(self.request_id)
        except RunUnknown:
            return None

    def _tell_line(self, event: dict[str, Any], run: Run | None) -> Iterator[Moment]:
        line, at_ms = event["message"].rstrip(), event["timestamp"]
        of_rerun = run is not None and event["logStreamName"] == run.log_stream
        if line.startswith(_PLATFORM):
            if not of_rerun:
                yield from self._tell_platform(line, at_ms)
        elif "Task timed out" in line:
            yield Moment(at_ms, f"Lambda   attempt {self.attempts} ran out of its {self.timeout_s} s and was killed")
        elif line:
            yield Moment(at_ms, f"{'Fargate' if of_rerun else 'Lambda':<8} | {line.strip()}")

    def _tell_platform(self, line: str, at_ms: int) -> Iterator[Moment]:
        if line.startswith("START "):
            self.attempts += 1
            yield Moment(at_ms, f"Lambda   attempt {self.attempts} started")
        elif billed := _BILLED.search(line):
            self.billed_ms += int(billed[1])

    def _tell_run(self, run: Run | None) -> Iterator[Moment]:
        if run is None:
            return
        for happened, moment in _told_by_record(run):
            if happened(run) and not (self._last is not None and happened(self._last)):
                yield moment
        if not run.ended and run.reason and (self._last is None or self._last.reason != run.reason):
            yield Moment(run.updated_ms, f"ledger   {run.status}: {run.reason}")


def _told_by_record(run: Run) -> list[tuple[Callable[[Run], object], Moment]]:
    """What a record can tell, each with the test for whether it has happened."""
    failed_ms = run.origin.failed_ms if run.origin else run.created_ms
    task = run.task_arn.rpartition("/")[2]
    return [
        (lambda _: True, Moment(failed_ms, "queue    Lambda gave up: a dead letter")),
        (lambda _: True, Moment(run.created_ms, f"dispatch found the function: {run.function}; its run is on record")),
        (lambda seen: seen.claimed_ms, Moment(run.claimed_ms, f"Fargate  task {task} took the run over")),
        (
            lambda seen: seen.handler_ms,
            Moment(run.handler_ms, "Fargate  the handler has its event again: same code, same request id, no limit"),
        ),
        (
            lambda seen: seen.ended,
            Moment(run.ended_ms, f"ledger   {run.status}{f': {run.reason}' if run.reason else ''}"),
        ),
    ]
