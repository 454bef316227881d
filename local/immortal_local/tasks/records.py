"""What a task is and how it lives: values and the steps between them, without clock or process.

PROVISIONING → PENDING → RUNNING → DEPROVISIONING → STOPPED; a task that cannot start goes from PENDING straight to
DEPROVISIONING. Every step counts the version up, and every step is an event.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "Container",
    "Ending",
    "Status",
    "StopCode",
    "Task",
    "begin_to_stop",
    "describe",
    "end_container",
    "end_execution",
    "pend",
    "run",
    "stop",
    "write_event",
]

Status = Literal["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
StopCode = Literal["TaskFailedToStart", "EssentialContainerExited", "UserInitiated"]

ESSENTIAL_EXITED = "Essential container in task exited"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended.

    Attributes:
        exit_code: 128 + n for a death by signal n, as containers report it; None for one that never started.
        reason: What AWS would say beside it, such as the out-of-memory sentence.
    """

    exit_code: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a task.

    Attributes:
        arn: The container's own ARN.
        runtime_id: The engine's name for it, once it runs.
        ending: How it ended, once it has.
    """

    name: str
    arn: str
    image: str
    essential: bool
    cpu: str
    memory: str | None
    last_status: Literal["PENDING", "RUNNING", "STOPPED"] = "PENDING"
    runtime_id: str | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One ECS task as DescribeTasks knows it.

    Attributes:
        overrides: As given to RunTask.
        tags: Key and value pairs.
        cpu: CPU units, 1024 to a virtual CPU.
        memory: MiB.
        version: Grows by one with every change.
    """

    arn: str
    cluster_arn: str
    definition_arn: str
    group: str
    containers: tuple[Container, ...]
    overrides: Mapping[str, Any]
    cpu: str
    memory: str
    created_at: datetime
    availability_zone: str
    started_by: str | None = None
    launch_type: str | None = None
    capacity_provider: str | None = None
    platform_version: str | None = None
    ephemeral_gib: int | None = None
    attachments: tuple[Mapping[str, Any], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    status: Status = "PROVISIONING"
    desired: Literal["RUNNING", "STOPPED"] = "RUNNING"
    pull_started_at: datetime | None = None
    pull_stopped_at: datetime | None = None
    started_at: datetime | None = None
    stopping_at: datetime | None = None
    execution_stopped_at: datetime | None = None
    stopped_at: datetime | None = None
    stop_code: StopCode | None = None
    stopped_reason: str | None = None
    enable_execute_command: bool = False
    version: int = 1

    @property
    def task_id(self) -> str:
        """The last part of the ARN, 32 hex digits."""
        return self.arn.rpartition("/")[2]


def pend(task: Task, now: datetime) -> Task:
    """Let a provisioned task begin to start: its images are being fetched."""
    return replace(task, status="PENDING", pull_started_at=now, version=task.version + 1)


def run(task: Task, now: datetime, runtime_ids: Mapping[str, str]) -> Task:
    """Note that a task's containers run.

    Args:
        task: A task that was pending.
        now: When they started.
        runtime_ids: The engine's name for each container, by container name.
    """
    containers = tuple(replace(c, last_status="RUNNING", runtime_id=runtime_ids[c.name]) for c in task.containers)
    return replace(
        task, status="RUNNING", pull_stopped_at=now, started_at=now, containers=containers, version=task.version + 1
    )


def begin_to_stop(task: Task, now: datetime, code: StopCode, reason: str) -> Task:
    """Want a task stopped. The first to want it says why; later reasons change nothing."""
    if task.desired == "STOPPED":
        return task
    return replace(
        task, desired="STOPPED", stopping_at=now, stop_code=code, stopped_reason=reason, version=task.version + 1
    )


def end_container(task: Task, name: str, ending: Ending) -> Task:
    """Note how a container ended whose task goes on without it; an essential one's end is the task's."""
    containers = tuple(
        replace(each, last_status="STOPPED", ending=ending) if each.name == name and not each.essential else each
        for each in task.containers
    )
    return task if containers == task.containers else replace(task, containers=containers, version=task.version + 1)


def end_execution(task: Task, now: datetime, endings: Mapping[str, Ending]) -> Task:
    """Note that nothing of a task runs any more, and how each container ended."""
    containers = tuple(replace(c, last_status="STOPPED", ending=endings.get(c.name)) for c in task.containers)
    return replace(
        task, status="DEPROVISIONING", execution_stopped_at=now, containers=containers, version=task.version + 1
    )


def stop(task: Task, now: datetime) -> Task:
    """Note that a task is over and its resources are given back."""
    return replace(task, status="STOPPED", stopped_at=now, version=task.version + 1)


def describe(task: Task, *, with_tags: bool = True) -> dict[str, Any]:
    """Write a task as DescribeTasks answers it; what is not known yet is absent.

    Source: botocore's ECS model; recorded shapes in the ECS developer guide.
    """
    answer: dict[str, Any] = {
        "attachments": [dict(attachment) for attachment in task.attachments],
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": task.availability_zone,
        "capacityProviderName": task.capacity_provider,
        "clusterArn": task.cluster_arn,
        "connectivity": "CONNECTED" if task.started_at else None,
        "connectivityAt": task.started_at,
        "containers": [_describe_container(task, container) for container in task.containers],
        "cpu": task.cpu,
        "createdAt": task.created_at,
        "desiredStatus": task.desired,
        "enableExecuteCommand": task.enable_execute_command,
        "ephemeralStorage": {"sizeInGiB": task.ephemeral_gib} if task.ephemeral_gib else None,
        "executionStoppedAt": task.execution_stopped_at,
        "group": task.group,
        "lastStatus": task.status,
        "launchType": task.launch_type,
        "memory": task.memory,
        "overrides": _echo_overrides(task),
        "platformFamily": "Linux" if task.launch_type == "FARGATE" else None,
        "platformVersion": task.platform_version,
        "pullStartedAt": task.pull_started_at,
        "pullStoppedAt": task.pull_stopped_at,
        "startedAt": task.started_at,
        "startedBy": task.started_by,
        "stopCode": task.stop_code,
        "stoppedAt": task.stopped_at,
        "stoppedReason": task.stopped_reason,
        "stoppingAt": task.stopping_at,
        "tags": [{"key": key, "value": value} for key, value in task.tags.items()] if with_tags else [],
        "taskArn": task.arn,
        "taskDefinitionArn": task.definition_arn,
        "version": task.version,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _describe_container(task: Task, container: Container) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "containerArn": container.arn,
        "taskArn": task.arn,
        "name": container.name,
        "image": container.image,
        "runtimeId": container.runtime_id,
        "lastStatus": container.last_status,
        "exitCode": container.ending.exit_code if container.ending else None,
        "reason": container.ending.reason if container.ending else None,
        "networkInterfaces": [],
        "healthStatus": "UNKNOWN",
        "cpu": container.cpu,
        "memory": container.memory,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _echo_overrides(task: Task) -> dict[str, Any]:
    """Give the overrides back as AWS does: an entry for every container, named even when nothing was overridden."""
    given: dict[str, Any] = {override["name"]: override for override in task.overrides.get("containerOverrides", ())}
    every: Sequence[Any] = [given.get(container.name, {"name": container.name}) for container in task.containers]
    return {**task.overrides, "containerOverrides": list(every), "inferenceAcceleratorOverrides": []}


def write_event(task: Task, now: datetime, *, event_id: str) -> dict[str, Any]:
    """Write the "ECS Task State Change" event of a task as it stands.

    Source: ECS developer guide, "Amazon ECS task state change events".
    """
    _, _, _, region, account, _ = task.arn.split(":", 5)
    detail = {**describe(task, with_tags=False), "updatedAt": now}
    detail.pop("tags")
    return {
        "version": "0",
        "id": event_id,
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": account,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [task.arn],
        "detail": json.loads(json.dumps(detail, default=_write_time)),
    }


def _write_time(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
