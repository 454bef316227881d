"""What ECS tells a task about itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import urllib3

from immortal_lambda.errors import ImmortalError, ServiceUnavailable
from immortal_runner.execution.credentials import TemporaryCredentials
from immortal_runner.neighbours.neighbour import ContainerEnd


class TaskRoleMissing(ImmortalError):
    """Functions shall run as the task's role, and the task has none."""


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """A task as it sees itself.

    Attributes:
        arn: Empty outside ECS.
        memory_mb: The task's limit, in MiB; 0 where none is told.
    """

    arn: str = ""
    memory_mb: int = 0


def read_task(metadata_uri: str) -> TaskMetadata:
    """Ask the task metadata endpoint; outside ECS there is none.

    Source: Amazon ECS developer guide, "Task metadata endpoint version 4".

    Raises:
        ServiceUnavailable: The endpoint doesn't answer.
    """
    if not metadata_uri:
        return TaskMetadata()
    task = _ask(f"{metadata_uri}/task", "the task metadata endpoint")
    return TaskMetadata(str(task["TaskARN"]), int(task.get("Limits", {}).get("Memory", 0)))


def read_container_end(metadata_uri: str, name: str) -> ContainerEnd | None:
    """Ask how another container of this task ended; None while it hasn't, or while nobody says.

    Source: as for :func:`read_task`.
    """
    if not metadata_uri:
        return None
    try:
        containers = _ask(f"{metadata_uri}/task", "the task metadata endpoint").get("Containers", ())
    except ServiceUnavailable:
        return None
    for each in containers:
        if each.get("Name") == name and each.get("KnownStatus") == "STOPPED":
            return ContainerEnd(each.get("ExitCode"), str(each.get("Reason") or ""))
    return None


def read_task_credentials(uri: str) -> TemporaryCredentials:
    """Ask for the credentials of the task's role, which ECS renews by itself.

    Args:
        uri: It is a secret: whoever knows it has the credentials.

    Source: Amazon ECS developer guide, "Amazon ECS task IAM role".

    Raises:
        TaskRoleMissing: The task has no role.
        ServiceUnavailable: The endpoint doesn't answer.
    """
    if not uri:
        raise TaskRoleMissing(
            "IMMORTAL_CREDENTIALS is task-role, and this task has no role. Next step: name the function's role as the "
            "task definition's TaskRoleArn, or set endpoint"
        )
    given = _ask(uri, "the task's credentials endpoint")
    expiration = datetime.fromisoformat(given["Expiration"]).astimezone(UTC)
    return TemporaryCredentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"], expiration)


def _ask(uri: str, what: str) -> Mapping[str, Any]:
    retries = urllib3.Retry(3, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))
    try:
        answer = urllib3.request("GET", uri, timeout=2.0, retries=retries)
        said: Mapping[str, Any] = json.loads(answer.data) if answer.status == HTTPStatus.OK else {}
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise ServiceUnavailable(f"{what} doesn't answer: {type(error).__name__}") from None
    if not said:
        raise ServiceUnavailable(f"{what} answered {answer.status}")
    return said
