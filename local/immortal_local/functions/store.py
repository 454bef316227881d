"""The store: functions, versions, aliases and layers of one local AWS, in memory and under one lock."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from immortal_local.functions.archives import Archive
from immortal_local.functions.references import LATEST, Reference, function_arn, layer_arn, not_found
from immortal_local.wire import ApiError

__all__ = ["Alias", "Function", "Layer", "LayerVersion", "Store", "Target", "Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a function, ``$LATEST`` included.

    Attributes:
        configuration: Its members as the API names them, without ``State`` and what belongs to it.
        code: None for an image.
        layers: The layers' archives, in the order in which they are laid over each other.
    """

    number: str
    configuration: dict[str, Any]
    code: Archive | None
    layers: tuple[Archive, ...] = ()
    image_uri: str | None = None

    @property
    def revision(self) -> str:
        """Changes with every change."""
        return str(self.configuration["RevisionId"])


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version.

    Attributes:
        weights: Version to the share of invocations that it gets instead, 0 to 1.
    """

    name: str
    version: str
    description: str
    revision: str
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Function:
    """All that belongs to one function name. Only read or changed under the store's lock."""

    name: str
    region: str
    account: str
    latest: Version
    versions: dict[str, Version] = field(default_factory=dict)
    next_number: int = 1
    aliases: dict[str, Alias] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    recursive_loop: str = "Terminate"
    event_invoke_configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def arn(self, qualifier: str | None = None) -> str:
        """Name the function, or one version or alias of it."""
        return function_arn(self.region, self.account, self.name, qualifier)

    def version(self, qualifier: str | None) -> Version:
        """Find the version that a qualifier names, through an alias too.

        Raises:
            ApiError: There is none.
        """
        number = qualifier or LATEST
        if alias := self.aliases.get(number):
            number = alias.version
        if number == LATEST:
            return self.latest
        if number not in self.versions:
            raise not_found(self.arn(qualifier))
        return self.versions[number]

    def route(self, qualifier: str | None) -> Version:
        """Find the version that one invocation gets, by an alias's weights if it has any."""
        alias = self.aliases.get(qualifier or LATEST)
        draw = random.random()  # noqa: S311  # shares of traffic are no secret
        for number, weight in alias.weights.items() if alias else ():
            if draw < weight:
                return self.version(number)
            draw -= weight
        return self.version(qualifier)


@dataclass(frozen=True, slots=True)
class Target:
    """What one invocation runs: a version, frozen at that moment.

    Attributes:
        arn: As invoked, with the qualifier if the caller gave one.
        qualified_arn: Always with a qualifier, as records of invocations show it.
        qualifier: As invoked, ``$LATEST`` if the caller gave none.
        dead_letter_arn: From ``$LATEST``, whichever version runs; versions share its setting.
        reserved_concurrency: None if the function draws on the account's.
    """

    name: str
    region: str
    arn: str
    qualified_arn: str
    qualifier: str
    version: Version
    dead_letter_arn: str | None
    reserved_concurrency: int | None


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """One version of a layer, which never changes."""

    number: int
    archive: Archive
    description: str
    created_date: str
    details: dict[str, Any]


@dataclass(slots=True)
class Layer:
    """All versions of one layer."""

    name: str
    region: str
    account: str
    versions: dict[int, LayerVersion] = field(default_factory=dict)
    next_number: int = 1

    def arn(self, number: int | None = None) -> str:
        """Name the layer, or one version of it."""
        return layer_arn(self.region, self.account, self.name, number)


class Store:
    """Every function and layer, by region and name."""

    def __init__(self, account: str) -> None:
        self.account = account
        self._lock = threading.RLock()
        self._functions: dict[tuple[str, str], Function] = {}
        self._layers: dict[tuple[str, str], Layer] = {}

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold everything still while several things are read or changed together."""
        with self._lock:
            yield

    def functions(self, region: str) -> list[Function]:
        """Every function of a region, by name."""
        with self._lock:
            found = [function for (where, _), function in self._functions.items() if where == region]
        return sorted(found, key=lambda function: function.name)

    def function(self, region: str, reference: Reference) -> Function:
        """Find a function; whether the qualifier exists is not looked at.

        Raises:
            ApiError: It is unknown.
        """
        with self._lock:
            found = self._functions.get((region, reference.name))
        if found is None:
            raise not_found(function_arn(region, self.account, reference.name, reference.qualifier))
        return found

    def has_function(self, region: str, name: str) -> bool:
        """Whether there is such a function, now."""
        with self._lock:
            return (region, name) in self._functions

    def add_function(self, function: Function) -> None:
        """Add a new function.

        Raises:
            ApiError: The name is taken.
        """
        with self._lock:
            if (function.region, function.name) in self._functions:
                raise ApiError("ResourceConflictException", f"Function already exist: {function.name}")
            self._functions[function.region, function.name] = function

    def remove_function(self, function: Function) -> None:
        """Forget a function and everything that belongs to it."""
        with self._lock:
            self._functions.pop((function.region, function.name), None)

    def target(self, region: str, reference: Reference) -> Target:
        """Settle what one invocation runs.

        Raises:
            ApiError: Function, version or alias is unknown; AWS's words name ``$LATEST`` even if the caller didn't.
        """
        qualified = Reference(reference.name, reference.qualifier or LATEST)
        with self._lock:
            function = self.function(region, qualified)
            return Target(
                name=function.name,
                region=region,
                arn=function.arn(reference.qualifier),
                qualified_arn=function.arn(qualified.qualifier),
                qualifier=qualified.qualifier or LATEST,
                version=function.route(qualified.qualifier),
                dead_letter_arn=function.latest.configuration.get("DeadLetterConfig", {}).get("TargetArn"),
                reserved_concurrency=function.reserved_concurrency,
            )

    def layers(self, region: str) -> list[Layer]:
        """Every layer of a region, by name."""
        with self._lock:
            found = [layer for (where, _), layer in self._layers.items() if where == region]
        return sorted(found, key=lambda layer: layer.name)

    def layer(self, region: str, name: str) -> Layer:
        """Find a layer, or begin it."""
        with self._lock:
            return self._layers.setdefault((region, name), Layer(name, region, self.account))

    def layer_version(self, region: str, name: str, number: int) -> LayerVersion | None:
        """Find one version of a layer, None if there is none."""
        with self._lock:
            layer = self._layers.get((region, name))
            return layer.versions.get(number) if layer else None
