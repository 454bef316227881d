"""The local AWS as one thing: wires its parts together, listens, and stops leaving nothing behind."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import boto3
import botocore.session
from botocore.config import Config
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from immortal_local import emulator
from immortal_local.front import Front
from immortal_local.functions import Functions
from immortal_local.images import Images
from immortal_local.links import Links
from immortal_local.parts import Part
from immortal_local.queues import QueuePolls
from immortal_local.rules import Rules
from immortal_local.scratch import open_scratch
from immortal_local.stacks import Stacks
from immortal_local.tasks import build_tasks
from immortal_local.tasks.docker import find_bridge_address
from immortal_local.tasks.process import RUNNER
from immortal_local.workers import Workers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "Engine", "LocalAws", "up"]

Engine = Literal["process", "docker"]
"""What carries an ECS task: a child process, or a container of the local Docker engine."""

ACCESS_KEY_ID = "AKIAIMMORTALLOCAL001"
SECRET_ACCESS_KEY = "immortal-local-is-no-secret"  # noqa: S105  # the emulator checks no signature
_POLL_S = 0.02
_LOOK_S = 0.5

_one_at_a_time = threading.Lock()


class LocalAws:
    """An AWS on this machine.

    Only one at a time lives in a process, because the emulator's storage belongs to the process; it starts empty.

    Args:
        host: Address to listen on.
        port: 0 lets the system choose.
        region: Where :meth:`client` looks; the endpoint itself answers for every region.
        time_scale: Factor on the waits that AWS makes (retries, event age, schedules): 0.01 makes a minute 0.6 s.
        engine: What carries ECS tasks.
        task_host: A second address, on the same port, for tasks that can't reach ``host``, as containers can't reach
            loopback; None chooses: Docker's bridge with the engine ``docker``, else ``host``.
        task_command: What the engine ``process`` runs in place of the runner's image.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        region: str = "us-east-1",
        time_scale: float = 1.0,
        engine: Engine = "process",
        task_host: str | None = None,
        task_command: Sequence[str] = RUNNER,
    ) -> None:
        self.region = region
        self.time_scale = time_scale
        self.engine: Engine = engine
        self.account = emulator.account()
        self.workers = Workers()
        self._host = host
        self._port = port
        self._task_host = task_host
        self._task_command = tuple(task_command)
        self._parts: list[Part] = []
        self._undo = ExitStack()
        self._clients: dict[tuple[str, str], Any] = {}
        self._clients_lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Where processes of this machine reach the local AWS."""
        return f"http://{self._host}:{self._port}"

    @property
    def task_endpoint(self) -> str:
        """Where ECS tasks reach the local AWS."""
        return f"http://{self._task_host or self._host}:{self._port}"

    def start(self) -> Self:
        """Listen and begin to move.

        Raises:
            EngineMissing: The engine ``docker`` is wanted and no Docker engine answers.
            OSError: The address or port can't be had.
            RuntimeError: Another local AWS lives in this process.
        """
        if not _one_at_a_time.acquire(blocking=False):
            raise RuntimeError("a local AWS already runs in this process: stop it first, or start a second process")
        with ExitStack() as undo:
            undo.callback(_one_at_a_time.release)
            if self.engine == "docker" and self._task_host is None:
                self._task_host = find_bridge_address()
            self.scratch = undo.enter_context(open_scratch())
            emulator.forget_everything()
            self.workers = Workers()
            self._clients = {}
            sockets = self._bind(undo)
            self.front = Front(emulator.make_application(), account=self.account)
            self.links = Links()
            self.front.add_route(Links.prefix, self.links)
            self._parts = self._build_parts()
            for part in self._parts:
                self.front.add_services(part.services())
            for listening in sockets:
                _serve(listening, self.front, undo)
            undo.callback(self.workers.stop)
            for part in self._parts:
                undo.callback(part.stop)
                part.start()
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Stop everything that was started, in reverse."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def describe(self) -> dict[str, str]:
        """Say what a client needs to talk to the local AWS."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "account": self.account,
            "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
        }

    def client(self, service_name: str, region: str | None = None) -> Any:
        """Give a boto3 client on the local AWS, whatever the user's environment and files say; it is shared."""
        region = region or self.region
        with self._clients_lock:
            if (service_name, region) not in self._clients:
                self._clients[service_name, region] = self._make_client(service_name, region)
            return self._clients[service_name, region]

    def _make_client(self, service_name: str, region: str) -> Any:
        # SNS, SQS and others would otherwise take a profile, a proxy or an endpoint from around us.
        nowhere = (None, None, os.devnull, None)
        core = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": nowhere,
                "credentials_file": nowhere,
            }
        )
        session = boto3.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=region,
            botocore_session=core,
        )
        config = Config(proxies={}, retries={"total_max_attempts": 1}, max_pool_connections=50, read_timeout=960)
        client: Any = session.client(service_name, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]
        return client

    def _build_parts(self) -> list[Part]:
        """Make the parts, in the order in which they start; the last one stops first."""
        images = Images(self, self.links, available=self.engine == "docker")
        functions = Functions(self, self.links, images)
        rules = Rules(self)
        self.tasks = build_tasks(self, self.engine, rules.publish, command=self._task_command)
        return [images, functions, rules, self.tasks, Stacks(self), QueuePolls()]

    def _bind(self, undo: ExitStack) -> list[socket.socket]:
        hosts = list(dict.fromkeys([self._host, self._task_host or self._host]))
        sockets = []
        for host in hosts:
            sockets.append(undo.enter_context(_listen(host, self._port)))
            self._port = sockets[0].getsockname()[1]
        return sockets


class _Handler(MotoRequestHandler):
    """moto's handler, without a line per request and without waiting for a peer's acknowledgement."""

    disable_nagle_algorithm = True
    wbufsize = -1

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: stderr is for what goes wrong."""


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from error
    return listening


def _serve(listening: socket.socket, application: "WSGIApplication", undo: ExitStack) -> None:
    host, port = listening.getsockname()
    server: BaseWSGIServer = make_server(
        host, port, application, threaded=True, request_handler=_Handler, fd=listening.fileno()
    )
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name=f"listen-{host}", daemon=True)
    thread.start()
    undo.callback(thread.join)
    undo.callback(server.shutdown)


def up(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    region: str = "us-east-1",
    time_scale: float = 1.0,
    engine: Engine = "process",
    task_host: str | None = None,
    announced: Callable[[dict[str, str]], None] | None = None,
) -> None:
    """Run a local AWS in the foreground until SIGINT or SIGTERM; the first line on stdout describes it in JSON.

    Args:
        announced: Called with the same description once the local AWS answers.
    """
    stopping = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, note)
    local = LocalAws(host, port, region=region, time_scale=time_scale, engine=engine, task_host=task_host)
    with local:
        sys.stdout.write(json.dumps(local.describe()) + "\n")
        sys.stdout.flush()
        if announced is not None:
            announced(local.describe())
        while not stopping.wait(_LOOK_S):  # a signal that comes right before an endless wait would be lost in it
            pass
