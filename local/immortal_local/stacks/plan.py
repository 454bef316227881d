"""What a change of a stack would do, told without doing it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from immortal_local.stacks.kinds import KINDS
from immortal_local.stacks.records import Change, Held, Wish
from immortal_local.stacks.resources import Kind, NotCarriedOut, check_properties
from immortal_local.stacks.templates import Resource, Scope, TemplateInvalid, Unresolved, resolve

__all__ = ["IAM_TYPES", "changes", "find_kind", "needed_capability", "own_properties", "read_attribute"]

IAM_TYPES = {"AWS::IAM::Role": "RoleName", "AWS::IAM::Policy": None}


def find_kind(type_name: str) -> Kind:
    """Find a resource type.

    Raises:
        NotCarriedOut: The local AWS doesn't carry it out.
    """
    if type_name not in KINDS:
        raise NotCarriedOut(
            f"The local AWS doesn't carry out the resource type {type_name}; it carries out {', '.join(sorted(KINDS))}."
        )
    return KINDS[type_name]


def own_properties(resource: Resource, scope: Scope, tags: Mapping[str, str]) -> dict[str, Any]:
    """Resolve a resource's properties and give it the stack's tags, which its own ones override.

    Raises:
        Unresolved: It needs a resource that isn't made.
        NotCarriedOut: It has a property that would be lost.
    """
    kind = find_kind(resource.type)
    properties: dict[str, Any] = resolve(dict(resource.properties), scope)
    check_properties(resource.type, kind, properties)
    if tags and kind.tagged:
        own = properties.get("Tags") or []
        named = {tag["Key"] for tag in own}
        inherited = [{"Key": key, "Value": value} for key, value in tags.items() if key not in named]
        properties["Tags"] = [*own, *inherited]
    return properties


def read_attribute(held: Mapping[str, Held], name: str, attribute: str) -> Any:
    """Read what Ref (without an attribute) or GetAtt gives of a resource.

    Raises:
        Unresolved: The resource isn't made.
        TemplateInvalid: It has no such attribute.
    """
    if name not in held:
        raise Unresolved(name)
    made = held[name].made
    if not attribute:
        return made.id
    if attribute not in made.attributes:
        raise TemplateInvalid(
            f"Template error: resource {name} does not support attribute type {attribute} in Fn::GetAtt; "
            f"the local AWS has {', '.join(made.attributes) or 'none'}."
        )
    return made.attributes[attribute]


def changes(
    held: Mapping[str, Held], wish: Wish, make_scope: Callable[[Wish, Mapping[str, Held]], Scope]
) -> Iterator[Change]:
    """Tell what would become of every resource that a wish changes.

    Args:
        held: What the stack holds now.
        wish: What it shall be.
        make_scope: Makes the scope for a wish over resources.
    """
    staying: dict[str, Held] = {}
    scope = make_scope(wish, staying)
    wanted = {
        name: each
        for name, each in wish.template.resources.items()
        if not each.condition or scope.holds(each.condition)
    }
    for name, resource in wanted.items():
        before = held.get(name)
        if before is None:
            yield Change("Add", name, resource.type)
            continue
        change = _change_of(before, resource, scope, wish.tags)
        if change is None or not change.replacement:
            staying[name] = before
        if change is not None:
            yield change
    for name, before in held.items():
        if name not in wanted:
            yield Change("Remove", name, before.type, before.made.id)


def _change_of(before: Held, resource: Resource, scope: Scope, tags: Mapping[str, str]) -> Change | None:
    if before.type != resource.type:
        return Change("Modify", before.logical_id, resource.type, before.made.id, replacement=True)
    try:
        properties = own_properties(resource, scope, tags)
    except Unresolved:
        return Change("Modify", before.logical_id, before.type, before.made.id)
    if properties == before.properties:
        return None
    replaced = find_kind(before.type).replaces(before.properties, properties)
    return Change("Modify", before.logical_id, before.type, before.made.id, replacement=replaced)


def needed_capability(wish: Wish) -> str | None:
    """Name the capability that a template needs, None if it needs none or the wish has it."""
    iam = [each for each in wish.template.resources.values() if each.type in IAM_TYPES]
    named = any(name and name in each.properties for each in iam if (name := IAM_TYPES[each.type]))
    if not iam or "CAPABILITY_NAMED_IAM" in wish.capabilities:
        return None
    if named:
        return "CAPABILITY_NAMED_IAM"
    return None if "CAPABILITY_IAM" in wish.capabilities else "CAPABILITY_IAM"
