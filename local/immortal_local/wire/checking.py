"""Checking: parameters held against the model, refused in AWS's own words."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator

from immortal_local.wire.values import ApiError

__all__ = ["check_parameters"]


def check_parameters(parameters: dict[str, Any], shape: StructureShape | None, *, constrained: bool) -> None:
    """Check a call's parameters against the model.

    Args:
        constrained: Check lengths, ranges, patterns and enumerations too.

    Raises:
        ApiError: ``ValidationException``, naming each parameter at fault.
    """
    if shape is None:
        return
    if constrained and (broken := list(_broken_constraints(shape, parameters, ()))):
        plural = "s" if len(broken) > 1 else ""
        raise ApiError(
            "ValidationException", f"{len(broken)} validation error{plural} detected: {'; '.join(broken)}", 400
        )
    report = ParamValidator().validate(parameters, shape)
    if report.has_errors():
        raise ApiError("ValidationException", str(report.generate_report()), 400)


def _broken_constraints(shape: Shape, value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Name each value that breaks a length, range, pattern or enumeration of the model, in AWS's words."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for name in shape.required_members:
            if name not in value:
                yield _say("null", (*path, _lower_first(name)), "Member must not be null")
        for name, item in value.items():
            yield from _broken_constraints(shape.members[name], item, (*path, _lower_first(name)))
        return
    if isinstance(shape, ListShape) and isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from _broken_constraints(shape.member, item, (*path, str(number), "member"))
    if isinstance(shape, MapShape) and isinstance(value, dict):
        for key, item in value.items():
            yield from _broken_constraints(shape.value, item, (*path, key, "member"))
    if broken := _broken_constraint(shape, value):
        yield _say(value, path, broken)


def _say(value: Any, path: tuple[str, ...], constraint: str) -> str:
    shown = value if isinstance(value, (str, int, float)) else type(value).__name__
    where = ".".join(path)
    return f"Value '{shown}' at '{where}' failed to satisfy constraint: {constraint}"


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


def _broken_constraint(shape: Shape, value: Any) -> str | None:
    limits = shape.metadata
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _broken_limit(value, limits, "value")
    if not isinstance(value, (str, bytes, list, dict)):
        return None
    if broken := _broken_limit(len(value), limits, "length"):
        return broken
    if not isinstance(value, str):
        return None
    pattern = _compile_pattern(limits.get("pattern", ".*"))
    if pattern is not None and not pattern.fullmatch(value):
        return f"Member must satisfy regular expression pattern: {limits['pattern']}"
    if "enum" in limits and value not in limits["enum"]:
        return f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]"
    return None


@cache
def _compile_pattern(text: str) -> re.Pattern[str] | None:
    """Compile a model's pattern; None for one that only Java understands, such as a class of Unicode letters."""
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        return None


def _broken_limit(size: float, limits: Mapping[str, Any], kind: str) -> str | None:
    if "min" in limits and size < limits["min"]:
        return f"Member must have {kind} greater than or equal to {limits['min']}"
    if "max" in limits and size > limits["max"]:
        return f"Member must have {kind} less than or equal to {limits['max']}"
    return None
