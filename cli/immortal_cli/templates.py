"""The project's templates, wherever they are installed, and the parameters that they declare."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from immortal_lambda.errors import ImmortalError

TEMPLATE_NAMES = ("store", "runner", "fallback")
"""In the order in which their stacks are made; each imports what the earlier ones export."""

FILLED_IN = {
    "Name": "it is the installation's. Next step: --name",
    "StoreStack": "the stacks are named after the installation. Next step: --name",
    "RunnerStack": "the stacks are named after the installation. Next step: --name",
    "CodeBucket": "the dispatcher's code goes where the installation keeps its payloads. Next step: leave it out",
    "CodeKey": "the dispatcher's code is uploaded under a name of its content. Next step: leave it out",
}
"""Parameters that ``immortal deploy`` fills in itself, and why nobody else may."""

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "cloudformation", _HERE.parents[1] / "cloudformation")
"""In an installed wheel, and in the repository."""

_PARAMETERS = re.compile(r"^Parameters:\n(?P<body>(?:[ #].*\n|\n)+)", re.MULTILINE)
_NAME = re.compile(r"^  (?P<name>[A-Za-z0-9]+):", re.MULTILINE)


class ParameterUnknown(ImmortalError):
    """No template declares the parameter."""


class ParameterFilledIn(ImmortalError):
    """The parameter is filled in by ``immortal deploy``; what is given would be lost."""


@dataclass(frozen=True, slots=True)
class Template:
    """One CloudFormation template.

    Attributes:
        text: As CloudFormation is given it.
        parameters: Names of the parameters that it declares.
    """

    text: str
    parameters: frozenset[str]


def read_template(name: str) -> Template:
    """Read one of the project's templates."""
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    return Template(text, declared_parameters(text))


def declared_parameters(text: str) -> frozenset[str]:
    """Give the names under ``Parameters``; the templates are ours, so their indentation is known."""
    section = _PARAMETERS.search(text)
    return frozenset(_NAME.findall(section["body"])) if section else frozenset()


def choose_parameters(
    given: Mapping[str, str], template: Template, *, previous: frozenset[str]
) -> list[dict[str, str | bool]]:
    """Write a stack's parameters: what is given, else what it has already, else the template's default."""
    chosen: list[dict[str, str | bool]] = [
        {"ParameterKey": name, "ParameterValue": given[name]} for name in sorted(given.keys() & template.parameters)
    ]
    kept = (template.parameters & previous) - given.keys()
    chosen += [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)]
    return chosen


def refuse_filled_in(given: Mapping[str, str]) -> None:
    """Refuse parameters that ``immortal deploy`` fills in itself.

    Raises:
        ParameterFilledIn: With the reason.
    """
    for name in sorted(given.keys() & FILLED_IN.keys()):
        raise ParameterFilledIn(f"the parameter {name} can't be given: {FILLED_IN[name]}")


def refuse_unknown(given: Mapping[str, str], templates: Iterable[Template]) -> None:
    """Refuse parameters that no template declares.

    Raises:
        ParameterUnknown: The nearest known name is in the message.
    """
    known = frozenset[str]().union(*(template.parameters for template in templates))
    for name in given.keys() - known:
        nearest = get_close_matches(name, known, n=1)
        hint = f"Nearest: {nearest[0]}" if nearest else f"Known: {', '.join(sorted(known))}"
        raise ParameterUnknown(f"no template has a parameter {name!r}. {hint}")
