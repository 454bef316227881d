"""``immortal image``: the container image that carries the runner."""

import tempfile
from pathlib import Path

import click

from immortal_cli.build_context import assemble_context
from immortal_cli.engine import DEFAULT_IMAGE, build_image
from immortal_cli.output import tell

DEFAULT_BASE = "public.ecr.aws/lambda/python:3.13"


@click.group()
def image() -> None:
    """Build the container image that carries the runner."""


@image.command()
@click.option(
    "--base-image", default=DEFAULT_BASE, show_default=True, help="AWS's base image of the function's runtime."
)
@click.option("--tag", default=DEFAULT_IMAGE, show_default=True, help="Name of the image that is built.")
def build(base_image: str, tag: str) -> None:
    """Build the runner's image with the local Docker engine; nothing but the base image is downloaded."""
    with tempfile.TemporaryDirectory() as folder:
        assemble_context(Path(folder))
        tell(f"building {tag} on {base_image} ...")
        build_image(Path(folder), tag=tag, base_image=base_image)
    click.echo(tag)
