"""From a RunTask request to the record of a task that has just been accepted."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from immortal_local.tasks.checks import task_size
from immortal_local.tasks.records import Container, Task

__all__ = ["draft_task", "fingerprint", "is_listed", "number", "write_metadata"]

PLATFORM_VERSION = "1.4.0"
EPHEMERAL_GIB = 20


def draft_task(
    request: Mapping[str, Any],
    cluster: Mapping[str, Any],
    definition: Mapping[str, Any],
    *,
    provider: str | None,
    tags: Mapping[str, str],
    region: str,
    now: datetime,
) -> Task:
    """Draft the task that a request asks for; :func:`number` gives it its own name.

    Args:
        request: RunTask's parameters, checked.
        cluster: As DescribeClusters answers it.
        definition: As DescribeTaskDefinition answers it.
        provider: The capacity provider, None with a launch type.
        tags: The task's own and those of the definition, if they propagate.
        region: Where the task runs.
        now: When it was accepted.
    """
    cpu, memory = task_size(request, definition)
    overrides = request.get("overrides", {})
    ephemeral = overrides.get("ephemeralStorage") or definition.get("ephemeralStorage") or {}
    return Task(
        arn=cluster["clusterArn"].replace(":cluster/", ":task/"),
        cluster_arn=cluster["clusterArn"],
        definition_arn=definition["taskDefinitionArn"],
        group=request.get("group") or f"family:{definition['family']}",
        containers=tuple(_draft_container(container) for container in definition["containerDefinitions"]),
        overrides=overrides,
        cpu=cpu,
        memory=memory,
        created_at=now,
        availability_zone=f"{region}a",
        started_by=request.get("startedBy"),
        launch_type="FARGATE",
        capacity_provider=provider,
        platform_version=PLATFORM_VERSION,
        ephemeral_gib=ephemeral.get("sizeInGiB", EPHEMERAL_GIB),
        attachments=(_draft_interface(request),),
        tags=tags,
        enable_execute_command=request.get("enableExecuteCommand", False),
    )


def _draft_container(container: Mapping[str, Any]) -> Container:
    memory = container.get("memory")
    return Container(
        name=container["name"],
        arn="",
        image=container["image"],
        essential=container.get("essential", True),
        cpu=str(container.get("cpu", 0)),
        memory=str(memory) if memory else None,
    )


def _draft_interface(request: Mapping[str, Any]) -> Mapping[str, Any]:
    network = request.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    subnets = network.get("subnets") or ["subnet-local"]
    return {
        "id": str(uuid.uuid4()),
        "type": "ElasticNetworkInterface",
        "status": "PRECREATED",
        "details": [{"name": "subnetId", "value": subnets[0]}],
    }


def number(draft: Task) -> Task:
    """Give a drafted task, and each of its containers, a name that no other has."""
    task_id = uuid.uuid4().hex
    arn = f"{draft.arn}/{task_id}"
    own = arn.replace(":task/", ":container/")
    containers = tuple(replace(container, arn=f"{own}/{uuid.uuid4()}") for container in draft.containers)
    return replace(draft, arn=arn, containers=containers)


def fingerprint(request: Mapping[str, Any]) -> str:
    """Tell two requests apart by everything but their client token."""
    rest = {name: value for name, value in request.items() if name != "clientToken"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()


def is_listed(task: Task, cluster_arn: str, request: Mapping[str, Any]) -> bool:
    """Whether ListTasks shows a task: one that shall run, unless stopped ones are asked for."""
    family = task.definition_arn.rpartition("/")[2].rpartition(":")[0]
    return (
        task.cluster_arn == cluster_arn
        and task.desired == request.get("desiredStatus", "RUNNING")
        and request.get("family", family) == family
        and request.get("startedBy", task.started_by) == task.started_by
        and request.get("launchType", task.launch_type) == task.launch_type
        and "serviceName" not in request
        and "containerInstance" not in request
    )


def write_metadata(task: Task, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Write what the task metadata endpoint, version 4, tells a container about its task."""
    return {
        "Cluster": task.cluster_arn,
        "TaskARN": task.arn,
        "Family": definition["family"],
        "Revision": str(definition["revision"]),
        "DesiredStatus": task.desired,
        "KnownStatus": task.status,
        "Limits": {"CPU": int(task.cpu) / 1024, "Memory": int(task.memory)},
        "AvailabilityZone": task.availability_zone,
        "LaunchType": "FARGATE",
        "Containers": [_write_container_metadata(container) for container in task.containers],
    }


def _write_container_metadata(container: Container) -> dict[str, Any]:
    written: dict[str, Any] = {
        "DockerId": container.runtime_id,
        "Name": container.name,
        "Image": container.image,
        "ContainerARN": container.arn,
        "KnownStatus": container.last_status,
        "ExitCode": container.ending.exit_code if container.ending else None,
    }
    return {name: value for name, value in written.items() if value is not None}
