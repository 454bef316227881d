"""The runner's image as an image: what it adds to a base image, and what it says of itself."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from immortal_lambda import __version__
from support.images import BASES, build_runner_image

pytestmark = pytest.mark.docker

RUNTIME = "provided.al2023"
LIMIT_MB = 25


@pytest.fixture(scope="module")
def image() -> Iterator[Any]:
    name = build_runner_image(RUNTIME)
    engine = docker.from_env()
    yield engine.images.get(name)
    engine.close()


def test_the_runner_adds_at_most_25_mb_to_what_is_pulled(image: Any) -> None:
    engine = docker.from_env()
    below = len(engine.images.get(BASES[RUNTIME]).attrs["RootFS"]["Layers"])
    with tarfile.open(fileobj=io.BytesIO(b"".join(image.save()))) as archive:
        (manifest,) = json.load(_member(archive, "manifest.json"))
        added = [_member(archive, layer).read() for layer in manifest["Layers"][below:]]
    compressed_mb = sum(len(gzip.compress(layer, 6)) for layer in added) / 1_000_000
    assert 5 < compressed_mb <= LIMIT_MB


def _member(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return member


def test_an_image_says_what_it_was_made_for_and_of(image: Any) -> None:
    config = image.attrs["Config"]
    assert f"IMMORTAL_RUNTIME={RUNTIME}" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.base.name"] == BASES[RUNTIME]
    assert config["Healthcheck"] == {"Test": ["NONE"]}


LOADED = """
import sys
sys.path[:0] = ["/var/immortal/runner", "/var/immortal/packages"]
import json, os, boto3, ssl, immortal_runner.__main__
loaded = [each for each in sys.modules.values() if getattr(each, "__file__", None)]
print(json.dumps({
    "from elsewhere": [each.__file__ for each in loaded if not each.__file__.startswith("/var/immortal/")],
    "not compiled": [each.__name__ for each in loaded if not os.path.exists(getattr(each, "__cached__", None) or "/")],
}))
"""


def test_the_runner_brings_all_that_it_imports_in_the_form_that_starts_fast(image: Any) -> None:
    python = "/var/immortal/python/bin/python3"
    said = docker.from_env().containers.run(image.id, ["-I", "-S", "-c", LOADED], entrypoint=python, remove=True)
    assert json.loads(said) == {"from elsewhere": [], "not compiled": []}
