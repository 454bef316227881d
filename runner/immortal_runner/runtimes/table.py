"""Lambda's runtimes: the family, the operating system and the base image of each.

Source: Lambda developer guide, "Lambda runtimes"; Lambda API reference, ``Runtime``; Amazon ECR Public Gallery.
"""

from dataclasses import dataclass
from typing import Final, Literal

from immortal_lambda.errors import ImmortalError

Family = Literal["python", "nodejs", "ruby", "java", "dotnet", "provided"]
System = Literal["al2", "al2023"]
"""The generation of Amazon Linux: glibc 2.26 or 2.34."""


class RuntimeRefused(ImmortalError):
    """No function of this runtime can be run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One of Lambda's runtimes.

    Attributes:
        name: As Lambda's API spells it, for example ``nodejs22.x``.
        version: The language's own, for example ``22``; for ``provided`` the operating system's name.
        base_image: AWS's image with the runtime's own bootstrap, by a tag that moves with its updates.
        retired: Whether Lambda lets nobody make functions for it any more; those that there are still run.
    """

    name: str
    family: Family
    version: str
    os: System
    base_image: str
    retired: bool

    @property
    def execution_env(self) -> str:
        """What ``AWS_EXECUTION_ENV`` says; empty where Lambda doesn't set it."""
        return "" if self.family == "provided" else f"AWS_Lambda_{self.name}"


_NAMES: Final[dict[Family, dict[System, tuple[str, ...]]]] = {
    "python": {
        "al2": ("python3.8", "python3.9", "python3.10", "python3.11"),
        "al2023": ("python3.12", "python3.13", "python3.14", "python3.15"),
    },
    "nodejs": {
        "al2": ("nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x", "nodejs18.x"),
        "al2023": ("nodejs20.x", "nodejs22.x", "nodejs24.x", "nodejs26.x"),
    },
    "ruby": {"al2": ("ruby2.7", "ruby3.2"), "al2023": ("ruby3.3", "ruby3.4", "ruby4.0")},
    "java": {
        "al2": ("java8.al2", "java11", "java17"),
        "al2023": ("java21", "java25", "java8.al2023", "java11.al2023", "java17.al2023"),
    },
    "dotnet": {"al2": ("dotnetcore3.1", "dotnet6"), "al2023": ("dotnet8", "dotnet10")},
    "provided": {"al2": ("provided.al2",), "al2023": ("provided.al2023",)},
}

_RETIRED: Final = ("dotnetcore3.1", "nodejs10.x", "nodejs12.x", "nodejs14.x", "ruby2.7")

_AMAZON_LINUX_1: Final = (
    "it ran on the first Amazon Linux, whose C library is too old for this runner. "
    "Next step: move the function to a newer runtime and redrive the run"
)

_REFUSED: Final[dict[str, str]] = {
    "go1.x": (
        "its programs may speak a private protocol instead of the Runtime API. Next step: move the function to "
        "provided.al2023, for which the same code is built as `bootstrap`, and redrive the run"
    ),
    **dict.fromkeys(
        (
            "dotnetcore1.0",
            "dotnetcore2.0",
            "dotnetcore2.1",
            "java8",
            "nodejs",
            "nodejs4.3",
            "nodejs4.3-edge",
            "nodejs6.10",
            "nodejs8.10",
            "provided",
            "python2.7",
            "python3.6",
            "python3.7",
            "ruby2.5",
        ),
        _AMAZON_LINUX_1,
    ),
}
"""Runtimes that Lambda knows and this runner doesn't run, and why."""


def _describe(name: str, family: Family, system: System) -> Runtime:
    version = name.removeprefix(family).removeprefix(".").removesuffix(".x")
    repository = f"public.ecr.aws/lambda/{family}"
    image = f"{repository}:{version}"
    return Runtime(name, family, version.removeprefix("core"), system, base_image=image, retired=name in _RETIRED)


RUNTIMES: Final = {
    name: _describe(name, family, system)
    for family, systems in _NAMES.items()
    for system, names in systems.items()
    for name in names
}
"""All runtimes that can be run, by name; within a family the older ones come first."""


def find_runtime(name: str) -> Runtime:
    """Find a runtime by the name that GetFunction gives.

    Raises:
        RuntimeRefused: It can't be run, or nobody has heard of it.
    """
    if runtime := RUNTIMES.get(name):
        return runtime
    if reason := _REFUSED.get(name):
        raise RuntimeRefused(f"{name} can't be run: {reason}")
    raise RuntimeRefused(
        f'there is no runtime "{name}". Known: {", ".join(RUNTIMES)}. '
        "Next step: where Lambda has it, upgrade immortal-lambda"
    )
