"""Why Lambda gave up, as one of a few classes that policy can name."""

from dataclasses import dataclass
from typing import Literal

from immortal_lambda.quotes import shorten

FailureClass = Literal["timeout", "memory", "disk", "crash", "error", "throttled", "never_ran", "unknown"]

MESSAGE_BYTES = 1024
"""How much of Lambda's last word is kept: a destination's record repeats up to 6 MB of it, an item holds 400 KB."""

_NEVER_RAN = ("ZeroReservedConcurrency",)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why Lambda gave up.

    Attributes:
        failure_class: What went wrong, in the words that policies use.
        message: Lambda's own last word, at most ``MESSAGE_BYTES``, as on a dead-letter queue.
    """

    failure_class: FailureClass
    message: str


def classify(
    *, error_type: str | None, message: str | None, condition: str | None = None, code: str | None = None
) -> Failure:
    """Sort a failed invocation by what it died of.

    Args:
        error_type: ``errorType`` of the response; None where the letter carries none, as on a dead-letter queue.
        message: ``errorMessage`` of the response, or the letter's ``ErrorMessage`` attribute.
        condition: ``requestContext.condition`` of an on-failure record.
        code: The letter's ``ErrorCode`` attribute: the invocation's HTTP status, ``200`` when the code itself failed.

    A segmentation fault was recorded on AWS as ``Sandbox.Timedout``: a timeout is no proof of slow work.

    Source: Lambda developer guide, "Capturing records of Lambda asynchronous invocations"; answers recorded from AWS
    in November 2025.
    """
    failure_class = _class_of(error_type or "", message or "", condition or "", code or "")
    return Failure(failure_class, shorten(message or "", MESSAGE_BYTES))


def _class_of(error_type: str, message: str, condition: str, code: str) -> FailureClass:
    if condition in _NEVER_RAN:
        return "never_ran"
    if error_type == "Sandbox.Timedout" or "Task timed out after" in message:
        return "timeout"
    if error_type == "Runtime.OutOfMemory" or message.endswith("signal: killed"):
        return "memory"
    if "No space left on device" in message:
        return "disk"
    if error_type in ("Runtime.ExitError", "Runtime.InvalidEntrypoint") or _died(message):
        return "crash"
    if code == "429":
        return "throttled"
    if error_type or code == "200":
        return "error"
    return "unknown"


def _died(message: str) -> bool:
    return "Runtime exited" in message or "Process exited before completing request" in message
