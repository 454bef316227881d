"""Templates: read, checked, and their functions resolved; nothing here makes anything."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml

__all__ = [
    "Resource",
    "Scope",
    "Template",
    "TemplateInvalid",
    "Unresolved",
    "read_template",
    "resolve",
    "resolve_parameters",
]

SECTIONS = frozenset(
    {
        "AWSTemplateFormatVersion",
        "Description",
        "Metadata",
        "Parameters",
        "Mappings",
        "Conditions",
        "Resources",
        "Outputs",
    }
)
RESOURCE_KEYS = frozenset(
    {"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy"}
)
POLICIES = frozenset({"Delete", "Retain", "RetainExceptOnCreate"})
PSEUDO = frozenset(
    {
        "AWS::AccountId", "AWS::NotificationARNs", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackId",
        "AWS::StackName", "AWS::URLSuffix",
    }
)  # fmt: skip

NOTHING = object()
"""What ``AWS::NoValue`` resolves to: the property is as if it weren't there."""

_PLACEHOLDER = re.compile(r"\$\{([^!{}][^{}]*)\}")
_LITERAL = re.compile(r"\$\{!([^{}]*)\}")


class TemplateInvalid(Exception):
    """A template that can't be carried out, by anybody or by the local AWS. The message becomes a ValidationError."""


class Unresolved(Exception):
    """A reference to a resource that isn't made yet."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a template, its properties unresolved.

    Attributes:
        depends_on: Named by DependsOn or by a reference; all of them made before this one.
        condition: The condition under which it is made.
    """

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: frozenset[str]
    condition: str | None
    deletion_policy: str
    replace_policy: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template as it was written.

    Attributes:
        text: As it was given.
        resources: By logical id, in an order in which each comes after all that it needs.
    """

    text: str
    description: str | None
    parameters: Mapping[str, Mapping[str, Any]]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    resources: Mapping[str, Resource]
    outputs: Mapping[str, Mapping[str, Any]]


# Reading


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms; a date, such as a policy's version, stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _read_short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]  # the third and last form
    return {name: value}


_Loader.add_multi_constructor("!", _read_short_form)


def read_template(text: str) -> Template:
    """Read a template in JSON or YAML.

    Raises:
        TemplateInvalid: It isn't one, or it has a section, a reference or a circle that can't be carried out.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # the loader is a safe one
    except yaml.YAMLError as error:
        raise TemplateInvalid(f"Template format error: YAML not well-formed. {error}") from error
    if not isinstance(document, dict) or not document.get("Resources"):
        raise TemplateInvalid("Template format error: At least one Resources member must be defined.")
    if unknown := set(document) - SECTIONS:
        raise TemplateInvalid(
            f"Template section {', '.join(sorted(unknown))} is not carried out by the local AWS; it carries out "
            f"{', '.join(sorted(SECTIONS))}."
        )
    parameters = document.get("Parameters") or {}
    bodies = document["Resources"]
    resources = {name: _read_resource(name, body, bodies) for name, body in bodies.items()}
    template = Template(
        text=text,
        description=document.get("Description"),
        parameters=parameters,
        mappings=document.get("Mappings") or {},
        conditions=document.get("Conditions") or {},
        resources={name: resources[name] for name in _order(resources)},
        outputs=document.get("Outputs") or {},
    )
    _check_references(template)
    return template


def _read_resource(name: str, body: Mapping[str, Any], all_bodies: Mapping[str, Any]) -> Resource:
    if not isinstance(body, Mapping) or not isinstance(body.get("Type"), str):
        raise TemplateInvalid(
            f"Template format error: [/Resources/{name}/Type] 'null' values are not allowed in templates"
        )
    if unknown := set(body) - RESOURCE_KEYS:
        raise TemplateInvalid(f"Resource {name}: {', '.join(sorted(unknown))} is not carried out by the local AWS.")
    named = body.get("DependsOn") or []
    depends_on = {named} if isinstance(named, str) else set(named)
    for each in depends_on - set(all_bodies):
        raise TemplateInvalid(
            f"Template format error: Unresolved resource dependencies [{each}] in the Resources block"
        )
    policies = [body.get(key) or "Delete" for key in ("DeletionPolicy", "UpdateReplacePolicy")]
    for policy in policies:
        if policy not in POLICIES:
            raise TemplateInvalid(f"Resource {name}: the policy {policy} is not carried out by the local AWS.")
    properties = body.get("Properties") or {}
    return Resource(
        logical_id=name,
        type=body["Type"],
        properties=properties,
        depends_on=frozenset(depends_on | (set(_references(properties)) & set(all_bodies))),
        condition=body.get("Condition"),
        deletion_policy=policies[0],
        replace_policy=policies[1],
    )


