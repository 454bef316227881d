"""Aliases: names for versions."""

import uuid
from dataclasses import replace
from typing import Any

from immortal_local.functions.control import refer
from immortal_local.functions.pages import cut_page
from immortal_local.functions.store import Alias, Function, Store
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["Aliases"]


class Aliases:
    """The operations on aliases."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "CreateAlias": self.create,
            "GetAlias": self.get,
            "UpdateAlias": self.update,
            "DeleteAlias": self.delete,
            "ListAliases": self.list,
        }

    def create(self, call: Call) -> dict[str, Any]:
        """CreateAlias."""
        request = call.request
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            if request["Name"] in function.aliases:
                raise ApiError("ResourceConflictException", f"Alias already exists: {function.arn(request['Name'])}")
            alias = Alias(
                request["Name"], request["FunctionVersion"], request.get("Description", ""), str(uuid.uuid4())
            )
            return _put(function, alias, request)

    def get(self, call: Call) -> dict[str, Any]:
        """GetAlias."""
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            return _describe(function, _find(function, call.request["Name"]))

    def update(self, call: Call) -> dict[str, Any]:
        """UpdateAlias."""
        request = call.request
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            before = _find(function, request["Name"])
            if request.get("RevisionId", before.revision) != before.revision:
                raise ApiError(
                    "PreconditionFailedException",
                    "The Revision Id provided does not match the latest Revision Id. "
                    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
                )
            after = replace(
                before,
                version=request.get("FunctionVersion", before.version),
                description=request.get("Description", before.description),
                revision=str(uuid.uuid4()),
            )
            return _put(function, after, request)

    def delete(self, call: Call) -> None:
        """DeleteAlias; of one that isn't there too."""
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            function.aliases.pop(call.request["Name"], None)

    def list(self, call: Call) -> dict[str, Any]:
        """ListAliases."""
        wanted = call.request.get("FunctionVersion")
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            aliases = sorted(function.aliases.values(), key=lambda alias: alias.name)
            shown = [_describe(function, alias) for alias in aliases if wanted in {None, alias.version}]
        page, more = cut_page(shown, call)
        return {"Aliases": page, **more}


def _put(function: Function, alias: Alias, request: dict[str, Any]) -> dict[str, Any]:
    if "RoutingConfig" in request:
        alias = replace(alias, weights=dict(request["RoutingConfig"].get("AdditionalVersionWeights", {})))
    for number in (alias.version, *alias.weights):
        function.version(number)
    function.aliases[alias.name] = alias
    return _describe(function, alias)


def _find(function: Function, name: str) -> Alias:
    if name not in function.aliases:
        raise ApiError("ResourceNotFoundException", f"Cannot find alias arn: {function.arn(name)}")
    return function.aliases[name]


def _describe(function: Function, alias: Alias) -> dict[str, Any]:
    routing = {"RoutingConfig": {"AdditionalVersionWeights": alias.weights}} if alias.weights else {}
    return {
        "AliasArn": function.arn(alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision,
        **routing,
    }
