import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_runner.execution.output import Output

CAPACITY_BYTES = 64 * 1024


class Taker:
    """What stands behind the pipe: keeps what comes, unless it is told to wait."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.open = threading.Event()
        self.open.set()

    def take(self, data: bytes) -> None:
        self.open.wait(20)
        self.data += data


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def output(taker: Taker) -> Iterator[Output]:
    output = Output(taker.take)
    yield output
    taker.open.set()
    output.close()


def run_child(output: Output, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=output.write_end)


@settings(max_examples=40)
@given(pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=100), st.just(b"x" * 9_000)), max_size=40))
def test_all_that_was_written_before_it_has_been_passed_on_once_it_has_settled(pieces: list[bytes]) -> None:
    taker, written = Taker(), b""
    output = Output(taker.take)
    for piece in pieces:
        os.write(output.write_end, piece)
        written += piece
        if len(piece) % 2:
            output.settle(10)
            assert taker.data == written
    output.close()
    assert taker.data == written


def test_several_writers_settle_each_their_own(output: Output, taker: Taker) -> None:
    failed = []

    def write(name: int) -> None:
        for number in range(300):
            line = b"%d-%d\n" % (name, number)
            os.write(output.write_end, line)
            output.settle(10)
            if line not in taker.data:
                failed.append(line)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_what_a_child_left_in_the_pipe_when_it_was_killed_is_passed_on(output: Output, taker: Taker) -> None:
    child = run_child(output, "import os, signal\nos.write(1, b'x' * 60_000)\nos.kill(os.getpid(), signal.SIGKILL)")
    child.wait(10)
    output.settle(10)
    assert taker.data == b"x" * 60_000


def test_a_child_that_closes_its_output_does_not_end_the_pipe(output: Output, taker: Taker) -> None:
    run_child(output, "import os\nos.write(1, b'first')\nos.close(1)").wait(10)
    run_child(output, "import os\nos.write(1, b' second')").wait(10)
    output.settle(10)
    assert taker.data == b"first second"


def test_settling_ends_in_time_though_the_pipe_is_full_and_nothing_is_taken(output: Output, taker: Taker) -> None:
    taker.open.clear()
    child = run_child(output, f"import os\nos.write(1, b'x' * {5 * CAPACITY_BYTES})")
    output.settle(0.2)
    assert child.poll() is None
    taker.open.set()
    child.wait(10)
    output.settle(10)
    assert len(taker.data) == 5 * CAPACITY_BYTES


def test_closing_does_not_wait_for_a_stray_process_that_holds_the_pipe(taker: Taker) -> None:
    output = Output(taker.take)
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "os.write(1, b'before')\n"
        "sys.stdin.readline()\n"
        "while True: os.write(1, b'late' * 1000)"
    )
    stray = subprocess.Popen([sys.executable, "-c", code], stdout=output.write_end, stdin=subprocess.PIPE)
    assert stray.stdin is not None
    while not taker.data:
        output.settle(1)
    output.close()
    assert not output._reader.is_alive()
    stray.communicate(b"\n", timeout=10)
    assert stray.returncode < 0
    assert taker.data == b"before"


def test_a_function_that_reads_its_own_output_away_hangs_nobody(taker: Taker) -> None:
    """A function of our own user can open the pipe to read, and be quicker than we."""
    taker.open.clear()
    output = Output(taker.take)
    os.write(output.write_end, b"first")
    while output._read_bytes == 0:  # the reader hands it on, and looks at the pipe no more
        output.settle(0.01)

    class Thief:
        looked = 0

        def poll(self) -> None:
            self.looked += 1
            os.write(output.write_end, b"taken")
            if self.looked == 1:
                assert os.read(output._read_end, 5) == b"taken"

    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(output._next(Thief())), daemon=True)  # type: ignore[arg-type]
    reading.start()
    reading.join(10)
    taker.open.set()
    assert read == [b"taken"]
    output.close()


def test_closing_twice_and_settling_after_it_are_harmless(output: Output) -> None:
    output.close()
    output.close()
    output.settle(1)


def test_no_descriptor_is_left_behind() -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("only Linux lists a process's descriptors")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        output = Output(Taker().take)
        os.write(output.write_end, b"line\n")
        output.close()
    assert len(list(descriptors.iterdir())) == before
