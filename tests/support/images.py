"""The runner's images that tests run, built on the stand-ins for AWS's base images as a user builds them."""

import docker
from docker.errors import DockerException

from support.commands import immortal
from support.needs import need

PYTHON_BASE = "immortal-test-base:python3.11"
BASES = {
    "python3.11": PYTHON_BASE,
    "nodejs22.x": "immortal-test-base:nodejs",
    "provided.al2023": "immortal-test-base:provided",
}


def build_runner_image(runtime: str) -> str:
    """Build the runner's image for a runtime, or skip where its base image isn't; give its name."""
    image, base = f"immortal-runner:tests-{runtime}", BASES[runtime]
    try:
        engine = docker.from_env()
    except DockerException:
        need("a Docker engine", here=False)
    need(f"the image {base} (tests/container/make_base_image.py)", here=bool(engine.images.list(base)))
    engine.close()
    words = ["--runtime", runtime, "--base-image", base, "--python-image", PYTHON_BASE, "--tag", image]
    built = immortal("image", "build", *words)
    assert built.code == 0, built.err
    return image
