"""Configurations: what a function is set to, built from requests and shown with exactly the members that AWS shows."""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from immortal_local.wire import ApiError
from immortal_runner.runtimes import table

__all__ = [
    "check_settings",
    "complete",
    "describe_created",
    "describe_listed",
    "describe_settled",
    "describe_updated",
    "stamp",
]

MAX_TIMEOUT_S = 900
MAX_MEMORY_MB = 10_240
_MAX_LAYERS = 5
_MAX_ENVIRONMENT_BYTES = 4096

RUNTIMES = frozenset(name for name, runtime in table.RUNTIMES.items() if not runtime.retired)
"""What CreateFunction takes; the model names retired ones too. The execution environment may run fewer of them, and
says so when it is asked to."""

RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
"""Names that a customer can't set. Source: Lambda developer guide, "Defined runtime environment variables"."""

_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")

_CREATING = "The function is being created."
_UNLISTED = ("State", "StateReason", "StateReasonCode", "LastUpdateStatus", "RuntimeVersionConfig")

_COPIED = (
    "Role",
    "Handler",
    "Description",
    "Timeout",
    "MemorySize",
    "KMSKeyArn",
    "Architectures",
    "EphemeralStorage",
    "TracingConfig",
    "FileSystemConfigs",
    "TenancyConfig",
    "DurableConfig",
    "PackageType",
)
"""Members that a configuration shows just as they were asked for."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check what CreateFunction or UpdateFunctionConfiguration asks for.

    Raises:
        ApiError: With AWS's code and words.
    """
    _check_limit("timeout", settings.get("Timeout"), MAX_TIMEOUT_S)
    _check_limit("memorySize", settings.get("MemorySize"), MAX_MEMORY_MB)
    _check_runtime(settings.get("Runtime"))
    _check_variables(settings.get("Environment", {}).get("Variables", {}))
    if len(settings.get("Layers", ())) > _MAX_LAYERS:
        raise ApiError("InvalidParameterValueException", f"Cannot reference more than {_MAX_LAYERS} layers.")


def _check_limit(name: str, value: int | None, limit: int) -> None:
    if value is not None and value > limit:
        raise ApiError(
            "ValidationException",
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
            f"Member must have value less than or equal to {limit}",
        )


def _check_runtime(runtime: str | None) -> None:
    if runtime is not None and runtime not in RUNTIMES:
        raise ApiError(
            "InvalidParameterValueException",
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions.",
        )


def _check_variables(variables: Mapping[str, str]) -> None:
    if reserved := sorted(RESERVED & set(variables)):
        raise ApiError(
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}",
        )
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ApiError(
                "ValidationException",
                f"1 validation error detected: Value '{name}' at 'environment.variables' failed to satisfy constraint: "
                f"Map keys must satisfy constraint: [Member must satisfy regular expression pattern: "
                f"{_VARIABLE.pattern}]",
            )
    used = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if used > _MAX_ENVIRONMENT_BYTES:
        raise ApiError(
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the {_MAX_ENVIRONMENT_BYTES} byte limit.",
        )


def complete(
    settings: Mapping[str, Any],
    before: Mapping[str, Any],
    *,
    name: str,
    region: str,
    layers: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """Lay the settings of a request over a configuration.

    Args:
        before: The configuration so far; empty for a new function, which gets AWS's defaults.
        layers: The layers as they are shown, None to leave them as they are.
    """
    after = {**_defaults(name), **before}
    after |= {member: settings[member] for member in _COPIED if member in settings}
    if "Runtime" in settings:
        after["Runtime"] = settings["Runtime"]
        after["RuntimeVersionConfig"] = {"RuntimeVersionArn": _runtime_version_arn(region, settings["Runtime"])}
    if "Environment" in settings:
        after["Environment"] = {"Variables": dict(settings["Environment"].get("Variables", {}))}
    if "LoggingConfig" in settings:
        after["LoggingConfig"] = _logging(settings["LoggingConfig"], name)
    if "SnapStart" in settings:
        after["SnapStart"] = {**settings["SnapStart"], "OptimizationStatus": "Off"}
    if "ImageConfig" in settings:
        after["ImageConfigResponse"] = {"ImageConfig": settings["ImageConfig"]}
    if "DeadLetterConfig" in settings:
        after["DeadLetterConfig"] = settings["DeadLetterConfig"]
    if layers is not None:
        after["Layers"] = layers
    return {member: value for member, value in after.items() if not _unset(member, value)}


def _defaults(name: str) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }


def _unset(member: str, value: Any) -> bool:
    """Whether a member is left out, as AWS does once it has been set to nothing."""
    if member == "DeadLetterConfig":
        return not value.get("TargetArn")
    return member in {"Layers", "FileSystemConfigs", "KMSKeyArn"} and not value


def _logging(asked: Mapping[str, Any], name: str) -> dict[str, Any]:
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"} if asked.get("LogFormat") == "JSON" else {}
    return {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}", **levels, **asked}


def _runtime_version_arn(region: str, runtime: str) -> str:
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(runtime.encode()).hexdigest()}"


def stamp(configuration: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Give a changed configuration its new revision and time."""
    modified = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}+0000"
    return {**configuration, "RevisionId": str(uuid.uuid4()), "LastModified": modified}


def describe_created(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Show a function as CreateFunction answers; by the next call it is active."""
    return {**configuration, "State": "Pending", "StateReason": _CREATING, "StateReasonCode": "Creating"}


def describe_updated(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Show a function as the updates answer; by the next call the update is done."""
    return {
        **configuration,
        "State": "Active",
        "LastUpdateStatus": "InProgress",
        "LastUpdateStatusReason": _CREATING,
        "LastUpdateStatusReasonCode": "Creating",
    }


def describe_settled(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Show a function as everything later answers."""
    return {**configuration, "State": "Active", "LastUpdateStatus": "Successful"}


def describe_listed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Show a function as the lists do, which leave its state out."""
    return {member: value for member, value in configuration.items() if member not in _UNLISTED}
