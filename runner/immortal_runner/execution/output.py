"""What a function writes to its standard output and error, on its way to its log."""

import array
import fcntl
import os
import select
import termios
import threading
from collections.abc import Callable
from contextlib import suppress

_READ_BYTES = 64 * 1024
_FEW_BYTES = 16 * 1024
_GATHER_S = 0.01
"""So long the reader lets a trickle gather: a function that prints line by line must not wake it for each of them."""

_CLOSE_S = 2.0


class Output:
    """The pipe that a function writes its standard output and error to.

    Args:
        write: Takes what was read, in order; it may wait, and then so does the function once the pipe is full.
        pipe: Its two ends, one to read from and one to write to; a new one unless given.
    """

    def __init__(self, write: Callable[[bytes], None], pipe: tuple[int, int] | None = None) -> None:
        self._write = write
        self._read_end, self.write_end = pipe or os.pipe()
        os.set_blocking(self._read_end, False)  # positional only
        self._stop_heard, self._stop_said = os.pipe()
        self._changed = threading.Condition()
        self._read_bytes = 0
        self._passed_on_bytes = 0
        self._hurried = 0
        self._end_at_bytes: int | None = None
        self._reader = threading.Thread(target=self._read, name="function-output", daemon=True)
        self._reader.start()

    def settle(self, timeout_s: float) -> None:
        """Wait, not for ever, until everything that was written before this call has been passed on.

        Bytes leave the pipe only under the lock that guards their count. So under that lock, what was ever read and
        what lies in the pipe is all that was ever written, and since it is passed on in order, its number is enough.
        """
        with self._changed:
            if self._end_at_bytes is not None:
                return
            written_bytes = self._written_bytes()
            if self._passed_on_bytes >= written_bytes:
                return
            self._hurried += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._passed_on_bytes >= written_bytes, timeout_s)
            self._hurried -= 1

    def close(self) -> None:
        """Pass on what is left and end, though a stray process may still hold the pipe: it writes to nobody then."""
        self.settle(_CLOSE_S)
        with self._changed:
            if self._end_at_bytes is not None:
                return
            self._end_at_bytes = self._written_bytes()
            self._changed.notify_all()
        os.close(self.write_end)
        os.close(self._stop_said)
        self._reader.join(timeout=1)

    def _written_bytes(self) -> int:
        in_pipe = array.array("i", [0])
        fcntl.ioctl(self._read_end, termios.FIONREAD, in_pipe)
        return self._read_bytes + in_pipe[0]

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        poll.register(self._stop_heard, select.POLLIN)
        while data := self._next(poll):
            self._write(data)
            self._pass_on(len(data))
        os.close(self._read_end)
        os.close(self._stop_heard)

    def _next(self, poll: select.poll) -> bytes:
        """Wait for bytes and take them; none when it is time to end."""
        while True:
            poll.poll()
            with self._changed:
                end_at_bytes = self._end_at_bytes
                if end_at_bytes is not None and self._read_bytes >= end_at_bytes:
                    return b""
                with suppress(BlockingIOError):  # a function of our own user can open the pipe too, and read it empty
                    data = os.read(self._read_end, _READ_BYTES)
                    self._read_bytes += len(data)
                    return data
                if end_at_bytes is not None:
                    return b""

    def _pass_on(self, count: int) -> None:
        with self._changed:
            self._passed_on_bytes += count
            self._changed.notify_all()
            if count < _FEW_BYTES:
                self._changed.wait_for(lambda: self._hurried or self._end_at_bytes is not None, _GATHER_S)
