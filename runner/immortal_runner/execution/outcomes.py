"""How an invocation ended, in the words that Lambda itself uses."""

import json
import signal
from dataclasses import dataclass
from typing import Any, Literal

from immortal_runner.runtime_api.bodies import Body

Family = Literal["handler", "init", "exit", "timeout", "memory", "disk", "interrupted"]
"""Who had the last word: the handler, the code outside it, the dying process, what ran out, whoever stopped it."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned.

    Attributes:
        result: What the runtime client posted: JSON as a rule, bytes where a handler returned bytes.
    """

    result: Body


@dataclass(frozen=True, slots=True)
class Errored:
    """The invocation failed.

    Attributes:
        body: The JSON that Lambda answers as the payload of a function error.
        stack_trace: Lines as the runtime gave them.
        note: What else an operator should know of it; empty as a rule.
        partial: What had come of a streamed result before it failed.
    """

    family: Family
    error_type: str
    message: str
    body: bytes
    stack_trace: tuple[str, ...] = ()
    note: str = ""
    partial: Body | None = None


Outcome = Returned | Errored


def read_error(family: Family, body: bytes, cut_bytes: int = 0) -> Errored:
    """Read an error that the runtime client posted; a body that is no error object is kept as it is.

    Python and Java name the trace ``stackTrace``, Node names it ``trace``; Go gives objects instead of lines.

    Args:
        body: What was kept of it.
        cut_bytes: How much of its end was not.
    """
    if cut_bytes:
        said_bytes = f"the error has {len(body) + cut_bytes} bytes, of which {len(body)} were kept: "
        return Errored(family, "Runtime.Unknown", said_bytes + body.decode("utf-8", "replace"), body)
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Errored(family, "Runtime.Unknown", body.decode("utf-8", "replace"), body)
    trace = said.get("stackTrace") or said.get("trace") or ()
    return Errored(
        family,
        error_type=_text(said.get("errorType")) or "Runtime.Unknown",
        message=_text(said.get("errorMessage")),
        body=body,
        stack_trace=tuple(_text(line) or json.dumps(line) for line in trace) if isinstance(trace, list) else (),
    )


def exited(request_id: str, status: int) -> Errored:
    """The outcome of a process that ended without a word.

    Args:
        request_id: Of the invocation that was under way.
        status: As ``subprocess`` gives it: the exit status, or the negative number of the signal.

    Source: answers recorded from AWS in November 2025; the form for signals from the runtime interface emulator.
    """
    return _said_by_platform("exit", "Runtime.ExitError", request_id, describe_exit(status))


def out_of_memory(request_id: str) -> Errored:
    """The outcome of a process that the kernel killed because memory had run out.

    Source: logs of functions that ran out of memory, as their users published them from 2023 to 2026: the message is
    that of any kill, the error type of REPORT is this one.
    """
    return _said_by_platform("memory", "Runtime.OutOfMemory", request_id, describe_exit(-signal.SIGKILL))


def skipped(request_id: str) -> Errored:
    """The outcome of an invocation that the runtime never answered: it asked for the next one instead."""
    return _said_by_platform("exit", "Runtime.ExitError", request_id, "Runtime asked for the next event unanswered")


def invalid_entrypoint(request_id: str, fault: str) -> Errored:
    """The outcome of a function whose program can't be started.

    Source: errors that users of Lambda reported from 2020 to 2025.
    """
    return _said_by_platform("init", "Runtime.InvalidEntrypoint", request_id, fault)


def never_asked(request_id: str, limit_s: float) -> Errored:
    """The outcome of a container image whose program runs and never asks for an event."""
    fault = (
        f"the image asked for no event within {limit_s:.0f} seconds: it starts no runtime client, or it always starts "
        "Lambda's emulator. Next step: let its entry script start the emulator only where AWS_LAMBDA_RUNTIME_API is "
        "not set, as AWS's base images do"
    )
    return _said_by_platform("init", "Runtime.NeverAsked", request_id, fault)


def timed_out(request_id: str, timeout_s: float) -> Errored:
    """The outcome of a process that was killed at the function's time limit."""
    return _said_by_platform("timeout", "Sandbox.Timedout", request_id, f"Task timed out after {timeout_s:.2f} seconds")


def interrupted(request_id: str) -> Errored:
    """The outcome of a process that was stopped from outside before it had finished."""
    return _said_by_platform("interrupted", "Sandbox.Interrupted", request_id, "Task was stopped before it finished")


def describe_exit(status: int) -> str:
    """Say how a process ended, as Lambda does."""
    if status == 0:
        return "Runtime exited without providing a reason"
    if status > 0:
        return f"Runtime exited with error: exit status {status}"
    return f"Runtime exited with error: signal: {_SIGNALS.get(-status) or _signal_name(-status)}"


_SIGNALS: dict[int, str] = {
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGILL: "illegal instruction",
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGTERM: "terminated",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _said_by_platform(family: Family, error_type: str, request_id: str, reason: str) -> Errored:
    message = f"RequestId: {request_id} Error: {reason}"
    body = json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":"))
    return Errored(family, error_type, message, body.encode())


def _text(value: object) -> str:
    """A string that can be stored: JSON can spell half characters, which UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
