"""Functions and versions: created, read, changed, published and deleted."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from immortal_local.functions import configurations
from immortal_local.functions.archives import MAX_UNZIPPED_BYTES, Archive, keep_archive, read_source
from immortal_local.functions.pages import cut_page
from immortal_local.functions.references import LATEST, Reference, function_arn, name_from_layer, read_reference
from immortal_local.functions.store import Function, Store, Version
from immortal_local.images import Images, resolve_uri
from immortal_local.links import Links
from immortal_local.parts import Ground
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["Control", "refer"]

Changed = Callable[[str, str, frozenset[str]], None]
"""Takes region, function name and the revisions that there are."""

_LAYER_ARN_PARTS = 8
_UNCOMPARED = ("Version", "RevisionId", "LastModified", "FunctionArn", "Description")


def refer(call: Call, *, qualifier: bool = True) -> Reference:
    """Read which function a call names."""
    return read_reference(
        call.request["FunctionName"],
        call.request.get("Qualifier") if qualifier else None,
        region=call.region,
        account=call.account,
    )


class Control:
    """The operations on functions and versions.

    Args:
        folder: Where archives are kept.
        links: Makes the links that GetFunction answers.
        images: The images that functions can be made of.
        changed: Told after each change which revisions of a function there are, so that nothing else stays warm.
    """

    def __init__(
        self, store: Store, ground: Ground, *, folder: Path, links: Links, images: Images, changed: Changed
    ) -> None:
        self._store = store
        self._ground = ground
        self._folder = folder
        self._links = links
        self._images = images
        self._changed = changed

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "ListFunctions": self.list,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
            "DeleteFunction": self.delete,
            "PublishVersion": self.publish,
            "ListVersionsByFunction": self.list_versions,
            "GetAccountSettings": self.get_account_settings,
        }

    def create(self, call: Call) -> dict[str, Any]:
        """CreateFunction."""
        request = call.request
        reference = refer(call)
        if any(function.name == reference.name for function in self._store.functions(call.region)):
            raise ApiError("ResourceConflictException", f"Function already exist: {reference.name}")
        _check_package(request)
        self._check_settings(request, call.region)
        code = self._keep_code(request, call, "CreateFunction")
        layers = self._find_layers(request.get("Layers", ()), call.region)
        _check_unzipped(code, layers)
        configuration = configurations.complete(
            request, {}, name=reference.name, region=call.region, layers=_show_layers(request, layers)
        )
        configuration |= self._describe_code(code, request["Code"])
        configuration |= {"Version": LATEST, "FunctionArn": function_arn(call.region, call.account, reference.name)}
        latest = Version(LATEST, _stamped(configuration), code, layers, request["Code"].get("ImageUri"))
        function = Function(reference.name, call.region, call.account, latest, tags=dict(request.get("Tags", {})))
        self._store.add_function(function)
        number = self._publish(function, None).number if request.get("Publish") else LATEST
        return configurations.describe_created({**latest.configuration, "Version": number})

    def get(self, call: Call) -> dict[str, Any]:
        """GetFunction."""
        reference = refer(call)
        with self._store.change():
            function = self._store.function(call.region, reference)
            version = function.version(reference.qualifier)
            answer: dict[str, Any] = {"Configuration": _settled(function, version, reference.qualifier)}
            if function.tags:
                answer["Tags"] = dict(function.tags)
            if function.reserved_concurrency is not None:
                answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        if version.code:
            location = self._links.open(version.code.file, host=call.headers["host"])
            answer["Code"] = {"RepositoryType": "S3", "Location": location}
        else:
            answer["Code"] = self._describe_image(version, call)
        return answer

    def _describe_image(self, version: Version, call: Call) -> dict[str, Any]:
        uri, digest = version.image_uri or "", version.configuration["CodeSha256"]
        resolved = resolve_uri(uri, digest, account=call.account, region=call.region) if digest else None
        shown = {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": resolved}
        return {name: value for name, value in shown.items() if value}

    def _describe_code(self, code: Archive | None, source: Mapping[str, Any]) -> dict[str, Any]:
        if code is None:
            return {"CodeSize": 0, "CodeSha256": self._images.digest_of(source["ImageUri"])}
        return {"CodeSize": code.zipped_bytes, "CodeSha256": code.sha256}

    def get_configuration(self, call: Call) -> dict[str, Any]:
        """GetFunctionConfiguration."""
        reference = refer(call)
        with self._store.change():
            function = self._store.function(call.region, reference)
            return _settled(function, function.version(reference.qualifier), reference.qualifier)

    def list(self, call: Call) -> dict[str, Any]:
        """ListFunctions."""
        every = call.request.get("FunctionVersion") == "ALL"
        with self._store.change():
            shown = [
                configurations.describe_listed(configuration)
                for function in self._store.functions(call.region)
                for configuration in (_every_version(function) if every else [function.latest.configuration])
            ]
        page, more = cut_page(shown, call)
        return {"Functions": page, **more}

    def list_versions(self, call: Call) -> dict[str, Any]:
        """ListVersionsByFunction."""
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            shown = [configurations.describe_listed(configuration) for configuration in _every_version(function)]
        page, more = cut_page(shown, call)
        return {"Versions": page, **more}

    def update_code(self, call: Call) -> dict[str, Any]:
        """UpdateFunctionCode."""
        request = call.request
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            _check_revision(request, function.latest)
        code = self._keep_code({**request, "Code": request}, call, "UpdateFunctionCode")
        _check_unzipped(code, function.latest.layers)
        with self._store.change():
            _check_revision(request, function.latest)
            changes = self._describe_code(code, request)
            if "Architectures" in request:
                changes["Architectures"] = request["Architectures"]
            configuration = _stamped({**function.latest.configuration, **changes})
            latest = Version(LATEST, configuration, code, function.latest.layers, request.get("ImageUri"))
            return self._put(function, latest, request)

    def update_configuration(self, call: Call) -> dict[str, Any]:
        """UpdateFunctionConfiguration."""
        request = call.request
        function = self._store.function(call.region, refer(call))
        self._check_settings(request, call.region)
        layers = self._find_layers(request["Layers"], call.region) if "Layers" in request else function.latest.layers
        _check_unzipped(function.latest.code, layers)
        with self._store.change():
            before = function.latest
            _check_revision(request, before)
            configuration = _stamped(
                configurations.complete(
                    request,
                    before.configuration,
                    name=function.name,
                    region=call.region,
                    layers=_show_layers(request, layers),
                )
            )
            latest = Version(LATEST, configuration, before.code, layers, before.image_uri)
            return self._put(function, latest, {})

    def _put(self, function: Function, latest: Version, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("DryRun"):
            return configurations.describe_updated(latest.configuration)
        function.latest = latest
        self._changed(function.region, function.name, _revisions(function))
        shown = latest.configuration
        if request.get("Publish"):
            shown = self._publish(function, None).configuration
        return configurations.describe_updated(shown)

    def delete(self, call: Call) -> dict[str, Any]:
        """DeleteFunction: the whole function, or with a qualifier one version."""
        reference = refer(call)
        with self._store.change():
            function = self._store.function(call.region, reference)
            if reference.qualifier is None:
                self._store.remove_function(function)
                self._changed(function.region, function.name, frozenset())
            else:
                _delete_version(function, reference.qualifier)
                self._changed(function.region, function.name, _revisions(function))
        return {"StatusCode": HTTPStatus.NO_CONTENT}

    def publish(self, call: Call) -> dict[str, Any]:
        """PublishVersion."""
        request = call.request
        with self._store.change():
            function = self._store.function(call.region, refer(call))
            _check_revision(request, function.latest)
            asked, has = request.get("CodeSha256"), function.latest.configuration["CodeSha256"]
            if asked and asked != has:
                raise ApiError(
                    "InvalidParameterValueException",
                    f"CodeSHA256 ({asked}) is different from current CodeSHA256 in $LATEST ({has}). "
                    "Please try again with the CodeSHA256 in $LATEST.",
                )
            return configurations.describe_settled(self._publish(function, request.get("Description")).configuration)

    def _publish(self, function: Function, description: str | None) -> Version:
        """Publish ``$LATEST``; a second time without a change gives the same version, as on AWS."""
        with self._store.change():
            latest = function.latest
            if (newest := _newest(function)) and _compared(newest) == _compared(latest):
                return newest
            number = str(function.next_number)
            configuration = {**latest.configuration, "Version": number, "FunctionArn": function.arn(number)}
            if description is not None:
                configuration["Description"] = description
            published = Version(number, _stamped(configuration), latest.code, latest.layers, latest.image_uri)
            function.next_number += 1
            function.versions[number] = published
            return published

    def get_account_settings(self, call: Call) -> dict[str, Any]:
        """GetAccountSettings, with the quotas of a fresh account that has asked for nothing."""
        functions = self._store.functions(call.region)
        reserved = sum(function.reserved_concurrency or 0 for function in functions)
        return {
            "AccountLimit": {
                "TotalCodeSize": 300 * 1024**3,
                "CodeSizeUnzipped": MAX_UNZIPPED_BYTES,
                "CodeSizeZipped": 50 * 1024**2,
                "ConcurrentExecutions": 1000,
                "UnreservedConcurrentExecutions": 1000 - reserved,
            },
            "AccountUsage": {
                "TotalCodeSize": sum(function.latest.configuration["CodeSize"] for function in functions),
                "FunctionCount": len(functions),
            },
        }

    def _keep_code(self, request: Mapping[str, Any], call: Call, operation: str) -> Archive | None:
        if "ImageUri" in request["Code"]:
            return None
        zipped = read_source(request["Code"], self._ground.client("s3", call.region), operation=operation)
        return keep_archive(zipped, self._folder)

    def _check_settings(self, request: Mapping[str, Any], region: str) -> None:
        configurations.check_settings(request)
        if "Role" in request:
            self._check_role(request["Role"])
        if target := request.get("DeadLetterConfig", {}).get("TargetArn"):
            self._check_dead_letter_target(target, region)

    def _check_role(self, role_arn: str) -> None:
        try:
            self._ground.client("iam").get_role(RoleName=role_arn.rpartition("/")[2])
        except ClientError as error:
            message = "The role defined for the function cannot be assumed by Lambda."
            raise ApiError("InvalidParameterValueException", message) from error

    def _check_dead_letter_target(self, arn: str, region: str) -> None:
        service, name = arn.split(":")[2], arn.rsplit(":", maxsplit=1)[-1]
        if service == "sqs" and name.endswith(".fifo"):
            message = "Lambda does not support FIFO queues as a dead-letter queue."
            raise ApiError("InvalidParameterValueException", message)
        try:
            if service == "sqs":
                self._ground.client("sqs", region).get_queue_url(QueueName=name)
            elif service == "sns":
                self._ground.client("sns", region).get_topic_attributes(TopicArn=arn)
            else:
                message = "The dead-letter target must be an SQS queue or an SNS topic."
                raise ApiError("InvalidParameterValueException", message)
        except ClientError as error:
            kind = "queue" if service == "sqs" else "topic"
            raise ApiError("InvalidParameterValueException", f"The dead-letter {kind} {arn} does not exist.") from error

    def _find_layers(self, arns: Sequence[str], region: str) -> tuple[Archive, ...]:
        found = []
        for arn in arns:
            parts = arn.split(":")
            version = None
            if len(parts) == _LAYER_ARN_PARTS and parts[7].isdigit():
                version = self._store.layer_version(region, name_from_layer(arn), int(parts[7]))
            if version is None:
                raise ApiError("InvalidParameterValueException", f"Layer version {arn} does not exist.")
            found.append(version.archive)
        return tuple(found)


def _stamped(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return configurations.stamp(configuration, datetime.now(UTC))


def _check_package(request: Mapping[str, Any]) -> None:
    if request.get("PackageType", "Zip") == "Zip" and not {"Runtime", "Handler"} <= set(request):
        message = "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        raise ApiError("InvalidParameterValueException", message)


def _check_unzipped(code: Archive | None, layers: Sequence[Archive]) -> None:
    unzipped = sum(archive.unzipped_bytes for archive in (*layers, *([code] if code else [])))
    if unzipped > MAX_UNZIPPED_BYTES:
        raise ApiError(
            "InvalidParameterValueException",
            f"Function code combined with layers exceeds the maximum allowed size of {MAX_UNZIPPED_BYTES} bytes. "
            f"The actual size is {unzipped} bytes.",
        )


def _check_revision(request: Mapping[str, Any], latest: Version) -> None:
    if request.get("RevisionId", latest.revision) != latest.revision:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


def _show_layers(request: Mapping[str, Any], layers: Sequence[Archive]) -> list[dict[str, Any]] | None:
    if "Layers" not in request:
        return None
    return [{"Arn": arn, "CodeSize": layer.zipped_bytes} for arn, layer in zip(request["Layers"], layers, strict=True)]


def _settled(function: Function, version: Version, qualifier: str | None) -> dict[str, Any]:
    """Show a version under the ARN by which it was asked for."""
    return configurations.describe_settled({**version.configuration, "FunctionArn": function.arn(qualifier)})


def _revisions(function: Function) -> frozenset[str]:
    return frozenset(version.revision for version in (function.latest, *function.versions.values()))


def _every_version(function: Function) -> list[dict[str, Any]]:
    latest = {**function.latest.configuration, "FunctionArn": function.arn(LATEST)}
    return [latest, *(version.configuration for version in function.versions.values())]


def _newest(function: Function) -> Version | None:
    return function.versions.get(str(function.next_number - 1))


def _compared(version: Version) -> dict[str, Any]:
    return {member: value for member, value in version.configuration.items() if member not in _UNCOMPARED}


def _delete_version(function: Function, qualifier: str) -> None:
    if qualifier == LATEST:
        message = "$LATEST version cannot be deleted without deleting the function."
        raise ApiError("InvalidParameterValueException", message)
    function.version(qualifier)
    using = sorted(alias.name for alias in function.aliases.values() if qualifier in {alias.version, *alias.weights})
    if using:
        message = f"Version {qualifier} is used by the aliases {', '.join(using)}: delete or move them first."
        raise ApiError("ResourceConflictException", message)
    function.versions.pop(qualifier, None)
