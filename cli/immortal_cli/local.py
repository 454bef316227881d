"""``immortal local``: an AWS on this machine."""

import platform
import shlex
import socket
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import click

from immortal_cli.aws import with_next_step
from immortal_cli.errors import Failed
from immortal_cli.lifeline import watch_lifeline
from immortal_cli.options import json_option
from immortal_cli.output import tell, write_json
from immortal_cli.state import find_word, leave_word, state_file, take_word_back

_MISSING = "the local AWS is an extra of its own. Next step: pip install 'immortal-lambda[local]'"


@click.group()
def local() -> None:
    """Run an AWS on this machine."""


@local.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option("--region", default="us-east-1", show_default=True, help="Region that clients should name.")
@click.option(
    "--engine",
    default="process",
    show_default=True,
    type=click.Choice(["process", "docker"]),
    help="What carries a task: a child process, or a container of the local Docker engine.",
)
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Factor on AWS's own waits, such as those between retries; 0.01 makes a minute 0.6 s.",
)
def up(host: str, port: int, region: str, engine: Literal["process", "docker"], time_scale: float) -> None:
    """Run a local AWS until Ctrl-C; the first line says in JSON how to reach it."""
    need_linux()
    try:
        from immortal_local import server  # noqa: PLC0415  # an extra, and slow to import
    except ModuleNotFoundError as error:
        raise Failed(f"{error}: {_MISSING}") from error
    watch_lifeline()
    file = state_file()
    told: dict[str, str] = {}

    def remember(description: Mapping[str, str]) -> None:
        told.update(description)
        leave_word(description, file)

    try:
        server.up(host, port, region=region, time_scale=time_scale, engine=engine, announced=remember)
    except (OSError, RuntimeError) as error:
        raise Failed(with_next_step(error, "choose another --host, --port or --engine")) from error
    finally:
        take_word_back(told, file)


@local.command()
@click.option("--endpoint", metavar="URL", help="The local AWS to use instead of the one that was started last.")
@json_option
def env(endpoint: str | None, *, as_json: bool) -> None:
    """Print the exports that point this shell at the running local AWS.

    Use it as: eval "$(immortal local env)"
    """
    description = find_word(state_file())
    if endpoint is not None and (description is None or description["endpoint"] != endpoint):
        description = {"endpoint": endpoint, "region": "us-east-1"} | _any_credentials()
    if description is None or not _answers(*_read_address(description["endpoint"])):
        where = f" at {endpoint}" if endpoint else ""
        raise Failed(f"no local AWS is running{where}. Next step: immortal local up")
    if as_json:
        write_json(name_variables(description))
    else:
        for line in write_exports(description):
            click.echo(line)


@local.command()
@click.argument("runtime")
def install(runtime: str) -> None:
    """Install what this machine needs to run functions of a RUNTIME, such as nodejs22.x."""
    from immortal_runner.runtimes import install as installing  # noqa: PLC0415  # part of an extra

    need_linux()
    tell(f"installing {runtime} ...")
    click.echo(installing.install_runtime(runtime))


def need_linux() -> None:
    """Refuse to run functions on a system that can't keep them apart from their runner.

    Raises:
        Failed: This is not Linux.
    """
    system = platform.system()
    if system != "Linux":
        raise Failed(
            f"the local AWS runs functions in Linux's own sandbox and this is {system or 'no known system'}. "
            "Next step: a Linux machine, a Linux virtual machine or a Linux container"
        )


def name_variables(description: Mapping[str, str]) -> dict[str, str]:
    """Give the environment variables that AWS's clients read."""
    return {
        "AWS_ENDPOINT_URL": description["endpoint"],
        "AWS_REGION": description["region"],
        "AWS_DEFAULT_REGION": description["region"],
        "AWS_ACCESS_KEY_ID": description["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": description["secret_access_key"],
    }


def write_exports(description: Mapping[str, str]) -> list[str]:
    """Write them as lines for a shell; a profile or a session token from before would win over them."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in name_variables(description).items()]
    return [*exports, "unset AWS_PROFILE AWS_SESSION_TOKEN"]


def _any_credentials() -> dict[str, str]:
    """Credentials for a local AWS that left no word: it checks no signature."""
    return {"access_key_id": "local", "secret_access_key": "local"}


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _read_address(endpoint: str) -> tuple[str, int]:
    """Give host and port of a local AWS's URL.

    Raises:
        Failed: It is no such URL.
    """
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port or 80
    except ValueError as error:
        raise Failed(with_next_step(error, f"--endpoint http://HOST:PORT instead of {endpoint}")) from error
    if url.scheme != "http" or not host:
        raise Failed(f"{endpoint!r} is no URL of a local AWS. Next step: --endpoint http://HOST:PORT")
    return host, port
