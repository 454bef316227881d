"""What ECS tells a task about itself."""

import json

import urllib3

from immortal_lambda.errors import ServiceUnavailable


def read_task_arn(metadata_uri: str) -> str:
    """Ask the task metadata endpoint for the task's ARN; empty outside ECS.

    Source: Amazon ECS developer guide, "Task metadata endpoint version 4".

    Raises:
        ServiceUnavailable: The endpoint doesn't answer.
    """
    if not metadata_uri:
        return ""
    try:
        answer = urllib3.request(
            "GET", f"{metadata_uri}/task", timeout=2.0, retries=urllib3.Retry(3, backoff_factor=0.2)
        )
        return str(json.loads(answer.data)["TaskARN"])
    except (urllib3.exceptions.HTTPError, ValueError, KeyError) as error:
        raise ServiceUnavailable(f"the task metadata endpoint doesn't answer: {type(error).__name__}") from error
