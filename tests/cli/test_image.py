"""Building the runner's image: what stands in the way is told apart."""

import pytest

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
