"""What a resource type is: the properties that it takes, and how it is made, changed and removed by real API calls."""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from botocore.model import ListShape, MapShape, Shape, StructureShape

__all__ = [
    "Kind",
    "Made",
    "Maker",
    "NotCarriedOut",
    "ResourceFailed",
    "check_properties",
    "fit",
    "retag",
    "tag_map",
]

GONE = (
    "NotFound",
    "NoSuch",
    "NonExistent",
    "DoesNotExist",
    "InvalidGroup.NotFound",
    "QueueDoesNotExist",
)
"""Parts of the error codes that mean that a resource is not there."""


class NotCarriedOut(Exception):
    """The local AWS doesn't carry out a resource type or a property. Who wrote the template learns what it does."""


class ResourceFailed(Exception):
    """A resource can't be made as its properties ask."""


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that is there.

    Attributes:
        id: What Ref gives, and the PhysicalResourceId.
        attributes: What GetAtt gives, by name.
    """

    id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Clients(Protocol):
    """Gives boto3 clients on the local AWS, in the stack's region."""

    def __call__(self, service_name: str) -> Any:
        """Give one client."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Around one resource that is being made, changed or removed.

    Attributes:
        client: Gives boto3 clients.
        begun: What a creation has made so far; removed again if the rest of it fails.
    """

    client: Clients
    account: str
    region: str
    stack_name: str
    logical_id: str
    begun: list[Made] = field(default_factory=list)

    def begin(self, made: Made) -> Made:
        """Note that a resource is there, though not complete yet."""
        self.begun.append(made)
        return made

    def name(self, properties: Mapping[str, Any], key: str, *, longest: int, suffix: str = "") -> str:
        """Take the resource's own name, or make one up as CloudFormation does: stack, logical id and chance.

        Args:
            properties: The resource's, resolved.
            key: The property that may hold its name.
            longest: How many characters a name may have.
            suffix: What a made-up name must end in.
        """
        if key in properties:
            return str(properties[key])
        chance = secrets.token_hex(6).upper()
        room = longest - len(chance) - len(suffix) - 1
        return f"{f'{self.stack_name}-{self.logical_id}'[:room]}-{chance}{suffix}"


Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of resource.

    Attributes:
        properties: All that are carried out; any other one makes the stack fail.
        create: Makes it.
        remove: Removes it; that it is gone already is no error.
        update: Changes it to the second properties from the first; None if any change makes a new one.
        fixed: A change of these makes a new one, although there is ``update``.
        name: The property that names it; two of a name can't be there at once.
        required: Properties that it can't do without.
        tags: Whether the stack's own tags are given to it.
    """

    properties: frozenset[str]
    create: Callable[[Maker, Properties], Made]
    remove: Callable[[Maker, Made, Properties], None]
    update: Callable[[Maker, Made, Properties, Properties], Made] | None = None
    fixed: frozenset[str] = frozenset()
    name: str | None = None
    required: frozenset[str] = frozenset()

    @property
    def tagged(self) -> bool:
        """Whether the stack's own tags are given to it."""
        return "Tags" in self.properties

    def replaces(self, old: Properties, new: Properties) -> bool:
        """Whether a change can only be made by a new resource in the old one's place."""
        changed = changed_properties(old, new)
        return self.update is None or bool(changed & self.fixed)


def changed_properties(old: Properties, new: Properties) -> set[str]:
    """Name the properties that differ."""
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def check_properties(type_name: str, kind: Kind, properties: Iterable[str]) -> None:
    """Refuse what would be lost.

    Raises:
        NotCarriedOut: A property that the local AWS doesn't carry out, or one that is missing.
    """
    given = set(properties)
    if unknown := given - kind.properties:
        raise NotCarriedOut(
            f"{type_name}: the local AWS doesn't carry out {', '.join(sorted(unknown))}; "
            f"it carries out {', '.join(sorted(kind.properties))}."
        )
    if missing := kind.required - given:
        raise NotCarriedOut(f"Properties validation failed: {type_name} needs {', '.join(sorted(missing))}.")


def fit(value: Any, shape: Shape, at: str) -> Any:
    """Turn a property into a parameter of an API: its names, and text where a number or a truth value is wanted.

    Args:
        value: The property, resolved; CloudFormation writes names with a capital, some APIs don't.
        shape: The parameter's shape in the API's model.
        at: Where the property stands, for the error.

    Raises:
        NotCarriedOut: A name that the API doesn't have.
    """
    if isinstance(shape, StructureShape):
        return _fit_structure(value, shape, at)
    if isinstance(shape, ListShape):
        return [fit(each, shape.member, f"{at}.{number}") for number, each in enumerate(value)]
    if isinstance(shape, MapShape):
        return {key: fit(each, shape.value, f"{at}.{key}") for key, each in value.items()}
    return _fit_plain(value, shape, at)


def _fit_structure(value: Any, shape: StructureShape, at: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise NotCarriedOut(f"{at} must be an object, not {json.dumps(value)}.")
    names = {name.lower(): name for name in shape.members}
    if unknown := [key for key in value if key.lower() not in names]:
        raise NotCarriedOut(
            f"{at}: the local AWS doesn't carry out {', '.join(unknown)}; it carries out {', '.join(shape.members)}."
        )
    return {
        names[key.lower()]: fit(each, shape.members[names[key.lower()]], f"{at}.{key}") for key, each in value.items()
    }


def _fit_plain(value: Any, shape: Shape, at: str) -> Any:
    try:
        match shape.type_name:
            case "boolean":
                return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "string":
                return _write_text(value)
    except (KeyError, ValueError, TypeError) as error:
        raise NotCarriedOut(f"{at} must be {shape.type_name}, not {json.dumps(value)}.") from error
    return value


def _write_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def tag_map(properties: Properties) -> dict[str, str]:
    """Read the property ``Tags``, a list of pairs, as a map."""
    tags = properties.get("Tags") or []
    if isinstance(tags, Mapping):
        return {key: str(value) for key, value in tags.items()}
    return {tag["Key"]: str(tag["Value"]) for tag in tags}


def retag(
    old: Properties,
    new: Properties,
    *,
    add: Callable[[dict[str, str]], Any],
    take: Callable[[list[str]], Any],
) -> None:
    """Change a resource's tags from the old ones to the new ones."""
    before, after = tag_map(old), tag_map(new)
    if added := {key: value for key, value in after.items() if before.get(key) != value}:
        add(added)
    if removed := sorted(set(before) - set(after)):
        take(removed)