def _references(value: Any) -> Iterable[str]:
    """Name everything that a value refers to: parameters, pseudo parameters and resources alike."""
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key == "Ref" and isinstance(inner, str):
            yield inner
        elif key == "Fn::GetAtt":
            yield _split_attribute(inner)[0]
        elif key == "Fn::Sub":
            text, own = (inner[0], inner[1]) if isinstance(inner, list) else (inner, {})
            yield from (name.partition(".")[0] for name in _PLACEHOLDER.findall(text) if name not in own)
            yield from _references(own)
        else:
            yield from _references(inner)


def _split_attribute(value: Any) -> tuple[str, str]:
    name, _, attribute = value.partition(".") if isinstance(value, str) else (value[0], ".", value[1])
    return name, attribute


def _order(resources: Mapping[str, Resource]) -> Iterable[str]:
    try:
        return list(
            TopologicalSorter({name: sorted(each.depends_on) for name, each in resources.items()}).static_order()
        )
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise TemplateInvalid(f"Circular dependency between resources: [{circle}]") from error


def _check_references(template: Template) -> None:
    known = {*template.parameters, *template.resources, *PSEUDO}
    for block, value in (
        ("Resources", [each.properties for each in template.resources.values()]),
        ("Outputs", template.outputs),
    ):
        values = list(value.values()) if isinstance(value, Mapping) else value
        if unknown := set(_references(values)) - known:
            raise TemplateInvalid(
                f"Template format error: Unresolved resource dependencies [{', '.join(sorted(unknown))}] "
                f"in the {block} block of the template"
            )
    conditions = [each.condition for each in template.resources.values()]
    conditions += [output.get("Condition") for output in template.outputs.values()]
    for condition in conditions:
        if condition is not None and condition not in template.conditions:
            raise TemplateInvalid(f"Template format error: Unresolved condition dependency {condition}")


# Parameters


def resolve_parameters(
    declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str], read_ssm: Callable[[str], str]
) -> dict[str, Any]:
    """Check the given parameters against a template's, and turn them into values.

    Args:
        declared: The template's parameters.
        given: As text, by name.
        read_ssm: Reads a parameter of the parameter store.

    Raises:
        TemplateInvalid: One is missing, unknown or breaks its constraints.
    """
    if unknown := set(given) - set(declared):
        raise TemplateInvalid(f"Parameters: [{', '.join(sorted(unknown))}] do not exist in the template")
    if missing := [name for name, body in declared.items() if name not in given and "Default" not in body]:
        raise TemplateInvalid(f"Parameters: [{', '.join(missing)}] must have values")
    return {name: _read_parameter(name, body, given, read_ssm) for name, body in declared.items()}


def _read_parameter(
    name: str, body: Mapping[str, Any], given: Mapping[str, str], read_ssm: Callable[[str], str]
) -> Any:
    kind = str(body.get("Type", "String"))
    text = given[name] if name in given else _write_default(body["Default"])
    if kind.startswith("AWS::SSM::Parameter::Value"):
        text = read_ssm(text)
    _check_parameter(name, text, body)
    if kind == "CommaDelimitedList" or "List<" in kind:
        return [each.strip() for each in text.split(",")] if text else []
    return text


def _write_default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _check_parameter(name: str, text: str, body: Mapping[str, Any]) -> None:
    for broken in _broken_constraints(text, body):
        said = body.get("ConstraintDescription", broken)
        raise TemplateInvalid(
            f"Parameter '{name}' must {said}"
            if said is broken
            else f"Parameter {name} failed to satisfy constraint: {said}"
        )


def _broken_constraints(text: str, body: Mapping[str, Any]) -> Iterable[str]:
    listed = body.get("Type") == "CommaDelimitedList" or "List<" in str(body.get("Type"))
    values = [each.strip() for each in text.split(",")] if listed else [text]
    if "AllowedValues" in body:
        allowed = [_write_default(each) for each in body["AllowedValues"]]
        if any(each not in allowed for each in values):
            yield f"be one of AllowedValues: [{', '.join(allowed)}]"
    if "AllowedPattern" in body and not all(re.fullmatch(body["AllowedPattern"], each) for each in values):
        yield f"match pattern {body['AllowedPattern']}"
    if len(text) < int(body.get("MinLength", 0)):
        yield f"contain at least {body['MinLength']} characters"
    if "MaxLength" in body and len(text) > int(body["MaxLength"]):
        yield f"contain at most {body['MaxLength']} characters"
    if body.get("Type") == "Number":
        yield from _broken_range(text, body)


def _broken_range(text: str, body: Mapping[str, Any]) -> Iterable[str]:
    try:
        number = float(text)
    except ValueError:
        yield "be a number"
        return
    if "MinValue" in body and number < float(body["MinValue"]):
        yield f"be a number not less than {body['MinValue']}"
    if "MaxValue" in body and number > float(body["MaxValue"]):
        yield f"be a number not greater than {body['MaxValue']}"


# Resolving


