"""The Extensions API: what the agents beside a function register with and wait on.

It keeps who registered and who waits, and it answers; it starts no process and knows no clock. Of the Telemetry and the
Logs API there is the answer that they are not supported, with which agents go on without them.

Source: Lambda developer guide, "Using the Lambda Extensions API to create extensions"; statuses and error types as in
AWS's runtime interface emulator.
"""

import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from immortal_runner.runtime_api.messages import Reply, Request, json_reply, refusal

MAX_EXTENSIONS = 10
"""Source: Lambda developer guide, "Lambda quotas"."""

INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"

_PREFIX = "/2020-01-01/extension/"
_ACCEPTED = {"status": "OK"}


class State(StrEnum):
    """Where an extension stands, in the words of Lambda's own log lines."""

    STARTED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"
    EXITED = "Exited"


@dataclass(frozen=True, slots=True)
class Identity:
    """The function, as extensions are told of it.

    Attributes:
        account_id: Told only to who asks for that feature.
    """

    function_name: str
    function_version: str
    handler: str
    account_id: str


@dataclass(slots=True)
class Extension:
    """One extension.

    Attributes:
        external: It is a process of its own; an internal one lives inside the runtime's.
        events: What it registered for.
        error_type: What it posted as its error; empty otherwise.
        polls: How often it asked for an event: only the last time is answered, for a client asks again when its
            connection broke.
        waiting: The documents that wait for it, in order.
        late: It had all the time that it gets: nobody waits for it until it asks again.
    """

    name: str
    external: bool
    identifier: str
    state: State = State.STARTED
    events: tuple[str, ...] = ()
    error_type: str = ""
    polls: int = 0
    waiting: deque[Mapping[str, object]] = field(default_factory=deque)
    late: bool = False

    @property
    def busy(self) -> bool:
        """Whether it has yet to ask for its next event, and somebody waits for that."""
        return not self.late and self.state in {State.STARTED, State.REGISTERED, State.RUNNING}


