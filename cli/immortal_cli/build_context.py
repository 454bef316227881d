"""The build context of the runner's image, put together from what is installed here."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from immortal_lambda.errors import ImmortalError
from immortal_runner.runtimes.distributions import top_level_files, with_requirements

RUNTIME_PACKAGES = ("boto3",)
OWN_PACKAGES = ("immortal_lambda", "immortal_runner")

_BUILD_STEPS = ("Dockerfile", "take_python.py")
_SCRIPTS = ("run.py", "prepare.py")

SERVICES = frozenset({"dynamodb", "lambda", "logs", "s3", "sts"})
"""The service models of botocore that the runner needs; all of them together are ten times the rest."""


class NotPortable(ImmortalError):
    """A package that goes into the image is compiled for this machine."""


def assemble_context(folder: Path) -> None:
    """Put everything that the image's build needs into an empty folder; nothing is downloaded.

    The modules are pure Python, so that one context serves every runtime and both architectures. They are in two
    folders, because each becomes a layer of its own: what others wrote changes seldom, and is pushed and pulled once.

    Raises:
        NotPortable: A package holds compiled code.
    """
    packages, runner = folder / "packages", folder / "runner"
    packages.mkdir()
    runner.mkdir()
    for name in _BUILD_STEPS:
        shutil.copy(container_folder() / name, folder)
    for name in _SCRIPTS:
        shutil.copy(container_folder() / name, runner)
    for name, source in top_level_files(with_requirements(RUNTIME_PACKAGES)).items():
        _copy(source, packages / name)
    for package in OWN_PACKAGES:
        _copy(_package_folder(package), runner / package)
    if compiled := [path.name for path in folder.rglob("*.so")]:
        raise NotPortable(f"{', '.join(compiled)} runs on this machine only. Next step: install the pure Python wheel")
    _drop_unused_services(packages / "botocore/data")


def container_folder() -> Path:
    """Where the Dockerfile lies: in the wheel, or in the repository."""
    installed = Path(__file__).with_name("container")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "container"


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise NotPortable(f"{name} is not installed as files. Next step: pip install immortal-lambda")
    return Path(spec.origin).parent


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _drop_unused_services(data: Path) -> None:
    for service in data.iterdir():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
