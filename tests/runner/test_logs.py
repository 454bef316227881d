import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, pairwise, repeat
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from immortal_runner.aws import open_log_stream
from immortal_runner.execution import logs
from immortal_runner.execution.logs import (
    EVENT_OVERHEAD_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_BATCH_SPAN_MS,
    MAX_EVENT_BYTES,
    MAX_WAITING_BYTES,
    Batch,
    Block,
    CloudWatchLogStream,
    LineBuffer,
    LogsUnavailable,
    cut,
    describe_put,
    make_readable,
    new_stream_name,
    take_batch,
)


class Taker:
    """CloudWatch Logs as far as a stream sees it: takes batches, refuses when told to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refusals: list[LogsUnavailable] = []
        self.open = threading.Event()
        self.open.set()

    def take(self, batch: Batch) -> int:
        self.open.wait(20)
        if self.refusals:
            raise self.refusals.pop(0)
        self.batches.append(batch)
        return 0

    @property
    def messages(self) -> list[str]:
        return messages([block for batch in self.batches for block in batch])


def messages(blocks: Batch) -> list[str]:
    return [message for block in blocks for message in block.messages()]


def open_stream(taker: Taker) -> CloudWatchLogStream:
    return CloudWatchLogStream(taker.take, group="/aws/lambda/f", name="s")


def collect(buffer: LineBuffer, chunks: Sequence[bytes]) -> tuple[list[str], str]:
    """Give the events that chunks make, and the line that has no end."""
    blocks = [block for chunk in chunks for block in cut(0, make_readable(buffer.take(chunk)))]
    return messages(blocks), make_readable(buffer.end()).decode()


odd_bytes = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\0", "é€😀".encode(), b"\xe2\x80\xa8", b"\xff", b" \n", b'"\\n\n']),
)


@given(chunks=st.lists(odd_bytes, max_size=30))
def test_cutting_lines_loses_nothing(chunks: list[bytes]) -> None:
    events, rest = collect(LineBuffer(), chunks)
    assert "".join(events) + rest == b"".join(chunks).decode("utf-8", "replace")
    assert all(event.endswith("\n") and event.count("\n") == 1 for event in events)
    assert "\n" not in rest


@given(
    chunks=st.lists(st.tuples(odd_bytes, st.integers(1, 400)).map(lambda part: part[0] * part[1]), max_size=12),
    event_bytes=st.integers(16, 600),
    batch_events=st.integers(1, 20),
)
def test_whatever_is_written_every_call_stays_within_what_cloudwatch_takes(
    chunks: list[bytes], event_bytes: int, batch_events: int
) -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(logs, "MAX_EVENT_BYTES", event_bytes)
        limits.setattr(logs, "MAX_BATCH_EVENTS", batch_events)
        limits.setattr(logs, "MAX_BATCH_BYTES", event_bytes + EVENT_OVERHEAD_BYTES)
        buffer = LineBuffer()
        waiting = deque(block for chunk in chunks for block in cut(0, make_readable(buffer.take(chunk))))
        waiting += cut(0, make_readable(buffer.end()))
        sent = []
        while waiting:
            sent.append(messages(take_batch(waiting)))
        for events in sent:
            sizes = [len(event.encode()) for event in events]
            assert 0 < len(events) <= batch_events
            assert all(0 < size <= event_bytes for size in sizes)
            assert sum(sizes) + EVENT_OVERHEAD_BYTES * len(sizes) <= event_bytes + EVENT_OVERHEAD_BYTES
        whole = b"".join(chunks)
        if whole == make_readable(whole):
            assert "".join(event for events in sent for event in events) == whole.decode()


@given(
    blocks=st.lists(st.tuples(st.integers(0, 2**43), st.text(min_size=1)), min_size=1, max_size=5),
    group=st.text(min_size=1),
)
def test_the_request_says_what_the_blocks_hold(blocks: list[tuple[int, str]], group: str) -> None:
    batch = [block for at_ms, text in blocks for block in cut(at_ms, make_readable(text.encode("utf-8", "replace")))]
    asked = json.loads(describe_put(group, "s", batch))
    assert (asked["logGroupName"], asked["logStreamName"]) == (group, "s")
    assert [(event["timestamp"], event["message"]) for event in asked["logEvents"]] == [
        (block.at_ms, message) for block in batch for message in block.messages()
    ]


def test_a_line_longer_than_an_event_becomes_several_and_no_character_is_torn() -> None:
    line = "€" * MAX_EVENT_BYTES + "\n"
    events, rest = collect(
        LineBuffer(), [line.encode()[at : at + 65_536] for at in range(0, 3 * MAX_EVENT_BYTES, 65_536)]
    )
    assert "".join(events) + rest == line
    assert all(MAX_EVENT_BYTES - 3 <= len(event.encode()) <= MAX_EVENT_BYTES for event in events[:-1])


def test_50_mb_without_a_line_end_are_never_held_together() -> None:
    taker, most = Taker(), 0
    stream = open_stream(taker)
    for _ in range(50 * 16):
        stream.write(b"x" * 65_536)
        most = max(most, len(stream._buffer._rest))
    stream.close()
    assert sum(map(len, taker.messages)) == 50 * 16 * 65_536
    assert most <= MAX_EVENT_BYTES


def test_a_flood_of_empty_lines_is_cut_by_their_number() -> None:
    blocks = cut(0, b"\n" * 65_536)
    assert sum(block.lines for block in blocks) == 65_536
    assert max(block.lines for block in blocks) <= MAX_BATCH_EVENTS


def test_a_batch_spans_less_than_a_day_and_never_goes_back_in_time() -> None:
    times = [0, 1, MAX_BATCH_SPAN_MS, MAX_BATCH_SPAN_MS + 5, 7, 8]
    waiting = deque(Block(at_ms, b"line\n", 1) for at_ms in times)
    batches = []
    while waiting:
        batches.append([block.at_ms for block in take_batch(waiting)])
    assert batches == [[0, 1], [MAX_BATCH_SPAN_MS, MAX_BATCH_SPAN_MS + 5], [7, 8]]


def test_a_clock_that_is_set_back_does_not_disturb_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    taker, clock = Taker(), chain([5_000_000, 4_000_000], repeat(6_000_000))
    monkeypatch.setattr("immortal_runner.execution.logs.time.time_ns", lambda: next(clock) * 1_000_000)
    stream = open_stream(taker)
    for _ in range(3):
        stream.write(b"line\n")
    stream.close()
    assert [block.at_ms for batch in taker.batches for block in batch] == [5_000_000, 5_000_000, 6_000_000]


def test_lines_arrive_in_order_and_an_unfinished_one_at_the_end() -> None:
    taker = Taker()
    stream = open_stream(taker)
    for number in range(25_000):
        stream.write(b"line %d\n" % number)
    stream.write(b"unfinished")
    stream.close()
    assert taker.messages == [f"line {number}\n" for number in range(25_000)] + ["unfinished"]
    for batch in taker.batches:
        assert sum(block.lines for block in batch) <= MAX_BATCH_EVENTS
        assert sum(block.cost_bytes for block in batch) <= MAX_BATCH_BYTES


def test_a_line_that_has_no_end_is_an_event_of_its_own_once_it_is_ended() -> None:
    taker = Taker()
    stream = open_stream(taker)
    stream.write(b"no end")
    stream.end_line()
    stream.write(b"END RequestId\n")
    stream.close()
    assert taker.messages == ["no end", "END RequestId\n"]


def test_whoever_waits_for_delivery_does_not_wait_for_a_batch_to_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LINGER_S", 60.0)
    taker = Taker()
    with closing(open_stream(taker)) as stream:
        stream.write(b"line\n")
        stream.flush(10)
        assert taker.messages == ["line\n"]


def test_what_is_refused_for_now_is_delivered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_RETRY_S", 0.01)
    taker = Taker()
    taker.refusals = [LogsUnavailable("throttled", retryable=True)] * 3
    stream = open_stream(taker)
    stream.write(b"kept\n")
    stream.close()
    assert taker.messages == ["kept\n"]


def test_what_is_refused_for_good_is_said_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    taker = Taker()
    taker.refusals = [LogsUnavailable("AccessDenied", retryable=False)] * 2
    stream = open_stream(taker)
    for line in (b"secret line\n", b"and another\nand one more\n", b"next\n"):
        stream.write(line)
        stream.flush(5)
    stream.close()
    said = capsys.readouterr().err
    assert said.count("AccessDenied") == 1
    assert "3 log lines of /aws/lambda/f s were lost" in said
    assert "secret line" not in said
    assert taker.messages == ["next\n"]


def fill(stream: CloudWatchLogStream, count: int) -> threading.Thread:
    def write() -> None:
        for _ in range(count):
            stream.write(b"x" * 99_999 + b"\n")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_function_that_writes_faster_than_its_log_waits() -> None:
    taker, count = Taker(), MAX_WAITING_BYTES // 100_000 + 30
    taker.open.clear()
    stream = open_stream(taker)
    writer = fill(stream, count)
    writer.join(0.3)
    assert writer.is_alive()
    taker.open.set()
    writer.join(10)
    stream.close()
    assert len(taker.messages) == count


def test_a_log_that_takes_nothing_stops_nobody_for_ever_and_the_gap_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "PATIENCE_S", 0.2)
    monkeypatch.setattr(logs, "MAX_WAITING_BYTES", 1_000_000)
    taker, count = Taker(), 60
    taker.open.clear()
    stream = open_stream(taker)
    fill(stream, count).join(10)
    taker.open.set()
    stream.flush(10)
    stream.write(b"after\n")
    stream.close()
    *kept, gap, after = taker.messages
    dropped = count - len(kept)
    assert 0 < dropped < count
    assert after == "after\n"
    assert gap.startswith(f"{dropped * 100_000} bytes of output were dropped")
    assert f"{dropped} log lines of /aws/lambda/f s were lost" in capsys.readouterr().err


def test_closing_ends_though_the_log_hangs_and_counts_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "_CLOSE_S", 0.2)
    taker = Taker()
    taker.open.clear()
    stream = open_stream(taker)
    stream.write(b"one\ntwo\n")
    stream.write(b"three")
    stream.close()
    assert "3 log lines of /aws/lambda/f s were lost" in capsys.readouterr().err
    taker.open.set()


@pytest.mark.parametrize("chunks", [[b"late\n"], [b"la", b"te\n"]], ids=["line", "pieces"])
def test_what_is_written_after_the_end_is_said_to_be_lost(
    capsys: pytest.CaptureFixture[str], chunks: list[bytes]
) -> None:
    stream = open_stream(Taker())
    stream.close()
    for chunk in chunks:
        stream.write(chunk)
    assert "are being lost: written after the end" in capsys.readouterr().err


def test_a_stream_is_named_as_lambda_names_it() -> None:
    name = new_stream_name("$LATEST", datetime(2026, 11, 21, tzinfo=UTC))
    assert name.startswith("2026/11/21/[$LATEST]")
    assert len(name) == len("2026/11/21/[$LATEST]") + 32


@dataclass
class CloudWatch:
    """A small CloudWatch Logs behind a real port: keeps groups and streams, answers calls as it is told to."""

    groups: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    puts: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    may_make_groups: bool = True

    def answer(self, call: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(call)
        group = self.groups.get(asked["logGroupName"])
        missing = 400, {"__type": "ResourceNotFoundException"}
        match call:
            case "CreateLogGroup":
                if not self.may_make_groups:
                    return 400, {"__type": "AccessDeniedException"}
                self.groups[asked["logGroupName"]] = {}
            case "CreateLogStream":
                if group is None:
                    return missing
                group[asked["logStreamName"]] = []
            case _:
                if self.puts:
                    return self.puts.pop(0)
                if group is None or asked["logStreamName"] not in group:
                    return missing
                group[asked["logStreamName"]] += [event["message"] for event in asked["logEvents"]]
        return 200, {}


@contextmanager
def serve(watch: CloudWatch) -> Iterator[Any]:
    """Give a client of a small CloudWatch Logs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = watch.answer(self.headers["X-Amz-Target"].rpartition(".")[2], asked)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named by the standard library
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "eu-west-1"}
        make: Any = boto3.client
        once = Config(retries={"total_max_attempts": 1})
        client = make("logs", endpoint_url=f"http://127.0.0.1:{server.server_port}", config=once, **keys)
        with closing(client):
            yield client
        server.shutdown()
        thread.join()


