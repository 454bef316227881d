"""Retries: what becomes of an asynchronous event after an attempt. Decisions only; the clock is passed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Condition", "GiveUp", "Policy", "Retry", "after_error", "after_refusal", "read_policy"]

Condition = Literal["RetriesExhausted", "EventAgeExceeded", "ZeroReservedConcurrency"]
"""Why an event is given up. Source: recorded on-failure records."""

_RETRIES = 2
_AGE_S = 21_600.0
_WAITS_S = (60.0, 120.0)
_FIRST_BACK_OFF_S = 1.0
_LAST_BACK_OFF_S = 300.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a function's events are tried.

    Attributes:
        retries: After function errors, 0 to 2.
        age_s: Seconds after which an event is not tried any more.
    """

    retries: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after a wait, in AWS's seconds: the local AWS may shorten it."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Hand the event to the dead-letter target and the on-failure destination."""

    condition: Condition


def read_policy(event_invoke_config: Mapping[str, Any]) -> Policy:
    """Read an event invoke config; what it leaves out is at AWS's default."""
    return Policy(
        retries=event_invoke_config.get("MaximumRetryAttempts", _RETRIES),
        age_s=event_invoke_config.get("MaximumEventAgeInSeconds", _AGE_S),
    )


def after_error(policy: Policy, *, attempts: int, age_s: float) -> Retry | GiveUp:
    """Decide after the function failed.

    Args:
        attempts: Made so far, 1 or more.
        age_s: The event's age in AWS's seconds.

    Source: Lambda developer guide, "Asynchronous invocation": one minute before the second attempt, two before the
    third. That the age counts the coming wait is recorded.
    """
    if attempts > policy.retries:
        return GiveUp("RetriesExhausted")
    wait_s = _WAITS_S[min(attempts, len(_WAITS_S)) - 1]
    return GiveUp("EventAgeExceeded") if age_s + wait_s > policy.age_s else Retry(wait_s)


def after_refusal(policy: Policy, *, refusals: int, age_s: float) -> Retry | GiveUp:
    """Decide after a throttle or a fault of the service: tried again with growing waits, no attempt is counted.

    Args:
        refusals: So far, 1 or more.
    """
    if age_s >= policy.age_s:
        return GiveUp("EventAgeExceeded")
    return Retry(min(_FIRST_BACK_OFF_S * 2 ** min(refusals - 1, 16), _LAST_BACK_OFF_S))
