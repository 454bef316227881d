"""The front: decides for each HTTP request who answers it, a part of ours, a plain route of ours, or the emulator."""

import io
import json
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from immortal_local.wire import HttpAnswer, HttpRequest, Service, answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Front", "Route"]

Route = Callable[[HttpRequest], HttpAnswer]
"""Answers a plain request, one that is no API call."""

_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


class Front:
    """A WSGI application in front of the emulator's.

    Args:
        emulator: Answers whatever is not ours.
        account: Handed to each call.
    """

    def __init__(self, emulator: "WSGIApplication", *, account: str) -> None:
        self._emulator = emulator
        self._account = account
        self._services: dict[str, Service] = {}
        self._routes: dict[str, Route] = {}

    def add_services(self, services: Iterable[Service]) -> None:
        """Answer these services' operations here from now on."""
        for service in services:
            if service.name in self._services:
                raise ValueError(f"two parts answer for {service.name}: merge them into one Service")
            self._services[service.name] = service

    def add_route(self, prefix: str, route: Route) -> None:
        """Answer every path that starts with ``/_immortal/`` and this prefix by a plain route of ours."""
        self._routes[f"/_immortal/{prefix}/"] = route

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        path = _raw_path(environ)
        for prefix, route in self._routes.items():
            if path.startswith(prefix):
                return _send(_answer_plainly(route, environ), environ, start_response)
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "") or _presigned_scope(environ))
        service = self._services.get(scope[3]) if scope else None
        if scope and service and service.owns(_read_request(environ, body=False)):
            access_key_id, region = scope[1], scope[2]
            return _send(self._answer(service, environ, access_key_id, region), environ, start_response)
        try:
            return self._emulator(environ, start_response)
        except NotImplementedError as error:
            return _send(_say_not_emulated(_read_request(environ, body=False), error), environ, start_response)

    def _answer(self, service: Service, environ: "WSGIEnvironment", access_key_id: str, region: str) -> HttpAnswer:
        return _guard(
            lambda: answer(
                service,
                _read_request(environ, body=True),
                region=region,
                account=self._account,
                access_key_id=access_key_id,
                request_id=str(uuid.uuid4()),
            )
        )


def _answer_plainly(route: Route, environ: "WSGIEnvironment") -> HttpAnswer:
    return _guard(lambda: route(_read_request(environ, body=True)))


def _raw_path(environ: "WSGIEnvironment") -> str:
    """The path as it was sent: a decoded one can't tell a slash in a name from one between names."""
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    return raw.partition("?")[0]


def _presigned_scope(environ: "WSGIEnvironment") -> str:
    credential = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential", [""])[0]
    return f"Credential={credential}"


def _read_request(environ: "WSGIEnvironment", *, body: bool) -> HttpRequest:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return HttpRequest(
        method=environ["REQUEST_METHOD"],
        path=_raw_path(environ),
        query=parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
        headers=headers,
        body=_read_body(environ) if body else b"",
    )


def _read_body(environ: "WSGIEnvironment") -> bytes:
    if environ.get("wsgi.input_terminated"):
        read: bytes = environ["wsgi.input"].read()
    else:
        read = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(read)
    return read


def _guard(work: Callable[[], HttpAnswer]) -> HttpAnswer:
    """Turn a fault of ours into an answer that says so, with the whole story on stderr."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # the outermost frame of a request: whatever went wrong must be answered
        traceback.print_exc(file=sys.stderr)
        body = f'{{"message": "fault in the local AWS: {type(error).__name__}, see its stderr"}}'.encode()
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "InternalFailure"}
        return HttpAnswer(500, headers, body)


def _say_not_emulated(request: HttpRequest, error: NotImplementedError) -> HttpAnswer:
    """Answer for an operation that the emulator lacks, once: SDKs try again after a 500, not after a 501."""
    message = f"not implemented in the local AWS: {error}"
    print(f"local AWS: {request.method} {request.path}: {message}", file=sys.stderr)  # noqa: T201  # stderr is talk
    if "x-amz-target" in request.headers or "json" in request.headers["content-type"]:
        body = json.dumps({"__type": "NotImplementedException", "message": message})
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "NotImplementedException"}
        return HttpAnswer(501, headers, body.encode())
    said = f"<Error><Code>NotImplementedException</Code><Message>{escape(message)}</Message></Error>"
    return HttpAnswer(501, {"Content-Type": "text/xml"}, f"<ErrorResponse>{said}</ErrorResponse>".encode())


def _send(sent: HttpAnswer, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    headers: dict[str, Any] = {**sent.headers}
    if sent.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(sent.body))
    start_response(f"{sent.status} {HTTPStatus(sent.status).phrase}", list(headers.items()))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [sent.body]
