"""Lambda functions and what belongs to them."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import Kind, Made, Maker, Properties, changed_properties, retag, tag_map

__all__ = ["KINDS"]

CONFIGURATION = (
    "DeadLetterConfig",
    "Description",
    "Environment",
    "EphemeralStorage",
    "Handler",
    "KmsKeyArn",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "Role",
    "Runtime",
    "SnapStart",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)


def _write_code(code: Mapping[str, Any], runtime: str) -> dict[str, Any]:
    """Write a function's code for the API; inline source becomes a zip, as CloudFormation makes it."""
    if "ZipFile" not in code:
        return dict(code)
    return {"ZipFile": _zip_source(str(code["ZipFile"]), "index.js" if runtime.startswith("nodejs") else "index.py")}


def _zip_source(source: str, name: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, source)
    return written.getvalue()


def _wait_until_active(maker: Maker, name: str, waiter: str) -> None:
    maker.client("lambda").get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 1})


def _create_function(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "FunctionName", longest=64)
    request = {
        "FunctionName": name,
        "Code": _write_code(properties["Code"], properties.get("Runtime", "")),
        **pick(properties, *CONFIGURATION, "Architectures", "PackageType"),
        "Tags": tag_map(properties) or None,
    }
    answer = call(maker, "lambda", "CreateFunction", request)
    maker.begin(Made(name))
    _wait_until_active(maker, name, "function_active_v2")
    _set_function_extras(maker, name, {}, properties)
    return Made(name, {"Arn": answer["FunctionArn"]})


def _set_function_extras(maker: Maker, name: str, old: Properties, new: Properties) -> None:
    changed = changed_properties(old, new)
    reserved = new.get("ReservedConcurrentExecutions")
    if "ReservedConcurrentExecutions" in changed and reserved is None:
        call(maker, "lambda", "DeleteFunctionConcurrency", {"FunctionName": name})
    elif "ReservedConcurrentExecutions" in changed:
        request = {"FunctionName": name, "ReservedConcurrentExecutions": reserved}
        call(maker, "lambda", "PutFunctionConcurrency", request)
    if "RecursiveLoop" in changed:
        request = {"FunctionName": name, "RecursiveLoop": new.get("RecursiveLoop", "Terminate")}
        call(maker, "lambda", "PutFunctionRecursionConfig", request)


DEFAULTS: Mapping[str, Any] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "KmsKeyArn": "",
    "Layers": [],
    "MemorySize": 128,
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
}
"""What a setting becomes when its property is taken out of the template."""


def _update_function(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new)
    if changed & {"Code", "Architectures"}:
        code = _write_code(new["Code"], new.get("Runtime", ""))
        call(maker, "lambda", "UpdateFunctionCode", {"FunctionName": made.id, **code, **pick(new, "Architectures")})
        _wait_until_active(maker, made.id, "function_updated_v2")
    if settings := changed & set(CONFIGURATION):
        values = {**DEFAULTS, **new}
        request = {name: values[name] for name in sorted(settings) if name in values}
        call(maker, "lambda", "UpdateFunctionConfiguration", {"FunctionName": made.id, **request})
        _wait_until_active(maker, made.id, "function_updated_v2")
    _set_function_extras(maker, made.id, old, new)
    arn = made.attributes["Arn"]
    retag(
        old,
        new,
        add=lambda tags: call(maker, "lambda", "TagResource", {"Resource": arn, "Tags": tags}),
        take=lambda keys: call(maker, "lambda", "UntagResource", {"Resource": arn, "TagKeys": keys}),
    )
    return made


def _remove_function(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "lambda", "DeleteFunction", {"FunctionName": made.id})


# Event source mappings

MAPPING = (
    "BatchSize",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "Enabled",
    "EventSourceArn",
    "FilterCriteria",
    "FunctionName",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "ScalingConfig",
    "StartingPosition",
)
MAPPING_DEFAULTS: Mapping[str, Any] = {
    "Enabled": True,
    "FilterCriteria": {"Filters": []},
    "FunctionResponseTypes": [],
    "MaximumBatchingWindowInSeconds": 0,
    "ScalingConfig": {},
}


def _create_mapping(maker: Maker, properties: Properties) -> Made:
    answer = call(maker, "lambda", "CreateEventSourceMapping", pick(properties, *MAPPING))
    identity = answer["UUID"]
    arn = f"arn:aws:lambda:{maker.region}:{maker.account}:event-source-mapping:{identity}"
    return Made(identity, {"Id": identity, "EventSourceMappingArn": arn})


