"""The wish to stop an attempt, wherever it comes from: SIGTERM, a lost claim."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StopSignal:
    """Carries the wish to stop to whoever can act on it, now or later; safe to use in a signal handler."""

    def __init__(self) -> None:
        self._grace_s: float | None = None
        self._listener: Callable[[float], None] | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody wants the attempt to stop."""
        return self._grace_s is not None

    def ask(self, grace_s: float) -> None:
        """Ask to stop, and leave the handler some seconds to finish."""
        self._grace_s = grace_s
        if listener := self._listener:
            listener(grace_s)

    @contextmanager
    def heard_by(self, listener: Callable[[float], None]) -> Iterator[None]:
        """While in here, tell a listener; at once, if the wish came before."""
        self._listener = listener
        if self._grace_s is not None:
            listener(self._grace_s)
        try:
            yield
        finally:
            self._listener = None
