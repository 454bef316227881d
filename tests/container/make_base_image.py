"""Makes a base image that keeps the contract of AWS's Python base image, from Debian's packages alone.

AWS's own can't be pulled everywhere. This one has the same paths, entry script and runtime client:
``python tests/container/make_base_image.py`` needs root, debootstrap and a Docker engine, and takes about a minute.
Its Python is Debian's: 3.11.
"""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import docker

from immortal_runner.runtimes.distributions import with_requirements
from immortal_runner.runtimes.machine import BOOTSTRAP

NAME = "immortal-test-base:python3.11"
_BARE = "immortal-test-base:bare"
_RUNTIME = ("awslambdaric", "boto3")

_DOCKERFILE = f"""\
FROM {_BARE}
COPY lambda-entrypoint.sh /lambda-entrypoint.sh
COPY runtime /var/runtime
RUN mkdir -p /var/lang/bin /var/task /opt \\
    && ln -s /usr/bin/python3.11 /var/lang/bin/python3.11 && ln -s python3.11 /var/lang/bin/python3 \\
    && chmod 755 /lambda-entrypoint.sh /var/runtime/bootstrap
ENV LANG=en_US.UTF-8 TZ=:/etc/localtime PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \\
    LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
"""

_ENTRYPOINT = """\
#!/bin/sh
[ $# -eq 1 ] || { echo "entrypoint requires the handler name to be the first argument" >&2; exit 142; }
export _HANDLER="$1"
exec /var/runtime/bootstrap
"""

_BOOTSTRAP = """\
#!/bin/sh
export PYTHONPATH="${PYTHONPATH:-/var/runtime}"
exec /var/lang/bin/python3.11 -S /var/runtime/bootstrap.py
"""


def make_base_image() -> None:
    """Make the image, unless it is there."""
    engine = docker.from_env()
    if engine.images.list(NAME):
        return
    with tempfile.TemporaryDirectory() as scratch:
        if not engine.images.list(_BARE):
            _import_debian(Path(scratch, "debian"))
        context = Path(scratch, "context")
        _write_context(context)
        engine.images.build(path=str(context), tag=NAME, rm=True)


def _import_debian(root: Path) -> None:
    packages = "--include=python3,ca-certificates"
    _run("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
    archive = root.with_suffix(".tar")
    _run("tar", "-C", str(root), "-cf", str(archive), ".")
    _run("docker", "import", str(archive), _BARE)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _write_context(context: Path) -> None:
    runtime = context / "runtime"
    runtime.mkdir(parents=True)
    wanted = [f"{name}=={version(name)}" for name in sorted(with_requirements(_RUNTIME))]
    where = ["--target", str(runtime), "--python-version", "3.11", "--implementation", "cp"]
    wheels = ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *where, *wheels, *wanted)
    (runtime / "bootstrap.py").write_text(BOOTSTRAP.read_text())
    (runtime / "bootstrap").write_text(_BOOTSTRAP)
    (context / "lambda-entrypoint.sh").write_text(_ENTRYPOINT)
    (context / "Dockerfile").write_text(_DOCKERFILE)


if __name__ == "__main__":
    make_base_image()
