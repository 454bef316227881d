"""What no runtime client sends: garbage, halves and crawling requests. The server answers or drops, and serves on."""

import queue
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immortal_runner.runtime_api.connections import MAX_CONNECTIONS
from immortal_runner.runtime_api.invocations import Answered, Invocation, NextAsked
from immortal_runner.runtime_api.server import RuntimeApi
from immortal_runner.runtime_api.wire import MAX_HEAD_BYTES, Garbled, parse_head
from support.runtime_client import (
    ARN,
    NEXT,
    PATIENCE_S,
    RUNTIME,
    Events,
    ask,
    connected,
    hand_out,
    post,
    post_in_chunks,
    raw,
    read_all,
    respond,
)

PING = b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n"
FRAGMENTS = (
    b"GET ", b"POST ", b"PUT", b"/", NEXT.encode(), f"{RUNTIME}/invocation/id-1/response".encode(),
    f"{RUNTIME}/init/error".encode(), b"/2021-04-23/credentials", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9", b"\r\n",
    b"\n", b"\r", b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"5",
    b"-1", b"ffffffffffffffffff", b"0", b"0\r\n\r\n", b":", b" ", b"\t", b"\x00", b"\xff\xfe", b"Connection: close",
    b"Expect: 100-continue", b"Upgrade: h2c", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"{}",
)  # fmt: skip
garbage = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(FRAGMENTS), max_size=24).map(b"".join))


@pytest.fixture(scope="module")
def api() -> Iterator[RuntimeApi]:
    api = RuntimeApi(queue.SimpleQueue())
    yield api
    api.close()


@given(sent=st.lists(garbage, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_garbage_is_answered_or_dropped_and_the_server_serves_on(api: RuntimeApi, sent: list[bytes]) -> None:
    raw(api, *sent)  # comes back, or else times out
    assert ask(api, "GET", "/2018-06-01/ping").status == 200


@given(text=st.one_of(st.text(), garbage.map(lambda data: data.decode("utf-8", "replace"))))
def test_a_head_is_read_or_refused(text: str) -> None:
    with suppress(Garbled):
        head = parse_head(text)
        assert head.body_bytes is None or head.body_bytes >= 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded: yes\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"GET / HTTP/1.1\r\nA: b",
    ],
)
def test_what_is_no_request_is_refused(api: RuntimeApi, sent: bytes) -> None:
    answer = raw(api, sent)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Content-Type: application/json\r\n" in answer
    assert b"InvalidRequest" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 200_000),
        post_in_chunks("init/error", end=False) + b"0" * 100_000,
    ],
    ids=["head", "chunk size"],
)
def test_a_line_without_end_is_not_held_for_ever(api: RuntimeApi, sent: bytes) -> None:
    with connected(api) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        read_all(connection)  # comes to an end, though nobody said that there is no more


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_however_requests_are_cut_their_answers_are_the_same(api: RuntimeApi, data: st.DataObject) -> None:
    kinds = [
        PING,
        post("nothing", b"abc"),
        post("invocation/none/response", b"abc"),
        post_in_chunks("invocation/none/response", b"a", b"bc", trailers=("A: b",)),
        post_in_chunks("invocation/none/error", b"{}"),
    ]
    whole = b"".join(data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert raw(api, *pieces) == raw(api, whole)


def test_a_body_that_comes_byte_by_byte_is_taken() -> None:
    events: Events = queue.SimpleQueue()
    api = RuntimeApi(events)
    hand_out(api)
    with connected(api) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post_in_chunks("invocation/id-1/response", b"a", b"bc"):
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 202")
    assert isinstance(events.get(timeout=PATIENCE_S), NextAsked)
    assert events.get(timeout=PATIENCE_S).outcome.result.read() == b"abc"
    api.close()


@pytest.mark.parametrize(
    "stuck", [b"", b"GET / HT", post("init/error", b"abc")[:-1]], ids=["silent", "half a head", "half a body"]
)
def test_stuck_clients_make_room_for_those_that_work(stuck: bytes) -> None:
    events: Events = queue.SimpleQueue()
    api = RuntimeApi(events)
    with ExitStack() as stack:
        poller = stack.enter_context(connected(api))
        poller.sendall(f"GET {NEXT} HTTP/1.1\r\n\r\n".encode())
        assert isinstance(events.get(timeout=PATIENCE_S), NextAsked)
        for _ in range(MAX_CONNECTIONS + 20):
            stack.enter_context(connected(api)).sendall(stuck)
        assert ask(api, "GET", "/2018-06-01/ping").status == 200
        api.hand_out(Invocation("id-1", b"{}", ARN))
        assert poller.recv(1000).startswith(b"HTTP/1.1 200")
        assert respond(api).status == 202
        assert isinstance(events.get(timeout=PATIENCE_S), Answered)
        assert api._listener.count <= MAX_CONNECTIONS
    api.close()
