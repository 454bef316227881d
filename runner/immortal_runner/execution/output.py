"""What a function writes to its standard output and error, on its way to its log."""

import os
import secrets
import select
import threading
from collections.abc import Callable

_READ_BYTES = 64 * 1024


class Output:
    """The pipe that a function writes its standard output and error to.

    Args:
        write: Takes what was read, in order.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._read_end, self.write_end = os.pipe()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self._mark = b""
        self._reached = threading.Event()
        self._reader = threading.Thread(target=self._read, name="function-output", daemon=True)
        self._reader.start()

    def settle(self, timeout_s: float) -> None:
        """Wait until everything that was written before this call has been read.

        A mark that nobody can guess goes through the same pipe: whatever came before it has been read when it arrives.
        """
        with self._writing:
            if self._closed:
                return
            with self._lock:
                self._mark = secrets.token_bytes(24)
                self._reached.clear()
            _, writable, _ = select.select([], [self.write_end], [], timeout_s)
            if not writable:
                return  # a full pipe stays full while its reader waits for a log that takes nothing
            os.write(self.write_end, self._mark)
        self._reached.wait(timeout_s)

    def close(self) -> None:
        """Read what is left and end. Whoever still waits for it to settle waits no longer."""
        self.settle(timeout_s=2)
        with self._writing:
            self._closed = True
            os.close(self.write_end)
        self._reached.set()
        self._reader.join(timeout=1)

    def _read(self) -> None:
        held = b""
        while chunk := os.read(self._read_end, _READ_BYTES):
            data = held + chunk
            with self._lock:
                mark = self._mark
            if mark and mark in data:
                data = data.replace(mark, b"")
                with self._lock:
                    self._mark = b""
                self._write(data)
                self._reached.set()
                held = b""
                continue
            held = data[-(len(mark) - 1) :] if mark else b""
            self._write(data[: len(data) - len(held)])
        os.close(self._read_end)
