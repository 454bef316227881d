"""External extensions: the processes that a function's layers put beside it, from their start to their shutdown.

An agent that fails must not cost the run its work: whatever an extension does, or doesn't, is a line in the function's
log, and the handler goes on.

Source: Lambda developer guide, "Using the Lambda Extensions API to create extensions".
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from immortal_runner.execution.child import FunctionProcess
from immortal_runner.runtime_api.extensions import INVOKE, MAX_EXTENSIONS, SHUTDOWN, Extension, ExtensionsApi, State
from immortal_runner.runtime_api.invocations import Invocation, new_trace_header

ShutdownReason = Literal["spindown", "timeout", "failure"]
"""Why an environment ends, as extensions are told: it is needed no more, it ran out of time, its runtime died."""

PATIENCE_S = 10.0
"""What extensions have to register, and to ask for their next event; Lambda's limit for the init phase."""

SHUTDOWN_S = 2.0
"""What they have to end after their last event. Source: as above, "Shutdown phase"."""

_RUNTIMES_OWN = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""What the runtime finds in its environment and extensions don't. Source: as above, "Permissions and configuration"."""

_SANDBOX_NAME = "sandbox.localdomain"

Tell = Callable[[str, str, tuple[str, ...], str], None]
"""Logs how an extension stands: its name, its state, what it registered for, and an error type or nothing."""

Starter = Callable[[str, Callable[[int], None]], FunctionProcess]
"""Starts the extension of a name; calls back once with its exit status, or the negative number of its signal."""


class ExternalExtensions:
    """The extensions of one execution environment.

    Args:
        api: Where they register.
        start: How one is started.
        tell: Says in the function's log how one stands.
    """

    def __init__(self, api: ExtensionsApi, start: Starter, tell: Tell) -> None:
        self._api = api
        self._start = start
        self._tell = tell
        self._processes: dict[str, FunctionProcess] = {}
        self._lock = threading.Lock()
        self._stopping = False

    def start(self, found: Mapping[str, bool]) -> None:
        """Start every extension that was found.

        Args:
            found: Their names, and whether each can be executed.
        """
        for at, (name, executable) in enumerate(found.items()):
            if at >= MAX_EXTENSIONS:
                self._tell(name, "LaunchError", (), "Extension.TooManyExtensions")
            elif not executable:
                self._tell(name, "LaunchError", (), "PermissionDenied")
            else:
                self._api.expect(name)
                self._processes[name] = self._start(name, partial(self._note_end, name))

    def all_registered(self) -> bool:
        """Whether none is still to register."""
        return not any(each.busy and each.state is State.STARTED for each in self._living())

    def all_ready(self) -> bool:
        """Whether each has asked for its next event."""
        return not any(each.busy for each in self._living())

    def give_up(self, states: Iterable[State] = State) -> None:
        """Wait no longer for those that still stand at one of some states instead of asking for their next event."""
        for each in self._living():
            if each.busy and each.state in states:
                self._api.give_up(each.name)
                self._tell(each.name, each.state, each.events, "Extension.Timeout")

    def finish_init(self) -> None:
        """Let nobody register any more, and say how each stands."""
        self._api.close_registration()
        for each in self._api.all():
            if not each.late:
                self._tell(each.name, each.state, each.events, each.error_type)

    def announce(self, invocation: Invocation) -> Invocation:
        """Tell all that wait of an invocation; give it with the trace that they were told of."""
        if not self._api.all():
            return invocation
        now_ms = time.time_ns() // 1_000_000
        traced = replace(invocation, trace_header=invocation.trace_header or new_trace_header(now_ms))
        self._api.offer(INVOKE, invoke_document(traced, now_ms), to=[State.READY])
        return traced

    def stop(self, reason: ShutdownReason) -> None:
        """Tell all that the environment ends, give them two seconds, and end them."""
        with self._lock:
            self._stopping = True
        until = time.monotonic() + SHUTDOWN_S
        document = shutdown_document(reason, time.time_ns() // 1_000_000)
        told = self._api.offer(SHUTDOWN, document, to=[State.REGISTERED, State.READY, State.RUNNING])
        for name in told:
            if process := self._processes.get(name):
                process.wait(max(0.0, until - time.monotonic()))
        for process in self._processes.values():
            process.kill()

    def _living(self) -> Iterable[Extension]:
        return (each for each in self._api.all() if each.external)

    def _note_end(self, name: str, _status: int) -> None:
        was = self._api.forget(name)
        with self._lock:
            if self._stopping:
                return
        state = was.state if was.error_type else State.EXITED
        self._tell(name, state, was.events, was.error_type or "Extension.Crash")


def find_extensions(folder: Path) -> dict[str, bool]:
    """The names of the extensions in a folder, which are all that are no folders, and whether each can be executed."""
    try:
        files = sorted(each for each in folder.iterdir() if not each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {file.name: os.access(file, os.X_OK) for file in files}


def extension_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """What an extension finds of a function's environment."""
    return {name: value for name, value in variables.items() if name[:1] != "_" and name not in _RUNTIMES_OWN}


def invoke_document(invocation: Invocation, now_ms: int) -> dict[str, object]:
    """What extensions are told of an invocation."""
    return {
        "eventType": INVOKE,
        "deadlineMs": now_ms + invocation.allowed_ms if invocation.deadline_ms is None else invocation.deadline_ms,
        "requestId": invocation.request_id,
        "invokedFunctionArn": invocation.function_arn,
        "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_header},
    }


def shutdown_document(reason: ShutdownReason, now_ms: int) -> dict[str, object]:
    """What extensions are told of their end."""
    return {"eventType": SHUTDOWN, "shutdownReason": reason, "deadlineMs": now_ms + round(SHUTDOWN_S * 1000)}


def name_sandbox(hosts: Path) -> None:
    """Let the name by which agents ask for telemetry lead to this machine; in a container of our own, and once."""
    line = f"127.0.0.1 {_SANDBOX_NAME} sandbox\n"
    with suppress(OSError):  # a root that can only be read: the agents, told that there is no telemetry, need no name
        if _SANDBOX_NAME not in hosts.read_text():
            with hosts.open("a") as file:
                file.write(line)
