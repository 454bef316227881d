"""HTTP/1.1 on one connection of a loopback server: heads, bodies and replies.

It takes what runtime clients send: header lines of megabytes, chunked bodies with trailers, ``Expect: 100-continue``,
HTTP/1.0, requests that follow each other without waiting. What is no HTTP is refused. Nothing stands between client and
server here, so that two readings of one request can't be played against each other.

Source: RFC 9112; clients of seven languages, read and run.
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from immortal_lambda.errors import ImmortalError
from immortal_runner.runtime_api.messages import Reply

MAX_HEAD_BYTES = 4 * 1024 * 1024
"""What a head, or the trailers, may have: the X-Ray header of a deep traceback alone can have one megabyte."""

_HEAD_READ_BYTES = 64 * 1024
_BODY_READ_BYTES = 256 * 1024
_MAX_SIZE_LINE_BYTES = 4096
_MAX_LENGTH_DIGITS = 15
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Garbled(ImmortalError):
    """What came is no request."""


class Truncated(ImmortalError):
    """The client went away, or gave up, in the middle of a body."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's beginning.

    Attributes:
        path: As it came, a query included.
        headers: By lower-case name; the last of several with one name.
        body_bytes: How long the body is; None for one in chunks.
        keeps_alive: Whether the client may send another request after this one.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body_bytes: int | None
    keeps_alive: bool


