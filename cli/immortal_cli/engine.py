"""The local Docker engine; the one file of this room that knows the package ``docker``, which is an extra."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from immortal_cli.aws import with_next_step
from immortal_cli.errors import Failed
from immortal_cli.registry import Login

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_IMAGE = "immortal-runner:latest"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
"""Processors as Lambda names them, and as Docker does."""

_FOREIGN = "exec format error"
_QUOTED_LINES = 5
_TOLD = ("Step ", "Pulling from", "Digest: ")
_NOISE = ("--->", "Removing intermediate container")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the runner that the engine has.

    Attributes:
        id: ``sha256:`` and 64 hex characters, made of its content.
        runtime: The Lambda runtime that it was made for; empty for an image that isn't the runner's.
        arch: Its processor, as Lambda names it.
    """

    id: str
    runtime: str
    arch: str


@dataclass(frozen=True, slots=True)
class Build:
    """What an image is made of.

    Attributes:
        folder: The build context.
        names: Given to the image once it is complete.
        arch: As Lambda names processors.
        arguments: Of the Dockerfile.
        pull: Whether to look for newer base images.
    """

    folder: Path
    names: Sequence[str]
    arch: str
    arguments: Mapping[str, str]
    pull: bool


def need_image(image: str, step: str = "") -> Image:
    """Find an image that the engine has.

    Args:
        step: What makes it, where that isn't plain from its name.

    Raises:
        Failed: No engine answers, or it doesn't have the image.
    """
    with _engine() as engine:
        from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415

        try:
            return _read_image(engine.images.get(image).attrs)
        except ImageNotFound as error:
            tag = "" if image == DEFAULT_IMAGE else f" --tag {image}"
            step = step or f"immortal image build{tag}"
            raise Failed(f"the Docker engine has no image {image}. Next step: {step}") from error
        except DockerException as error:
            raise Failed(with_next_step(error, "check --image")) from error


def engine_arch() -> str:
    """The processor that the engine's containers run on, as Lambda names it.

    Raises:
        Failed: No engine answers.
    """
    with _engine() as engine:
        return _lambda_arch(engine.version()["Arch"])


def build_image(build: Build, *, tell: Tell) -> None:
    """Build an image, and give it its names only when it is what was wanted.

    Raises:
        Failed: No engine answers, the build failed, or its base image is for another processor.
    """
    with _engine() as engine:
        from docker.errors import APIError  # noqa: PLC0415
        from docker.utils import parse_repository_tag  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        try:
            made = _read_image(engine.images.get(_follow_build(engine, build, tell)).attrs)
        except (APIError, RequestException) as error:
            raise _not_built(build, str(error)) from error
        if made.arch != build.arch:
            step = "remove the base image from the engine and pull it with --pull, or name another with --base-image"
            reason = f"its base image is for {made.arch}, not for {build.arch}"
            raise Failed(f"{build.names[0]} could not be built: {reason}. Next step: {step}")
        for name in build.names:
            engine.api.tag(made.id, *parse_repository_tag(name))


def find_digest(image: str) -> str | None:
    """The reference of an image by its digest, as its registry gave it; None for one that was made here."""
    with _engine() as engine:
        from docker.utils import parse_repository_tag  # noqa: PLC0415

        repository, _ = parse_repository_tag(image)
        digests: list[str] = engine.images.get(image).attrs.get("RepoDigests") or []
    return next((digest for digest in digests if digest.startswith(f"{repository}@")), None)


def push_image(image: Image, *, repository: str, tag: str, login: Login, tell: Tell) -> str:
    """Push an image; layers that the repository has already aren't sent again.

    Args:
        repository: ``host/name``.

    Returns:
        The digest of what the repository holds now, ``sha256:`` and 64 hex characters.

    Raises:
        Failed: No engine answers, or the registry refuses.
    """
    with _engine() as engine:
        from docker.errors import APIError  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        try:
            engine.api.tag(image.id, repository, tag)
            auth = {"username": login.user, "password": login.password}
            lines = engine.api.push(repository, tag, stream=True, decode=True, auth_config=auth)
            return _follow_push(lines, tell)
        except (APIError, RequestException, _EngineRefused) as error:
            said = f"{repository}:{tag} could not be pushed: {error}"
            raise Failed(with_next_step(said, _push_step(str(error)))) from error


