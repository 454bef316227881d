"""Pushing the runner's image: to a registry that runs here, and lets in whom the account's ECR gave a token."""

import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from immortal_local.server import LocalAws
from support.commands import Answer, immortal
from support.needs import need

PASSWORD = "123456789012-auth-token"
ALLOWED = "AWS:$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG"
"""The user and the password of every token of the local ECR, as Apache's htpasswd keeps them."""

SOMEBODY_ELSE = "AWS:$2b$04$abcdefghijklmnopqrstuu0HtfOlPbTiymk5tcV.3TsFPDd3SYZqu"

IMAGE = "immortal-test-runner:push"


@contextmanager
def registry(folder: Path, *, allowed: str = ALLOWED, read_only: bool = False) -> Iterator[str]:
    """Run a registry that asks for a password; give its ``host:port``."""
    program = shutil.which("docker-registry")
    need("docker-registry", here=program is not None)
    assert program is not None
    (folder / "htpasswd").write_text(allowed + "\n")
    (folder / "config.yml").write_text(f"""
version: 0.1
storage:
  filesystem: {{rootdirectory: {folder}/blobs}}
  maintenance: {{readonly: {{enabled: {str(read_only).lower()}}}}}
http: {{addr: "127.0.0.1:0"}}
auth:
  htpasswd: {{realm: tests, path: {folder}/htpasswd}}
""")
    command = [program, "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := re.search(r"listening on ([\d.:]+)", line)))
        rest = threading.Thread(target=process.stderr.read)  # a full pipe would stop the registry
        rest.start()
        try:
            yield address
        finally:
            process.terminate()
            rest.join()


@pytest.fixture(scope="module")
def runner() -> Iterator[str]:
    """An image that says that it is the runner's, and holds nothing but one file."""
    engine = _engine()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text("FROM scratch\nENV IMMORTAL_RUNTIME=provided.al2023\nCOPY Dockerfile /\n")
        engine.images.build(path=folder, tag=IMAGE, rm=True)
    yield IMAGE
    engine.images.remove(engine.images.get(IMAGE).id, force=True)  # with the names that it was pushed by
    engine.close()


def _engine() -> Any:
    try:
        return docker.from_env()
    except docker.errors.DockerException:
        need("a Docker engine", here=False)


def push(*words: str) -> Answer:
    answer = immortal("image", "push", "--image", IMAGE, *words)
    assert PASSWORD not in answer.out + answer.err
    return answer


@pytest.mark.docker
@pytest.mark.usefixtures("local", "runner")
def test_a_pushed_image_can_be_pulled_by_the_reference_that_is_printed(tmp_path: Path) -> None:
    with registry(tmp_path) as host:
        answer = push("--registry", host)
        assert answer.code == 0, answer.err
        reference = answer.out.strip()
        assert re.fullmatch(rf"{host}/immortal-runner@sha256:[0-9a-f]{{64}}", reference)
        engine = _engine()
        pulled = engine.images.pull(reference, auth_config={"username": "AWS", "password": PASSWORD})
        assert pulled.id == engine.images.get(IMAGE).id

        again = push("--registry", host)
        assert (again.code, again.out) == (0, answer.out)
        assert "Layer already exists" in again.err
        assert "Pushed" not in again.err


@pytest.mark.docker
@pytest.mark.usefixtures("runner")
def test_a_repository_is_made_whose_tags_never_move(local: LocalAws, tmp_path: Path) -> None:
    with registry(tmp_path) as host:
        assert push("--registry", host, "--repository", "tools/runner").code == 0
    ecr = local.client("ecr")
    (made,) = ecr.describe_repositories(repositoryNames=["tools/runner"])["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    assert '"untagged"' in ecr.get_lifecycle_policy(repositoryName="tools/runner")["lifecyclePolicyText"]


@pytest.mark.docker
@pytest.mark.usefixtures("runner")
def test_an_image_that_the_account_has_already_is_not_pushed_again(local: LocalAws) -> None:
    ecr = local.client("ecr")
    ecr.create_repository(repositoryName="had")
    image_id = _engine().images.get(IMAGE).id.removeprefix("sha256:")
    arch = {"amd64": "x86_64"}.get(_engine().images.get(IMAGE).attrs["Architecture"], "arm64")
    manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {}}'
    tag = f"provided.al2023-{arch}-{image_id[:12]}"
    had = ecr.put_image(repositoryName="had", imageManifest=manifest, imageTag=tag)["image"]["imageId"]["imageDigest"]
    answer = push("--repository", "had")
    assert answer.code == 0, answer.err
    assert answer.out.endswith(f".amazonaws.com/had@{had}\n")
    assert answer.err == ""


@pytest.mark.docker
@pytest.mark.usefixtures("local", "runner")
def test_a_registry_that_does_not_know_the_token_is_told_as_such(tmp_path: Path) -> None:
    with registry(tmp_path, allowed=SOMEBODY_ELSE) as host:
        answer = push("--registry", host)
    assert answer.code == 1
    assert "could not be pushed: " in answer.err
    assert "Next step: check that --registry is the one that this account's token is for" in answer.err


@pytest.mark.docker
@pytest.mark.usefixtures("local", "runner")
def test_a_push_that_is_not_permitted_is_told_as_such(tmp_path: Path) -> None:
    with registry(tmp_path, read_only=True) as host:
        answer = push("--registry", host)
    assert answer.code == 1
    assert "could not be pushed: " in answer.err
    assert "Next step: grant ecr:" in answer.err


@pytest.mark.docker
@pytest.mark.usefixtures("local", "runner")
def test_a_registry_that_is_not_there_is_told_as_such() -> None:
    answer = push("--registry", "127.0.0.1:1")
    assert answer.code == 1
    assert "connection refused" in answer.err
    assert "Next step: check --registry and the network" in answer.err


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
def test_an_image_that_is_not_built_yet_is_told_as_such() -> None:
    answer = immortal("image", "push", "--runtime", "java8.al2", "--arch", "arm64")
    assert answer.code == 1
    assert "the Docker engine has no image immortal-runner:java8.al2-arm64. " in answer.err
    assert "Next step: immortal image build --runtime java8.al2 --arch arm64" in answer.err
