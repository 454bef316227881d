"""One execution environment: a function's process, its Runtime API and its log, from start to outcome."""

import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

from immortal_runner.code.function import Function
from immortal_runner.code.layout import Layout
from immortal_runner.execution import report
from immortal_runner.execution.child import FunctionProcess
from immortal_runner.execution.credentials import Credentials, EndpointCredentials
from immortal_runner.execution.logs import LogStream
from immortal_runner.execution.outcomes import Errored, Outcome, exited, interrupted, skipped, timed_out
from immortal_runner.execution.output import Output
from immortal_runner.execution.variables import function_variables
from immortal_runner.runtime_api.server import Answered, InitFailed, Invocation, NextAsked, RuntimeApi, RuntimeEvent
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.runtimes.start import lay_out_runtime, plan_start

INIT_LIMIT_S = 10.0
"""How long Lambda lets the code outside the handler run; then it starts over under the function's own limit."""

_END_GRACE_S = 2.0
LOG_TAIL_BYTES = 4096
_SETTLE_S = 2.0
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class _Exited:
    status: int


@dataclass(frozen=True, slots=True)
class _InterruptAsked:
    grace_s: float


_Event = RuntimeEvent | _Exited | _InterruptAsked


@dataclass(frozen=True, slots=True)
class _Process:
    """A running child, the server that it alone talks to, and what both tell."""

    child: FunctionProcess
    api: RuntimeApi
    events: "queue.SimpleQueue[_Event]"

    def next_event(self, until: float | None) -> _Event | None:
        """Give what happens next; None when nothing does until a time of ``time.monotonic``."""
        try:
            return self.events.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def stop(self, grace_s: float) -> None:
        """End the child with all that it started."""
        if grace_s > 0:
            self.child.terminate()
            self.child.wait(grace_s)
        self.child.kill()
        self.api.close()


