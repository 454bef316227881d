"""A function's log lines on their way to CloudWatch Logs: in order, in batches, nothing lost unsaid."""

import io
import json
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from immortal_lambda.errors import ImmortalError

MAX_EVENT_BYTES = 1_000_000
"""A longer line becomes several events. CloudWatch says "1 MB" and not which; 256 KB it was until April 2025."""

MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_EVENTS = 10_000
MAX_BATCH_SPAN_MS = 24 * 3_600_000
EVENT_OVERHEAD_BYTES = 26
"""What CloudWatch Logs takes at once. Source: CloudWatch Logs API reference, "PutLogEvents"."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Beyond this the function waits for its log, as it would for a slow disk. With the batch that is being sent and the
line that has no end yet, a stream never holds more than 32 MiB."""

PATIENCE_S = 60.0
"""A log that took nothing for so long makes nobody wait any longer: what doesn't fit is dropped, counted and said."""

LAST_PATIENCE_S = 2.0
"""The same, once the function is being stopped: whoever stops it has little time."""

_BLOCK_OVERHEAD_BYTES = 256
_CLOCK_STEP_MS = 3_600_000
_LINGER_S = 0.5
_RETRY_S = 1.0
_MAX_RETRY_S = 30.0
_LOOK_S = 0.5
_CLOSE_S = 30.0


class LogsUnavailable(ImmortalError):
    """CloudWatch Logs did not take the lines."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that were read at the same time; few enough to be delivered at once.

    Attributes:
        at_ms: When they were read, Unix milliseconds.
        data: UTF-8. Each line ends with a newline, but the last need not.
        lines: How many there are, at least one.
    """

    at_ms: int
    data: bytes
    lines: int

    @property
    def cost_bytes(self) -> int:
        """What CloudWatch counts for them."""
        return len(self.data) + EVENT_OVERHEAD_BYTES * self.lines

    def messages(self) -> list[str]:
        """Give the lines, one for each event."""
        return io.StringIO(self.data.decode(), newline="\n").readlines()


Batch = Sequence[Block]

Deliver = Callable[[Batch], int]
"""Hands lines to CloudWatch Logs and gives how many of them it refused; raises ``LogsUnavailable``."""


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

    def end_line(self) -> None:
        """Let a line that has no end yet be a whole one: what comes next is another."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was written has been delivered."""
        ...

    def lose_patience(self) -> None:
        """Make nobody wait long for a log that takes nothing; safe to call in a signal handler."""
        ...

    def close(self) -> None:
        """Deliver what is left, an unfinished line included, and end."""
        ...


def new_stream_name(version: str, now: datetime) -> str:
    """Name a stream as Lambda does: ``2026/11/21/[$LATEST]`` and 32 hex digits."""
    return f"{now:%Y/%m/%d}/[{version}]{secrets.token_hex(16)}"


class LineBuffer:
    """Bytes as they come, until they are lines; it holds one line that has no end yet, up to ``MAX_EVENT_BYTES``."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, data: bytes) -> bytes:
        """Give all that has an end by now, or that is too long to wait for one."""
        end = data.rfind(b"\n") + 1
        whole = b""
        if end:
            whole = bytes(self._rest) + data[:end]
            self._rest.clear()
        self._rest += data[end:]
        if len(self._rest) > MAX_EVENT_BYTES:
            end = _start_of_character(self._rest, (len(self._rest) - 1) // MAX_EVENT_BYTES * MAX_EVENT_BYTES)
            whole += self._rest[:end]
            del self._rest[:end]
        return whole

    def end(self) -> bytes:
        """Give the line that has no end."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


