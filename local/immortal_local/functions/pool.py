"""The pool: execution environments that stay warm between invocations, as many as are invoked at once."""

import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immortal_local.functions.configurations import describe_settled
from immortal_local.functions.shelf import Key, Shelf
from immortal_local.functions.store import Store, Target
from immortal_local.images import ImageContainer, Images, resolve_uri
from immortal_local.parts import Ground
from immortal_local.wire import ApiError
from immortal_runner.aws import open_log_stream, session_name
from immortal_runner.code.function import Function, FunctionRefused, read_function
from immortal_runner.code.layout import Layout, make_scratch
from immortal_runner.execution.credentials import StaticCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.logs import new_stream_name
from immortal_runner.neighbours.neighbour import Neighbour
from immortal_runner.runtimes.interpreters import check_startable
from immortal_runner.runtimes.machine import this_machine

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

__all__ = ["ACCOUNT_CONCURRENCY", "Pool", "Warm"]

ACCOUNT_CONCURRENCY = 1000
"""Shared by all functions that reserve nothing. Source: Lambda quotas."""

_IDLE_S = 120.0
_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Warm:
    """One execution environment of the pool.

    Attributes:
        scratch: What it sees as ``/tmp``, its own alone.
        container: Of a function that is a container image; None for a zip.
        idle_since: Monotonic seconds.
    """

    key: Key
    environment: ExecutionEnvironment
    scratch: Path
    container: ImageContainer | None = None
    idle_since: float = field(default=0.0, compare=False)


