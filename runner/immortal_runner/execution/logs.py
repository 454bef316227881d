"""A function's log lines on their way to CloudWatch Logs: in order, in batches, nothing lost at the end."""

import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from immortal_lambda.errors import ImmortalError

MAX_EVENT_BYTES = 256 * 1024 - 26
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_EVENTS = 10_000
EVENT_OVERHEAD_BYTES = 26
"""What CloudWatch Logs takes at once. Source: CloudWatch Logs API reference, "PutLogEvents"."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Beyond this the function waits for its log, as it would for a slow disk."""

_LINGER_S = 0.2
_RETRY_S = 1.0
_CLOSE_S = 30.0


class LogsUnavailable(ImmortalError):
    """CloudWatch Logs did not take the lines."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line, or a piece of a very long one.

    Attributes:
        at_ms: When it was read, Unix milliseconds.
    """

    at_ms: int
    message: str


Deliver = Callable[[list[LogEvent]], None]
"""Hands events to CloudWatch Logs; raises ``LogsUnavailable``."""


class LogStream(Protocol):
    """Where a function's output goes."""

    @property
    def group(self) -> str:
        """The log group's name."""
        ...

    @property
    def name(self) -> str:
        """The log stream's name."""
        ...

    def write(self, data: bytes) -> None:
        """Take bytes as they come; lines are cut here."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was written has been delivered."""
        ...

    def close(self) -> None:
        """Deliver what is left, an unfinished line included, and end."""
        ...


def new_stream_name(version: str, now: datetime) -> str:
    """Name a stream as Lambda does: ``2026/11/21/[$LATEST]`` and 32 hex digits."""
    return f"{now:%Y/%m/%d}/[{version}]{secrets.token_hex(16)}"


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut bytes into lines that fit an event, and the rest that has no end yet."""
    *lines, rest = data.split(b"\n")
    events = [piece for line in lines for piece in _pieces(line + b"\n")]
    if len(rest) > MAX_EVENT_BYTES:
        *full, rest = _pieces(rest)
        events += full
    return events, rest


def _pieces(line: bytes) -> list[bytes]:
    return [line[at : at + MAX_EVENT_BYTES] for at in range(0, len(line), MAX_EVENT_BYTES)]


class CloudWatchLogStream:
    """One stream in CloudWatch Logs, written by a thread of its own."""

    def __init__(self, deliver: Deliver, *, group: str, name: str) -> None:
        self._deliver = deliver
        self.group = group
        self.name = name
        self._rest = b""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._under_way = False
        self._closed = False
        self._changed = threading.Condition()
        self._sender = threading.Thread(target=self._send_all, name="log-stream", daemon=True)
        self._sender.start()

    def write(self, data: bytes) -> None:
        """Take bytes as they come; lines are cut here."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < MAX_WAITING_BYTES or self._closed)
            events, self._rest = split_lines(self._rest + data)
            self._append(events)

    def flush(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was written has been delivered."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._under_way, timeout=timeout_s)

    def close(self) -> None:
        """Deliver what is left, an unfinished line included, and end."""
        with self._changed:
            if self._rest:
                self._append([self._rest])
                self._rest = b""
            self._closed = True
            self._changed.notify_all()
        self._sender.join(timeout=_CLOSE_S)

    def _append(self, events: list[bytes]) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._waiting.extend((now_ms, event) for event in events)
        self._waiting_bytes += sum(map(len, events))
        self._changed.notify_all()

    def _send_all(self) -> None:
        while batch := self._next_batch():
            self._deliver_until_taken(batch)
            with self._changed:
                self._under_way = False
                self._changed.notify_all()

    def _next_batch(self) -> list[LogEvent]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._closed:
                self._changed.wait_for(lambda: self._closed or self._waiting_bytes > MAX_BATCH_BYTES, timeout=_LINGER_S)
            batch: list[LogEvent] = []
            batch_bytes = 0
            while self._waiting and len(batch) < MAX_BATCH_EVENTS:
                at_ms, event = self._waiting[0]
                message = event.decode("utf-8", "replace")
                batch_bytes += len(message.encode()) + EVENT_OVERHEAD_BYTES
                if batch and batch_bytes > MAX_BATCH_BYTES:
                    break
                batch.append(LogEvent(at_ms, message))
                self._waiting.popleft()
                self._waiting_bytes -= len(event)
            self._under_way = bool(batch)
            self._changed.notify_all()
            return batch

    def _deliver_until_taken(self, batch: list[LogEvent]) -> None:
        give_up_at = None
        while True:
            try:
                self._deliver(batch)
            except LogsUnavailable as error:
                if self._closed:
                    give_up_at = give_up_at or time.monotonic() + _CLOSE_S / 2
                if not error.retryable or (give_up_at and time.monotonic() > give_up_at):
                    sys.stderr.write(f"{len(batch)} log lines of {self.group} were lost: {error}\n")
                    return
                with self._changed:
                    self._changed.wait(_RETRY_S)
            else:
                return
