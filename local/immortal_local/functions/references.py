"""References: the many ways in which a caller names a function, read into one."""

import re
from dataclasses import dataclass

from immortal_local.wire import ApiError

__all__ = ["LATEST", "Reference", "function_arn", "layer_arn", "name_from_layer", "not_found", "read_reference"]

LATEST = "$LATEST"

_REFERENCE = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:(?P<region>[a-z0-9-]+):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?(?P<name>[a-zA-Z0-9-_]+)(?::(?P<qualifier>[$a-zA-Z0-9-_]+))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as a caller names it.

    Attributes:
        name: The plain name.
        qualifier: Version, alias or ``$LATEST``; None if the caller gave none.
    """

    name: str
    qualifier: str | None = None


def read_reference(text: str, qualifier: str | None, *, region: str, account: str) -> Reference:
    """Read a name, a partial ARN or a full ARN, each with or without a qualifier.

    Args:
        qualifier: From the call's own ``Qualifier`` parameter.

    Raises:
        ApiError: It is none of these, names another region or account, or two different qualifiers.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ApiError("ValidationException", f"Value '{text}' at 'functionName' is no function name or ARN.")
    if found["region"] not in {None, region}:
        raise ApiError(
            "ResourceNotFoundException",
            f"Functions from '{found['region']}' are not reachable in this region ('{region}')",
        )
    if found["account"] not in {None, account}:
        raise not_found(f"arn:aws:lambda:{region}:{found['account']}:function:{found['name']}")
    if found["qualifier"] and qualifier and found["qualifier"] != qualifier:
        message = "The derived qualifier from the function name does not match the specified qualifier."
        raise ApiError("InvalidParameterValueException", message)
    return Reference(found["name"], found["qualifier"] or qualifier)


def function_arn(region: str, account: str, name: str, qualifier: str | None = None) -> str:
    """Name a function, or with a qualifier one version or alias of it, by its ARN."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


def layer_arn(region: str, account: str, name: str, version: int | None = None) -> str:
    """Name a layer, or one version of it, by its ARN."""
    arn = f"arn:aws:lambda:{region}:{account}:layer:{name}"
    return arn if version is None else f"{arn}:{version}"


def name_from_layer(text: str) -> str:
    """Take a layer's name from a name or an ARN."""
    return text.split(":")[6] if text.startswith("arn:") else text


def not_found(arn: str) -> ApiError:
    """Say that a function is unknown, in AWS's words."""
    return ApiError("ResourceNotFoundException", f"Function not found: {arn}")
