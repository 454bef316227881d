"""``immortal image``: the container image that carries the runner."""

import tempfile
from pathlib import Path

import click

from immortal_cli.build_context import assemble_context
from immortal_cli.errors import Failed
from immortal_cli.output import tell

DEFAULT_BASE = "public.ecr.aws/lambda/python:3.13"


@click.group()
def image() -> None:
    """Build the container image that carries the runner."""


@image.command()
@click.option(
    "--base-image", default=DEFAULT_BASE, show_default=True, help="AWS's base image of the function's runtime."
)
@click.option("--tag", default="immortal-runner:latest", show_default=True, help="Name of the image that is built.")
def build(base_image: str, tag: str) -> None:
    """Build the runner's image with the local Docker engine; nothing but the base image is downloaded."""
    try:
        import docker  # noqa: PLC0415  # an extra
        from docker.errors import BuildError, DockerException  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Failed(f"{error}. Next step: pip install 'immortal-lambda[local]'") from error
    with tempfile.TemporaryDirectory() as folder:
        assemble_context(Path(folder))
        tell(f"building {tag} on {base_image} ...")
        try:
            engine = docker.from_env()
            engine.images.build(path=folder, tag=tag, buildargs={"BASE_IMAGE": base_image}, rm=True)
        except BuildError as error:
            raise Failed(f"{tag} could not be built: {error}. Next step: check --base-image") from error
        except DockerException as error:
            raise Failed(f"no Docker engine answers: {error}. Next step: start one, for example dockerd") from error
    click.echo(tag)
