"""What RunTask refuses, and how the overrides shape the task: decisions over the request alone.

The sentences are AWS's own where a public report quotes them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from immortal_local.wire import ApiError

__all__ = ["check_run_task", "check_task_size", "choose_provider", "task_size"]

MAX_COUNT = 10
MAX_OVERRIDE_CHARACTERS = 8192
MAX_STRATEGY_ITEMS = 20

_GIB = 1024
FARGATE_SIZES: Mapping[int, Sequence[int]] = {
    256: (512, 1 * _GIB, 2 * _GIB),
    512: range(1 * _GIB, 4 * _GIB + 1, _GIB),
    1024: range(2 * _GIB, 8 * _GIB + 1, _GIB),
    2048: range(4 * _GIB, 16 * _GIB + 1, _GIB),
    4096: range(8 * _GIB, 30 * _GIB + 1, _GIB),
    8192: range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB),
    16384: range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB),
    32768: (60 * _GIB, 120 * _GIB, 244 * _GIB),
}
"""Legal memory in MiB for each number of CPU units. Source: ECS developer guide, "Task CPU and memory"."""


def check_run_task(request: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    """Refuse a RunTask request that AWS would refuse.

    Args:
        request: RunTask's parameters.
        definition: The task definition that they name, as DescribeTaskDefinition answers it.

    Raises:
        ApiError: InvalidParameterException or ClientException, naming what is wrong.
    """
    _check_count(request.get("count", 1))
    _check_launch(request)
    if definition["status"] != "ACTIVE":
        raise _invalid("TaskDefinition is inactive")
    overrides = request.get("overrides", {})
    if len(json.dumps(overrides, separators=(",", ":"))) > MAX_OVERRIDE_CHARACTERS:
        raise _invalid(f"Container Overrides length must be at most {MAX_OVERRIDE_CHARACTERS}")
    _check_names(overrides.get("containerOverrides", ()), definition["containerDefinitions"])
    if definition.get("networkMode") == "awsvpc" and not request.get("networkConfiguration", {}).get(
        "awsvpcConfiguration", {}
    ).get("subnets"):
        raise _invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    check_task_size(*task_size(request, definition))


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_COUNT:
        raise _invalid(f"Count must be between 1 and {MAX_COUNT}, got {count}.")


def _check_launch(request: Mapping[str, Any]) -> None:
    strategy = request.get("capacityProviderStrategy", ())
    if request.get("launchType") and strategy:
        raise _invalid("Specifying both a launch type and capacity provider strategy is not supported. Remove one.")
    if request.get("launchType") in {"EC2", "EXTERNAL", "MANAGED_INSTANCES"}:
        raise _invalid("No Container Instances were found in your cluster.")
    if len(strategy) > MAX_STRATEGY_ITEMS:
        raise _invalid(f"A capacity provider strategy has at most {MAX_STRATEGY_ITEMS} items.")
    if request.get("propagateTags") == "SERVICE":
        raise _invalid("propagateTags must be TASK_DEFINITION or NONE when a task is run.")


def _check_names(overrides: Iterable[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]]) -> None:
    known = {container["name"] for container in containers}
    for override in overrides:
        if (name := override.get("name")) not in known:
            raise _invalid(f"Override for container named {name} is not a container in the TaskDefinition.")


def choose_provider(strategy: Sequence[Mapping[str, Any]], known: Iterable[str]) -> str | None:
    """Choose the capacity provider that a strategy gives its first task to: a base first, then the greatest weight.

    Args:
        strategy: The request's, or else the cluster's default; empty gives None.
        known: The capacity providers that the cluster is associated with.

    Raises:
        ApiError: A provider that the cluster doesn't have, or weights that are all zero.
    """
    if not strategy:
        return None
    for item in strategy:
        if item["capacityProvider"] not in known:
            raise _invalid(
                "The specified capacity provider strategy contains a capacity provider "
                "that is not associated with the cluster."
            )
    if not any(item.get("weight", 0) or item.get("base", 0) for item in strategy):
        raise _invalid("The specified capacity provider strategy has no capacity provider with a weight above 0.")
    best = max(strategy, key=lambda item: (item.get("base", 0) > 0, item.get("weight", 0)))
    return str(best["capacityProvider"])


def task_size(request: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[str, str]:
    """Tell a task's CPU units and MiB: the override's, or else the definition's; ``"0"`` where neither has one."""
    overrides = request.get("overrides", {})
    cpu = overrides.get("cpu") or definition.get("cpu") or "0"
    memory = overrides.get("memory") or definition.get("memory") or "0"
    return _in_units(cpu, "vcpu"), _in_units(memory, "gb")


def _in_units(size: str, large_unit: str) -> str:
    """Write ``1 vCPU`` or ``.5 GB`` as the 1024ths that ECS counts in; anything else stays as it is."""
    number, found, _ = size.lower().replace(" ", "").partition(large_unit)
    try:
        return str(round(float(number) * 1024)) if found else size
    except ValueError:
        return size


def check_task_size(cpu: str, memory: str) -> None:
    """Refuse a size that Fargate doesn't have.

    Raises:
        ApiError: ClientException, naming the pair.
    """
    if not (cpu.isdigit() and memory.isdigit() and int(memory) in FARGATE_SIZES.get(int(cpu), ())):
        raise ApiError(
            "ClientException",
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. "
            "See the Amazon ECS documentation for the valid values.",
        )


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
