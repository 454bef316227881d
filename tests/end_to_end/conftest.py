"""An installation on a local AWS that runs as a user runs it: ``immortal local up`` in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import pytest

from immortal_cli.local import name_variables
from immortal_local.tasks.docker import OWNER_LABEL
from support.images import build_runner_image
from support.machine import Machine


@contextmanager
def running(engine: str, image: str = "immortal-runner:latest") -> Iterator[Machine]:
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
            machine.outputs.update(machine.json("deploy", "--image", image)[0])
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
    image = build_runner_image("python3.11")
    with running("docker", image) as machine:
        yield machine
    mine: dict[str, str | list[str] | bool] = {"label": f"{OWNER_LABEL}={machine.pid}"}
    assert not docker.from_env().containers.list(all=True, filters=mine, ignore_removed=True)