class _EngineRefused(Exception):
    """The engine broke a build or a push off; the text is its own."""


def _follow_build(engine: DockerClient, build: Build, tell: Tell) -> str:
    """Tell each step as it begins; give the image's id."""
    lines: Iterable[dict[str, Any]] = engine.api.build(
        path=str(build.folder),
        buildargs=dict(build.arguments),
        platform=f"linux/{ARCHITECTURES[build.arch]}",
        pull=build.pull,
        rm=True,
        forcerm=True,
        decode=True,
    )
    made, last = "", deque[str](maxlen=_QUOTED_LINES)
    for line in lines:
        if "error" in line:
            raise _not_built(build, "\n".join([str(line["error"]), *last]))
        made = line.get("aux", {}).get("ID", made)
        text = click.unstyle(str(line.get("stream") or line.get("status") or "")).strip()
        if text.startswith(_TOLD):
            tell(text)
        elif text and "progress" not in line and not text.startswith(_NOISE):
            last.append(text)
    return made


def _not_built(build: Build, why: str) -> Failed:
    step = "check --base-image"
    if _FOREIGN in why:
        emulator = f"docker run --privileged --rm tonistiigi/binfmt --install {ARCHITECTURES[build.arch]}"
        step = f"let this machine run programs for {build.arch} ({emulator}), or build on a machine that does"
    return Failed(with_next_step(f"{build.names[0]} could not be built: {why}", step))


def _follow_push(lines: Iterable[dict[str, Any]], tell: Tell) -> str:
    """Tell what becomes of each layer; give the digest.

    Raises:
        _EngineRefused: The registry refuses.
    """
    digest = ""
    for line in lines:
        if "error" in line:
            raise _EngineRefused(str(line["error"]))
        digest = line.get("aux", {}).get("Digest", digest)
        if line.get("status") in {"Pushed", "Layer already exists"}:
            tell(f"{line['id']}: {line['status']}")
    return digest


def _push_step(error: str) -> str:
    if any(word in error for word in ("unauthorized", "no basic auth", "authentication", "authorization")):
        return "check that --registry is the one that this account's token is for"
    if any(word in error for word in ("denied", "not allowed", "unsupported", "forbidden", "Forbidden")):
        return (
            "grant ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload and "
            "PutImage on the repository"
        )
    return "check --registry and the network between the Docker engine and it"


def _read_image(attributes: Mapping[str, Any]) -> Image:
    variables = dict(each.partition("=")[::2] for each in attributes["Config"].get("Env") or ())
    runtime = variables.get("IMMORTAL_RUNTIME", "")
    return Image(attributes["Id"], runtime, _lambda_arch(attributes["Architecture"]))


def _lambda_arch(arch: str) -> str:
    return next((ours for ours, docker in ARCHITECTURES.items() if docker == arch), arch)


def refuse_bad_name(name: str) -> None:
    """Refuse what can't name an image, before the engine is asked for anything.

    Raises:
        Failed: It can't, or the package ``docker`` is missing.
    """
    match_tag = _import_docker().utils.build.match_tag
    if not match_tag(name):
        step = "--tag NAME:TAG, NAME in lower case and without blanks"
        raise Failed(f"{name!r} is no tag of an image. Next step: {step}")


@contextmanager
def _engine() -> Iterator[DockerClient]:
    """Connect to the engine.

    Raises:
        Failed: The package is missing, or no engine answers.
    """
    docker = _import_docker()
    try:
        client: DockerClient = docker.from_env()
    except docker.errors.DockerException as error:
        step = "start one, for example dockerd"
        raise Failed(with_next_step(f"no Docker engine answers: {error}", step)) from error
    try:
        yield client
    finally:
        client.close()


def _import_docker() -> Any:
    try:
        import docker.utils.build  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise Failed(f"{error}. Next step: pip install 'immortal-lambda[local]'") from error
    return docker
