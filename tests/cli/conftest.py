"""What the command line's tests stand on: a shell that points at a local AWS, and an installation in it."""

import os
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from immortal_cli.local import name_variables
from immortal_local.server import LocalAws
from support.commands import immortal
from support.needs import need


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """An environment that names no account, and no local AWS of this machine's user."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        nowhere = tmp_path_factory.mktemp("home")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("XDG_STATE_HOME", str(nowhere))
        yield patch


@pytest.fixture(scope="module")
def local(shell: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    with LocalAws(time_scale=0.01) as local:
        for name, value in name_variables(local.describe()).items():
            shell.setenv(name, value)
        yield local


@pytest.fixture(scope="module")
def deployed(local: LocalAws) -> dict[str, Any]:
    """The outputs of an installation."""
    del local
    answer = immortal("deploy", "--json")
    assert answer.code == 0, answer.err
    (outputs,) = answer.lines
    return dict(outputs)


@pytest.fixture
def docker_engine() -> None:
    """Let only pass where a Docker engine answers."""
    try:
        docker.from_env().close()
    except DockerException:
        need("a Docker engine", here=False)
