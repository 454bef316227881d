"""Functions that are container images: the task definition that gives such a function a container of its own."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immortal_dispatcher.launch import CONTAINER
from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import ImmortalError
from immortal_lambda.runs import Run

FUNCTION = "function"
"""Name of the function's container."""

SHARED = "/var/immortal-shared"
SCRATCH = "/var/immortal-tmp"
"""Where the runner's container has the folder that both share, and the one that the function sees as ``/tmp``."""

USER = "993:990"
"""The user of every Lambda function. Source: answers recorded from 25 runtimes on AWS."""

RUNNER_MIB = 100
"""Memory that the function's container may not take: the runner must outlive a handler that takes all there is."""

_INJECTED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_EXECUTION_ENV",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "ECS_AGENT_URI",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
)
"""What the platform puts into every container, and what would take the place of the function's own credentials."""

_UNLESS_IMAGE = ("HOME", "HOSTNAME")
"""What a container gets unless its image sets it; Lambda sets neither."""

_WAIT = (
    f"trap 'exit 0' TERM; until [ -r {SHARED}/enter ]; do sleep 0.1 || sleep 1 || exit 125; done; "
    f'exec /bin/sh {SHARED}/enter "$@"'
)

_URI = re.compile(
    r"(?P<registry>\d{12})\.dkr[.-]ecr[^/]*/(?P<repository>[^@:]+)(?::[^@]+)?@(?P<digest>sha256:[0-9a-f]{64})"
)
MANIFEST_KINDS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
"""What an image's digest may name. Lambda takes images of one processor, yet some come as an index of one."""


