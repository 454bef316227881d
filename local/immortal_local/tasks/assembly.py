"""How the parts that carry tasks are put together."""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

from immortal_local.parts import Ground
from immortal_local.tasks.credentials import CredentialsServer
from immortal_local.tasks.docker import DockerEngine
from immortal_local.tasks.engines import Engine, LogTarget, OpenLog, Sink, TaskNotStarted
from immortal_local.tasks.process import RUNNER, ProcessEngine
from immortal_local.tasks.service import Publish, Tasks
from immortal_runner.aws import open_log_stream

__all__ = ["build_tasks"]


def build_tasks(
    ground: Ground, engine: Literal["process", "docker"], publish: Publish, *, command: Sequence[str] = RUNNER
) -> Tasks:
    """Build the tasks' part.

    Args:
        ground: The local AWS around it.
        engine: What carries the tasks.
        publish: Gets the tasks' events.
        command: What the process engine runs in place of the runner's image.
    """
    credentials = CredentialsServer()
    return Tasks(ground, _build_engine(ground, engine, credentials, command), credentials, publish)


def _build_engine(
    ground: Ground, engine: Literal["process", "docker"], credentials: CredentialsServer, command: Sequence[str]
) -> Engine:
    open_log = _log_opener(ground)
    match engine:
        case "process":
            return ProcessEngine(
                endpoint=ground.task_endpoint,
                credentials=credentials,
                open_log=open_log,
                scratch=ground.scratch,
                command=command,
            )
        case "docker":
            return DockerEngine(endpoint=ground.task_endpoint, credentials=credentials, open_log=open_log)
        case _:
            assert_never(engine)


def _log_opener(ground: Ground) -> OpenLog:
    clients: list[Any] = []

    def open_log(target: LogTarget) -> Sink:
        """Open a stream as awslogs does: the group must be there, unless it shall be made."""
        if not clients:
            clients.append(ground.client("logs"))
        found = clients[0].describe_log_groups(logGroupNamePrefix=target.group)["logGroups"]
        if not target.create_group and target.group not in [group["logGroupName"] for group in found]:
            raise TaskNotStarted(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                f"failed to create Cloudwatch log stream: ResourceNotFoundException: "
                f"The specified log group does not exist: {target.group}"
            )
        return open_log_stream(clients[0], group=target.group, stream=target.stream)

    return open_log
