"""The docs against the code that they speak of."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from immortal_cli.main import main
from immortal_cli.templates import FILLED_IN
from support.commands import immortal

HOUSE = Path(__file__).parents[1]
CALL = re.compile(r"(?<![\w./-])immortal(?P<words>(?: +[\w.:/-]+)+)")


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", HOUSE / "docs/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(text: str) -> Iterator[str]:
    """Lines of blocks without their comments, and what stands between backticks."""
    for at, part in enumerate(text.split("```")):
        if at % 2:
            yield from (line.partition(" #")[0] for line in part.splitlines())
        else:
            yield from re.findall(r"`([^`]+)`", part)


def calls(file: str) -> list[str]:
    text = (HOUSE / file).read_text(encoding="utf-8")
    return sorted({call["words"].strip() for line in code(text) for call in CALL.finditer(line)})


@pytest.mark.parametrize("page", ["commands", "parameters", "conformance"])
def test_a_generated_page_says_what_the_code_says(page: str) -> None:
    written = (HOUSE / f"docs/{page}.md").read_text(encoding="utf-8")
    assert written == getattr(generator(), f"{page}_page")(), "make docs writes it anew"


def test_every_case_of_the_conformance_list_is_shown_or_says_why_not() -> None:
    cases, shown = generator().conformance_cases(), generator().conformance_tests()
    assert [case["number"] for case in cases] == list(range(1, len(cases) + 1))
    assert [case["number"] for case in cases if "unproven" not in case and not shown[case["number"]]] == []
    assert set(shown) <= {case["number"] for case in cases}


@pytest.mark.parametrize("name", FILLED_IN)
def test_a_parameter_that_deploy_fills_in_is_not_promised(name: str) -> None:
    rows = [line for line in (HOUSE / "docs/parameters.md").read_text().splitlines() if f"`{name}`" in line]
    assert rows
    assert all("| filled in |" in row for row in rows)


@pytest.mark.parametrize("call", calls("README.md"))
def test_each_command_in_the_readme_exists(call: str) -> None:
    path, command = find(call.split())
    assert immortal(*path, "--help").code == 0
    known = {name for option in command.params for name in option.opts}
    assert {word for word in call.split() if word.startswith("-")} <= known


def find(words: list[str]) -> tuple[list[str], click.Command]:
    """The command that words begin with; fails where a group has no such command."""
    path: list[str] = []
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            break
        assert word in command.commands, f"immortal {' '.join(words)}"
        path, command = [*path, word], command.commands[word]
    return path, command


def test_the_readme_shows_the_commands_of_the_main_job() -> None:
    shown = {" ".join(find(call.split())[0]) for call in calls("README.md")}
    assert shown >= {"local up", "deploy", "attach", "runs ls", "runs wait", "detach"}
