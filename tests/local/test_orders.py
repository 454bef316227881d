"""What an engine is told to run, decided from a task definition alone."""

from datetime import UTC, datetime
from typing import Any

import pytest

from immortal_local.tasks.credentials import TaskPaths
from immortal_local.tasks.drafts import draft_task, number
from immortal_local.tasks.engines import Mount, TaskNotStarted, TaskOrder
from immortal_local.tasks.orders import write_order
from immortal_local.tasks.records import Ending, end_container

CLUSTER = {"clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/c"}


def define(*containers: dict[str, Any], **definition: Any) -> dict[str, Any]:
    arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/f:1"
    described = [{"image": "i", **container} for container in containers]
    return {
        "family": "f",
        "taskDefinitionArn": arn,
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": described,
        **definition,
    }


def order(definition: dict[str, Any]) -> TaskOrder:
    now = datetime.now(UTC)
    draft = draft_task({}, CLUSTER, definition, provider=None, tags={}, region="eu-west-1", now=now)
    return write_order(number(draft), {}, definition, TaskPaths(None, "/v4/x"))


def after(*names: str) -> list[dict[str, str]]:
    return [{"containerName": name, "condition": "START"} for name in names]


def test_containers_start_after_those_that_they_depend_on() -> None:
    written = order(
        define({"name": "a", "dependsOn": after("b", "c")}, {"name": "b", "dependsOn": after("c")}, {"name": "c"})
    )
    assert [container.name for container in written.containers] == ["c", "b", "a"]


def test_containers_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(TaskNotStarted, match="a, b depend on each other"):
        order(define({"name": "a", "dependsOn": after("b")}, {"name": "b", "dependsOn": after("a")}))


def test_volumes_are_mounted_where_the_definition_says() -> None:
    mount = {"sourceVolume": "shared", "containerPath": "/shared", "readOnly": True}
    written = order(define({"name": "a", "mountPoints": [mount]}, volumes=[{"name": "shared"}]))
    assert written.containers[0].mounts == (Mount("shared", "/shared", read_only=True),)


@pytest.mark.parametrize(
    ("container", "definition", "named"),
    [
        ({"dependsOn": [{"containerName": "b", "condition": "HEALTHY"}]}, {}, "dependsOn.HEALTHY"),
        ({"linuxParameters": {"tmpfs": [{}]}}, {}, "linuxParameters.tmpfs"),
        (
            {},
            {"volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]},
            "efsVolumeConfiguration",
        ),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(
    container: dict[str, Any], definition: dict[str, Any], named: str
) -> None:
    with pytest.raises(TaskNotStarted, match=named):
        order(define({"name": "a", **container}, {"name": "b"}, **definition))


def test_the_end_of_a_container_that_is_not_essential_shows_while_its_task_goes_on() -> None:
    definition = define({"name": "runner"}, {"name": "function", "essential": False})
    task = number(draft_task({}, CLUSTER, definition, provider=None, tags={}, region="r", now=datetime.now(UTC)))
    ended = end_container(task, "function", Ending(3))
    assert [each.last_status for each in ended.containers] == ["PENDING", "STOPPED"]
    assert ended.version == task.version + 1
    assert end_container(task, "runner", Ending(0)) == task
