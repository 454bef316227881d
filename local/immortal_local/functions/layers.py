"""Layers: archives that functions share."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from immortal_local.functions.archives import keep_archive, read_source
from immortal_local.functions.pages import cut_page
from immortal_local.functions.references import layer_arn, name_from_layer
from immortal_local.functions.store import Layer, LayerVersion, Store
from immortal_local.links import Links
from immortal_local.parts import Ground
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["Layers"]

_DETAILS = ("CompatibleArchitectures", "CompatibleRuntimes", "LicenseInfo")


class Layers:
    """The operations on layers."""

    def __init__(self, store: Store, ground: Ground, *, folder: Path, links: Links) -> None:
        self._store = store
        self._ground = ground
        self._folder = folder
        self._links = links

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "ListLayers": self.list,
            "ListLayerVersions": self.list_versions,
            "DeleteLayerVersion": self.delete,
        }

    def publish(self, call: Call) -> dict[str, Any]:
        """PublishLayerVersion."""
        request = call.request
        s3 = self._ground.client("s3", call.region)
        archive = keep_archive(read_source(request["Content"], s3, operation="PublishLayerVersion"), self._folder)
        with self._store.change():
            layer = self._store.layer(call.region, name_from_layer(request["LayerName"]))
            version = LayerVersion(
                layer.next_number,
                archive,
                request.get("Description", ""),
                datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000",
                {name: request[name] for name in _DETAILS if name in request},
            )
            layer.versions[version.number] = version
            layer.next_number += 1
            return self._describe(layer, version, call)

    def get(self, call: Call) -> dict[str, Any]:
        """GetLayerVersion."""
        return self._get(call, name_from_layer(call.request["LayerName"]), call.request["VersionNumber"])

    def get_by_arn(self, call: Call) -> dict[str, Any]:
        """GetLayerVersionByArn."""
        name, _, number = call.request["Arn"].partition(":layer:")[2].partition(":")
        return self._get(call, name, int(number))

    def _get(self, call: Call, name: str, number: int) -> dict[str, Any]:
        with self._store.change():
            version = self._store.layer_version(call.region, name, number)
            if version is None:
                raise ApiError(
                    "ResourceNotFoundException",
                    f"Layer version {layer_arn(call.region, call.account, name, number)} does not exist.",
                )
            return self._describe(self._store.layer(call.region, name), version, call)

    def _describe(self, layer: Layer, version: LayerVersion, call: Call) -> dict[str, Any]:
        return {
            "Content": {
                "Location": self._links.open(version.archive.file, host=call.headers["host"]),
                "CodeSha256": version.archive.sha256,
                "CodeSize": version.archive.zipped_bytes,
            },
            "LayerArn": layer.arn(),
            **_summarise(layer, version),
        }

    def list(self, call: Call) -> dict[str, Any]:
        """ListLayers, each with its latest version that fits."""
        with self._store.change():
            shown = [
                {
                    "LayerName": layer.name,
                    "LayerArn": layer.arn(),
                    "LatestMatchingVersion": _summarise(layer, fitting[-1]),
                }
                for layer in self._store.layers(call.region)
                if (fitting := _fitting(layer, call))
            ]
        page, more = cut_page(shown, call)
        return {"Layers": page, **more}

    def list_versions(self, call: Call) -> dict[str, Any]:
        """ListLayerVersions, the latest first."""
        with self._store.change():
            layer = self._store.layer(call.region, name_from_layer(call.request["LayerName"]))
            shown = [_summarise(layer, version) for version in reversed(_fitting(layer, call))]
        page, more = cut_page(shown, call)
        return {"LayerVersions": page, **more}

    def delete(self, call: Call) -> None:
        """DeleteLayerVersion; functions that use it keep it, as on AWS."""
        with self._store.change():
            layer = self._store.layer(call.region, name_from_layer(call.request["LayerName"]))
            layer.versions.pop(call.request["VersionNumber"], None)


def _summarise(layer: Layer, version: LayerVersion) -> dict[str, Any]:
    return {
        "LayerVersionArn": layer.arn(version.number),
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": version.created_date,
        **version.details,
    }


def _fitting(layer: Layer, call: Call) -> list[LayerVersion]:
    """The versions that suit the runtime and architecture that a list asks for; one that names none suits none."""
    runtime = call.request.get("CompatibleRuntime")
    architecture = call.request.get("CompatibleArchitecture")
    return [
        version
        for version in layer.versions.values()
        if (runtime is None or runtime in version.details.get("CompatibleRuntimes", ()))
        and (architecture is None or architecture in version.details.get("CompatibleArchitectures", ()))
    ]
