"""Writes the pages that the code knows best, ``commands.md`` and ``parameters.md``; a test holds them against it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from immortal_cli.main import main
from immortal_cli.templates import FILLED_IN, TEMPLATE_NAMES, read_template

DOCS = Path(__file__).parent


def commands_page() -> str:
    """Every command's help, as the command line prints it."""
    parts = ["# Commands\n", "Every command prints JSON with `--json` where it answers with data: one object a line.\n"]
    contexts = _contexts(main, "immortal", None)
    parts += [f"## {context.command_path}\n\n```\n{context.get_help()}\n```\n" for context in contexts]
    return "\n".join(parts)


def parameters_page() -> str:
    """Every parameter of every template."""
    parts = [
        "# Parameters of the templates\n",
        "`immortal deploy --parameter NAME=VALUE` sets each of them but those that it fills in itself.\n",
    ]
    for name in TEMPLATE_NAMES:
        rows = [
            f"| `{parameter}` | {_default(parameter, about)} | {' '.join(about['Description'].split())} |"
            for parameter, about in _parameters(name).items()
        ]
        parts.append("\n".join([f"## {name}.yaml\n", "| parameter | default | |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _contexts(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    """Each command in the context in which it is called: what the help looks like is inherited."""
    context = click.Context(command, parent, name, terminal_width=100, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for each in sorted(command.commands):
            yield from _contexts(command.commands[each], each, context)


def _parameters(name: str) -> Mapping[str, Mapping[str, Any]]:
    class Loader(yaml.SafeLoader):
        """Reads a template; its functions don't matter here."""

    Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)
    parameters: Mapping[str, Mapping[str, Any]] = yaml.load(read_template(name).text, Loader)["Parameters"]  # noqa: S506  # our own
    return parameters


def _default(parameter: str, about: Mapping[str, Any]) -> str:
    if parameter in FILLED_IN:
        return "filled in"
    return f"`{about['Default']}`" if about.get("Default") not in (None, "") else ""


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands_page())
    (DOCS / "parameters.md").write_text(parameters_page())
