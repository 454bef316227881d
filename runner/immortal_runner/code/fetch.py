"""A function's code and layers, downloaded and checked."""

import base64
import errno
import hashlib
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import urllib3

from immortal_lambda.errors import ImmortalError, ServiceUnavailable
from immortal_runner.code.refusals import DiskFull

TRIES = 5
BACKOFF_S = 0.3
"""The wait after the first failure; each further one is twice as long."""

_CHUNK_BYTES = 256 * 1024
_REDIRECTS = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class CodeChanged(ImmortalError):
    """What was downloaded is not what the configuration names; trying again cannot help."""


class CodeUnavailable(ImmortalError):
    """The link to a zip was refused; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Download:
    """A zip to fetch.

    Attributes:
        name: What it is, for people.
        link: A signed link; whoever has it has the code, so it is never shown.
        sha256: Base64, as Lambda gives it.
        zip_bytes: Its size, as Lambda gives it.
    """

    name: str
    link: str = field(repr=False)
    sha256: str
    zip_bytes: int


class _Failed(Exception):
    """One try failed; the next may succeed.

    Attributes:
        reason: Without the link.
        refused: By a server that won't change its mind about this link.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


def download_all(downloads: Sequence[Callable[[], Download]], folder: Path) -> Generator[tuple[int, Path], None, None]:
    """Fetch zips side by side, check each against its hash, and give each as soon as it is there, with its number.

    A download that breaks off, or a server in trouble, is tried five times; a link that is refused is asked for anew
    once, for it may have expired meanwhile.

    Args:
        downloads: The code's, then the layers'. Each is asked for its link right before each try: links are good for
            ten minutes.

    Raises:
        CodeChanged: The bytes aren't those that the configuration names.
        CodeUnavailable: The link is refused.
        DiskFull: There is no room for them.
        ServiceUnavailable: They can't be fetched now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    abandoned = threading.Event()
    with (
        urllib3.PoolManager(retries=_REDIRECTS, timeout=_TIMEOUT) as pool,
        ThreadPoolExecutor(max_workers=6) as threads,
    ):
        numbers: dict[Future[Path], int] = {}
        for number, ask in enumerate(downloads):
            fetching = _Fetching(pool, ask, folder / (f"layer-{number}.zip" if number else "code.zip"), abandoned)
            numbers[threads.submit(fetching.fetch)] = number
        try:
            for each in as_completed(numbers):
                yield numbers[each], each.result()
        finally:
            abandoned.set()  # whoever stops asking, perhaps because one failed, has no use for the others


@dataclass(frozen=True, slots=True)
class _Fetching:
    """One zip on its way."""

    pool: urllib3.PoolManager
    ask: Callable[[], Download]
    target: Path
    abandoned: threading.Event

    def fetch(self) -> Path:
        """Fetch it, in as many tries as it takes and may take."""
        name, reason, refusals = "the zip", "nobody waits for it any more", 0
        for tried in range(TRIES):
            if self.abandoned.wait(BACKOFF_S * 2 ** (tried - 1) if tried else 0):
                break
            wanted = self.ask()
            try:
                self._download(wanted)
            except _Failed as failure:
                name, reason = wanted.name, failure.reason
                refusals += failure.refused
                if refusals > 1:
                    raise CodeUnavailable(
                        f"the link to {name} {reason}. Next step: check that it can still be downloaded"
                    ) from None
            else:
                return self.target
        raise ServiceUnavailable(f"{name} can't be downloaded: the link {reason}")

    def _download(self, wanted: Download) -> None:
        try:
            with self.pool.request("GET", wanted.link, preload_content=False, decode_content=False) as answer:
                _check_status(answer.status)
                _check_size(wanted, int(answer.headers.get("Content-Length", wanted.zip_bytes)))
                self._keep(wanted, answer)
        except urllib3.exceptions.HTTPError as error:
            raise _Failed(f"failed with {type(error).__name__}") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"{wanted.name} has {wanted.zip_bytes} bytes, for which the disk has no room. "
                "Next step: raise EphemeralStorageGiB"
            ) from error

    def _keep(self, wanted: Download, answer: urllib3.BaseHTTPResponse) -> None:
        digest, size = hashlib.sha256(), 0
        with self.target.open("wb") as out:
            for chunk in answer.stream(_CHUNK_BYTES):
                size += len(chunk)
                _check_size(wanted, max(size, wanted.zip_bytes))
                digest.update(chunk)
                out.write(chunk)
                if self.abandoned.is_set():
                    return
        _check_size(wanted, size)
        found = base64.b64encode(digest.digest()).decode()
        if found != wanted.sha256:
            raise _changed(wanted, f"the SHA-256 {found}", wanted.sha256)


def _check_status(status: int) -> None:
    """A server that is in trouble is asked again; one that refuses is asked by a new link."""
    if status != HTTPStatus.OK:
        passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING
        raise _Failed(f"answered {status}", refused=not passing)


def _check_size(wanted: Download, found: int) -> None:
    if found != wanted.zip_bytes:
        raise _changed(wanted, f"{found} bytes or more", f"{wanted.zip_bytes} bytes")


def _changed(wanted: Download, found: str, said: str) -> CodeChanged:
    return CodeChanged(
        f"{wanted.name} has {found}, its configuration says {said}. "
        "Next step: immortal runs redrive RUN; if it happens again, deploy the function again"
    )
