"""One running function: its process, the servers that it alone talks to, the extensions beside it, and their events."""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from immortal_lambda.arns import FunctionArn
from immortal_runner.code.function import Function
from immortal_runner.execution.child import FunctionProcess
from immortal_runner.execution.credentials import Credentials, EndpointCredentials
from immortal_runner.execution.extensions import (
    PATIENCE_S,
    ExternalExtensions,
    ShutdownReason,
    Tell,
    extension_variables,
)
from immortal_runner.execution.host import Host
from immortal_runner.execution.variables import function_variables
from immortal_runner.runtime_api.extensions import ExtensionsApi, Identity, State
from immortal_runner.runtime_api.invocations import RuntimeEvent
from immortal_runner.runtime_api.server import RuntimeApi

_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Exited:
    """The process has ended.

    Attributes:
        status: The exit status, or the negative number of the signal.
        drained: Whether all that it said before has been read.
    """

    status: int
    drained: bool = False


@dataclass(frozen=True, slots=True)
class InterruptAsked:
    """Somebody wants the invocation to stop."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class ExtensionsMoved:
    """An extension has registered, asked for an event, or ended."""


Event = RuntimeEvent | Exited | InterruptAsked | ExtensionsMoved


class Events:
    """What happens to a process, in order, put by whoever sees it and read by the one who judges.

    Attributes:
        queue: Takes events from any thread.
    """

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event; never waits."""
        self.queue.put(event)

    def next(self, until: float | None) -> Event | None:
        """Give what happens next; None when nothing does until a time of ``time.monotonic``."""
        try:
            event: Event = self.queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        return event

    def await_extensions(self, met: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until extensions are where they should be; not for ever, and not when there is something else to do.

        Returns:
            Whether they had all that time and are not there.
        """
        until = time.monotonic() + timeout_s
        others: list[Event] = []
        while not met() and (event := self.next(until)) is not None:
            if not isinstance(event, ExtensionsMoved):
                others.append(event)
            if isinstance(event, Exited | InterruptAsked):
                break
        for event in others:
            self.put(event)
        return not met() and time.monotonic() >= until


@dataclass(frozen=True, slots=True)
class Process:
    """A running function, from its start to its end."""

    child: FunctionProcess
    api: RuntimeApi
    extensions: ExternalExtensions
    events: Events

    def is_idle(self) -> bool:
        """Whether the runtime and its extensions wait for their next events."""
        return self.api.ready and self.extensions.all_ready()

    def await_extensions(self) -> None:
        """Wait, not for ever, until each extension has asked for its next event."""
        if self.events.await_extensions(self.extensions.all_ready, PATIENCE_S):
            self.extensions.give_up()

    def drain(self, ended: Exited) -> None:
        """Once the child has ended, let its end come again after all that it said before."""
        self.api.drain(_DRAIN_S)
        self.events.put(replace(ended, drained=True))

    def stop(self, reason: ShutdownReason, grace_s: float) -> None:
        """End the child with all that it started, and then its extensions, which see its end through."""
        if grace_s > 0:
            self.child.terminate()
            self.child.wait(grace_s)
        self.child.kill()
        self.extensions.stop(reason)
        self.api.close()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What one process after the other of an environment is started with.

    Attributes:
        output: The descriptor that what they print goes to.
        variables: What the surroundings add to the function's environment.
        spool: Where results lie that are too large for memory.
        with_extensions: Whether external extensions are started beside it.
        tell: Says in the function's log how an extension stands.
    """

    function: Function
    host: Host
    credentials: Credentials
    log_stream: str
    output: int
    variables: Mapping[str, str]
    spool: Path
    with_extensions: bool
    tell: Tell

    def start(self, events: Events) -> Process:
        """Start the servers, then the extensions, and, once these have registered, the function itself."""
        registry = ExtensionsApi(_identify(self.function), lambda: events.put(ExtensionsMoved()))
        api = self._serve(events, registry)
        variables = function_variables(
            self.function,
            paths=self.host.paths,
            runtime_api=api.address,
            log_stream=self.log_stream,
            credentials=self.credentials.variables(api.address),
            extra=self.variables,
        )
        extensions = ExternalExtensions(registry, partial(self._start_extension, variables), self.tell)
        try:
            if self.with_extensions:
                extensions.start(self.host.extensions())
                if events.await_extensions(extensions.all_registered, PATIENCE_S):
                    extensions.give_up([State.STARTED])
            child = self.host.run(variables, output=self.output, on_exit=lambda status: events.put(Exited(status)))
        except BaseException:
            extensions.stop("failure")
            api.close()
            raise
        return Process(child, api, extensions, events)

    def _serve(self, events: Events, registry: ExtensionsApi) -> RuntimeApi:
        endpoint = self.credentials if isinstance(self.credentials, EndpointCredentials) else None
        pollers = count_pollers({**self.variables, **self.function.variables})
        return RuntimeApi(events.queue, endpoint, registry, spool=self.spool, pollers=pollers)

    def _start_extension(
        self, variables: Mapping[str, str], name: str, on_exit: Callable[[int], None]
    ) -> FunctionProcess:
        found = extension_variables(variables)
        return self.host.run_extension(name, found, output=self.output, on_exit=on_exit)


def count_pollers(variables: Mapping[str, str]) -> int:
    """How many of the runtime's threads or processes ask for events at the same time."""
    said = variables.get("AWS_LAMBDA_MAX_CONCURRENCY", "")
    return max(1, int(said)) if said.isdecimal() else 1


def _identify(function: Function) -> Identity:
    account_id = FunctionArn.read(function.arn).account
    return Identity(function.name, function.version, function.handler, account_id)
