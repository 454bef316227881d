"""Downloads from a real server on loopback."""

import base64
import hashlib
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from immortal_lambda.errors import ServiceUnavailable
from immortal_runner.code import fetch
from immortal_runner.code.fetch import CodeChanged, CodeUnavailable, Download, download_all
from immortal_runner.code.layout import lay_out_as_they_come
from support.functions import make_zip

DRIPS = 1000
DATA = bytes(range(256)) * 5000
SHA256 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()


class Zips(BaseHTTPRequestHandler):
    """Answers as the path says: a status, or the data whole, broken off, or with other lengths than it has."""

    asked: list[str] = []  # noqa: RUF012  # the class is the server's only state
    held = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        first = self.asked.count(self.path) == 1
        match self.path.split("?")[0].rsplit("/", 1)[1]:
            case "flaky":
                self._answer(503 if first else 200)
            case "broken":
                self._answer(200, DATA[:1000] if first else DATA)
            case "broken-for-ever":
                self._answer(200, DATA[:1000])
            case "gone":
                self._answer(403)
            case "moved":
                self._answer(307, location="/code")
            case "longer":
                self._answer(200, DATA + b"x", length=len(DATA) + 1)
            case "endless":
                self._answer(200, DATA * 2, length=None)
            case "drip":
                self._drip()
            case "held":
                self.held.wait(20)
                self._answer(200)
            case _:
                self._answer(200)

    def _drip(self) -> None:
        with suppress(ConnectionError):
            self._answer(200, b"", length=DRIPS * len(DATA))
            for _ in range(DRIPS):
                self.wfile.write(DATA)
                self.held.wait(0.01)

    def _answer(
        self, status: int, data: bytes = DATA, *, length: int | None = len(DATA), location: str | None = None
    ) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.001)


@pytest.fixture
def server() -> Iterator[str]:
    Zips.asked.clear()
    Zips.held.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Zips)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Zips.held.set()
    server.shutdown()
    server.server_close()


def zip_at(link: str, sha256: str = SHA256, zip_bytes: int = len(DATA)) -> Callable[[], Download]:
    return partial(Download, "the code of f", link, sha256, zip_bytes)


def test_zips_are_given_with_their_number_each_as_soon_as_it_is_there(server: str, tmp_path: Path) -> None:
    downloads = [zip_at(f"{server}/{name}") for name in ("held", "1", "2")]
    given = []
    for number, file in download_all(downloads, tmp_path / "zips"):
        assert file.read_bytes() == DATA
        given.append((number, file.name))
        if len(given) == 2:
            Zips.held.set()
    assert sorted(given[:2]) == [(1, "layer-1.zip"), (2, "layer-2.zip")]
    assert given[2] == (0, "code.zip")


@pytest.mark.parametrize("name", ["flaky", "broken"], ids=["a server in trouble", "a download that breaks off"])
def test_what_may_pass_is_tried_again(server: str, tmp_path: Path, name: str) -> None:
    ((_, file),) = download_all([zip_at(f"{server}/{name}")], tmp_path)
    assert file.read_bytes() == DATA
    assert len(Zips.asked) == 2


def test_what_never_passes_is_given_up_until_later(server: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="the code of f can't be downloaded: the link failed with"):
        list(download_all([zip_at(f"{server}/broken-for-ever")], tmp_path))
    assert len(Zips.asked) == fetch.TRIES


def test_a_link_that_has_expired_is_asked_for_anew(server: str, tmp_path: Path) -> None:
    asks = iter([zip_at(f"{server}/gone"), zip_at(f"{server}/code")])

    def ask() -> Download:
        return next(asks)()

    ((_, file),) = download_all([ask], tmp_path)
    assert file.read_bytes() == DATA


def test_a_link_that_leads_elsewhere_is_followed(server: str, tmp_path: Path) -> None:
    assert len(list(download_all([zip_at(f"{server}/moved")], tmp_path))) == 1


@pytest.mark.conformance(58)
@pytest.mark.parametrize(
    ("name", "sha256", "found"),
    [
        ("x", "AAAA", f"has the SHA-256 {SHA256}, its configuration says AAAA"),
        ("longer", SHA256, "has 1280001 bytes or more, its configuration says 1280000 bytes"),
        ("endless", SHA256, "bytes or more, its configuration says 1280000 bytes"),
    ],
    ids=["bytes", "length", "length that is not told"],
)
def test_other_bytes_than_named_are_refused(server: str, tmp_path: Path, name: str, sha256: str, found: str) -> None:
    with pytest.raises(CodeChanged, match=f"the code of f .*{found}"):
        list(download_all([zip_at(f"{server}/{name}", sha256)], tmp_path))
    assert len(Zips.asked) == 1


def test_when_one_is_refused_the_others_are_broken_off(server: str, tmp_path: Path) -> None:
    downloads = [zip_at(f"{server}/x", "AAAA"), zip_at(f"{server}/drip", zip_bytes=DRIPS * len(DATA))]
    with pytest.raises(CodeChanged):
        list(download_all(downloads, tmp_path))
    assert (tmp_path / "layer-1.zip").stat().st_size < DRIPS * len(DATA)


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("{server}/gone?X-Amz-Signature=secret", CodeUnavailable),
        ("{server}/broken-for-ever?X-Amz-Signature=secret", ServiceUnavailable),
        ("http://127.0.0.1:1/x?X-Amz-Signature=secret", ServiceUnavailable),
    ],
    ids=["refused", "broken", "unreachable"],
)
def test_a_link_that_fails_is_never_shown(server: str, tmp_path: Path, link: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        list(download_all([zip_at(link.format(server=server))], tmp_path))
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "the code of f" in str(caught.value)
    assert "secret" not in repr(zip_at(link)())


@pytest.mark.conformance(59)
def test_layers_are_merged_in_order_whichever_comes_first(tmp_path: Path) -> None:
    zips = [
        make_zip(tmp_path / f"{number}.zip", {"python/a.py": f"{number}", f"python/{number}.py": ""})
        for number in range(4)
    ]
    layout = lay_out_as_they_come([(number, zips[number]) for number in (3, 0, 2, 1)], tmp_path / "root")
    assert (layout.opt / "python/a.py").read_text() == "3"
    assert sorted(path.name for path in (layout.opt / "python").iterdir()) == ["1.py", "2.py", "3.py", "a.py"]
    assert (layout.task / "python/a.py").read_text() == "0"
    assert [path.name for path in layout.opt.iterdir()] == ["python"]
