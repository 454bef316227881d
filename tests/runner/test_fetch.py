"""Downloads from a real server on loopback."""

import base64
import hashlib
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.code.fetch import CodeChanged, CodeUnavailable, Download, download_all

DATA = bytes(range(256)) * 5000
SHA256 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()


class Zips(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  # the class is the server's only state

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = "flaky" not in self.path or self.asked.count(self.path) > 1
        status = 404 if "gone" in self.path else 200 if found else 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Zips.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Zips)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_zips_are_fetched_in_the_order_asked(server: str, tmp_path: Path) -> None:
    downloads = [Download(f"zip {n}", f"{server}/{n}", SHA256) for n in range(6)]
    files = download_all([lambda each=each: each for each in downloads], tmp_path / "zips")  # type: ignore[misc]
    assert [file.name for file in files] == [f"{n}.zip" for n in range(6)]
    assert all(file.read_bytes() == DATA for file in files)


def test_a_server_that_stumbles_is_asked_again(server: str, tmp_path: Path) -> None:
    assert download_all([lambda: Download("code", f"{server}/flaky", SHA256)], tmp_path)[0].read_bytes() == DATA


def test_other_bytes_than_named_are_refused(server: str, tmp_path: Path) -> None:
    """Conformance 58."""
    with pytest.raises(CodeChanged, match="the code of f has the SHA-256"):
        download_all([lambda: Download("the code of f", f"{server}/x", "AAAA")], tmp_path)


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("{server}/gone?X-Amz-Signature=secret", CodeUnavailable),
        ("http://127.0.0.1:1/x?X-Amz-Signature=secret", ServiceUnavailable),
    ],
    ids=["refused", "unreachable"],
)
def test_a_link_that_fails_is_never_shown(server: str, tmp_path: Path, link: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        download_all([lambda: Download("the code of f", link.format(server=server), SHA256)], tmp_path)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "the code of f" in str(caught.value)
    assert "secret" not in repr(Download("c", link, SHA256))