class Wire:
    """The server's end of one connection. One thread reads; a reply may come from another one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._held = bytearray()

    def read_head(self) -> Head | None:
        """Wait for a request; None when the client has gone.

        Raises:
            Garbled: What came is no request, or its head is too long.
        """
        end = self._find_head_end()
        if end is None:
            return None
        text = self._held[:end].decode("utf-8", "replace")
        del self._held[:end]
        return parse_head(text)

    def read_body(self, head: Head, take: Callable[[bytes], object]) -> Mapping[str, str]:
        """Read a request's body, piece by piece.

        Returns:
            The trailers, as headers.

        Raises:
            Truncated: The client went before the end; what had come until then was taken.
            Garbled: The chunks make no sense.
        """
        if head.body_bytes == 0:
            return {}
        if "100-continue" in head.headers.get("expect", "").lower() and not self._held:
            with suppress(ConnectionError):  # the body tells, which doesn't come then
                self._socket.sendall(_CONTINUE)
        if head.body_bytes is not None:
            self._read_exactly(head.body_bytes, take)
            return {}
        return self._read_chunks(take)

    def wait_for_more(self) -> bool:
        """Wait for something to come beyond what has been read; False when the client has gone instead."""
        return bool(self._held) or self._fill(_HEAD_READ_BYTES)

    def send(self, reply: Reply, *, closing: bool = False) -> None:
        """Send a reply, however long the client takes to read it."""
        self._socket.sendall(format_head(reply, closing=closing) + reply.body)

    def send_at_once(self, reply: Reply) -> memoryview:
        """Send as much of a reply as the system takes without waiting; give the rest, for ``send_rest``.

        Raises:
            OSError: The client has gone.
        """
        head = format_head(reply)
        try:
            sent = self._socket.sendmsg([head, reply.body], [], socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(head):
            return memoryview(head[sent:] + reply.body)
        return memoryview(reply.body)[sent - len(head) :]

    def check_presence(self) -> None:
        """Find out whether the client is still there: the system would take a reply all the same.

        Raises:
            OSError: It has closed the connection.
        """
        with suppress(BlockingIOError):
            if not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                raise ConnectionResetError("the client has closed the connection")

    def send_rest(self, rest: memoryview) -> None:
        """Send what ``send_at_once`` left."""
        self._socket.sendall(rest)

    def _find_head_end(self) -> int | None:
        looked_at = 0
        while True:
            while self._held.startswith((b"\r", b"\n")):  # some clients end a body with a line that belongs to none
                del self._held[:1]
            end = _end_of_head(self._held, looked_at)
            if end > 0:
                return end
            if len(self._held) > MAX_HEAD_BYTES:
                raise Garbled(f"the request's head has more than {MAX_HEAD_BYTES} bytes")
            looked_at = max(0, len(self._held) - 3)
            if not self._fill(_HEAD_READ_BYTES):
                if self._held:
                    raise Garbled("the request ends within its head")
                return None

    def _fill(self, max_bytes: int) -> bool:
        came = self._receive(max_bytes)
        self._held += came
        return bool(came)

    def _receive(self, max_bytes: int) -> bytes:
        """What comes next; nothing once the client has gone, whichever way it went."""
        try:
            return self._socket.recv(max_bytes)
        except ConnectionError:
            return b""

    def _read_exactly(self, missing: int, take: Callable[[bytes], object]) -> None:
        if self._held:
            piece = bytes(self._held[:missing])
            del self._held[:missing]
            missing -= len(piece)
            take(piece)
        while missing:
            piece = self._receive(min(missing, _BODY_READ_BYTES))
            if not piece:
                raise Truncated(f"the body ends {missing} bytes early")
            missing -= len(piece)
            take(piece)

    def _read_chunks(self, take: Callable[[bytes], object]) -> Mapping[str, str]:
        while size := _read_chunk_size(self._read_line(_MAX_SIZE_LINE_BYTES)):
            self._read_exactly(size, take)
            if self._read_line(_MAX_SIZE_LINE_BYTES):
                raise Garbled(f"a chunk of {size} bytes has more than that")
        lines: list[str] = []
        left = MAX_HEAD_BYTES
        while line := self._read_line(left):
            left -= len(line)
            lines.append(line.decode("utf-8", "replace"))
        return _parse_fields(lines)

    def _read_line(self, max_bytes: int) -> bytes:
        looked_at = 0
        while (end := self._held.find(b"\n", looked_at)) < 0:
            looked_at = len(self._held)
            if looked_at > max_bytes:
                raise Garbled(f"a line within a chunked body has more than {max_bytes} bytes")
            if not self._fill(_BODY_READ_BYTES):
                raise Truncated("the chunked body ends before its last chunk")
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line.removesuffix(b"\r")


def parse_head(text: str) -> Head:
    """Read a request's head.

    Raises:
        Garbled: It is none.
    """
    first, *lines = text.replace("\r\n", "\n").split("\n")
    method, _, rest = first.partition(" ")
    path, _, version = rest.rpartition(" ")
    if not (method.isalpha() and path and version in ("HTTP/1.1", "HTTP/1.0")):
        raise Garbled(f"{first[:80]!r} is no request line of HTTP/1.1")
    headers = _parse_fields(lines)
    connection = headers.get("connection", "").lower()
    keeps_alive = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    return Head(method, path, headers, _body_bytes(headers), keeps_alive)


def format_head(reply: Reply, *, closing: bool = False) -> bytes:
    """The head of a reply, with its type and its length; texts that no header can hold are escaped."""
    lines = [
        _STATUS_LINES[reply.status],
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(
            f"{name}: {value}" if value.isprintable() else f"{name}: {_one_line(value)}"
            for name, value in reply.headers
        ),
    ]
    if closing:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii", "backslashreplace")


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


def _one_line(value: str) -> str:
    return "".join(character if character.isprintable() else " " for character in value)


def _end_of_head(held: bytearray, start: int) -> int:
    """Where the empty line ends that ends a head; 0 without one. Lines may end as on Unix."""
    strict, lax = held.find(b"\n\r\n", start), held.find(b"\n\n", start)
    if lax >= 0 and (strict < 0 or lax < strict):
        return lax + 2
    return strict + 3 if strict >= 0 else 0


def _parse_fields(lines: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, colon, value = line.partition(":")
            if not colon or not name or name[0] in " \t":
                raise Garbled(f"{line[:80]!r} is no header")
            fields[name.lower()] = value.strip()
    return fields


def _body_bytes(headers: Mapping[str, str]) -> int | None:
    coding = headers.get("transfer-encoding", "").lower()
    if coding == "chunked":
        return None
    length = headers.get("content-length", "0")
    if coding or not (length.isascii() and length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS):
        raise Garbled(f"a body of length {length[:80]!r} and encoding {coding[:80]!r} can't be read")
    return int(length)


def _read_chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16) if len(digits) <= _MAX_LENGTH_DIGITS else -1
    except ValueError:
        size = -1
    if size < 0:
        raise Garbled(f"{digits[:80]!r} is no size of a chunk")
    return size
