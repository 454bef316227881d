"""Bodies: the same bytes in memory and in a file, and how little memory many bytes take."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_runner.runtime_api import bodies
from immortal_runner.runtime_api.bodies import Body, Spool


def spooled(chunks: Iterable[bytes], *, max_bytes: int | None = None) -> tuple[Spool, Body]:
    spool = Spool(max_bytes=max_bytes)
    for chunk in chunks:
        spool.write(chunk)
    return spool, spool.finish()


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MEMORY_BYTES", 8)


@pytest.mark.usefixtures("little_memory")
def test_bytes_are_the_same_in_memory_and_in_a_file() -> None:
    @given(chunks=st.lists(st.binary(max_size=6), max_size=6), max_bytes=st.none() | st.integers(0, 20))
    def check(chunks: list[bytes], max_bytes: int | None) -> None:
        spool, body = spooled(chunks, max_bytes=max_bytes)
        sent = b"".join(chunks)
        kept = sent[:max_bytes]
        assert (body.read(), body.size_bytes, spool.arrived_bytes) == (kept, len(kept), len(sent))
        assert body == Body(kept)
        assert body != Body(kept + b"x")
        body.close()

    check()


@pytest.mark.usefixtures("little_memory")
def test_bodies_that_differ_in_their_last_byte_are_not_equal() -> None:
    assert spooled([b"x" * 20])[1] != spooled([b"x" * 19, b"y"])[1]
    assert Body(b"x") != b"x"


@pytest.mark.usefixtures("little_memory")
def test_each_reader_begins_at_the_beginning() -> None:
    body = spooled([b"0123456789"])[1]
    with body.open() as one, body.open() as other:
        assert (one.read(4), other.read(2), one.read()) == (b"0123", b"01", b"456789")


@pytest.mark.usefixtures("little_memory")
def test_a_body_that_nobody_holds_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(b"0123456789")
    body = spool.finish()
    file = body._file
    assert file is not None
    assert list(tmp_path.iterdir()) == []  # it has no name that could stay
    del body, spool
    gc.collect()
    assert file.closed


def test_what_a_body_says_is_not_shown() -> None:
    assert repr(Body(b"secret")) == "Body(6 bytes)"


_SCRIPT = """
import hashlib, json, queue, socket, threading
from pathlib import Path
from immortal_lambda.payloads import keep
from immortal_runner.runtime_api.invocations import Answered, Invocation
from immortal_runner.runtime_api.server import RuntimeApi

MB, COUNT = 1024 * 1024, 300

class Bucket:
    name = "bucket"
    def upload(self, key, source):
        self.sha256 = hashlib.file_digest(source, "sha256").hexdigest()

def peak_mb():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

def post(address):
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
        connection.recv(1000)
        connection.sendall(b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\\r\\n")
        connection.sendall(b"Content-Length: %d\\r\\n\\r\\n" % (COUNT * MB))
        for _ in range(COUNT):
            connection.sendall(bytes(MB))
        assert connection.recv(1000).startswith(b"HTTP/1.1 202")

events, bucket = queue.SimpleQueue(), Bucket()
api = RuntimeApi(events)
api.hand_out(Invocation("id-1", b"{}", "arn"))
before = peak_mb()
threading.Thread(target=post, args=(api.address,)).start()
while not isinstance(event := events.get(timeout=60), Answered):
    pass
payload = keep(event.outcome.result, name="run/result", bucket=bucket)
print(json.dumps([peak_mb() - before, payload.size_bytes, payload.sha256 == bucket.sha256]))
api.close()
"""


@pytest.mark.conformance(11)
def test_a_result_of_300_mb_is_kept_in_a_few_mb_of_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=100, check=True)
    grown_mb, size_bytes, same = json.loads(done.stdout)
    assert grown_mb < 10, f"a result of 300 MB took {grown_mb:.1f} MB of memory"
    assert (size_bytes, same) == (300 * 1024 * 1024, True)
