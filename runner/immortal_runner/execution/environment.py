"""One execution environment: a function's process, its Runtime API and its log, from start to outcome."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

from immortal_lambda.errors import ImmortalError
from immortal_runner.code.function import Function
from immortal_runner.code.layout import Layout
from immortal_runner.execution import report
from immortal_runner.execution.credentials import Credentials
from immortal_runner.execution.exhaustion import is_kill, is_nearly_full, speaks_of_disk
from immortal_runner.execution.extensions import ShutdownReason, name_sandbox
from immortal_runner.execution.host import Host
from immortal_runner.execution.logs import LogStream
from immortal_runner.execution.outcomes import (
    Errored,
    Family,
    Outcome,
    Returned,
    exited,
    interrupted,
    invalid_entrypoint,
    never_asked,
    out_of_memory,
    skipped,
    timed_out,
)
from immortal_runner.execution.process import Events, Exited, ExtensionsMoved, InterruptAsked, Process, Surroundings
from immortal_runner.execution.transcript import Transcript
from immortal_runner.runtime_api.bodies import Body
from immortal_runner.runtime_api.invocations import (
    Answered,
    InitFailed,
    Invocation,
    NextAsked,
    RuntimeEvent,
    StreamBroken,
)
from immortal_runner.runtimes.machine import Machine, this_machine
from immortal_runner.runtimes.start import lay_out_runtime, plan_start

INIT_LIMIT_S = 10.0
"""How long Lambda lets the code outside the handler run; then it starts over under the function's own limit."""

_END_GRACE_S = 2.0
_STOP_S = 6.0
"""How long stopping waits for the invocation under way, which ends by its own grace."""

_LAST_WORDS_S = 2.0


_SHUTDOWN_REASONS: Mapping[Family, ShutdownReason] = {"timeout": "timeout", "interrupted": "spindown"}


