"""Writes the pages that the code knows best: commands, parameters, conformance; a test holds them against it."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from immortal_cli.main import main
from immortal_cli.templates import FILLED_IN, TEMPLATE_NAMES, read_template

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests"


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


def conformance_page() -> str:
    """Every case of ``conformance.toml``, with the tests that show it or the reason why none can."""
    shown = conformance_tests()
    rows = [
        f"| {case['number']} | {case['given']} | {case['expected']} | {_proof(case, shown[case['number']])} |"
        for case in conformance_cases()
    ]
    intro = (
        "# Conformance\n\n"
        "What a function's code may count on, case by case, and the tests that show it: real clients, processes and\n"
        "containers. Where a case can't be shown on a machine without an AWS account, it says why.\n"
    )
    return "\n".join([intro, "| # | given | expected | shown by |", "| --- | --- | --- | --- |", *rows]) + "\n"


def conformance_cases() -> list[dict[str, Any]]:
    """The cases: ``number``, ``given``, ``expected``, and ``unproven`` where no test can show the whole of one."""
    cases: list[dict[str, Any]] = tomllib.loads((DOCS / "conformance.toml").read_text(encoding="utf-8"))["case"]
    return cases


def conformance_tests() -> Mapping[int, list[str]]:
    """The tests that carry each case's number in their marker, as links to their files."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for number in _marked(node):
                    found[number].append(f"[{node.name}](../{file.relative_to(DOCS.parent)})")
    return found


def _marked(test: ast.FunctionDef) -> Iterator[int]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.conformance":
            yield from (ast.literal_eval(number) for number in mark.args)


def _proof(case: Mapping[str, Any], tests: list[str]) -> str:
    return "<br>".join([*tests, *([f"Not here: {case['unproven']}"] if "unproven" in case else [])])


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
    (DOCS / "conformance.md").write_text(conformance_page())
