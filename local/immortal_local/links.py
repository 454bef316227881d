"""Links: secret addresses of files, for whoever got one in an answer, until they expire."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from immortal_local.wire import HttpAnswer, HttpRequest

__all__ = ["Links"]


class Links:
    """Secret links to files, each with an expiry that is enforced.

    Args:
        lifetime_s: How long a link works; GetFunction's live for ten minutes.
    """

    prefix = "code"

    def __init__(self, *, lifetime_s: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, tuple[Path, float]] = {}

    def open(self, file: Path, *, host: str) -> str:
        """Make a link to a file.

        Args:
            host: Host and port by which the caller reached us: a container knows another address than this machine.
        """
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = self._clock()
            self._links = {key: link for key, link in self._links.items() if link[1] > now}
            self._links[token] = (file, now + self._lifetime_s)
        return f"http://{host}/_immortal/{self.prefix}/{token}"

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        """Answer a GET of one of the links."""
        with self._lock:
            file, expires = self._links.get(request.path.rpartition("/")[2], (None, 0.0))
        if file is None or expires <= self._clock():
            return _refuse(403, "AccessDenied", "Request has expired")
        try:
            return HttpAnswer(200, {"Content-Type": "application/zip"}, file.read_bytes())
        except FileNotFoundError:
            return _refuse(404, "NoSuchKey", "The specified key does not exist.")


def _refuse(status: int, code: str, message: str) -> HttpAnswer:
    headers: Mapping[str, str] = {"Content-Type": "application/xml"}
    return HttpAnswer(status, headers, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())