def make_readable(data: bytes) -> bytes:
    """Give the same text as UTF-8, with U+FFFD for what isn't."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def cut(at_ms: int, data: bytes) -> list[Block]:
    """Cut UTF-8 text into blocks: between lines, and within a line only where it is too long for one event."""
    if not data:
        return []
    block = Block(at_ms, data, data.count(b"\n") + (not data.endswith(b"\n")))
    if len(data) <= MAX_EVENT_BYTES and block.lines <= MAX_BATCH_EVENTS and block.cost_bytes <= MAX_BATCH_BYTES:
        return [block]
    middle = len(data) // 2
    at = data.rfind(b"\n", 0, middle) + 1 or data.find(b"\n", middle, -1) + 1
    at = at or _start_of_character(data, MAX_EVENT_BYTES)
    return cut(at_ms, data[:at]) + cut(at_ms, data[at:])


def _start_of_character(data: bytes | bytearray, at: int) -> int:
    """Step back from the middle of a UTF-8 character to its first byte; anything else may be cut anywhere."""
    return next((at - back for back in range(4) if data[at - back] & 0xC0 != 0x80), at)  # noqa: PLR2004


def take_batch(waiting: deque[Block]) -> list[Block]:
    """Take from the left what CloudWatch accepts in one call: it limits events, bytes, order and span."""
    batch: list[Block] = []
    lines = cost_bytes = 0
    while waiting:
        block = waiting[0]
        lines += block.lines
        cost_bytes += block.cost_bytes
        if batch and (lines > MAX_BATCH_EVENTS or cost_bytes > MAX_BATCH_BYTES or not _follows(block, batch)):
            break
        batch.append(waiting.popleft())
    return batch


def _follows(block: Block, batch: Batch) -> bool:
    return batch[-1].at_ms <= block.at_ms < batch[0].at_ms + MAX_BATCH_SPAN_MS


def count_lines(blocks: Batch) -> int:
    """How many lines there are in several blocks."""
    return sum(block.lines for block in blocks)


def describe_put(group: str, stream: str, batch: Batch) -> bytes:
    """The body of PutLogEvents as JSON.

    It is written at one go: a dictionary for each event, checked and copied by boto3, costs twenty times as much.
    """
    head = json.dumps({"logGroupName": group, "logStreamName": stream})[:-1]
    return f'{head},"logEvents":[{",".join(map(_describe_events, batch))}]}}'.encode()


def _describe_events(block: Block) -> str:
    opening = f'{{"timestamp":{block.at_ms},"message":'
    messages = json.dumps(block.messages(), ensure_ascii=False, separators=("}," + opening, ":"))
    return opening + messages[1:-1] + "}"


class CloudWatchLogStream:
    """One stream in CloudWatch Logs, written by a thread of its own.

    Whoever writes waits while more than ``MAX_WAITING_BYTES`` wait, until the log has taken nothing for
    ``PATIENCE_S`` or, once it has lost its patience, ``LAST_PATIENCE_S``. From then on what doesn't fit is dropped, and
    a line in its place tells how much that was. What the log refuses for good is lost too. Both are told on standard
    error, which is the task's own log: the reason once, and the number of lines at the end.
    """

    def __init__(self, deliver: Deliver, *, group: str, name: str) -> None:
        self._deliver = deliver
        self.group = group
        self.name = name
        self._buffer = LineBuffer()
        self._last_ms = 0
        self._waiting: deque[Block] = deque()
        self._waiting_bytes = 0
        self._under_way: Batch = ()
        self._dropped_bytes = 0
        self._lost_lines = 0
        self._reason = ""
        self._taken_at = 0.0
        self._patience_s = PATIENCE_S
        self._hurried = 0
        self._closed_at: float | None = None
        self._changed = threading.Condition()
        self._sender = threading.Thread(target=self._send_all, name="log-stream", daemon=True)
        self._sender.start()

    def write(self, data: bytes) -> None:
        """Take bytes as they come; lines are cut here. From several threads, each call's bytes stay together."""
        with self._changed:
            for block in self._cut(self._buffer.take(data)):
                self._wait_for_room()
                self._admit(block)

    def end_line(self) -> None:
        """Let a line that has no end yet be a whole one: what comes next is another."""
        with self._changed:
            for block in self._cut(self._buffer.end()):
                self._wait_for_room()
                self._admit(block)

    def flush(self, timeout_s: float) -> None:
        """Wait, not for ever, until what was written has been delivered."""
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._under_way, timeout=timeout_s)
            self._hurried -= 1

    def lose_patience(self) -> None:
        """Make nobody wait long for a log that takes nothing; safe to call in a signal handler."""
        self._patience_s = min(self._patience_s, LAST_PATIENCE_S)  # whoever waits looks at it soon: no lock is taken

    def close(self) -> None:
        """Deliver what is left, an unfinished line included, and end: after half a minute at the latest."""
        with self._changed:
            for block in self._cut(self._buffer.end()):
                self._admit(block)
            self._mark_gap()
            self._closed_at = time.monotonic()
            self._changed.notify_all()
        self._sender.join(timeout=_CLOSE_S)
        with self._changed:
            left = count_lines(self._under_way) + count_lines(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            if left:
                self._lose(left, "not delivered in time")
            if self._lost_lines:
                sys.stderr.write(f"{self._lost_lines} log lines of {self.group} {self.name} were lost\n")
            self._lost_lines = 0

    def _cut(self, data: bytes) -> list[Block]:
        """Cut lines that bear the time; a clock that is set back a little waits, since CloudWatch wants order."""
        now_ms = time.time_ns() // 1_000_000
        self._last_ms = now_ms if now_ms < self._last_ms - _CLOCK_STEP_MS else max(now_ms, self._last_ms)
        return cut(self._last_ms, make_readable(data))

    def _wait_for_room(self) -> None:
        while self._is_full() and (left_s := self._taken_at + self._patience_s - time.monotonic()) > 0:
            self._changed.wait(min(left_s, _LOOK_S))

    def _is_full(self) -> bool:
        return self._waiting_bytes >= MAX_WAITING_BYTES and self._closed_at is None

    def _admit(self, block: Block) -> None:
        if self._closed_at is not None:
            self._lose(block.lines, "written after the end")
        elif self._is_full():
            self._dropped_bytes += len(block.data)
            self._lose(block.lines, f"nothing was taken for {self._patience_s:.0f} s")
        else:
            self._mark_gap()
            self._append(block)

    def _mark_gap(self) -> None:
        if self._dropped_bytes:
            gap, self._dropped_bytes = self._dropped_bytes, 0
            said = f"{gap} bytes of output were dropped: nothing was taken for {self._patience_s:.0f} s\n"
            self._append(Block(self._last_ms, said.encode(), 1))

    def _append(self, block: Block) -> None:
        if not self._waiting and not self._under_way:
            self._taken_at = time.monotonic()
        self._waiting.append(block)
        self._waiting_bytes += block.cost_bytes + _BLOCK_OVERHEAD_BYTES
        if len(self._waiting) == 1 or self._is_due():
            self._changed.notify_all()

    def _lose(self, lines: int, reason: str) -> None:
        self._lost_lines += lines
        if reason != self._reason:
            self._reason = reason
            sys.stderr.write(f"log lines of {self.group} are being lost: {reason}\n")

    def _send_all(self) -> None:
        while batch := self._next_batch():
            lost, reason = self._deliver_until_taken(batch)
            with self._changed:
                if lost:
                    self._lose(lost, reason)
                else:
                    self._reason = ""
                self._under_way = ()
                self._taken_at = time.monotonic()
                self._changed.notify_all()

    def _next_batch(self) -> Batch:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed_at is not None)
            self._changed.wait_for(self._is_due, timeout=_LINGER_S)
            batch = take_batch(self._waiting)
            self._waiting_bytes -= sum(block.cost_bytes + _BLOCK_OVERHEAD_BYTES for block in batch)
            self._under_way = batch
            self._changed.notify_all()
            return batch

    def _is_due(self) -> bool:
        return self._waiting_bytes > MAX_BATCH_BYTES or self._hurried > 0 or self._closed_at is not None

    def _deliver_until_taken(self, batch: Batch) -> tuple[int, str]:
        """Give how many lines were lost, and why."""
        wait_s = _RETRY_S
        while True:
            try:
                return self._deliver(batch), "refused as too old, too new or expired"
            except LogsUnavailable as error:
                if not error.retryable or self._is_over():
                    return count_lines(batch), str(error)
            self._pause(wait_s)
            wait_s = min(2 * wait_s, _MAX_RETRY_S)

    def _is_over(self) -> bool:
        return self._closed_at is not None and time.monotonic() > self._closed_at + _CLOSE_S / 2

    def _pause(self, wait_s: float) -> None:
        with self._changed:
            if self._closed_at is None:
                self._changed.wait_for(lambda: self._closed_at is not None, timeout=wait_s)
            else:
                self._changed.wait(min(wait_s, _RETRY_S))
