"""Building the runner's image: what stands in the way is told apart."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from immortal_cli.image import choose_names, choose_python_image
from immortal_runner.runtimes.table import find_runtime
from support.commands import immortal

NOBODYS = "immortal-nobody-built-this:1"


@pytest.mark.parametrize("tag", ["BAD TAG", "", "Upper:1", "name:"])
def test_a_tag_that_is_none_is_told_as_such(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    answer = immortal("image", "build", "--tag", tag)
    assert answer.code == 1
    assert f"{tag!r} is no tag of an image. Next step: --tag NAME:TAG" in answer.err
    assert "engine" not in answer.err


def test_an_engine_that_does_not_answer_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    answer = immortal("image", "build", "--tag", NOBODYS)
    assert answer.code == 1
    assert "no Docker engine answers" in answer.err
    assert "Next step: start one" in answer.err


@pytest.mark.usefixtures("docker_engine")
def test_a_build_that_fails_is_told_as_such() -> None:
    answer = immortal("image", "build", "--tag", NOBODYS, "--base-image", "immortal-test-base:nobody-built-this")
    assert answer.code == 1
    assert f"{NOBODYS} could not be built: " in answer.err
    assert "Next step: check --base-image" in answer.err
    assert "no Docker engine" not in answer.err


def test_an_unknown_runtime_is_told_as_such() -> None:
    answer = immortal("image", "build", "--runtime", "cobol85")
    assert answer.code == 1
    assert 'there is no runtime "cobol85"' in answer.err


def test_an_image_is_named_after_what_it_is_for() -> None:
    assert choose_names(None, "nodejs22.x", "arm64") == ["immortal-runner:nodejs22.x-arm64"]
    assert choose_names("mine:1", "nodejs22.x", "arm64") == ["mine:1"]


def test_the_image_that_nobody_described_is_the_one_that_the_demo_takes() -> None:
    assert choose_names(None, None, "x86_64") == ["immortal-runner:python3.13-x86_64", "immortal-runner:latest"]


@pytest.mark.parametrize(
    ("runtime", "python"),
    [
        pytest.param("nodejs22.x", "public.ecr.aws/lambda/python:3.13", id="al2023"),
        pytest.param("java11", "public.ecr.aws/lambda/python:3.11", id="al2"),
        pytest.param("python3.8", "public.ecr.aws/lambda/python:3.11", id="an interpreter too old for the runner"),
        pytest.param("python3.12", "its base image", id="an interpreter that the runner runs on"),
    ],
)
def test_the_runners_interpreter_fits_the_base_images_c_library(runtime: str, python: str) -> None:
    assert choose_python_image(find_runtime(runtime), "its base image") == python


@pytest.fixture
def foreign_base(docker_engine: None) -> Iterator[str]:
    """A base image for the other processor, whose programs this machine can't run."""
    del docker_engine
    engine = docker.from_env()
    other, arm_header = "immortal-test-foreign:arm64", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01"
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "python3")
        python.write_bytes(arm_header.ljust(64, b"\0"))
        python.chmod(0o755)
        Path(folder, "Dockerfile").write_text("FROM scratch\nCOPY python3 /var/lang/bin/python3\n")
        engine.images.build(path=folder, tag=other, platform="linux/arm64", rm=True)
    yield other
    engine.images.remove(other, force=True)
    engine.close()


@pytest.mark.docker
def test_a_processor_whose_programs_do_not_run_here_is_told_as_such(foreign_base: str) -> None:
    words = ["--runtime", "python3.13", "--arch", "arm64", "--base-image", foreign_base]
    answer = immortal("image", "build", "--tag", NOBODYS, *words)
    assert answer.code == 1
    assert f"{NOBODYS} could not be built: " in answer.err
    assert "binfmt --install arm64" in answer.err
    assert "or build on a machine that does" in answer.err
