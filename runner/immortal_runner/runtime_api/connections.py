"""The connections of a loopback server: each with a thread of its own, and never too many of them."""

import errno
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from immortal_runner.runtime_api.messages import Reply
from immortal_runner.runtime_api.wire import Wire

MAX_CONNECTIONS = 64
"""Beyond it, the one that has been idle longest makes room."""

_PASSING = frozenset({errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_AGAIN_S = 0.1


class Connection:
    """One connection.

    Attributes:
        idle_since: From when on the server waits for what the client says next, in the time of ``time.monotonic``;
            None while the client waits for the server.
        keeps_alive: Whether it goes on after the reply that is awaited.
        of_extension: Whether an extension has spoken on it, which may outlive the runtime.
    """

    def __init__(self, accepted: socket.socket) -> None:
        self._socket = accepted
        self._writing = threading.Lock()
        self.wire = Wire(accepted)
        self.idle_since: float | None = time.monotonic()
        self.keeps_alive = True
        self.of_extension = False

    def send(self, reply: Reply, *, closing: bool) -> None:
        """Send a reply, however long the client takes to read it."""
        with self._writing:
            self.wire.send(reply, closing=closing)

    def send_soon(self, reply: Reply) -> None:
        """Send a reply without waiting for the client to read it.

        Raises:
            OSError: The client has gone.
        """
        self._writing.acquire()
        try:
            rest = self.wire.send_at_once(reply)
        except OSError:
            self._writing.release()
            raise
        if rest:
            threading.Thread(target=self._send_rest, args=(rest,), name="runtime-api-event", daemon=True).start()
        else:
            self._end_reply()

    def await_sent(self) -> None:
        """Wait until the client has taken all that was sent, so that ``send_soon`` need not wait for that."""
        with self._writing:
            pass

    def drop(self) -> None:
        """End it, whatever it is doing."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def _send_rest(self, rest: memoryview) -> None:
        with suppress(OSError):  # the thread that reads sees the client's end
            self.wire.send_rest(rest)
        self._end_reply()

    def _end_reply(self) -> None:
        if not self.keeps_alive:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._writing.release()


class Listener:
    """Takes connections on a loopback port of the system's choosing, as soon as it is made.

    Args:
        converse: Talks with a client until one of them has had enough; called on the connection's own thread.
    """

    def __init__(self, converse: Callable[[Connection], None]) -> None:
        self._converse = converse
        self._changed = threading.Condition()
        self._connections: set[Connection] = set()
        self._closed = False
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, name="runtime-api", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    @property
    def is_alive(self) -> bool:
        """Whether it still takes connections."""
        return not self._closed and self._acceptor.is_alive()

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def drain(self, timeout_s: float) -> None:
        """Wait, not for ever, until every connection has ended that was made before; an extension's need not."""
        with suppress(OSError), socket.create_connection(self._socket.getsockname(), timeout_s) as last:
            last.shutdown(socket.SHUT_WR)
            last.recv(1)  # connections are taken in order: all that were made before this one have been taken
        with self._changed:
            self._changed.wait_for(lambda: all(each.of_extension for each in self._connections), timeout_s)

    def close(self) -> None:
        """Take no more connections, and drop all."""
        with self._changed:
            self._closed = True
            connections = list(self._connections)
            self._changed.notify_all()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in connections:
            connection.drop()

    def _accept(self) -> None:
        while not self._closed:
            try:
                accepted, _ = self._socket.accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    return
                with self._changed:  # until a connection ends and gives back what is short
                    self._changed.wait(_ACCEPT_AGAIN_S)
            else:
                self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted)
        if not self._make_room_for(connection):
            connection.close()
            return
        thread = threading.Thread(target=self._serve, args=(connection,), name="runtime-api-connection", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: as good as a full house
            self._end(connection)

    def _make_room_for(self, connection: Connection) -> bool:
        """Count a connection in; a full house drops the one that has been idle longest, or else takes none."""
        with self._changed:
            if self._closed:
                return False
            if len(self._connections) >= MAX_CONNECTIONS:
                idle = {each: each.idle_since for each in self._connections if each.idle_since is not None}
                if not idle:
                    return False
                longest = min(idle, key=idle.__getitem__)
                self._connections.discard(longest)
                longest.drop()
            self._connections.add(connection)
            return True

    def _serve(self, connection: Connection) -> None:
        try:
            with suppress(OSError):
                self._converse(connection)
        finally:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.close()
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()
