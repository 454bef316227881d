"""A function as GetFunction describes it, and the reasons not to run it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import ImmortalError
from immortal_runner.runtimes.table import RuntimeRefused, find_runtime

DEFAULT_MEMORY_MB = 128


class FunctionRefused(ImmortalError):
    """The function can't be rerun as it was; trying again cannot help until its configuration changes."""


class FunctionNotReady(ImmortalError):
    """Lambda is still at work on the function. Nobody acts: the run is tried again."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Image:
    """A container image that a function is.

    Attributes:
        uri: With the digest that Lambda resolved.
        entry_point: What replaces the image's own; None where nothing does, as for the next two.
    """

    uri: str
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_directory: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One version of a function.

    Attributes:
        arn: Unqualified.
        version: Number or ``$LATEST``.
        runtime: For example ``python3.13``; empty for a container image, as is the handler.
        timeout_s: Lambda's limit, in seconds; the rerun has none.
        variables: The customer's own environment; never logged.
        code_sha256: Base64, as Lambda gives it.
        layers: ARNs of layer versions, in the order in which they are merged.
        log_format: ``Text`` or ``JSON``.
        last_modified: ISO 8601 with milliseconds and ``+0000``.
        application_log_level: From here on the function's own JSON lines are kept; empty with the text format.
        system_log_level: From here on the platform's own JSON lines are kept; empty with the text format.
        image: None for a function that is a zip.
        mounts: Where its shared file systems are mounted.
        notes: What Lambda does for it and a rerun doesn't, in words for an operator.

    Source: Lambda API reference, "GetFunction".
    """

    name: str
    arn: str
    version: str
    runtime: str
    handler: str
    timeout_s: int
    memory_mb: int
    role_arn: str
    variables: Mapping[str, str] = field(repr=False)
    code_sha256: str
    code_bytes: int
    layers: tuple[str, ...]
    log_group: str
    log_format: str
    architecture: str
    last_modified: str
    application_log_level: str = ""
    system_log_level: str = ""
    image: Image | None = None
    mounts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def region(self) -> str:
        """The function's region."""
        return FunctionArn.read(self.arn).region


def read_function(answer: Mapping[str, Any]) -> Function:
    """Read GetFunction's answer.

    Raises:
        FunctionRefused: The function can't be rerun faithfully; the message says why and what to do.
        FunctionNotReady: It is being created or updated.
    """
    configuration = answer["Configuration"]
    _refuse(configuration)
    arn = FunctionArn.read(configuration["FunctionArn"]).unqualified
    logging = configuration.get("LoggingConfig", {})
    return Function(
        name=configuration["FunctionName"],
        arn=str(arn),
        version=configuration["Version"],
        runtime=configuration.get("Runtime", ""),
        handler=configuration.get("Handler", ""),
        timeout_s=configuration["Timeout"],
        memory_mb=configuration.get("MemorySize", DEFAULT_MEMORY_MB),
        role_arn=configuration["Role"],
        variables=dict(configuration.get("Environment", {}).get("Variables", {})),
        code_sha256=configuration["CodeSha256"],
        code_bytes=configuration["CodeSize"],
        layers=tuple(layer["Arn"] for layer in configuration.get("Layers", ())),
        log_group=logging.get("LogGroup") or f"/aws/lambda/{arn.name}",
        log_format=logging.get("LogFormat", "Text"),
        architecture=(configuration.get("Architectures") or ["x86_64"])[0],
        last_modified=configuration["LastModified"],
        application_log_level=logging.get("ApplicationLogLevel", ""),
        system_log_level=logging.get("SystemLogLevel", ""),
        image=_read_image(answer),
        mounts=tuple(each["LocalMountPath"] for each in configuration.get("FileSystemConfigs", ())),
        notes=tuple(_read_notes(configuration)),
    )


def _read_notes(configuration: Mapping[str, Any]) -> Iterator[str]:
    if master := configuration.get("MasterArn"):
        yield f"the function belongs to Lambda@Edge ({master}), whose regions and events are its edge locations'"
    if configuration.get("SnapStart", {}).get("OptimizationStatus") == "On":
        yield "the function uses SnapStart, whose hooks before a snapshot and after a restore did not run"
    if configuration.get("TenancyConfig"):
        yield "the function is isolated by tenant, and no record of a failure names one: its context had no tenant id"
    if configuration.get("CapacityProviderConfig"):
        yield "the function runs on Lambda Managed Instances, several invocations at once, and here had one alone"


def _read_image(answer: Mapping[str, Any]) -> Image | None:
    if answer["Configuration"].get("PackageType") != "Image":
        return None
    code = answer["Code"]
    config = answer["Configuration"].get("ImageConfigResponse", {}).get("ImageConfig", {})
    return Image(
        code.get("ResolvedImageUri") or code["ImageUri"],
        entry_point=_words(config.get("EntryPoint")),
        command=_words(config.get("Command")),
        working_directory=config.get("WorkingDirectory") or None,
    )


def _words(words: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(words) if words else None


def _refuse(configuration: Mapping[str, Any]) -> None:
    name = configuration["FunctionName"]
    if error := configuration.get("Environment", {}).get("Error"):
        raise FunctionRefused(
            f"the environment variables of {name} can't be read ({error.get('ErrorCode')}: {error.get('Message')}). "
            "Next step: grant the runner's role kms:Decrypt on the function's key"
        )
    if configuration.get("DurableConfig"):
        raise FunctionRefused(f"{name} is a durable function, whose event is an envelope that only Lambda can serve")
    if error := configuration.get("ImageConfigResponse", {}).get("Error"):
        raise FunctionRefused(
            f"the image configuration of {name} can't be read ({error.get('ErrorCode')}: {error.get('Message')}). "
            "Next step: grant the runner's role kms:Decrypt on the function's key"
        )
    if configuration.get("PackageType") != "Image":
        _refuse_runtime(name, configuration.get("Runtime", ""))
    _refuse_state(name, configuration)


def _refuse_runtime(name: str, runtime: str) -> None:
    try:
        find_runtime(runtime)
    except RuntimeRefused as error:
        raise FunctionRefused(f"{name} can't be run: {error}. Its event is kept here") from error


def _refuse_state(name: str, configuration: Mapping[str, Any]) -> None:
    state, reason = configuration.get("State"), configuration.get("StateReason", "")
    if state in ("Failed", "Deleting"):
        raise FunctionRefused(f"{name} is in state {state}: {reason}. Next step: deploy it anew, and redrive the run")
    if state == "Pending" or configuration.get("LastUpdateStatus") == "InProgress":
        said = reason or configuration.get("LastUpdateStatusReason", "")
        raise FunctionNotReady(f"{name} is being created or updated: {said}")
