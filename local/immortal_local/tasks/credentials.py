"""The task-role credentials endpoint: what 169.254.170.2 is on Fargate, with the task metadata beside it."""

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["CredentialsServer", "TaskPaths", "assume_task_role"]

LIFETIME_S = 3600
Answer = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TaskPaths:
    """Where one task's secrets are served; nobody else can guess the paths."""

    credentials: str | None
    metadata: str


class CredentialsServer:
    """A small HTTP server that knows the tasks that run now. It answers nobody until it listens."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def listen(self, host: str, port: int = 0) -> None:
        """Begin to answer.

        Args:
            host: The address to listen on.
            port: 0 takes any free one.

        Raises:
            OSError: The address or port can't be had.
        """
        self._server = ThreadingHTTPServer((host, port), _make_handler(self._find))
        self._server.daemon_threads = True
        serve = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="task-credentials", daemon=True
        )
        serve.start()

    @property
    def endpoint(self) -> str:
        """The server's address, without a slash at its end."""
        if self._server is None:
            raise RuntimeError("the credentials server does not listen yet")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def read(self, path: str) -> Mapping[str, Any]:
        """Read an answer without asking over the network; KeyError for an unknown path."""
        with self._lock:
            answer = self._answers[path]
        return answer()

    def add_task(self, *, credentials: Answer | None, metadata: Answer) -> TaskPaths:
        """Serve a task's credentials and metadata under paths of its own."""
        paths = TaskPaths(
            credentials=f"/v2/credentials/{secrets.token_urlsafe(32)}" if credentials else None,
            metadata=f"/v4/{secrets.token_urlsafe(32)}",
        )
        with self._lock:
            self._answers[paths.metadata] = self._answers[f"{paths.metadata}/task"] = metadata
            if paths.credentials and credentials:
                self._answers[paths.credentials] = credentials
        return paths

    def remove_task(self, paths: TaskPaths) -> None:
        """Forget a task that is over."""
        with self._lock:
            for path in (paths.credentials, paths.metadata, f"{paths.metadata}/task"):
                self._answers.pop(path or "", None)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _find(self, path: str) -> Answer | None:
        with self._lock:
            return self._answers.get(path)


def _make_handler(find: Callable[[str], Answer | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers a GET of a known path with JSON."""

        def do_GET(self) -> None:  # the name that http.server calls
            """Answer one request."""
            answer = find(self.path)
            status, body = _carry_out(answer) if answer else (HTTPStatus.NOT_FOUND, {"message": "no such task"})
            written = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the signature is http.server's
            """Stay silent: the path is the secret."""

    return Handler


def _carry_out(answer: Answer) -> tuple[HTTPStatus, Mapping[str, Any]]:
    try:
        return HTTPStatus.OK, answer()
    except Exception as error:  # noqa: BLE001  # the task must learn that its role is unusable, whatever the cause
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"code": type(error).__name__, "message": str(error)}


def assume_task_role(client: Any, role_arn: str, task_id: str) -> dict[str, Any]:
    """Assume a task's role, for an hour.

    Args:
        client: STS.
        role_arn: The task definition's ``taskRoleArn``, or the override's.
        task_id: Names the session, as on Fargate.

    Returns:
        The document that every AWS SDK reads from a container's credentials address.
    """
    answer = client.assume_role(RoleArn=role_arn, RoleSessionName=task_id, DurationSeconds=LIFETIME_S)
    credentials = answer["Credentials"]
    return {
        "RoleArn": role_arn,
        "AccessKeyId": credentials["AccessKeyId"],
        "SecretAccessKey": credentials["SecretAccessKey"],
        "Token": credentials["SessionToken"],
        "Expiration": credentials["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
