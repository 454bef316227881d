"""Every command explains itself, quickly, and ends its errors in a next step."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import immortal_cli
from immortal_cli.aws import with_next_step
from immortal_cli.main import main
from support.commands import immortal


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


COMMANDS = [pytest.param(path, command, id=" ".join(path)) for path, command in commands(main)]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_each_command_has_a_help_text(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert immortal(*path, "--help").code == 0


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_each_option_is_explained(path: tuple[str, ...], command: click.Command) -> None:
    del path
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert all(option.help for option in options)


def test_asking_for_help_costs_neither_boto3_nor_rich_nor_the_emulator() -> None:
    loads = "import sys, immortal_cli.main; print({'boto3', 'rich', 'moto', 'immortal_local'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_only_one_file_knows_boto3() -> None:
    room = Path(immortal_cli.__file__).parent
    knows = re.compile(r"^\s*(import|from) boto(3|core)\b", re.MULTILINE)
    assert [path.name for path in room.rglob("*.py") if knows.search(path.read_text())] == ["aws.py"]


def test_only_one_file_knows_docker() -> None:
    room = Path(immortal_cli.__file__).parent
    knows = re.compile(r"^\s*(import|from) docker\b", re.MULTILINE)
    assert [path.name for path in room.rglob("*.py") if knows.search(path.read_text())] == ["engine.py"]


def test_a_command_that_does_not_exist_was_asked_wrongly() -> None:
    assert immortal("fly").code == 2


def test_a_shell_without_region_is_told_the_next_step(shell: pytest.MonkeyPatch) -> None:
    del shell
    answer = immortal("runs", "ls")
    assert answer.code == 1
    assert answer.err.startswith("Error: ")
    assert "AWS_REGION" in answer.err
    assert "Next step" in answer.err


@pytest.mark.parametrize("endpoint", ["nonsense", "http://127.0.0.1:abc", "http://[::1", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_none_is_told_in_one_line(endpoint: str, shell: pytest.MonkeyPatch) -> None:
    with shell.context() as patch:
        patch.setenv("AWS_REGION", "eu-west-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        answer = immortal("runs", "ls")
    assert answer.code == 1
    (line,) = answer.err.splitlines()
    assert "Next step: check " in line


@pytest.mark.parametrize("said", ["It is not there", "It is not there.", "It is not there. "])
def test_a_message_has_one_full_stop_before_its_next_step(said: str) -> None:
    assert with_next_step(RuntimeError(said), "look") == "It is not there. Next step: look"


def test_a_message_keeps_a_next_step_of_its_own() -> None:
    said = "Docker is down. Next step: start it."
    assert with_next_step(RuntimeError(said), "look") == said


def test_a_shell_without_credentials_is_told_the_next_step(shell: pytest.MonkeyPatch) -> None:
    with shell.context() as patch:
        patch.setenv("AWS_REGION", "eu-west-1")
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        answer = immortal("runs", "ls")
    assert answer.code == 1
    assert "no credentials" in answer.err


def test_an_endpoint_that_does_not_answer_is_told_without_a_traceback(shell: pytest.MonkeyPatch) -> None:
    with shell.context() as patch:
        patch.setenv("AWS_REGION", "eu-west-1")
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        answer = immortal("runs", "ls")
    assert answer.code == 1
    assert "127.0.0.1:1" in answer.err
    assert "Traceback" not in answer.err
