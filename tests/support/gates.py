"""A gate before the local AWS: it holds one call back until a test has done what it wants to do meanwhile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

Call = Callable[[str, bytes], bool]
"""Whether a call is meant, by its ``X-Amz-Target`` and its body."""


class Gate:
    """Lets everything through but the first call that is meant; that one waits."""

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self._pool = urllib3.PoolManager(retries=False)
        self._meant: Call | None = None
        self._reached = threading.Event()
        self._open = threading.Event()

    def hold(self, meant: Call) -> None:
        """Hold the next call that is meant."""
        self._meant = meant
        self._reached.clear()
        self._open.clear()

    def await_call(self) -> None:
        """Wait until the call has come."""
        assert self._reached.wait(20), "the call that should be held never came"

    def let_through(self) -> None:
        """Let the call go on."""
        self._open.set()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> urllib3.BaseHTTPResponse:
        meant, self._meant = self._meant, None
        if meant and meant(headers.get("X-Amz-Target", ""), body):
            self._reached.set()
            assert self._open.wait(20)
        else:
            self._meant = meant
        return self._pool.request(method, self._behind + path, body=body, headers=headers)


@contextmanager
def gate_before(endpoint: str) -> Iterator[tuple[Gate, str]]:
    """A gate, and the address on which it listens."""
    gate = Gate(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = gate.answer(self.command, self.path, dict(self.headers), body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        def log_message(self, *_words: object) -> None:
            """The test says what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield gate, f"http://127.0.0.1:{server.server_address[1]}"
    gate.let_through()
    server.shutdown()
    server.server_close()
    thread.join()
