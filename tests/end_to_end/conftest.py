"""An installation on a local AWS that runs as a user runs it: ``immortal local up`` in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from immortal_cli.build_context import assemble_context
from immortal_cli.local import name_variables
from support.machine import Machine
from support.needs import need

BASE_IMAGE = "immortal-test-base:python3.11"
RUNNER_IMAGE = "immortal-runner:tests"


@contextmanager
def running(engine: str) -> Iterator[Machine]:
    """Start a local AWS, deploy to it, and stop it again."""
    with tempfile.TemporaryDirectory() as home:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [sys.executable, "-m", "immortal_cli", "local", "up", "--port", "0", "--engine", engine]
        process = subprocess.Popen(
            [*command, "--time-scale", "0.01"],
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, "XDG_STATE_HOME": home},
        )
        assert process.stdout is not None
        try:
            description = json.loads(process.stdout.readline())
            environment = {**clean, "XDG_STATE_HOME": home, **name_variables(description)}
            machine = Machine(process.pid, description, environment)
            machine.outputs.update(machine.json("deploy", "--image", RUNNER_IMAGE)[0])
            yield machine
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert process.returncode == 0


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Tasks are child processes."""
    with running("process") as machine:
        yield machine


@pytest.fixture(scope="module")
def docker_machine() -> Iterator[Machine]:
    """Tasks are containers of an image that was built here."""
    engine = _docker()
    need("a Docker engine", here=engine is not None)
    assert engine is not None
    need(f"the image {BASE_IMAGE} (tests/container/make_base_image.py)", here=bool(engine.images.list(BASE_IMAGE)))
    with tempfile.TemporaryDirectory() as folder:
        assemble_context(Path(folder))
        engine.images.build(path=folder, tag=RUNNER_IMAGE, buildargs={"BASE_IMAGE": BASE_IMAGE}, rm=True)
    with running("docker") as machine:
        yield machine
    assert not engine.containers.list(all=True, filters={"ancestor": RUNNER_IMAGE})


def _docker() -> Any:
    try:
        return docker.from_env()
    except DockerException:
        return None
