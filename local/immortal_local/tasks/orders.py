"""From a task definition and RunTask's overrides to what an engine is told to run."""

from collections.abc import Iterable, Mapping
from typing import Any

from immortal_local.tasks.checks import task_size
from immortal_local.tasks.credentials import TaskPaths
from immortal_local.tasks.engines import (
    DEFAULT_STOP_TIMEOUT_S,
    ContainerOrder,
    LogTarget,
    Mount,
    TaskNotStarted,
    TaskOrder,
)
from immortal_local.tasks.records import Task

__all__ = ["write_order"]

CARRIED_OUT = frozenset(
    {
        "name", "image", "essential", "environment", "command", "entryPoint", "user", "workingDirectory", "cpu",
        "memory", "memoryReservation", "stopTimeout", "logConfiguration", "linuxParameters", "readonlyRootFilesystem",
        "portMappings", "versionConsistency", "mountPoints", "dependsOn",
    }
)  # fmt: skip
"""What the engines do. Ports need nothing: in awsvpc mode every port of a container is its own."""

CARRIED_OUT_LINUX = frozenset({"initProcessEnabled", "capabilities"})


def write_order(task: Task, request: Mapping[str, Any], definition: Mapping[str, Any], paths: TaskPaths) -> TaskOrder:
    """Write the order for a task.

    Args:
        task: The task's record.
        request: RunTask's parameters.
        definition: As DescribeTaskDefinition answers it.
        paths: Where the task's credentials and metadata are served.

    Raises:
        TaskNotStarted: The definition asks for something that the local AWS doesn't carry out.
    """
    _refuse_volumes(definition.get("volumes", ()))
    cpu, memory = task_size(request, definition)
    overrides = {each["name"]: each for each in request.get("overrides", {}).get("containerOverrides", ())}
    return TaskOrder(
        arn=task.arn,
        region=task.arn.split(":")[3],
        cpu=int(cpu),
        memory_mb=int(memory),
        containers=_sorted(
            _order_container(container, overrides.get(container["name"], {}), task.task_id)
            for container in definition["containerDefinitions"]
        ),
        credentials_path=paths.credentials,
        metadata_path=paths.metadata,
    )


def _order_container(container: Mapping[str, Any], override: Mapping[str, Any], task_id: str) -> ContainerOrder:
    _refuse_unknown(container, override)
    environment = {each["name"]: each.get("value", "") for each in container.get("environment", ())}
    environment |= {each["name"]: each.get("value", "") for each in override.get("environment", ())}
    return ContainerOrder(
        name=container["name"],
        image=container["image"],
        essential=container.get("essential", True),
        environment=environment,
        command=override.get("command") or container.get("command") or None,
        entry_point=container.get("entryPoint") or None,
        user=container.get("user"),
        working_directory=container.get("workingDirectory"),
        read_only=container.get("readonlyRootFilesystem", False),
        init=container.get("linuxParameters", {}).get("initProcessEnabled", False),
        cpu=int(override.get("cpu") or container.get("cpu") or 0),
        memory_mb=override.get("memory") or container.get("memory"),
        stop_timeout_s=container.get("stopTimeout", DEFAULT_STOP_TIMEOUT_S),
        log=_find_log(container, task_id),
        mounts=tuple(
            Mount(each["sourceVolume"], each["containerPath"], read_only=each.get("readOnly", False))
            for each in container.get("mountPoints", ())
        ),
        after=tuple(each["containerName"] for each in container.get("dependsOn", ())),
        no_capabilities=container.get("linuxParameters", {}).get("capabilities", {}).get("drop") == ["ALL"],
    )


def _sorted(containers: Iterable[ContainerOrder]) -> tuple[ContainerOrder, ...]:
    """Put each container behind those that it depends on."""
    waiting = {container.name: container for container in containers}
    placed: list[ContainerOrder] = []
    while waiting:
        ready = [each for each in waiting.values() if not set(each.after) & set(waiting)]
        if not ready:
            raise TaskNotStarted(f"The containers {', '.join(waiting)} depend on each other in a circle.")
        placed += ready
        waiting = {name: each for name, each in waiting.items() if each not in ready}
    return tuple(placed)


def _refuse_volumes(volumes: Iterable[Mapping[str, Any]]) -> None:
    for volume in volumes:
        if kinds := [name for name, value in volume.items() if value and name != "name"]:
            raise TaskNotStarted(
                f"ResourceInitializationError: the local AWS gives a task empty volumes of its own, and volume "
                f"{volume['name']} asks for {', '.join(kinds)}."
            )


def _refuse_unknown(container: Mapping[str, Any], override: Mapping[str, Any]) -> None:
    unknown = {name for name, value in container.items() if value and name not in CARRIED_OUT}
    unknown |= {f"linuxParameters.{name}" for name in {*container.get("linuxParameters", {})} - CARRIED_OUT_LINUX}
    unknown |= {
        f"dependsOn.{each['condition']}" for each in container.get("dependsOn", ()) if each["condition"] != "START"
    }
    unknown |= {f"overrides.{name}" for name in ("environmentFiles", "resourceRequirements") if override.get(name)}
    if unknown:
        raise TaskNotStarted(
            f"CannotCreateContainerError: the local AWS does not carry out {', '.join(sorted(unknown))} "
            f"of container {container['name']}; it carries out {', '.join(sorted(CARRIED_OUT))}."
        )


def _find_log(container: Mapping[str, Any], task_id: str) -> LogTarget | None:
    configuration = container.get("logConfiguration")
    if not configuration:
        return None
    options = configuration.get("options", {})
    if configuration.get("logDriver") != "awslogs" or not options.get("awslogs-group"):
        raise TaskNotStarted(
            "ResourceInitializationError: failed to validate logger args: the local AWS has the log driver awslogs, "
            f"with awslogs-group, and not {configuration.get('logDriver')}."
        )
    prefix = options.get("awslogs-stream-prefix", "ecs")
    return LogTarget(
        group=options["awslogs-group"],
        stream=f"{prefix}/{container['name']}/{task_id}",
        create_group=options.get("awslogs-create-group") == "true",
    )
