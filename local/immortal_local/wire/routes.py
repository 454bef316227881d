"""Routes: which operation of which service model a request names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote

import botocore.session
from botocore.model import OperationModel, ServiceModel

from immortal_local.wire.values import HttpRequest

__all__ = ["Match", "find_model", "match_route"]


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    query: Mapping[str, str]
    operation: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """The operation that a request names, and what its path says."""

    operation: str
    labels: Mapping[str, str]


@cache
def find_model(name: str) -> ServiceModel:
    """Load a service's model of the installed botocore."""
    return botocore.session.Session().get_service_model(name)


@cache
def _routes(name: str) -> tuple[_Route, ...]:
    """Every route of a rest-json service, the most exact first."""
    model = find_model(name)
    routes = [_read_route(model.operation_model(operation)) for operation in model.operation_names]
    return tuple(sorted(routes, key=lambda route: (-len(route.query), len(route.labels))))


def _read_route(operation: OperationModel) -> _Route:
    path, _, query = operation.http["requestUri"].partition("?")
    labels: list[str] = []

    def group(label: re.Match[str]) -> str:
        labels.append(label[1].removesuffix("+"))
        return "(.+)" if label[1].endswith("+") else "([^/]+)"

    literal = re.split(r"(\{[^}]+\})", path.rstrip("/"))
    pattern = "".join(re.sub(r"\{([^}]+)\}", group, part) if part[:1] == "{" else re.escape(part) for part in literal)
    fixed = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return _Route(operation.http["method"], re.compile(pattern + "/?"), fixed, operation.name, tuple(labels))


def match_route(name: str, request: HttpRequest) -> Match | None:
    """Find the operation of a rest-json service that a request names by its method and path."""
    for route in _routes(name):
        if route.method != request.method or not (found := route.pattern.fullmatch(request.path)):
            continue
        if all(request.query.get(key, [None])[0] == value for key, value in route.query.items()):
            return Match(route.operation, dict(zip(route.labels, map(unquote, found.groups()), strict=True)))
    return None
