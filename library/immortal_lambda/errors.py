"""The errors that callers can act on, sorted by who must act."""


class ImmortalError(Exception):
    """Something that this project could not do; the message names the value at fault and the next step.

    Attributes:
        retryable: True when time mends it and nobody has to act.
    """

    retryable = False


class ServiceUnavailable(ImmortalError):
    """An AWS service throttled, timed out or failed inside. Nobody acts: the work is tried again."""

    retryable = True


class AccessRefused(ImmortalError):
    """A role lacks a permission. Whoever owns the role must grant it; the message names the call."""
