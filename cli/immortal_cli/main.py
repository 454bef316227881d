"""``immortal``: wires the commands together."""

import click

from immortal_cli.attach import attach, detach
from immortal_cli.demo.command import demo
from immortal_cli.deploy import deploy, destroy
from immortal_cli.errors import Commands
from immortal_cli.image import image
from immortal_cli.local import local
from immortal_cli.redrive import redrive
from immortal_cli.runs import runs
from immortal_lambda import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="immortal")
def main() -> None:
    """Work that AWS Lambda gives up is finished anyway."""


for command in (demo, local, deploy, destroy, attach, detach, runs, image):
    main.add_command(command)
runs.add_command(redrive)
