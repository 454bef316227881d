"""What several commands are asked with: their options, and the kinds of words that they take."""

import re
from typing import Any

import click

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""As the templates demand it of ``Name``; CloudFormation takes stacks of such names too."""


class RunId(click.ParamType[str]):
    """The id of a run; anything, since a message may name itself, but not nothing."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take an id as it is."""
        run_id = str(value)
        if not run_id.strip():
            self.fail("a run's id is not empty. Next step: immortal runs ls", param, ctx)
        return run_id


class InstallationName(click.ParamType[str]):
    """The name of an installation."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take a name as it is."""
        name = str(value)
        if not NAME.fullmatch(name):
            rule = "a letter, then letters, digits and hyphens, all lower case, 31 characters at most"
            self.fail(f"{name!r} can't name stacks: {rule}", param, ctx)
        return name


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
name_option = click.option(
    "--name",
    default="immortal",
    show_default=True,
    type=InstallationName(),
    metavar="NAME",
    help="Name of the installation.",
)
