"""Whether a task has the container that a function's image needs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immortal_lambda.errors import ServiceUnavailable
from immortal_local.tasks.credentials import CredentialsServer
from immortal_runner.code.function import FunctionRefused, Image
from immortal_runner.metadata import read_container_end
from immortal_runner.neighbours.meeting import ImageChanged, meet_neighbour
from immortal_runner.neighbours.neighbour import ContainerEnd, ContainerNotStarted
from immortal_runner.settings import NeighbourSettings, Settings, SettingsWrong, read_settings
from immortal_runner.stop import StopSignal
from support.functions import FUNCTION

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app@sha256:" + "ab" * 32
OF_IMAGE = replace(FUNCTION, runtime="", handler="", image=Image(URI))
BARE = {"IMMORTAL_RUN_ID": "r-1", "IMMORTAL_LEDGER_TABLE": "runs", "IMMORTAL_PAYLOAD_BUCKET": "payloads"}


@pytest.fixture
def beside(tmp_path: Path) -> dict[str, str]:
    for name in ("shared", "tmp"):
        (tmp_path / name).mkdir()
    return {
        **BARE,
        "IMMORTAL_NEIGHBOUR": "function",
        "IMMORTAL_NEIGHBOUR_IMAGE": URI,
        "IMMORTAL_NEIGHBOUR_DIR": str(tmp_path / "shared"),
        "IMMORTAL_NEIGHBOUR_TMP": str(tmp_path / "tmp"),
    }


@pytest.fixture
def containers() -> Iterator[tuple[list[Any], str]]:
    """What the metadata endpoint shows, and where it is served."""
    shown: list[Any] = []
    server = CredentialsServer()
    server.listen("127.0.0.1")
    paths = server.add_task(credentials=None, metadata=lambda: {"TaskARN": "arn:task", "Containers": shown})
    yield shown, f"{server.endpoint}{paths.metadata}"
    server.close()


def with_metadata(beside: dict[str, str], uri: str) -> Settings:
    return read_settings({**beside, "ECS_CONTAINER_METADATA_URI_V4": uri})


def test_the_container_beside_is_read_from_the_environment(beside: dict[str, str], tmp_path: Path) -> None:
    found = read_settings(beside).neighbour
    assert found == NeighbourSettings("function", URI, tmp_path / "shared", tmp_path / "tmp")
    assert read_settings(BARE).neighbour is None
    with pytest.raises(SettingsWrong, match="IMMORTAL_NEIGHBOUR_DIR"):
        read_settings({**beside, "IMMORTAL_NEIGHBOUR_DIR": ""})


def test_an_image_in_a_task_without_its_container_is_refused() -> None:
    with pytest.raises(FunctionRefused, match="started without that image"):
        meet_neighbour(OF_IMAGE, read_settings(BARE), StopSignal())


def test_an_image_that_was_changed_meanwhile_waits_for_a_task_of_its_own(beside: dict[str, str]) -> None:
    changed = replace(OF_IMAGE, image=Image(URI.replace("ab", "cd")))
    with pytest.raises(ImageChanged) as error:
        meet_neighbour(changed, read_settings(beside), StopSignal())
    assert error.value.retryable


def test_a_container_that_does_not_start_is_told_with_its_exit_code(
    beside: dict[str, str], containers: tuple[list[Any], str]
) -> None:
    shown, uri = containers
    shown += [
        {"Name": "runner", "KnownStatus": "RUNNING"},
        {"Name": "function", "KnownStatus": "STOPPED", "ExitCode": 127},
    ]
    with pytest.raises(ContainerNotStarted, match="exit code 127"):
        meet_neighbour(OF_IMAGE, with_metadata(beside, uri), StopSignal())


def test_a_task_that_is_stopped_waits_for_no_container(beside: dict[str, str]) -> None:
    stop = StopSignal()
    stop.ask(1)
    with pytest.raises(ServiceUnavailable):
        meet_neighbour(OF_IMAGE, read_settings(beside), stop)


def test_a_container_has_ended_only_when_ecs_says_so(containers: tuple[list[Any], str]) -> None:
    shown, uri = containers
    assert read_container_end(uri, "function") is None
    shown.append({"Name": "function", "KnownStatus": "RUNNING"})
    assert read_container_end(uri, "function") is None
    shown[0] |= {"KnownStatus": "STOPPED", "ExitCode": 137, "Reason": "OutOfMemoryError"}
    assert read_container_end(uri, "function") == ContainerEnd(137, "OutOfMemoryError")
    assert read_container_end("", "function") is None
    assert read_container_end("http://127.0.0.1:1/v4/x", "function") is None
