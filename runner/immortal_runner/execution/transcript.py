"""An environment's transcript: what the function writes and what the platform says of it, in order, into one log."""

import threading

from immortal_runner.execution.logs import LogStream
from immortal_runner.execution.output import Output

TAIL_BYTES = 4096
_SETTLE_S = 2.0


class Transcript:
    """What goes into an environment's log.

    Args:
        log: Takes everything; closed with the transcript.
        pipe: The two ends of the function's output, one to read from and one to write to; a new one unless given.
    """

    def __init__(self, log: LogStream, pipe: tuple[int, int] | None = None) -> None:
        self._log = log
        self._writing = threading.Lock()
        self._tail = bytearray()
        self._line_is_open = False
        self._output = Output(self._take, pipe)

    @property
    def write_end(self) -> int:
        """The descriptor that the function's standard output and error go to."""
        return self._output.write_end

    @property
    def tail(self) -> bytes:
        """The last 4 KB since they were last forgotten."""
        return bytes(self._tail[-TAIL_BYTES:])

    def forget_tail(self) -> None:
        """Begin the tail anew."""
        self._tail.clear()

    def say(self, lines: str) -> None:
        """Log the platform's own lines: after all that the function has written, and not in the middle of its line."""
        self._output.settle(_SETTLE_S)
        if not lines:
            return
        with self._writing:
            if self._line_is_open:
                self._log.end_line()
                self._tail += b"\n"
            self._write(lines.encode())

    def deliver(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was logged so far has been delivered."""
        self._output.settle(timeout_s)
        self._log.flush(timeout_s)

    def lose_patience(self) -> None:
        """Wait no longer for a log that takes nothing; safe in a signal handler."""
        self._log.lose_patience()

    def close(self) -> None:
        """Take what is left, and end."""
        self._output.close()
        self._log.close()

    def _take(self, data: bytes) -> None:
        if data:
            with self._writing:
                self._write(data)

    def _write(self, data: bytes) -> None:
        self._line_is_open = not data.endswith(b"\n")
        self._tail += data
        del self._tail[: -2 * TAIL_BYTES]
        self._log.write(data)
