"""``immortal image``: the container images that carry the runner."""

import tempfile
from pathlib import Path

import click

from immortal_cli.aws import open_account
from immortal_cli.build_context import assemble_context
from immortal_cli.engine import (
    ARCHITECTURES,
    DEFAULT_IMAGE,
    Build,
    build_image,
    engine_arch,
    find_digest,
    need_image,
    push_image,
    refuse_bad_name,
)
from immortal_cli.errors import Failed
from immortal_cli.output import tell
from immortal_cli.registry import find_pushed, log_in, open_repository
from immortal_lambda import __version__
from immortal_runner.runtimes.table import Runtime, find_runtime

DEFAULT_RUNTIME = "python3.13"

_PYTHONS = {"al2": "public.ecr.aws/lambda/python:3.11", "al2023": "public.ecr.aws/lambda/python:3.13"}
"""Where the runner's own interpreter comes from, by the C library that it must fit."""

_PYTHONS_OF_ITS_OWN = ("python3.11", "python3.12", "python3.13")
"""Runtimes on whose interpreter the runner runs as well; that saves the build a second download."""

_runtime_option = click.option("--runtime", help="Runtime of the functions, for example nodejs22.x.", metavar="NAME")
_arch_option = click.option(
    "--arch", type=click.Choice(list(ARCHITECTURES)), help="Processor of the functions.  [default: this machine's]"
)


@click.group()
def image() -> None:
    """Build and push the container images that carry the runner."""


@image.command()
@_runtime_option
@_arch_option
@click.option(
    "--base-image", metavar="IMAGE", help="Instead of AWS's base image of the runtime; NAME@sha256:... pins it."
)
@click.option(
    "--python-image", metavar="IMAGE", help="Instead of AWS's Python image, whose interpreter the runner takes."
)
@click.option("--pull", is_flag=True, help="Ask the registry for newer base images first.")
@click.option("--tag", help="Name of the image.  [default: immortal-runner:RUNTIME-ARCH]")
def build(
    runtime: str | None,
    arch: str | None,
    base_image: str | None,
    python_image: str | None,
    tag: str | None,
    *,
    pull: bool,
) -> None:
    """Build the runner's image for a runtime with the local Docker engine.

    Nothing but the base images is downloaded. Without --runtime it is made for python3.13, and named
    immortal-runner:latest as well, as the demo and a local AWS expect it.
    """
    wanted = find_runtime(runtime or DEFAULT_RUNTIME)
    if tag is not None:
        refuse_bad_name(tag)
    arch, base = arch or engine_arch(), base_image or wanted.base_image
    names = choose_names(tag, runtime, arch)
    arguments = {
        "BASE_IMAGE": base,
        "PYTHON_IMAGE": python_image or choose_python_image(wanted, base),
        "RUNTIME": wanted.name,
        "VERSION": __version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        assemble_context(Path(folder))
        tell(f"building {names[0]} on {base} ...")
        build_image(Build(Path(folder), names, arch, arguments, pull), tell=tell)
    if digest := find_digest(base):
        tell(f"to build on the same base again: --base-image {digest}")
    click.echo(names[0])


@image.command()
@_runtime_option
@_arch_option
@click.option("--image", "name", help="The image, where it was built with --tag.")
@click.option(
    "--repository", default="immortal-runner", show_default=True, help="Name of the repository in Amazon ECR."
)
@click.option("--registry", metavar="HOST", help="Where the engine reaches the registry, if not under ECR's own name.")
def push(runtime: str | None, arch: str | None, name: str | None, repository: str, registry: str | None) -> None:
    """Push an image of the runner to the account's Amazon ECR; print its reference for deploy --image.

    Makes the repository if it isn't there. An image that was pushed before isn't pushed again.
    """
    named = name or name_image(find_runtime(runtime or DEFAULT_RUNTIME).name, arch or engine_arch())
    found = need_image(named, "" if name else _build_command(runtime, arch))
    if not found.runtime:
        raise Failed(f"{named} is no image of the runner. Next step: immortal image build --tag {named}")
    account = open_account()
    address = open_repository(account, repository)
    if registry:
        address = f"{registry}/{repository}"
    tag = name_pushed(found.runtime, found.arch, found.id)
    digest = None if registry else find_pushed(account, repository, tag)
    if digest is None:
        tell(f"pushing {named} to {address}:{tag} ...")
        digest = push_image(found, repository=address, tag=tag, login=log_in(account), tell=tell)
    click.echo(f"{address}@{digest}")


def choose_names(tag: str | None, runtime: str | None, arch: str) -> list[str]:
    """What a new image is called: as was asked, else by what it is for; one that nobody described is the default."""
    if tag is not None:
        return [tag]
    return [name_image(runtime, arch)] if runtime else [name_image(DEFAULT_RUNTIME, arch), DEFAULT_IMAGE]


def choose_python_image(runtime: Runtime, base_image: str) -> str:
    """The image that the runner's own interpreter is taken from: of the same generation of Amazon Linux."""
    return base_image if runtime.name in _PYTHONS_OF_ITS_OWN else _PYTHONS[runtime.os]


def name_image(runtime: str, arch: str) -> str:
    """What an image is called on this machine."""
    return f"immortal-runner:{runtime}-{arch}"


def name_pushed(runtime: str, arch: str, image_id: str) -> str:
    """The tag of an image in its repository; its tags never move, so that other content needs another tag.

    Args:
        image_id: ``sha256:`` and 64 hex characters.
    """
    return f"{runtime}-{arch}-{image_id.removeprefix('sha256:')[:12]}"


def _build_command(runtime: str | None, arch: str | None) -> str:
    options = [f" --runtime {runtime}"] if runtime else []
    return "".join(["immortal image build", *options, *([f" --arch {arch}"] if arch else [])])