class ExecutionEnvironment:
    """A place where one function version handles one event after the other.

    Args:
        function: What runs here.
        layout: Its files, as ``lay_out`` made them.
        credentials: What it calls AWS with.
        log: Where its output goes; closed with the environment.
        variables: What the surroundings add to its environment, for example ``AWS_ENDPOINT_URL`` on a local AWS.
        scratch: Where it keeps its own files while it lives; the system's folder for temporary files unless given.
    """

    def __init__(
        self,
        function: Function,
        layout: Layout,
        *,
        credentials: Credentials,
        log: LogStream,
        variables: Mapping[str, str] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.function = function
        self._credentials = credentials
        self._log = log
        self._variables = variables or {}
        machine = this_machine()
        self._root = Path(tempfile.mkdtemp(prefix="immortal-environment-", dir=scratch))
        self._root.chmod(0o755)
        self._start = plan_start(machine, layout, self._root)
        lay_out_runtime(machine, self._start)
        self._output = Output(self._take_output)
        self._process: _Process | None = None
        self._busy = threading.Lock()
        self._interrupt: _InterruptAsked | None = None
        self._tail = bytearray()
        self._init_ms: float | None = None
        self._peak_memory_mb = 0
        self._stopped = False

    @property
    def log_tail(self) -> bytes:
        """The last 4 KB that the last invocation logged."""
        return bytes(self._tail[-LOG_TAIL_BYTES:])

    def invoke(
        self, invocation: Invocation, *, timeout_s: float | None, on_start: Callable[[], None] | None = None
    ) -> Outcome:
        """Let the handler handle an event.

        The process is started when there is none, and once more when it died in an earlier invocation. At the time
        limit it is killed with all that it started.

        Args:
            invocation: The event; without a deadline of its own it gets the one of the time limit.
            timeout_s: The function's limit, in seconds; None for none. It counts from the hand-over of the event.
            on_start: Called right before the event is handed over; what it raises keeps the event back.
        """
        with self._busy:
            self._tail.clear()
            self._init_ms = None
            began = time.monotonic()
            ready = self._get_ready(invocation, timeout_s)
            self._say(report.start(invocation.request_id, self.function.version))
            if isinstance(ready, _Process):
                if on_start is not None:
                    on_start()
                began = time.monotonic()
                outcome = self._handle(ready, invocation, timeout_s)
            else:
                outcome = ready
            self._write_report(invocation, outcome, (time.monotonic() - began) * 1000)
            return outcome

    def interrupt(self, grace_s: float) -> None:
        """Stop the invocation that is under way, from any thread: SIGTERM, and after a grace SIGKILL.

        A handler that finishes within the grace has finished: its outcome is the handler's own. So that it can, a
        process that has no handler for SIGTERM is not sent the signal, which would kill it at once.
        """
        asked = _InterruptAsked(grace_s)
        self._interrupt = asked
        if process := self._process:
            process.events.put(asked)

    def deliver_log(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was logged so far has been delivered."""
        self._output.settle(timeout_s)
        self._log.flush(timeout_s)

    def stop(self) -> None:
        """End the process and remove what it left: SIGTERM, two seconds, SIGKILL. Stopping twice is harmless."""
        if self._stopped:
            return
        self._stopped = True
        self._drop_process(_END_GRACE_S)
        self._output.close()
        self._log.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _get_ready(self, invocation: Invocation, timeout_s: float | None) -> _Process | Errored:
        """Bring a process to the point where it asks for an event; an environment that was stopped starts none."""
        if self._stopped:
            return interrupted(invocation.request_id)
        if self._process is not None:
            if self._await_ready(self._process, invocation, INIT_LIMIT_S) is None:
                return self._process
            self._drop_process(0)  # it died, or never came back, after its last answer
        if timeout_s is None:
            return self._initialize(invocation, None)
        first = self._initialize(invocation, INIT_LIMIT_S)
        if isinstance(first, Errored) and first.family == "timeout":
            return self._initialize(invocation, timeout_s)
        return first

    def _initialize(self, invocation: Invocation, limit_s: float | None) -> _Process | Errored:
        began = time.monotonic()
        process = self._start_process()
        failure = self._await_ready(process, invocation, limit_s)
        self._init_ms = (time.monotonic() - began) * 1000
        self._peak_memory_mb = process.child.peak_memory_mb()
        if failure is not None:
            self._drop_process(0)
        return failure or process

    def _start_process(self) -> _Process:
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        endpoint = self._credentials if isinstance(self._credentials, EndpointCredentials) else None
        api = RuntimeApi(events, endpoint)
        variables = function_variables(
            self.function,
            paths=self._start.paths,
            runtime_api=api.address,
            log_stream=self._log.name,
            credentials=self._credentials.variables(api.address),
            extra=self._variables,
        )
        child = self._start.run(
            variables, output=self._output.write_end, on_exit=lambda status: events.put(_Exited(status))
        )
        self._process = _Process(child, api, events)
        if self._interrupt is not None:
            events.put(self._interrupt)
        return self._process

    def _await_ready(self, process: _Process, invocation: Invocation, limit_s: float | None) -> Errored | None:
        until = None if limit_s is None else time.monotonic() + limit_s
        while True:
            match process.next_event(until):
                case None:
                    return timed_out(invocation.request_id, limit_s or 0)
                case NextAsked():
                    return None
                case InitFailed(error):
                    process.child.wait(_LAST_WORDS_S)
                    return error
                case _Exited(status):
                    return exited(invocation.request_id, status)
                case _InterruptAsked():
                    return interrupted(invocation.request_id)
                case Answered():
                    continue  # of an invocation that was given up
                case never:
                    assert_never(never)

    def _handle(self, process: _Process, invocation: Invocation, timeout_s: float | None) -> Outcome:
        until, stopping = None, False
        if timeout_s is not None:
            until = time.monotonic() + timeout_s
            if invocation.deadline_ms is None:
                invocation = replace(invocation, deadline_ms=time.time_ns() // 1_000_000 + round(timeout_s * 1000))
        process.api.hand_out(invocation)
        while True:
            event = process.next_event(until)
            if isinstance(event, _InterruptAsked):
                until, stopping = time.monotonic() + event.grace_s, True
                if process.child.catches_sigterm():
                    process.child.terminate()
            elif (outcome := self._judge(process, event, invocation.request_id, timeout_s)) is not None:
                # An error after we asked it to stop is how it stopped, not what became of its work.
                return interrupted(invocation.request_id) if stopping and isinstance(outcome, Errored) else outcome

    def _judge(
        self, process: _Process, event: RuntimeEvent | _Exited | None, request_id: str, timeout_s: float | None
    ) -> Outcome | None:
        """What an event makes of the invocation that is under way; None when it goes on."""
        match event:
            case Answered(answered_id, outcome):
                self._peak_memory_mb = process.child.peak_memory_mb()
                return outcome if answered_id == request_id else None
            case None:
                self._drop_process(0)
                return timed_out(request_id, timeout_s or 0)
            case InitFailed(error):  # Ruby's client says so in the middle of an invocation
                self._drop_process(_LAST_WORDS_S)
                return error
            case _Exited(status):
                self._drop_process(0)
                return exited(request_id, status)
            case NextAsked():
                self._drop_process(0)
                return skipped(request_id)
            case never:
                assert_never(never)

    def _drop_process(self, grace_s: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._peak_memory_mb = process.child.peak_memory_mb() or self._peak_memory_mb
            process.stop(grace_s)

    def _write_report(self, invocation: Invocation, outcome: Outcome, duration_ms: float) -> None:
        self._output.settle(_SETTLE_S)
        measured = report.Measured(duration_ms, self._init_ms, self._peak_memory_mb)
        memory_mb, now = self.function.memory_mb, datetime.now(UTC)
        self._say(report.end(invocation.request_id, outcome, memory_mb=memory_mb, measured=measured, now=now))

    def _say(self, lines: str) -> None:
        self._take_output(lines.encode())

    def _take_output(self, data: bytes) -> None:
        if not data:
            return
        self._tail += data
        del self._tail[: -2 * LOG_TAIL_BYTES]
        self._log.write(data)
