"""Where a task works: one function, made ready for the first run and kept for those that follow it."""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, assert_never

from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import ServiceUnavailable
from immortal_lambda.ledger import Place
from immortal_lambda.runs import Run
from immortal_runner.code.fetch import Download, download_all
from immortal_runner.code.function import Function, read_function
from immortal_runner.code.layout import Layout, lay_out_as_they_come
from immortal_runner.differences import refuse_changed
from immortal_runner.execution.credentials import (
    Credentials,
    EndpointCredentials,
    StaticCredentials,
    TemporaryCredentials,
)
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.logs import LogStream, new_stream_name
from immortal_runner.metadata import TaskMetadata, read_task_credentials
from immortal_runner.neighbours.meeting import meet_neighbour
from immortal_runner.neighbours.neighbour import Neighbour
from immortal_runner.runtimes.interpreters import check_startable
from immortal_runner.runtimes.machine import this_machine
from immortal_runner.settings import Settings
from immortal_runner.stop import StopSignal

RUNNER_SHARE_MB = 100
"""What the runner needs of a task's memory."""

STATIC_LEFT = timedelta(minutes=45)
"""No further run begins with credentials that can't be renewed and have less than this left of their hour."""


class Account(Protocol):
    """All that a task asks of AWS beside the ledger. ``aws.py`` asks boto3."""

    def get_function(self, name: str, qualifier: str | None) -> Mapping[str, Any]:
        """GetFunction's answer."""
        ...

    def get_layer(self, version_arn: str) -> tuple[str, str, int]:
        """The link to a layer version's zip, the zip's hash, and its size in bytes."""
        ...

    def assume_role(self, role_arn: str, function_name: str) -> TemporaryCredentials:
        """Become a role for an hour."""
        ...

    def open_log_stream(self, group: str, name: str) -> LogStream:
        """Open a log stream."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A function that is ready to start.

    Attributes:
        described: As GetFunction described it; what runs may differ in its memory.
        place: Where it logs.
        lasts_until: Until when another run may begin here; None for ever.
    """

    described: Function
    environment: ExecutionEnvironment
    place: Place
    lasts_until: datetime | None


class Workplace:
    """The one environment of a task. Its code is laid out once; each run is told to it as to a warm Lambda function."""

    def __init__(self, settings: Settings, account: Account, task: TaskMetadata, stop: StopSignal) -> None:
        self._settings = settings
        self._account = account
        self._task = task
        self._stop = stop
        self._neighbour: Neighbour | None = None
        self.ready: Ready | None = None

    def get_ready(self, run: Run) -> Ready:
        """Make a run's function ready, unless it is.

        Raises:
            ImmortalError: It can't be run, or not now; the error says which.
        """
        if self.ready is not None:
            refuse_changed(self.ready.described, run, self._settings.changed_code)
            return self.ready
        answer = self._describe(run)
        function = read_function(answer)
        check_startable(this_machine(), function)
        refuse_changed(function, run, self._settings.changed_code)
        self.check_stop()
        with ThreadPoolExecutor(max_workers=1) as threads:  # its role is assumed while its code is on its way
            assumed = threads.submit(self._credentials, function)
            layout = self._meet(function) if function.image else self._lay_out(run, function, answer)
        credentials, lasts_until = assumed.result()
        self.check_stop()
        self.ready = self._open(function, layout, credentials, lasts_until)
        return self.ready

    def serves(self, run: Run, now: datetime) -> bool:
        """Whether a further run can be worked on here: its function is still the one that was made ready.

        Raises:
            ImmortalError: The function is gone, or can't be asked for now.
        """
        if self.ready is None or (self.ready.lasts_until is not None and now >= self.ready.lasts_until):
            return False
        return read_function(self._describe(run)) == self.ready.described

    def close(self) -> None:
        """End the function's processes; what it logged is delivered."""
        if self.ready is not None:
            self.ready.environment.stop()
        if self._neighbour is not None:
            self._neighbour.close()

    def check_stop(self) -> None:
        """Begin nothing new in a task that shall end.

        Raises:
            ServiceUnavailable: It shall.
        """
        if self._stop.asked:
            raise ServiceUnavailable("the task was stopped before the handler had begun")

    def _describe(self, run: Run) -> Mapping[str, Any]:
        invoked = FunctionArn.read(run.function_arn)
        return self._account.get_function(str(invoked.unqualified), run.qualifier)

    def _open(
        self, function: Function, layout: Layout | Neighbour, credentials: Credentials, lasts_until: datetime | None
    ) -> Ready:
        stream = new_stream_name(function.version, datetime.now(UTC))
        log = self._account.open_log_stream(function.log_group, stream)
        endpoint_url = self._settings.endpoint_url
        environment = ExecutionEnvironment(
            replace(function, memory_mb=memory_of(function, self._task.memory_mb)),
            layout,
            credentials=credentials,
            log=log,
            variables={"AWS_ENDPOINT_URL": endpoint_url} if endpoint_url else {},
            extensions=self._settings.extensions == "on",
        )
        place = Place(self._task.arn, log_group=log.group, log_stream=log.name)
        return Ready(function, environment, place, lasts_until)

    def _credentials(self, function: Function) -> tuple[Credentials, datetime | None]:
        """A function's credentials, and until when another run may begin with them."""

        def assume() -> TemporaryCredentials:
            return self._account.assume_role(function.role_arn, function.name)

        match self._settings.credentials:
            case "endpoint":
                return EndpointCredentials(assume), None
            case "task-role":
                return EndpointCredentials(lambda: read_task_credentials(self._settings.credentials_uri)), None
            case "static":
                given = assume()
                static = StaticCredentials(given.access_key_id, given.secret_access_key, given.session_token)
                return static, given.expiration - STATIC_LEFT
            case never:
                assert_never(never)

    def _meet(self, function: Function) -> Neighbour:
        self._neighbour = meet_neighbour(function, self._settings, self._stop)
        return self._neighbour

    def _lay_out(self, run: Run, function: Function, answer: Mapping[str, Any]) -> Layout:
        answers = chain([answer], iter(lambda: self._describe(run), None))  # a link that has expired is asked for anew

        def ask() -> Download:
            link = next(answers)["Code"]["Location"]
            return Download(f"the code of {function.name}", link, function.code_sha256, function.code_bytes)

        downloads = [ask, *map(self._layer_download, function.layers)]
        with (
            tempfile.TemporaryDirectory(prefix="immortal-download-") as folder,
            closing(download_all(downloads, Path(folder))) as zips,
        ):
            return lay_out_as_they_come(zips, self._settings.work_dir)

    def _layer_download(self, arn: str) -> Callable[[], Download]:
        return lambda: Download(f"the layer {arn}", *self._account.get_layer(arn))


def memory_of(function: Function, task_memory_mb: int) -> int:
    """What a function is told to have, in MB: what it has on Lambda, or what a larger task leaves it.

    Runtimes size their heaps by it: a function that ran out of memory would gain nothing from a larger task otherwise.
    """
    return max(function.memory_mb, task_memory_mb - RUNNER_SHARE_MB)