class RunnerFault(ImmortalError):
    """The function's process died because the server that it lives by had gone: our fault, and no outcome of it."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class ExecutionEnvironment:
    """A place where one function version handles one event after the other.

    Args:
        function: What runs here.
        layout: Its files, as ``lay_out`` made them; of a container image, the container that brings them.
        credentials: What it calls AWS with.
        log: Where its output goes; closed with the environment.
        variables: What the surroundings add to its environment, for example ``AWS_ENDPOINT_URL`` on a local AWS.
        scratch: Where it keeps its own files while it lives; the system's folder for temporary files unless given.
        extensions: Whether the extensions that its layers bring are started beside it.
    """

    def __init__(
        self,
        function: Function,
        layout: Layout | Host,
        *,
        credentials: Credentials,
        log: LogStream,
        variables: Mapping[str, str] | None = None,
        scratch: Path | None = None,
        extensions: bool = True,
    ) -> None:
        self.function = function
        self._process: Process | None = None
        self._events: Events | None = None
        self._busy = threading.Lock()
        self._stopping = threading.Lock()
        self._interrupt: InterruptAsked | None = None
        self._last_id = ""
        self._partial: Body | None = None
        self._init_ms: float | None = None
        self._peak_memory_mb = 0
        self._stopped = False
        machine = this_machine()
        self._root = Path(tempfile.mkdtemp(prefix="immortal-environment-", dir=scratch))
        self._root.chmod(0o755)
        self._host = _prepare_host(machine, function, layout, self._root) if isinstance(layout, Layout) else layout
        if machine.base_image:
            name_sandbox(Path("/etc/hosts"))
        self._transcript = Transcript(log, self._host.open_pipe())
        self._surroundings = Surroundings(
            function,
            self._host,
            credentials,
            log_stream=log.name,
            output=self._transcript.write_end,
            variables=variables or {},
            spool=self._root,
            with_extensions=extensions,
            tell=self._tell,
        )

    @property
    def log_tail(self) -> bytes:
        """The last 4 KB that the last invocation logged."""
        return self._transcript.tail

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

        Raises:
            RunnerFault: The process died of a fault of ours.
        """
        with self._busy:
            self._transcript.forget_tail()
            self._init_ms = self._partial = None
            began = time.monotonic()
            ready = self._get_ready(invocation, timeout_s)
            self._last_id = invocation.request_id
            self._transcript.say(report.start(self.function, invocation.request_id, datetime.now(UTC)))
            if isinstance(ready, Process):
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
        asked = InterruptAsked(grace_s)
        self._interrupt = asked
        self._transcript.lose_patience()
        if events := self._events:
            events.put(asked)

    def deliver_log(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was logged so far has been delivered."""
        self._transcript.deliver(timeout_s)

    def stop(self) -> None:
        """End the process and remove what it left, in bounded time. Stopping twice is harmless.

        An invocation that is under way is interrupted and waited for. A process that has answered gets the time until
        it asks for its next event; then SIGTERM, and after two seconds SIGKILL.
        """
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
        self.interrupt(_END_GRACE_S)
        alone = self._busy.acquire(timeout=_STOP_S)
        try:
            if alone and self._process is not None:
                self._let_finish(self._process)
            self._drop_process("spindown", _END_GRACE_S)
            self._transcript.close()
            shutil.rmtree(self._root, ignore_errors=True)
        finally:
            if alone:
                self._busy.release()

    def _let_finish(self, process: Process) -> None:
        """Let a runtime that has answered, and extensions, do what they do until they ask on; not for ever."""
        until = time.monotonic() + _END_GRACE_S
        while not process.is_idle() and (event := process.events.next(until)) is not None:
            if isinstance(event, Exited):
                self._note_end(exited(self._last_id, event.status))
                return

    def _get_ready(self, invocation: Invocation, timeout_s: float | None) -> Process | Errored:
        """Bring a process to the point where it asks for an event; an environment that was stopped starts none."""
        if self._stopped:
            return interrupted(invocation.request_id)
        if self._process is not None:
            if (failure := self._await_ready(self._process, self._last_id, INIT_LIMIT_S)) is None:
                return self._process
            self._note_end(failure)
            self._drop_process("failure")
        if timeout_s is None:
            return self._initialize_unlimited(invocation)
        first = self._initialize(invocation, INIT_LIMIT_S)
        if isinstance(first, Errored) and first.family == "timeout":
            return self._initialize(invocation, timeout_s)
        return first

    def _initialize_unlimited(self, invocation: Invocation) -> Process | Errored:
        limit_s = self._host.init_limit_s
        ready = self._initialize(invocation, limit_s)
        if isinstance(ready, Errored) and ready.family == "timeout":
            return never_asked(invocation.request_id, limit_s or 0)
        return ready

    def _initialize(self, invocation: Invocation, limit_s: float | None) -> Process | Errored:
        if self._host.fault:
            return invalid_entrypoint(invocation.request_id, self._host.fault)
        began = time.monotonic()
        self._transcript.say(report.init_start(self.function, datetime.now(UTC)))
        process = self._start_process()
        failure = self._await_ready(process, invocation.request_id, limit_s)
        self._init_ms = (time.monotonic() - began) * 1000
        self._peak_memory_mb = process.child.peak_memory_mb()
        if failure is None:
            process.extensions.finish_init()
            return process
        self._drop_process(_SHUTDOWN_REASONS.get(failure.family, "failure"))
        return self._explain(process, failure)

    def _start_process(self) -> Process:
        self._events = events = Events()
        if self._interrupt is not None:
            events.put(self._interrupt)
        self._process = self._surroundings.start(events)
        return self._process

    def _await_ready(self, process: Process, request_id: str, limit_s: float | None) -> Errored | None:
        """Wait until the runtime asks for an event, and its extensions too; give what kept the runtime from it."""
        until = None if limit_s is None else time.monotonic() + limit_s
        settled = False
        while True:
            asks = process.api.ready
            match process.events.next(0 if asks else until):
                case None if asks and settled:  # nothing else has happened since, such as its end
                    return None
                case None if asks:
                    process.await_extensions()
                    settled = True
                case None:
                    return timed_out(request_id, limit_s or 0)
                case InitFailed(error):
                    process.child.wait(_LAST_WORDS_S)
                    return error
                case Exited(drained=False) as ended:
                    process.drain(ended)
                case Exited(status):
                    return self._describe_end(process, request_id, status, handed_out=False)
                case InterruptAsked():
                    return interrupted(request_id)
                case NextAsked() | Answered() | StreamBroken() | ExtensionsMoved():
                    continue  # whether it still asks, the server knows; the others: of an invocation that was given up
                case never:
                    assert_never(never)

    def _handle(self, process: Process, invocation: Invocation, timeout_s: float | None) -> Outcome:
        until, stopping = None, False
        if timeout_s is not None:
            until = time.monotonic() + timeout_s
            if invocation.deadline_ms is None:
                invocation = replace(invocation, deadline_ms=time.time_ns() // 1_000_000 + round(timeout_s * 1000))
        process.child.ran_out_of_memory()  # what was before doesn't count
        process.api.hand_out(process.extensions.announce(invocation))
        while True:
            event = process.events.next(until)
            if isinstance(event, InterruptAsked):
                asked_until = time.monotonic() + event.grace_s
                until, stopping = min(until or asked_until, asked_until), True
                if process.child.catches_sigterm():
                    process.child.terminate()
            elif (outcome := self._judge(process, event, invocation.request_id, timeout_s)) is not None:
                if isinstance(outcome, Returned):
                    return outcome
                # An error after we asked it to stop is how it stopped, not what became of its work.
                return interrupted(invocation.request_id) if stopping else self._explain(process, outcome)

    def _judge(
        self,
        process: Process,
        event: RuntimeEvent | Exited | ExtensionsMoved | None,
        request_id: str,
        timeout_s: float | None,
    ) -> Outcome | None:
        """What an event makes of the invocation that is under way; None when it goes on."""
        match event:
            case Answered(answered_id, outcome):
                self._peak_memory_mb = process.child.peak_memory_mb()
                return outcome if answered_id == request_id else None
            case None:
                self._drop_process("timeout" if self._interrupt is None else "spindown")
                return timed_out(request_id, timeout_s or 0)
            case InitFailed(error):  # Ruby's client says so in the middle of an invocation
                process.child.wait(_LAST_WORDS_S)
                self._drop_process("failure")
                return error
            case Exited(drained=False) as ended:
                process.drain(ended)
                return None
            case Exited(status):
                try:
                    return self._describe_end(process, request_id, status, handed_out=True)
                finally:
                    self._drop_process("failure")
            case NextAsked(skipped=True):
                self._drop_process("failure")
                return skipped(request_id)
            case StreamBroken(broken_id, partial) if broken_id == request_id:
                self._partial = partial
                return None
            case NextAsked() | StreamBroken() | ExtensionsMoved():
                return None
            case never:
                assert_never(never)

    def _describe_end(self, process: Process, request_id: str, status: int, *, handed_out: bool) -> Errored:
        """What the end of a process without a word makes of an invocation.

        Raises:
            RunnerFault: It died because its server had gone.
        """
        if self._stopped:
            return interrupted(request_id)
        if not process.api.serving:
            # Once the event is out, nobody knows what the handler did with it: a human says whether it runs again.
            said = f"the Runtime API ended before the function's process did, in invocation {request_id}"
            step = "Next step: read the task's own log, then redrive the run"
            raise RunnerFault(f"{said}. {step}", retryable=not handed_out)
        if is_kill(status) and process.child.ran_out_of_memory():
            return out_of_memory(request_id)
        return exited(request_id, status)

    def _explain(self, process: Process, outcome: Errored) -> Errored:
        """Add to a failure what the machine knows of it: a full disk, a kill for memory, what had come of a stream."""
        if self._partial is not None and outcome.partial is None:
            outcome = replace(outcome, partial=self._partial)
        scratch = self._host.scratch
        if outcome.family in {"handler", "init"} and speaks_of_disk(outcome) and scratch and is_nearly_full(scratch):
            return replace(outcome, family="disk")
        if outcome.family in {"handler", "init", "exit"} and process.child.ran_out_of_memory():
            return replace(outcome, note="the kernel killed a process of the function's because memory had run out")
        return outcome

    def _note_end(self, error: Errored) -> None:
        """Say in the log how a process ended, or did not come back, after its last answer, which stands."""
        if error.family != "interrupted":
            self._transcript.say(f"{error.message}\n{error.error_type}\n")

    def _drop_process(self, reason: ShutdownReason, grace_s: float = 0) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._peak_memory_mb = process.child.peak_memory_mb() or self._peak_memory_mb
            process.stop(reason, grace_s)

    def _write_report(self, invocation: Invocation, outcome: Outcome, duration_ms: float) -> None:
        measured = report.Measured(duration_ms, self._init_ms, self._peak_memory_mb)
        self._transcript.say(report.end(self.function, invocation.request_id, outcome, measured, datetime.now(UTC)))

    def _tell(self, name: str, state: str, events: tuple[str, ...], error_type: str) -> None:
        self._transcript.say(
            report.extension(self.function, name, state, events, error_type=error_type, now=datetime.now(UTC))
        )


def _prepare_host(machine: Machine, function: Function, layout: Layout, root: Path) -> Host:
    try:
        start = plan_start(machine, function, layout, root)
        lay_out_runtime(start)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return start
