"""What a rule decides: whether it wants an event, how often its schedule fires, and what its targets get."""

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jsonpath_ng.ext.parser import parse as parse_path
from moto.events.models import EventPattern, Rule

__all__ = ["matches", "read_rate", "shape_input", "transform", "write_event", "write_tick"]

_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"rate\(([1-9]\d*) (minute|hour|day)s?\)")
_PLACEHOLDER = re.compile(r"<([A-Za-z0-9_.\-]+)>")


def matches(pattern: Mapping[str, Any], value: Any) -> bool:
    """Whether an event, or a part of one, matches a pattern.

    A field inside an array of objects matches if one of the objects matches all that the pattern says about it.

    Args:
        pattern: An event pattern's object.
        value: The event, or what it has at the pattern's place.
    """
    if isinstance(value, list):
        return any(matches(pattern, each) for each in value)
    fields = value if isinstance(value, Mapping) else {}
    return all(_matches_field(name, wanted, fields) for name, wanted in pattern.items())


def _matches_field(name: str, wanted: Any, fields: Mapping[str, Any]) -> bool:
    if name == "$or":
        return any(matches(each, fields) for each in wanted)
    if isinstance(wanted, Mapping):
        return matches(wanted, fields.get(name, {}))
    leaf = EventPattern(None, {name: wanted})
    present = {name: fields[name]} if name in fields else {}
    return leaf.matches_event(present)  # type: ignore[arg-type]  # moto judges a single value right, whatever it is in


def read_rate(expression: str) -> float | None:
    """Read ``rate(5 minutes)``.

    Returns:
        Seconds; None for what is no rate.
    """
    found = _RATE.fullmatch(expression)
    return float(found[1]) * _SECONDS[found[2]] if found else None


def shape_input(target: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str) -> str:
    """Shape what a target gets: a constant, a part of the event, a template filled from it, or the event itself.

    Returns:
        JSON text.
    """
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(_find(target["InputPath"], event))
    if transformer := target.get("InputTransformer"):
        return transform(transformer["InputTemplate"], transformer.get("InputPathsMap", {}), event, rule_arn)
    return json.dumps(event)


def transform(template: str, paths: Mapping[str, str], event: Mapping[str, Any], rule_arn: str) -> str:
    """Fill a template's placeholders: JSON outside of quotes, plain text inside them.

    Source: EventBridge user guide, "Amazon EventBridge input transformation".
    """
    values = {name: _find(path, event) for name, path in paths.items()}
    values |= {
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_arn.rpartition("/")[2],
        "aws.events.event": event,
        "aws.events.event.json": event,
        "aws.events.event.ingestion-time": event.get("time"),
    }

    def fill(found: re.Match[str]) -> str:
        value = values.get(found[1])
        quoted = len(re.findall(r'(?<!\\)"', template[: found.start()])) % 2 == 1
        text = json.dumps(value)
        if not quoted:
            return text
        return text[1:-1] if isinstance(value, str) else json.dumps(text)[1:-1]

    return _PLACEHOLDER.sub(fill, template)


def _find(path: str, event: Mapping[str, Any]) -> Any:
    found = parse_path(path).find(event)
    return found[0].value if found else None


def write_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Write an event as targets get it; the emulator keeps its time as a number, and a time of its own beside it."""
    written = {name: value for name, value in event.items() if name != "ingestion-time"}
    if not isinstance(written["time"], str):
        written["time"] = _write_time(datetime.fromtimestamp(float(written["time"]), UTC))
    return written


def write_tick(rule: Rule) -> dict[str, Any]:
    """Write the event of a schedule whose time has come."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": rule.account_id,
        "time": _write_time(datetime.now(UTC)),
        "region": rule.region_name,
        "resources": [rule.arn],
        "detail": {},
    }


def _write_time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