@dataclass(frozen=True, slots=True)
class Scope:
    """All that a template's functions can ask for.

    Attributes:
        parameters: The template's, and the pseudo parameters.
        attribute: Gives a resource's attribute; with an empty name, what Ref gives. Raises Unresolved or
            TemplateInvalid.
        exported: Gives another stack's export.
    """

    template: Template
    parameters: Mapping[str, Any]
    attribute: Callable[[str, str], Any]
    exported: Callable[[str], Any]
    _conditions: dict[str, bool] = field(default_factory=dict)

    def holds(self, condition: str) -> bool:
        """Whether one of the template's conditions holds."""
        if condition not in self.template.conditions:
            raise TemplateInvalid(f"Template format error: Unresolved condition dependency {condition}")
        if condition not in self._conditions:
            self._conditions[condition] = _judge(self.template.conditions[condition], self)
        return self._conditions[condition]


def _judge(value: Any, scope: Scope) -> bool:
    match value:
        case {"Fn::Equals": [left, right]}:
            return _write_default(resolve(left, scope)) == _write_default(resolve(right, scope))
        case {"Fn::And": parts}:
            return all(_judge(each, scope) for each in parts)
        case {"Fn::Or": parts}:
            return any(_judge(each, scope) for each in parts)
        case {"Fn::Not": [part]}:
            return not _judge(part, scope)
        case {"Condition": str(name)}:
            return scope.holds(name)
        case _:
            raise TemplateInvalid(f"Template format error: the condition {json.dumps(value)} can't be judged")


def resolve(value: Any, scope: Scope) -> Any:
    """Resolve every function in a value.

    Returns:
        Plain JSON values; :data:`NOTHING` for ``AWS::NoValue`` alone.

    Raises:
        Unresolved: It refers to a resource that isn't made yet.
        TemplateInvalid: A function that the local AWS doesn't carry out, or one with wrong arguments.
    """
    if isinstance(value, list):
        return [each for each in (resolve(part, scope) for part in value) if each is not NOTHING]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        (name,) = value
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](value[name], scope)
        if name.startswith("Fn::"):
            raise TemplateInvalid(
                f"Template format error: the local AWS doesn't carry out {name}; it has {', '.join(_FUNCTIONS)}."
            )
    resolved = {key: resolve(inner, scope) for key, inner in value.items()}
    return {key: inner for key, inner in resolved.items() if inner is not NOTHING}


def _ref(name: str, scope: Scope) -> Any:
    if name == "AWS::NoValue":
        return NOTHING
    return scope.parameters[name] if name in scope.parameters else scope.attribute(name, "")


def _get_att(value: Any, scope: Scope) -> Any:
    name, attribute = _split_attribute(value)
    return scope.attribute(name, str(resolve(attribute, scope)))


def _sub(value: Any, scope: Scope) -> str:
    text, own = (value[0], resolve(value[1], scope)) if isinstance(value, list) else (value, {})

    def fill(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name in own:
            return str(own[name])
        return str(_get_att(name, scope) if "." in name else _ref(name, scope))

    return _LITERAL.sub(r"${\1}", _PLACEHOLDER.sub(fill, text))


def _join(value: Any, scope: Scope) -> str:
    separator, parts = value
    return str(separator).join(map(str, resolve(parts, scope)))


def _select(value: Any, scope: Scope) -> Any:
    index, parts = resolve(value, scope)
    if not 0 <= int(index) < len(parts):
        raise TemplateInvalid(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
    return parts[int(index)]


def _split(value: Any, scope: Scope) -> list[str]:
    separator, text = resolve(value, scope)
    return str(text).split(separator)


def _if(value: Sequence[Any], scope: Scope) -> Any:
    condition, holding, otherwise = value
    return resolve(holding if scope.holds(condition) else otherwise, scope)


def _find_in_map(value: Any, scope: Scope) -> Any:
    name, first, second = resolve(value, scope)
    try:
        return scope.template.mappings[name][first][second]
    except KeyError as error:
        raise TemplateInvalid(f"Template error: Unable to get mapping for {name}::{first}::{second}") from error


def _import_value(value: Any, scope: Scope) -> Any:
    return scope.exported(str(resolve(value, scope)))


def _get_azs(value: Any, scope: Scope) -> list[str]:
    region = resolve(value, scope) or scope.parameters["AWS::Region"]
    return [f"{region}{letter}" for letter in "abc"]


def _base64(value: Any, scope: Scope) -> str:
    return base64.b64encode(str(resolve(value, scope)).encode()).decode()


_FUNCTIONS: Mapping[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Fn::GetAtt": _get_att,
    "Fn::Sub": _sub,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::If": _if,
    "Fn::FindInMap": _find_in_map,
    "Fn::ImportValue": _import_value,
    "Fn::GetAZs": _get_azs,
    "Fn::Base64": _base64,
}
