"""Writes the pages that the code knows best, ``commands.md`` and ``parameters.md``; a test holds them against it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from immortal_cli.main import main
from immortal_cli.templates import TEMPLATE_NAMES, read_template

DOCS = Path(__file__).parent


def commands_page() -> str:
    """Every command's help, as the command line prints it."""
    parts = ["# Commands\n", "Every command prints JSON with `--json` where it answers with data: one object a line.\n"]
    for path, command in _commands("immortal", main):
        context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        parts.append(f"## {path}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def parameters_page() -> str:
    """Every parameter of every template."""
    parts = ["# Parameters of the templates\n", "`immortal deploy --parameter NAME=VALUE` sets any of them.\n"]
    for name in TEMPLATE_NAMES:
        rows = [
            f"| `{parameter}` | {_default(about)} | {' '.join(about['Description'].split())} |"
            for parameter, about in _parameters(name).items()
        ]
        parts.append("\n".join([f"## {name}.yaml\n", "| parameter | default | |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from _commands(f"{path} {name}", each)


def _parameters(name: str) -> Mapping[str, Mapping[str, Any]]:
    class Loader(yaml.SafeLoader):
        """Reads a template; its functions don't matter here."""

    Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)
    parameters: Mapping[str, Mapping[str, Any]] = yaml.load(read_template(name).text, Loader)["Parameters"]  # noqa: S506  # our own
    return parameters


def _default(about: Mapping[str, Any]) -> str:
    return f"`{about['Default']}`" if about.get("Default") not in (None, "") else ""


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands_page())
    (DOCS / "parameters.md").write_text(parameters_page())