class ExtensionsApi:
    """The extensions of one execution environment, and what they are told.

    Args:
        identity: What they are told of the function.
        on_change: Called whenever one of them moves, from any thread; it must not wait.
    """

    def __init__(self, identity: Identity, on_change: Callable[[], None]) -> None:
        self._identity = identity
        self._on_change = on_change
        self._changed = threading.Condition()
        self._extensions: dict[str, Extension] = {}
        self._open = True
        self._closed = False

    def expect(self, name: str) -> None:
        """Know an external extension by the name of its file before it starts."""
        with self._changed:
            self._extensions[name] = Extension(name, external=True, identifier=str(uuid.uuid4()))

    def forget(self, name: str) -> Extension:
        """Take note that an external extension's process has ended; give what it was until then."""
        with self._changed:
            extension = self._extensions.pop(name)
            extension.polls += 1
            self._tell()
            return extension

    def give_up(self, name: str) -> None:
        """Wait for an extension no longer."""
        with self._changed:
            if extension := self._extensions.get(name):
                extension.late = True

    def close_registration(self) -> None:
        """Register nobody any more: the init phase is over."""
        with self._changed:
            self._open = False

    def all(self) -> tuple[Extension, ...]:
        """Every extension that was expected or has registered, and still lives."""
        with self._changed:
            return tuple(self._extensions.values())

    def offer(self, event: str, document: Mapping[str, object], *, to: Iterable[State]) -> tuple[str, ...]:
        """Give an event to all that registered for it and stand at one of some states; give their names."""
        states = frozenset(to)
        with self._changed:
            chosen = [each for each in self._extensions.values() if event in each.events and each.state in states]
            for extension in chosen:
                extension.waiting.append(document)
                extension.state = State.RUNNING
            self._changed.notify_all()
            return tuple(each.name for each in chosen)

    def close(self) -> None:
        """Let go of all that wait for an event, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def answer(self, request: Request) -> Reply | None:
        """Answer a request; for the next event, wait for one. None drops the connection."""
        match request.method, request.path.partition("?")[0].rstrip("/").removeprefix(_PREFIX):
            case "POST", "register":
                return self._register(request)
            case "GET", "event/next":
                return self._identified(request, self._next)
            case "POST", "init/error":
                return self._identified(request, lambda each: self._fail(each, State.INIT_ERROR, request))
            case "POST", "exit/error":
                return self._identified(request, lambda each: self._fail(each, State.EXIT_ERROR, request))
            case "PUT", "/2022-07-01/telemetry":
                return self._identified(request, lambda _: _not_supported("Telemetry"))
            case "PUT", "/2020-08-15/logs":
                return self._identified(request, lambda _: _not_supported("Logs"))
        return refusal(404, "NotFound", f"{request.method} {request.path} is no call of the Extensions API")

    def _identified(self, request: Request, answer: Callable[[Extension], Reply | None]) -> Reply | None:
        identifier = request.headers.get("lambda-extension-identifier", "")
        if not identifier:
            return _forbidden("MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        if not _is_uuid(identifier):
            return _forbidden("InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        for extension in self.all():
            if extension.identifier == identifier and extension.state is not State.STARTED:
                return answer(extension)
        return _forbidden("UnknownExtensionIdentifier", f"Unknown extension {identifier}")

    def _register(self, request: Request) -> Reply:
        name = request.headers.get("lambda-extension-name", "")
        if not name:
            return _forbidden("InvalidExtensionName", "Empty extension name")
        try:
            events = _read_events(request.body)
        except ValueError as error:
            return refusal(403, "InvalidRequestFormat", str(error))
        with self._changed:
            extension = self._extensions.get(name) or Extension(name, external=False, identifier=str(uuid.uuid4()))
            if refused := self._why_not(extension, events):
                return refused
            extension.events, extension.state = events, State.REGISTERED
            self._extensions[name] = extension
            self._tell()
        features = {each.strip() for each in request.headers.get("lambda-extension-accept-feature", "").split(",")}
        headers = (("Lambda-Extension-Identifier", extension.identifier),)
        return json_reply(200, self._introduce(with_account="accountId" in features), headers)

    def _why_not(self, extension: Extension, events: tuple[str, ...]) -> Reply | None:
        """Why an extension can't register; None when it can."""
        allowed = (INVOKE, SHUTDOWN) if extension.external else (INVOKE,)
        if wrong := next((each for each in events if each not in allowed), None):
            return _forbidden("InvalidEventType", f"{wrong}: such an extension may ask for {', '.join(allowed)}")
        if not self._open:
            return _forbidden("RegistrationClosed", "Extension registration closed already")
        if extension.state is not State.STARTED:
            return _forbidden("InvalidExtensionState", "Extension with this name already registered")
        if extension.name not in self._extensions and len(self._extensions) >= MAX_EXTENSIONS:
            return _forbidden("TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached")
        return None

    def _introduce(self, *, with_account: bool) -> dict[str, object]:
        who = self._identity
        return {
            "functionName": who.function_name,
            "functionVersion": who.function_version,
            "handler": who.handler,
            **({"accountId": who.account_id} if with_account else {}),
        }

    def _next(self, extension: Extension) -> Reply | None:
        with self._changed:
            if extension.state in {State.INIT_ERROR, State.EXIT_ERROR}:
                return _forbidden("InvalidExtensionState", f"{extension.name} has posted {extension.error_type}")
            extension.polls += 1
            extension.late = False
            mine = extension.polls
            if not extension.waiting:
                extension.state = State.READY
            self._tell()
            self._changed.wait_for(lambda: extension.waiting or extension.polls != mine or self._closed)
            if extension.polls != mine or self._closed:
                return None
            document = extension.waiting.popleft()
        return json_reply(200, document, (("Lambda-Extension-Event-Identifier", str(uuid.uuid4())),))

    def _fail(self, extension: Extension, state: State, request: Request) -> Reply:
        header = "Lambda-Extension-Function-Error-Type"
        error_type = request.headers.get(header.lower(), "")
        if not error_type:
            return _forbidden("MissingHeader", f"{header} not found")
        with self._changed:
            extension.state, extension.error_type = state, error_type
            self._tell()
        return json_reply(202, _ACCEPTED)

    def _tell(self) -> None:
        self._changed.notify_all()
        self._on_change()


def _read_events(body: bytes) -> tuple[str, ...]:
    """Read what an extension registers for; Go's client sends null for nothing.

    Raises:
        ValueError: It is no registration.
    """
    try:
        said: Any = json.loads(body)
    except RecursionError as error:
        raise ValueError("a registration is not that deep") from error
    events = said.get("events") or [] if isinstance(said, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise ValueError("a registration is an object whose events are a list of names")
    if said.get("configurationKeys"):
        raise ValueError("configurationKeys are deprecated; use environment variables instead")
    return tuple(events)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _not_supported(what: str) -> Reply:
    said = {"errorMessage": f"{what} API is not supported", "errorType": f"{what}.NotSupported"}
    return json_reply(202, said)


def _forbidden(error_type: str, message: str) -> Reply:
    return refusal(403, f"Extension.{error_type}", message)
