"""The local AWS as a process of its own, and the shell that finds it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from immortal_cli.state import find_word, leave_word, state_file, take_word_back
from support.commands import immortal

WORD = {
    "endpoint": "http://127.0.0.1:1",
    "region": "eu-west-1",
    "account": "123456789012",
    "access_key_id": "id",
    "secret_access_key": "it's a secret",
}


@pytest.fixture
def running(shell: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    del shell
    command = [
        sys.executable,
        "-c",
        "from immortal_cli.main import main; main()",
        "local",
        "up",
        "--region",
        "eu-west-1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def exports(text: str) -> dict[str, str]:
    """Evaluate the lines in a shell that has a profile; give what it then exports."""
    said = subprocess.run(
        ["/bin/sh", "-c", f"{text}\nenv"],
        env={"AWS_PROFILE": "company", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (line.split("=", 1) for line in said.stdout.splitlines() if line.startswith("AWS_"))
    return dict(pairs)


def test_the_first_line_says_how_to_reach_it_and_another_shell_finds_it(
    running: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, description = running
    assert description.keys() >= {"endpoint", "region", "account", "access_key_id", "secret_access_key"}
    told = wait_for_env()
    variables = exports(told)
    assert variables["AWS_ENDPOINT_URL"] == description["endpoint"]
    assert variables["AWS_REGION"] == "eu-west-1"
    assert "AWS_PROFILE" not in variables
    client = boto3.client(
        "sqs",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    assert client.create_queue(QueueName="reached")["QueueUrl"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert immortal("local", "env").code == 1


def wait_for_env() -> str:
    """The word is left right after the first line."""
    for _ in range(1000):
        if (answer := immortal("local", "env")).code == 0:
            return answer.out
    pytest.fail("no word was left")


@pytest.mark.parametrize("words", [("local", "up"), ("demo",)], ids=["local up", "demo"])
@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_than_linux_are_told_what_is_needed(
    words: tuple[str, ...], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    answer = immortal(*words)
    assert answer.code == 1
    assert system in answer.err
    assert "Next step: a Linux machine" in answer.err


def test_without_a_local_aws_the_next_step_is_told(shell: pytest.MonkeyPatch) -> None:
    del shell
    answer = immortal("local", "env")
    assert answer.code == 1
    assert "no local AWS is running. Next step: immortal local up" in answer.err


def test_a_word_left_by_one_that_was_killed_is_not_believed(shell: pytest.MonkeyPatch) -> None:
    del shell
    leave_word(WORD, state_file())
    assert immortal("local", "env").code == 1
    take_word_back(WORD, state_file())


def test_an_endpoint_can_be_named(running: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    _, description = running
    answer = immortal("local", "env", "--endpoint", description["endpoint"], "--json")
    assert answer.lines[0]["AWS_ENDPOINT_URL"] == description["endpoint"]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:abc", "nonsense", "http://", "http://[::1", ""])
def test_an_endpoint_that_is_no_url_is_told_in_one_line(endpoint: str, shell: pytest.MonkeyPatch) -> None:
    del shell
    answer = immortal("local", "env", "--endpoint", endpoint)
    assert answer.code == 1
    (line,) = answer.err.splitlines()
    assert "http://HOST:PORT" in line


def test_a_lifeline_that_is_none_is_told(shell: pytest.MonkeyPatch) -> None:
    with shell.context() as patch:
        patch.setenv("IMMORTAL_LIFELINE_FD", "no number")
        answer = immortal("local", "up")
    assert answer.code == 1
    assert "Next step: unset IMMORTAL_LIFELINE_FD" in answer.err


def test_a_word_is_for_its_user_alone(tmp_path: Path) -> None:
    file = state_file({"XDG_STATE_HOME": str(tmp_path)})
    leave_word(WORD, file)
    assert find_word(file) == WORD
    assert file.stat().st_mode & 0o077 == 0


def test_a_word_left_by_another_one_since_stays(tmp_path: Path) -> None:
    file = state_file({"XDG_STATE_HOME": str(tmp_path)})
    leave_word(WORD, file)
    take_word_back(WORD | {"endpoint": "http://127.0.0.1:2"}, file)
    assert find_word(file) == WORD
    take_word_back(WORD, file)
    assert find_word(file) is None