class ImageUnreadable(ImmortalError):
    """The image isn't what Lambda runs, or can't be found any more; a human must look."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in Amazon ECR, by digest."""

    registry: str
    repository: str
    digest: str


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of how it is started.

    Attributes:
        variables: Names of the variables that it sets.
    """

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionImage:
    """A function's image and what its configuration says in place of the image's own.

    Attributes:
        uri: With the digest that Lambda resolved.
        entry_point: Empty where the image's own applies, as for the next two.
    """

    function: str
    uri: str
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""


def ask_for(run: Run) -> dict[str, str]:
    """Write the ``GetFunction`` request for what a run runs: the version where it is known, else what was invoked."""
    invoked = FunctionArn.read(run.function_arn)
    return {"FunctionName": str(invoked.unqualified), **({"Qualifier": run.qualifier} if run.qualifier else {})}


def read_image(answer: Mapping[str, Any]) -> FunctionImage | None:
    """Read GetFunction's answer; None for a function that is a zip.

    Raises:
        ImageUnreadable: Lambda doesn't say which image it resolved, or could not read its configuration.
    """
    configuration = answer["Configuration"]
    if configuration.get("PackageType") != "Image":
        return None
    name, uri = configuration["FunctionName"], answer["Code"].get("ResolvedImageUri")
    response = configuration.get("ImageConfigResponse", {})
    if not uri or "Error" in response:
        said = response.get("Error", {}).get("Message", "no ResolvedImageUri")
        raise ImageUnreadable(f"Lambda doesn't say how the image of {name} is started: {said}")
    asked = response.get("ImageConfig", {})
    return FunctionImage(
        name,
        uri,
        entry_point=tuple(asked.get("EntryPoint") or ()),
        command=tuple(asked.get("Command") or ()),
        working_directory=asked.get("WorkingDirectory") or "",
    )


def read_reference(uri: str) -> ImageReference:
    """Read where an image lies, from the URI that Lambda resolved.

    Raises:
        ImageUnreadable: It is no image in Amazon ECR.
    """
    found = _URI.fullmatch(uri)
    if not found:
        raise ImageUnreadable(f"{uri} is no image in Amazon ECR by its digest")
    return ImageReference(**found.groupdict())


def read_manifest(text: str, *, architecture: str) -> tuple[str, str]:
    """Read an image's manifest: the kind of what is to be fetched next, ``config`` or ``manifest``, and its digest.

    Args:
        architecture: ``X86_64`` or ``ARM64``, to choose from an index of several.

    Raises:
        ImageUnreadable: It names no image for this processor.
    """
    manifest = json.loads(text)
    if digest := manifest.get("config", {}).get("digest"):
        return "config", digest
    wanted = {"X86_64": "amd64", "ARM64": "arm64"}[architecture]
    for each in manifest.get("manifests", ()):
        if each.get("platform", {}).get("architecture", wanted) == wanted:
            return "manifest", each["digest"]
    raise ImageUnreadable(f"the image's index names none for {wanted}")


def read_config(data: bytes, *, digest: str) -> ImageConfig:
    """Read an image's configuration, as the registry keeps it.

    Raises:
        ImageUnreadable: It is not what its digest says.

    Source: OCI image specification, "Image configuration".
    """
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ImageUnreadable(f"the image's configuration is not the one that {digest} names")
    config = json.loads(data).get("config") or {}
    return ImageConfig(
        entry_point=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        working_directory=config.get("WorkingDir") or "",
        variables=tuple(each.partition("=")[0] for each in config.get("Env") or ()),
    )


def name_family(image: FunctionImage, base: Mapping[str, Any]) -> str:
    """Name the task definition of a function's image: the same for the same image, settings and base, else another.

    Args:
        base: The runner's task definition, as DescribeTaskDefinition answers it.

    Returns:
        At most 255 characters, letters, digits, hyphens and underscores.
    """
    words = [image.uri, image.entry_point, image.command, image.working_directory, base["taskDefinitionArn"], _WAIT]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
    return f"{family_prefix(base['family'])}{image.function[:150]}-{digest}"


def family_prefix(runner_family: str) -> str:
    """Begin the names of image functions' task definitions: the installation's name, then ``-image-``."""
    return f"{runner_family.removesuffix('-runner')}-image-"


def write_definition(image: FunctionImage, config: ImageConfig, base: Mapping[str, Any]) -> dict[str, Any]:
    """Write the ``RegisterTaskDefinition`` request for a function's image.

    All but the image and how it is started comes from the runner's own task definition: a letter can choose neither a
    role nor a command.

    Args:
        base: The runner's task definition, as DescribeTaskDefinition answers it.

    Raises:
        ImageUnreadable: Neither the image nor the function says what to start.
    """
    taken = ("cpu", "memory", "executionRoleArn", "taskRoleArn", "ephemeralStorage", "runtimePlatform")
    runner = next(each for each in base["containerDefinitions"] if each["name"] == CONTAINER)
    return {
        "family": name_family(image, base),
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        **{name: base[name] for name in taken if base.get(name)},
        "volumes": [{"name": "shared"}, {"name": "tmp"}],
        "containerDefinitions": [_write_runner(runner, image), _write_function(image, config, base, runner)],
    }


def _write_runner(runner: Mapping[str, Any], image: FunctionImage) -> dict[str, Any]:
    told = {
        "IMMORTAL_NEIGHBOUR": FUNCTION,
        "IMMORTAL_NEIGHBOUR_DIR": SHARED,
        "IMMORTAL_NEIGHBOUR_TMP": SCRATCH,
        "IMMORTAL_NEIGHBOUR_IMAGE": image.uri,
    }
    mounts = [{"sourceVolume": "shared", "containerPath": SHARED}, {"sourceVolume": "tmp", "containerPath": SCRATCH}]
    return {
        **{name: value for name, value in runner.items() if value},
        "essential": True,
        "environment": [*runner.get("environment", ()), *({"name": n, "value": v} for n, v in told.items())],
        "mountPoints": [*runner.get("mountPoints", ()), *mounts],
    }


def _write_function(
    image: FunctionImage, config: ImageConfig, base: Mapping[str, Any], runner: Mapping[str, Any]
) -> dict[str, Any]:
    directory = image.working_directory or config.working_directory
    same = ("logConfiguration", "stopTimeout")
    return {
        "name": FUNCTION,
        "image": image.uri,
        "essential": False,  # its end must not take the runner along before that has recorded the outcome
        "user": USER,
        "readonlyRootFilesystem": True,
        "entryPoint": ["/bin/sh", "-c", write_wrapper(config.variables), "immortal"],
        "command": list(program(image, config)),
        **({"workingDirectory": directory} if directory else {}),
        "memory": int(base["memory"]) - RUNNER_MIB,
        "dependsOn": [{"containerName": CONTAINER, "condition": "START"}],
        "mountPoints": [
            {"sourceVolume": "shared", "containerPath": SHARED},
            {"sourceVolume": "tmp", "containerPath": "/tmp"},  # noqa: S108  # the function's own
        ],
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
        **{name: runner[name] for name in same if runner.get(name)},
    }


def program(image: FunctionImage, config: ImageConfig) -> Sequence[str]:
    """The words that start the image on Lambda: its entry point and its command, each as the function overrides it.

    Raises:
        ImageUnreadable: There are none.
    """
    words = (*(image.entry_point or config.entry_point), *(image.command or config.command))
    if not words:
        raise ImageUnreadable(f"neither {image.uri} nor {image.function} says which program to start")
    return words


def write_wrapper(image_variables: Sequence[str]) -> str:
    """Write what a function's container starts instead of the image's entry point, whose words follow as its arguments.

    The customer's variables are secrets, which must stand neither in a task definition nor in an override: the runner
    writes them into the shared folder, with a script that sets them and then starts the entry point. This one waits
    for that script and becomes it, having dropped what the platform put into the environment, the way to the task's
    own role above all: as one program replaces the other, not even ``/proc/1/environ`` shows it any more.

    Args:
        image_variables: Names that the image itself sets.
    """
    dropped = [*_INJECTED, *(name for name in _UNLESS_IMAGE if name not in image_variables)]
    return f"unset {' '.join(dropped)}; {_WAIT}"
