"""Makes base images that keep the contract of AWS's, from Debian's packages and what is installed here.

AWS's own can't be pulled everywhere. These have the same paths, variables, entry script and runtime clients:
``python tests/container/make_base_image.py`` needs root, debootstrap and a Docker engine, and takes about a minute.
One has Python 3.11, one has Node and no Python, and one has neither, as ``provided`` has.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import docker

from immortal_runner.runtimes.distributions import with_requirements
from immortal_runner.runtimes.machine import BOOTSTRAP
from immortal_runner.runtimes.node import client_files, client_version, find_node
from immortal_runner.runtimes.table import find_runtime

REPOSITORY = "immortal-test-base"
PYTHON, NODE, PROVIDED = (f"{REPOSITORY}:{name}" for name in ("python3.11", "nodejs", "provided"))
NODE_RUNTIME = "nodejs22.x"
_DEBIAN, _LANG = f"{REPOSITORY}:debian", f"{REPOSITORY}:lang"
_RECIPE = "immortal.recipe"
_RUNTIME = ("awslambdaric", "boto3")

Files = Mapping[str, str | Path]
"""What an image gets: a text, or a file of this machine, by its path without the leading slash."""

_LEFT_OUT = ("./var/cache", "./var/lib/apt", "./usr/share/doc", "./usr/share/locale", "./usr/share/man")
_PYTHON_FILES = ("./usr/bin/python3*", "./usr/bin/py3*", "./usr/lib/python3*", "./usr/share/python3")
_EXPAT = "./usr/lib/x86_64-linux-gnu/libexpat.so.1*"
"""A library that the interpreter itself is linked with; as on AWS, only the image of Python has one, in /var/lang."""

_CONTRACT = f"""\
FROM {_DEBIAN}
ENV LANG=en_US.UTF-8 TZ=:/etc/localtime PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \\
    LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib \\
    LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime
COPY files /
RUN mkdir -p /var/task /opt /var/runtime
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
"""

_WITH_PYTHON = f"COPY --from={_LANG} /var/lang /var/lang\n"

_ENTRYPOINT = """\
#!/bin/sh
[ $# -eq 1 ] || { echo "entrypoint requires the handler name to be the first argument" >&2; exit 142; }
export _HANDLER="$1"
exec /var/runtime/bootstrap
"""

_PYTHON_BOOTSTRAP = """\
#!/bin/bash
export PYTHONPATH="${PYTHONPATH:-/var/runtime}"
set -- /var/lang/bin/python3.11 -S /var/runtime/bootstrap.py
"""

_NODE_BOOTSTRAP = """\
#!/bin/bash
layers=/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules
export NODE_PATH=$layers:/var/runtime/node_modules:/var/runtime:/var/task
young=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE / 10))
set -- /var/lang/bin/node --expose-gc --max-http-header-size 81920 --max-semi-space-size=$((young / 2)) \\
    --max-old-space-size=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE - young)) /var/runtime/index.mjs
"""

_WRAPPED = """\
if [ -n "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
    [ -f "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist"; exit 127; }
    [ -x "$AWS_LAMBDA_EXEC_WRAPPER" ] || { echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable"; exit 126; }
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
exec "$@"
"""


def make_base_images() -> None:
    """Make the images that aren't there yet or are made otherwise by now."""
    engine = docker.from_env()
    if not engine.images.list(_DEBIAN) or not engine.images.list(_LANG):
        with tempfile.TemporaryDirectory() as scratch:
            _import_debian(engine, Path(scratch, "debian"))
    entry: Files = {"lambda-entrypoint.sh": _ENTRYPOINT}
    wheels = [f"{name}=={version(name)}" for name in sorted(with_requirements(_RUNTIME))]
    python: Files = {
        **entry,
        "var/runtime/bootstrap": _PYTHON_BOOTSTRAP + _WRAPPED,
        "var/runtime/bootstrap.py": BOOTSTRAP,
    }
    _build(engine, PROVIDED, _CONTRACT, entry)
    _build(engine, PYTHON, _CONTRACT + _WITH_PYTHON, python, wheels)
    node, client = find_node(), client_files(client_version(find_runtime(NODE_RUNTIME)))
    if node and client:
        runtime: Files = {f"var/runtime/{name}": file for name, file in client.items()}
        bootstrap: Files = {"var/runtime/bootstrap": _NODE_BOOTSTRAP + _WRAPPED, "var/lang/bin/node": node.program}
        _build(engine, NODE, _CONTRACT, {**entry, **runtime, **bootstrap})
    else:
        sys.stderr.write(
            f"{NODE} is not made: Node's client isn't here. Next step: immortal local install {NODE_RUNTIME}\n"
        )


def _import_debian(engine: docker.DockerClient, root: Path) -> None:
    """Make two images of one Debian: all of it but Python, and Python alone where AWS's images have it."""
    packages = "--include=python3,ca-certificates,curl"
    _run("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
    lang = root.with_name("lang")
    moved = (("usr/bin/python3.11", "bin"), ("usr/lib/python3.11", "lib"), (_EXPAT, "lib"))
    for pattern, folder in moved:
        (lang / "var/lang" / folder).mkdir(parents=True, exist_ok=True)
        _run("cp", "-a", *map(str, root.glob(pattern.removeprefix("./"))), str(lang / "var/lang" / folder))
    (lang / "var/lang/bin/python3").symlink_to("python3.11")
    _import(engine, lang, _LANG)
    _import(engine, root, _DEBIAN, *(f"--exclude={each}" for each in (*_LEFT_OUT, *_PYTHON_FILES, _EXPAT)))


def _import(engine: docker.DockerClient, root: Path, name: str, *left_out: str) -> None:
    archive = root.with_suffix(".tar")
    _run("tar", "-C", str(root), *left_out, "-cf", str(archive), ".")
    repository, _, tag = name.partition(":")
    answer = json.loads(engine.api.import_image_from_file(str(archive), repository=repository, tag=tag))
    assert "error" not in answer, answer


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _build(engine: docker.DockerClient, name: str, dockerfile: str, files: Files, wheels: Sequence[str] = ()) -> None:
    """Build an image of files and Python packages, unless it is there in just this form."""
    debian = engine.images.get(_DEBIAN).id
    recipe = _hash(f"{debian}{dockerfile}{wheels}".encode(), *map(_read, files.values()))
    if engine.images.list(name, filters={"label": f"{_RECIPE}={recipe}"}):
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            file = Path(folder, "files", path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_read(content))
            file.chmod(0o755)
        if wheels:
            _install(wheels, Path(folder, "files/var/runtime"))
        Path(folder, "Dockerfile").write_text(dockerfile)
        engine.images.build(path=folder, tag=name, rm=True, labels={_RECIPE: recipe})


def _read(content: str | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content.encode()


def _hash(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _install(wheels: Sequence[str], target: Path) -> None:
    where = ["--target", str(target), "--python-version", "3.11", "--implementation", "cp"]
    only = ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *where, *only, *wheels)


if __name__ == "__main__":
    make_base_images()
