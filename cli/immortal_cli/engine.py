"""The local Docker engine; the one file of this room that knows the package ``docker``, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from immortal_cli.aws import with_next_step
from immortal_cli.errors import Failed

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_IMAGE = "immortal-runner:latest"


def need_image(image: str) -> None:
    """Refuse to go on without an image that the engine has.

    Raises:
        Failed: No engine answers, or it doesn't have the image.
    """
    with _engine() as engine:
        from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415

        try:
            engine.images.get(image)
        except ImageNotFound as error:
            tag = "" if image == DEFAULT_IMAGE else f" --tag {image}"
            raise Failed(f"the Docker engine has no image {image}. Next step: immortal image build{tag}") from error
        except DockerException as error:
            raise Failed(with_next_step(error, "check --image")) from error


def build_image(folder: Path, *, tag: str, base_image: str) -> None:
    """Build an image from a build context.

    Raises:
        Failed: The tag is none, no engine answers, or the build failed.
    """
    with _engine(tag) as engine:
        from docker.errors import APIError, BuildError  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        try:
            engine.images.build(path=str(folder), tag=tag, buildargs={"BASE_IMAGE": base_image}, rm=True)
        except (BuildError, APIError, RequestException) as error:
            raise Failed(with_next_step(f"{tag} could not be built: {error}", "check --base-image")) from error


@contextmanager
def _engine(tag: str = DEFAULT_IMAGE) -> Iterator[DockerClient]:
    """Connect to the engine; a tag that can't be one is refused before that, as the package itself does later.

    Raises:
        Failed: The package is missing, the tag is none, or no engine answers.
    """
    try:
        import docker  # noqa: PLC0415  # an extra
        from docker.errors import DockerException  # noqa: PLC0415
        from docker.utils.build import match_tag  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Failed(f"{error}. Next step: pip install 'immortal-lambda[local]'") from error
    if not match_tag(tag):
        raise Failed(f"{tag!r} is no tag of an image. Next step: --tag NAME:TAG, NAME in lower case and without blanks")
    try:
        client = docker.from_env()
    except DockerException as error:
        step = "start one, for example dockerd"
        raise Failed(with_next_step(f"no Docker engine answers: {error}", step)) from error
    try:
        yield client
    finally:
        client.close()
