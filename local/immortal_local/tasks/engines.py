"""What an engine is: the thing that really runs a task's containers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from immortal_local.tasks.records import Ending

__all__ = [
    "ContainerEnded",
    "ContainerOrder",
    "Engine",
    "LogTarget",
    "Mount",
    "OpenLog",
    "RunningTask",
    "Sink",
    "TaskNotStarted",
    "TaskOrder",
]

DEFAULT_STOP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a container's output goes in CloudWatch Logs."""

    group: str
    stream: str
    create_group: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One of the task's volumes, as a container sees it.

    Attributes:
        volume: Its name in the task definition.
        path: Where the container finds it.
    """

    volume: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """One container to run.

    Attributes:
        command: None takes the image's own, as does ``entry_point``.
        environment: Task definition and override together, without what the platform adds.
        cpu: CPU units, 0 for a share of the task's.
        memory_mb: The container's own hard limit in MiB; None leaves the task's.
        stop_timeout_s: From SIGTERM to SIGKILL.
        after: Containers that must have been started before.
        no_capabilities: Whether even its root has no special rights.
    """

    name: str
    image: str
    essential: bool
    environment: Mapping[str, str]
    command: Sequence[str] | None = None
    entry_point: Sequence[str] | None = None
    user: str | None = None
    working_directory: str | None = None
    read_only: bool = False
    init: bool = False
    cpu: int = 0
    memory_mb: int | None = None
    stop_timeout_s: int = DEFAULT_STOP_TIMEOUT_S
    log: LogTarget | None = None
    mounts: tuple[Mount, ...] = ()
    after: tuple[str, ...] = ()
    no_capabilities: bool = False


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """One task to run.

    Attributes:
        cpu: CPU units, 1024 to a virtual CPU.
        memory_mb: MiB for all containers together.
        containers: In an order in which each comes after those that it depends on.
        credentials_path: Where the task's role credentials are served; None without a role.
        metadata_path: Where the task's metadata is served.
    """

    arn: str
    region: str
    cpu: int
    memory_mb: int
    containers: tuple[ContainerOrder, ...]
    credentials_path: str | None
    metadata_path: str

    @property
    def task_id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def stop_timeout_s(self) -> int:
        """How long the slowest container may take to stop."""
        return max(container.stop_timeout_s for container in self.containers)


class Sink(Protocol):
    """Takes a container's output."""

    def write(self, data: bytes) -> None:
        """Take some output."""

    def close(self) -> None:
        """Take no more, and give what was taken to whom it is for."""


OpenLog = Callable[[LogTarget], Sink]
"""Opens the sink for a container's output. Raises TaskNotStarted when there is no such place."""


ContainerEnded = Callable[[str, Ending], None]
"""Told of each container's end as soon as it is known, by the container's name."""


class TaskNotStarted(Exception):
    """The containers could not be started. The message becomes the task's stoppedReason, in AWS's form."""


class RunningTask(Protocol):
    """A task whose containers have been started."""

    @property
    def runtime_ids(self) -> Mapping[str, str]:
        """The engine's name for each container, by container name."""
        ...

    def wait(self, ended: ContainerEnded) -> Mapping[str, Ending]:
        """Wait until an essential container has ended, end the others, clean up, and tell how each ended.

        Args:
            ended: Told of each container's end.
        """
        ...

    def terminate(self) -> None:
        """Ask every container to stop (SIGTERM)."""
        ...

    def kill(self) -> None:
        """Kill every container (SIGKILL)."""
        ...


class Engine(Protocol):
    """Runs tasks."""

    def open(self) -> None:
        """Get ready; raises an error that names the next step when it can't."""

    def start(self, order: TaskOrder) -> RunningTask:
        """Start a task's containers.

        Raises:
            TaskNotStarted: With the reason as AWS words it.
        """
        ...

    def close(self) -> None:
        """Give back what ``open`` took; every task has ended."""