def _update_mapping(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    values = {**MAPPING_DEFAULTS, **new}
    request = {name: values[name] for name in sorted(changed_properties(old, new)) if name in values}
    call(maker, "lambda", "UpdateEventSourceMapping", {"UUID": made.id, **request})
    return made


def _remove_mapping(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "lambda", "DeleteEventSourceMapping", {"UUID": made.id})


# Permissions

PERMISSION = ("Action", "FunctionName", "Principal", "SourceAccount", "SourceArn", "PrincipalOrgID", "EventSourceToken")


def _create_permission(maker: Maker, properties: Properties) -> Made:
    statement = maker.name({}, "", longest=100)
    call(maker, "lambda", "AddPermission", {"StatementId": statement, **pick(properties, *PERMISSION)})
    return Made(statement, {"Id": statement})


def _remove_permission(maker: Maker, made: Made, properties: Properties) -> None:
    with gone_is_fine():
        request = {"FunctionName": properties["FunctionName"], "StatementId": made.id}
        call(maker, "lambda", "RemovePermission", request)


# Asynchronous invocation settings

INVOKE_CONFIG = ("FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


def _put_invoke_config(maker: Maker, properties: Properties) -> Made:
    call(maker, "lambda", "PutFunctionEventInvokeConfig", pick(properties, *INVOKE_CONFIG))
    return Made(f"{properties['FunctionName']}|{properties['Qualifier']}")


def _remove_invoke_config(maker: Maker, _: Made, properties: Properties) -> None:
    with gone_is_fine():
        call(maker, "lambda", "DeleteFunctionEventInvokeConfig", pick(properties, "FunctionName", "Qualifier"))


# Layers, versions, aliases

LAYER = ("LayerName", "Content", "Description", "CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo")


def _create_layer(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "LayerName", longest=64)
    answer = call(maker, "lambda", "PublishLayerVersion", {**pick(properties, *LAYER), "LayerName": name})
    arn = answer["LayerVersionArn"]
    return Made(arn, {"LayerVersionArn": arn})


def _remove_layer(maker: Maker, made: Made, _: Properties) -> None:
    name, version = made.id.rsplit(":", 1)
    with gone_is_fine():
        call(maker, "lambda", "DeleteLayerVersion", {"LayerName": name, "VersionNumber": version})


def _create_version(maker: Maker, properties: Properties) -> Made:
    answer = call(maker, "lambda", "PublishVersion", pick(properties, "FunctionName", "Description", "CodeSha256"))
    arn = answer["FunctionArn"]
    return Made(arn, {"FunctionArn": arn, "Version": answer["Version"]})


def _remove_version(maker: Maker, made: Made, properties: Properties) -> None:
    with gone_is_fine():
        request = {"FunctionName": properties["FunctionName"], "Qualifier": made.attributes["Version"]}
        call(maker, "lambda", "DeleteFunction", request)


ALIAS = ("FunctionName", "FunctionVersion", "Name", "Description", "RoutingConfig")


def _create_alias(maker: Maker, properties: Properties) -> Made:
    arn = str(call(maker, "lambda", "CreateAlias", pick(properties, *ALIAS))["AliasArn"])
    return Made(arn, {"AliasArn": arn})


def _update_alias(maker: Maker, made: Made, _: Properties, new: Properties) -> Made:
    call(maker, "lambda", "UpdateAlias", pick(new, *ALIAS))
    return made


def _remove_alias(maker: Maker, _: Made, properties: Properties) -> None:
    with gone_is_fine():
        call(maker, "lambda", "DeleteAlias", pick(properties, "FunctionName", "Name"))


KINDS: Mapping[str, Kind] = {
    "AWS::Lambda::Function": Kind(
        properties=frozenset(
            {
                *CONFIGURATION,
                "Architectures",
                "Code",
                "FunctionName",
                "PackageType",
                "RecursiveLoop",
                "ReservedConcurrentExecutions",
                "Tags",
            }
        ),
        required=frozenset({"Code", "Role"}),
        create=_create_function,
        update=_update_function,
        remove=_remove_function,
        fixed=frozenset({"FunctionName", "PackageType"}),
        name="FunctionName",
    ),
    "AWS::Lambda::EventSourceMapping": Kind(
        properties=frozenset(MAPPING),
        required=frozenset({"FunctionName"}),
        create=_create_mapping,
        update=_update_mapping,
        remove=_remove_mapping,
        fixed=frozenset({"EventSourceArn", "StartingPosition"}),
    ),
    "AWS::Lambda::Permission": Kind(
        properties=frozenset(PERMISSION),
        required=frozenset({"Action", "FunctionName", "Principal"}),
        create=_create_permission,
        remove=_remove_permission,
    ),
    "AWS::Lambda::EventInvokeConfig": Kind(
        properties=frozenset(INVOKE_CONFIG),
        required=frozenset({"FunctionName", "Qualifier"}),
        create=_put_invoke_config,
        update=lambda maker, _, __, new: _put_invoke_config(maker, new),
        remove=_remove_invoke_config,
        fixed=frozenset({"FunctionName", "Qualifier"}),
    ),
    "AWS::Lambda::LayerVersion": Kind(
        properties=frozenset(LAYER),
        required=frozenset({"Content"}),
        create=_create_layer,
        remove=_remove_layer,
    ),
    "AWS::Lambda::Version": Kind(
        properties=frozenset({"FunctionName", "Description", "CodeSha256"}),
        required=frozenset({"FunctionName"}),
        create=_create_version,
        remove=_remove_version,
    ),
    "AWS::Lambda::Alias": Kind(
        properties=frozenset(ALIAS),
        required=frozenset({"FunctionName", "FunctionVersion", "Name"}),
        create=_create_alias,
        update=_update_alias,
        remove=_remove_alias,
        fixed=frozenset({"FunctionName", "Name"}),
    ),
}