def test_group_and_stream_are_made_when_the_first_line_comes() -> None:
    watch = CloudWatch()
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write('"quoted" \\n é \0 \r\n'.encode() + b"\n")
        stream.close()
    assert watch.groups == {"g": {"s": ['"quoted" \\n é \0 \r\n', "\n"]}}


def test_a_role_that_may_not_make_groups_logs_into_one_that_is_there() -> None:
    watch = CloudWatch({"g": {}}, may_make_groups=False)
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write(b"line\n")
        stream.close()
    assert watch.groups == {"g": {"s": ["line\n"]}}
    assert "CreateLogGroup" not in watch.calls


def test_a_stream_that_is_deleted_is_made_anew_but_a_deleted_group_stays_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = CloudWatch({"g": {"s": []}})
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write(b"first\n")
        stream.flush(10)
        watch.groups["g"].clear()
        stream.write(b"second\n")
        stream.flush(10)
        assert watch.groups == {"g": {"s": ["second\n"]}}
        watch.groups.clear()
        stream.write(b"third\n")
        stream.close()
    assert watch.groups == {}
    assert "1 log lines of g s were lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ThrottlingException"), (400, "ExpiredTokenException"), (503, "ServiceUnavailableException")],
)
def test_what_time_mends_is_sent_again(monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    monkeypatch.setattr(logs, "_RETRY_S", 0.01)
    watch = CloudWatch({"g": {"s": []}}, puts=[(status, {"__type": code})] * 2)
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write(b"kept\n")
        stream.close()
    assert watch.groups["g"]["s"] == ["kept\n"]


def test_a_denied_call_is_told_with_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    watch = CloudWatch({"g": {"s": []}}, puts=[(400, {"__type": "AccessDeniedException", "message": "not authorized"})])
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write(b"lost\n")
        stream.flush(10)
        stream.write(b"kept\n")
        stream.close()
    assert "Next step: grant logs:CreateLogStream and logs:PutLogEvents" in capsys.readouterr().err
    assert watch.groups["g"]["s"] == ["kept\n"]


@pytest.mark.parametrize(
    ("rejected", "lost"),
    [
        ({"tooOldLogEventEndIndex": 2}, 2),
        ({"expiredLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}, 2),
        ({"tooNewLogEventStartIndex": 0}, 4),
    ],
)
def test_events_that_cloudwatch_rejects_are_counted(
    capsys: pytest.CaptureFixture[str], rejected: dict[str, int], lost: int
) -> None:
    watch = CloudWatch(puts=[(200, {"rejectedLogEventsInfo": rejected})])
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        stream.write(b"1\n2\n3\n4\n")
        stream.close()
    assert f"{lost} log lines of g s were lost" in capsys.readouterr().err


def test_another_caller_of_the_same_client_is_left_alone() -> None:
    watch = CloudWatch({"g": {"s": [], "other": []}})
    with serve(watch) as client:
        stream = open_log_stream(client, group="g", stream="s")
        client.put_log_events(
            logGroupName="g", logStreamName="other", logEvents=[{"timestamp": 1, "message": "its own"}]
        )
        stream.write(b"ours\n")
        stream.close()
    assert watch.groups == {"g": {"s": ["ours\n"], "other": ["its own"]}}


def test_order_holds_when_several_threads_write() -> None:
    taker = Taker()
    stream = open_stream(taker)

    def write(name: int) -> None:
        for number in range(500):
            stream.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    numbers = [[int(line.split()[1]) for line in taker.messages if line.startswith(f"{name} ")] for name in range(4)]
    assert all(after == before + 1 for each in numbers for before, after in pairwise(each))
    assert list(map(len, numbers)) == [500] * 4