class Pool:
    """Warm execution environments, and how many may run at once.

    Args:
        folder: Where code is laid out and environments keep their files; functions' own users may pass through it.
    """

    def __init__(self, ground: Ground, store: Store, folder: Path, images: Images) -> None:
        self._ground = ground
        self._store = store
        self._images = images
        self._folder = folder
        self._shelf = Shelf(folder / "code")
        self._lock = threading.Lock()
        self._idle: list[Warm] = []
        self._busy: list[Warm] = []
        self._running: Counter[tuple[str, str]] = Counter()
        self._retired: set[Key] = set()
        self._stopped = False

    @contextmanager
    def lease(self, target: Target) -> Iterator[Warm]:
        """Take an environment for one invocation, warm if there is one.

        Raises:
            ApiError: Throttled, or the version can't be run here.
            ArchiveRefused: One of the version's zips can't be extracted safely.
        """
        with self._admitted(target):
            warm = self._take(target) or self._make(target)
            try:
                yield warm
            finally:
                self._give_back(warm)

    @contextmanager
    def _admitted(self, target: Target) -> Iterator[None]:
        owner = (target.region, target.name) if target.reserved_concurrency is not None else ("", "")
        limit = ACCOUNT_CONCURRENCY if target.reserved_concurrency is None else target.reserved_concurrency
        with self._lock:
            if self._running[owner] >= limit:
                raise _throttled(reserved=target.reserved_concurrency is not None)
            self._running[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[owner] -= 1
                if not self._running[owner]:
                    del self._running[owner]

    def _take(self, target: Target) -> Warm | None:
        key = _key(target)
        with self._lock:
            for warm in reversed(self._idle):
                if warm.key == key:
                    self._idle.remove(warm)
                    self._busy.append(warm)
                    return warm
        return None

    def _give_back(self, warm: Warm) -> None:
        with self._lock:
            if warm in self._busy:
                self._busy.remove(warm)
            gone = self._stopped or warm.key in self._retired or (warm.container is not None and warm.container.gone)
            if not gone:
                self._idle.append(replace(warm, idle_since=time.monotonic()))
        if gone:
            self._drop(warm)

    def _make(self, target: Target) -> Warm:
        function, key = _read(target, self._ground), _key(target)
        scratch = self._folder / "scratch" / uuid.uuid4().hex
        layout = self._shelf.take(key, target.version, user=scratch.name)
        container = None
        try:
            make_scratch(scratch)
            container = self._start_container(function, scratch) if function.image else None
            brought = container.neighbour if container else replace(layout, tmp=scratch)
            environment = self._make_environment(target, function, brought)
        except BaseException:
            self._forget(key, scratch, container)
            raise
        warm = Warm(key, environment, scratch, container)
        with self._lock:
            stopped = self._stopped
            self._busy.append(warm)
        if stopped:
            self._give_back(warm)
            raise ApiError("ServiceException", "The local AWS is stopping.", 500)
        return warm

    def _start_container(self, function: Function, scratch: Path) -> ImageContainer:
        shared = self._shared(scratch)
        shared.mkdir(parents=True)
        return self._images.run(function, shared, scratch)

    def _shared(self, scratch: Path) -> Path:
        """The folder that we share with the container of an environment."""
        return self._folder / "shared" / scratch.name

    def _make_environment(self, target: Target, function: Function, layout: Layout | Neighbour) -> ExecutionEnvironment:
        credentials = _assume(self._ground.client("sts", target.region), function)
        log = open_log_stream(
            self._ground.client("logs", target.region),
            group=function.log_group,
            stream=new_stream_name(function.version, datetime.now(UTC)),
            wants_group=lambda: self._store.has_function(target.region, target.name),  # deleted, it leaves no group
        )
        return ExecutionEnvironment(
            function,
            layout,
            credentials=credentials,
            log=log,
            variables={"AWS_ENDPOINT_URL": self._ground.endpoint},
            scratch=self._folder,
        )

    def _drop(self, warm: Warm) -> None:
        """Leave no process and no file of an environment behind, and lose no line of its log. Twice is harmless."""
        warm.environment.stop()
        self._forget(warm.key, warm.scratch, warm.container)

    def _forget(self, key: Key, scratch: Path, container: ImageContainer | None) -> None:
        if container is not None:
            container.close()
        shutil.rmtree(self._shared(scratch), ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        self._shelf.put_back(key, user=scratch.name)
        with self._lock:
            self._retired &= self._shelf.keys()

    def retire(self, region: str, name: str, kept: frozenset[str]) -> None:
        """Stop a function's environments of every revision that isn't kept; busy ones as soon as they are free."""
        with self._lock:
            used = self._shelf.keys()
            self._retired |= {key for key in used if key[:2] == (region, name) and key[2] not in kept}
            gone = [warm for warm in self._idle if warm.key in self._retired]
            self._idle = [warm for warm in self._idle if warm.key not in self._retired]
        for warm in gone:
            threading.Thread(target=self._drop, args=(warm,), name="retire", daemon=True).start()

    def reap(self, stopping: threading.Event) -> None:
        """Stop what has been idle for long, until told to stop; a worker's work."""
        while not stopping.wait(_LOOK_S):
            with self._lock:
                oldest = time.monotonic() - _IDLE_S
                gone = [warm for warm in self._idle if warm.idle_since < oldest]
                self._idle = [warm for warm in self._idle if warm.idle_since >= oldest]
            for warm in gone:
                self._drop(warm)

    def stop(self) -> None:
        """Stop every environment, all at once; running invocations end as interrupted."""
        with self._lock:
            self._stopped = True
            gone = [*self._idle, *self._busy]
            self._idle = []
        threads = [threading.Thread(target=self._end, args=(warm,), name="stop") for warm in gone]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _end(self, warm: Warm) -> None:
        warm.environment.interrupt(0.0)
        self._drop(warm)


def _key(target: Target) -> Key:
    return target.region, target.name, target.version.revision


def _read(target: Target, ground: Ground) -> Function:
    configuration, code = target.version.configuration, {}
    if uri := target.version.image_uri:
        resolved = resolve_uri(uri, configuration["CodeSha256"], account=ground.account, region=target.region)
        code = {"ImageUri": uri, "ResolvedImageUri": resolved}
    try:
        function = read_function({"Configuration": describe_settled(configuration), "Code": code})
        check_startable(this_machine(), function)
    except FunctionRefused as error:
        raise _refused(str(error)) from error
    return function


def _refused(reason: str) -> ApiError:
    return ApiError("InvalidRuntimeException", reason, 502)


def _throttled(*, reserved: bool) -> ApiError:
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded" if reserved else "ConcurrentInvocationLimitExceeded"
    return ApiError("TooManyRequestsException", "Rate Exceeded.", Reason=reason)


def _assume(sts: "STSClient", function: Function) -> StaticCredentials:
    """Get credentials of the function's role, whose session bears the function's name, as on Lambda."""
    given = sts.assume_role(RoleArn=function.role_arn, RoleSessionName=session_name(function.name))["Credentials"]
    return StaticCredentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
