import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_runner.execution.logs import (
    EVENT_OVERHEAD_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    MAX_WAITING_BYTES,
    CloudWatchLogStream,
    LogEvent,
    LogsUnavailable,
    new_stream_name,
    split_lines,
)


class Taker:
    """CloudWatch Logs as far as a stream sees it: takes batches, refuses when told to."""

    def __init__(self) -> None:
        self.batches: list[list[LogEvent]] = []
        self.refusals: list[LogsUnavailable] = []
        self.open = threading.Event()
        self.open.set()

    def take(self, events: list[LogEvent]) -> None:
        self.open.wait(10)
        if self.refusals:
            raise self.refusals.pop(0)
        self.batches.append(events)

    @property
    def text(self) -> str:
        return "".join(event.message for batch in self.batches for event in batch)


def open_stream(taker: Taker) -> CloudWatchLogStream:
    return CloudWatchLogStream(taker.take, group="/aws/lambda/f", name="s")


@given(chunks=st.lists(st.binary(max_size=50)))
def test_cutting_lines_loses_nothing(chunks: list[bytes]) -> None:
    rest, lines = b"", []
    for chunk in chunks:
        events, rest = split_lines(rest + chunk)
        lines += events
    assert b"".join(lines) + rest == b"".join(chunks)
    assert all(line.endswith(b"\n") for line in lines)


def test_a_line_longer_than_an_event_becomes_several() -> None:
    events, rest = split_lines(b"x" * (2 * MAX_EVENT_BYTES + 5))
    assert [len(event) for event in events] == [MAX_EVENT_BYTES, MAX_EVENT_BYTES]
    assert len(rest) == 5


def test_lines_arrive_in_order_and_an_unfinished_one_at_the_end() -> None:
    taker = Taker()
    stream = open_stream(taker)
    for number in range(25_000):
        stream.write(b"line %d\n" % number)
    stream.write(b"unfinished")
    stream.close()
    assert taker.text == "".join(f"line {number}\n" for number in range(25_000)) + "unfinished"
    assert all(len(batch) <= MAX_BATCH_EVENTS for batch in taker.batches)


def test_batches_stay_under_what_cloudwatch_takes() -> None:
    taker = Taker()
    stream = open_stream(taker)
    for _ in range(40):
        stream.write("é".encode() * 100_000 + b"\n")
    stream.close()
    for batch in taker.batches:
        assert sum(len(event.message.encode()) + EVENT_OVERHEAD_BYTES for event in batch) <= MAX_BATCH_BYTES
    assert taker.text.count("\n") == 40


def test_bytes_that_are_no_utf_8_do_not_stop_the_log() -> None:
    taker = Taker()
    stream = open_stream(taker)
    stream.write(b"\xff\xfe ok\n")
    stream.close()
    assert taker.text.endswith(" ok\n")


def test_what_is_refused_for_now_is_delivered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immortal_runner.execution.logs._RETRY_S", 0.01)
    taker = Taker()
    taker.refusals = [LogsUnavailable("throttled", retryable=True)] * 3
    stream = open_stream(taker)
    stream.write(b"kept\n")
    stream.close()
    assert taker.text == "kept\n"


def test_what_is_refused_for_good_is_said_to_be_lost(capsys: pytest.CaptureFixture[str]) -> None:
    taker = Taker()
    taker.refusals = [LogsUnavailable("AccessDenied", retryable=False)]
    stream = open_stream(taker)
    stream.write(b"secret line\n")
    stream.flush(5)
    stream.write(b"next\n")
    stream.close()
    said = capsys.readouterr().err
    assert "1 log lines of /aws/lambda/f were lost: AccessDenied" in said
    assert "secret line" not in said
    assert taker.text == "next\n"


def test_a_function_that_writes_faster_than_its_log_waits() -> None:
    taker = Taker()
    taker.open.clear()
    stream = open_stream(taker)
    full = threading.Event()

    def write() -> None:
        for _ in range(MAX_WAITING_BYTES // 100_000 + 30):
            stream.write(b"x" * 99_999 + b"\n")
        full.set()

    threading.Thread(target=write, daemon=True).start()
    assert not full.wait(0.3)
    taker.open.set()
    assert full.wait(10)
    stream.close()
    assert len(taker.text) == (MAX_WAITING_BYTES // 100_000 + 30) * 100_000


def test_a_stream_is_named_as_lambda_names_it() -> None:
    name = new_stream_name("$LATEST", datetime(2026, 11, 21, tzinfo=UTC))
    assert name.startswith("2026/11/21/[$LATEST]")
    assert len(name) == len("2026/11/21/[$LATEST]") + 32
