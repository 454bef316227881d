"""How resource types call APIs: parameters fitted to the API's model, and removals of what is gone already."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from immortal_local.stacks.resources import GONE, Maker, fit

__all__ = ["call", "error_code", "gone_is_fine", "pick"]


def call(maker: Maker, service_name: str, operation_name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Call an operation.

    Args:
        maker: Around the resource.
        service_name: botocore's, such as ``ecs``.
        operation_name: The API's, such as ``RegisterTaskDefinition``.
        parameters: In CloudFormation's names and types; None leaves one out.

    Raises:
        NotCarriedOut: The API doesn't have one of the parameters.
        ClientError: The API refuses.
    """
    client = maker.client(service_name)
    shape = client.meta.service_model.operation_model(operation_name).input_shape
    given = {key: value for key, value in parameters.items() if value is not None}
    request = fit(given, shape, maker.logical_id) if shape else {}
    method = next(name for name, operation in client.meta.method_to_api_mapping.items() if operation == operation_name)
    answer: dict[str, Any] = getattr(client, method)(**request)
    return answer


def pick(properties: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Take some of the properties."""
    return {name: properties[name] for name in names if name in properties}


def error_code(error: ClientError) -> str:
    """Read an API error's code."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Let a removal pass when there is nothing to remove."""
    try:
        yield
    except ClientError as error:
        if not any(part in error_code(error) for part in GONE):
            raise
