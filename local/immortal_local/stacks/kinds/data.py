"""DynamoDB tables, S3 buckets and log groups."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import (
    Kind,
    Made,
    Maker,
    NotCarriedOut,
    Properties,
    ResourceFailed,
    changed_properties,
    retag,
    tag_map,
)

__all__ = ["KINDS"]


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


# DynamoDB

TABLE_DIRECT = (
    "AttributeDefinitions",
    "BillingMode",
    "DeletionProtectionEnabled",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "ProvisionedThroughput",
)
RECOVERY = "PointInTimeRecoverySpecification"


def _create_table(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "TableName", longest=255)
    request = {
        "TableName": name,
        **pick(properties, *TABLE_DIRECT),
        "StreamSpecification": _stream(properties),
        "SSESpecification": _encryption(properties),
        "Tags": _tag_list(tag_map(properties)) or None,
    }
    call(maker, "dynamodb", "CreateTable", request)
    maker.begin(Made(name))
    maker.client("dynamodb").get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    _set_table_extras(maker, name, {}, properties)
    return _describe_table(maker, name)


def _describe_table(maker: Maker, name: str) -> Made:
    table = call(maker, "dynamodb", "DescribeTable", {"TableName": name})["Table"]
    stream = table.get("LatestStreamArn")
    return Made(name, {"Arn": table["TableArn"], **({"StreamArn": stream} if stream else {})})


def _stream(properties: Properties) -> dict[str, Any] | None:
    if (stream := properties.get("StreamSpecification")) is None:
        return None
    return {"StreamEnabled": True, **stream}


def _encryption(properties: Properties) -> dict[str, Any] | None:
    if (encryption := properties.get("SSESpecification")) is None:
        return None
    return {("Enabled" if key == "SSEEnabled" else key): value for key, value in encryption.items()}


def _set_table_extras(maker: Maker, name: str, old: Properties, new: Properties) -> None:
    """Set what a table's creation can't: the time to live and the point-in-time recovery."""
    before, after = old.get("TimeToLiveSpecification"), new.get("TimeToLiveSpecification")
    if before != after:
        wanted = after or {**(before or {}), "Enabled": False}
        call(maker, "dynamodb", "UpdateTimeToLive", {"TableName": name, "TimeToLiveSpecification": wanted})
    if old.get(RECOVERY) != new.get(RECOVERY):
        recovery = new.get(RECOVERY) or {"PointInTimeRecoveryEnabled": False}
        call(maker, "dynamodb", "UpdateContinuousBackups", {"TableName": name, RECOVERY: recovery})


def _update_table(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new)
    request: dict[str, Any] = {}
    if changed & {"BillingMode", "ProvisionedThroughput", "DeletionProtectionEnabled"}:
        request |= pick(new, "BillingMode", "ProvisionedThroughput")
        request["DeletionProtectionEnabled"] = new.get("DeletionProtectionEnabled", False)
    if "StreamSpecification" in changed:
        request["StreamSpecification"] = _stream(new) or {"StreamEnabled": False}
    if "SSESpecification" in changed:
        request["SSESpecification"] = _encryption(new) or {"Enabled": False}
    if request:
        call(maker, "dynamodb", "UpdateTable", {"TableName": made.id, **request})
    for change in _index_changes(old, new):
        call(
            maker,
            "dynamodb",
            "UpdateTable",
            {
                "TableName": made.id,
                "GlobalSecondaryIndexUpdates": [change],
                **pick(new, "AttributeDefinitions"),
            },
        )
    _set_table_extras(maker, made.id, old, new)
    arn = made.attributes["Arn"]
    retag(
        old,
        new,
        add=lambda tags: call(maker, "dynamodb", "TagResource", {"ResourceArn": arn, "Tags": _tag_list(tags)}),
        take=lambda keys: call(maker, "dynamodb", "UntagResource", {"ResourceArn": arn, "TagKeys": keys}),
    )
    return _describe_table(maker, made.id)


def _index_changes(old: Properties, new: Properties) -> list[dict[str, Any]]:
    before = {index["IndexName"]: index for index in old.get("GlobalSecondaryIndexes") or []}
    after = {index["IndexName"]: index for index in new.get("GlobalSecondaryIndexes") or []}
    gone = [name for name in before if before[name] != after.get(name)]
    come = [index for name, index in after.items() if index != before.get(name)]
    return [*({"Delete": {"IndexName": name}} for name in gone), *({"Create": index} for index in come)]


def _remove_table(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "dynamodb", "DeleteTable", {"TableName": made.id})


# S3

Change = Callable[[Maker, str, Any], None]


def _put_bucket_part(operation: str, key: str, written: Callable[[Any], Any]) -> Change:
    def put(maker: Maker, bucket: str, value: Any) -> None:
        call(maker, "s3", operation, {"Bucket": bucket, key: written(value)})

    return put


def _drop_bucket_part(operation: str) -> Callable[[Maker, str], None]:
    def drop(maker: Maker, bucket: str) -> None:
        call(maker, "s3", operation, {"Bucket": bucket})

    return drop


def _write_encryption(value: Any) -> Any:
    rules = value["ServerSideEncryptionConfiguration"]
    return {
        "Rules": [
            {
                ("ApplyServerSideEncryptionByDefault" if key == "ServerSideEncryptionByDefault" else key): each
                for key, each in rule.items()
            }
            for rule in rules
        ]
    }


def _write_lifecycle(value: Any) -> Any:
    return {"Rules": [_write_lifecycle_rule(rule) for rule in value["Rules"]]}


LIFECYCLE_KEYS = frozenset(
    {
        "AbortIncompleteMultipartUpload",
        "ExpirationInDays",
        "ExpiredObjectDeleteMarker",
        "Id",
        "NoncurrentVersionExpiration",
        "Prefix",
        "Status",
        "TagFilters",
    }
)


def _write_lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(rule) - LIFECYCLE_KEYS:
        raise NotCarriedOut(
            f"AWS::S3::Bucket LifecycleConfiguration: the local AWS doesn't carry out {', '.join(sorted(unknown))}; "
            f"it carries out {', '.join(sorted(LIFECYCLE_KEYS))}."
        )
    written: dict[str, Any] = {"Status": rule["Status"], "Filter": _write_filter(rule)}
    if "Id" in rule:
        written["ID"] = rule["Id"]
    expiration = {
        **({"Days": rule["ExpirationInDays"]} if "ExpirationInDays" in rule else {}),
        **pick(rule, "ExpiredObjectDeleteMarker"),
    }
    if expiration:
        written["Expiration"] = expiration
    return written | pick(rule, "AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration")


def _write_filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    tags = rule.get("TagFilters") or []
    prefix = rule.get("Prefix", "")
    if not tags:
        return {"Prefix": prefix}
    return {"And": {"Prefix": prefix, "Tags": tags}}


def _suspend_versioning(maker: Maker, bucket: str) -> None:
    call(maker, "s3", "PutBucketVersioning", {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}})


BUCKET_PARTS: Mapping[str, tuple[Change, Callable[[Maker, str], None]]] = {
    "BucketEncryption": (
        _put_bucket_part("PutBucketEncryption", "ServerSideEncryptionConfiguration", _write_encryption),
        _drop_bucket_part("DeleteBucketEncryption"),
    ),
    "LifecycleConfiguration": (
        _put_bucket_part("PutBucketLifecycleConfiguration", "LifecycleConfiguration", _write_lifecycle),
        _drop_bucket_part("DeleteBucketLifecycle"),
    ),
    "OwnershipControls": (
        _put_bucket_part("PutBucketOwnershipControls", "OwnershipControls", lambda value: value),
        _drop_bucket_part("DeleteBucketOwnershipControls"),
    ),
    "PublicAccessBlockConfiguration": (
        _put_bucket_part("PutPublicAccessBlock", "PublicAccessBlockConfiguration", lambda value: value),
        _drop_bucket_part("DeletePublicAccessBlock"),
    ),
    "Tags": (
        _put_bucket_part("PutBucketTagging", "Tagging", lambda value: {"TagSet": value}),
        _drop_bucket_part("DeleteBucketTagging"),
    ),
    "VersioningConfiguration": (
        _put_bucket_part("PutBucketVersioning", "VersioningConfiguration", lambda value: value),
        _suspend_versioning,
    ),
}


def _create_bucket(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "BucketName", longest=63).lower()
    try:
        maker.client("s3").head_bucket(Bucket=name)
    except ClientError:
        pass
    else:
        raise ResourceFailed(f"{name} already exists")
    place = {"LocationConstraint": maker.region} if maker.region != "us-east-1" else None
    call(maker, "s3", "CreateBucket", {"Bucket": name, "CreateBucketConfiguration": place})
    attributes = {
        "Arn": f"arn:aws:s3:::{name}",
        "DomainName": f"{name}.s3.amazonaws.com",
        "RegionalDomainName": f"{name}.s3.{maker.region}.amazonaws.com",
    }
    made = maker.begin(Made(name, attributes))
    return _update_bucket(maker, made, {}, properties)


def _update_bucket(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    for part in sorted(changed_properties(old, new) & set(BUCKET_PARTS)):
        put, drop = BUCKET_PARTS[part]
        if new.get(part):
            put(maker, made.id, new[part])
        else:
            drop(maker, made.id)
    return made


def _remove_bucket(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "s3", "DeleteBucket", {"Bucket": made.id})


def _put_bucket_policy(maker: Maker, properties: Properties) -> Made:
    policy = json.dumps(properties["PolicyDocument"])
    call(maker, "s3", "PutBucketPolicy", {"Bucket": properties["Bucket"], "Policy": policy})
    return Made(properties["Bucket"])


def _remove_bucket_policy(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "s3", "DeleteBucketPolicy", {"Bucket": made.id})


# CloudWatch Logs


def _create_log_group(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "LogGroupName", longest=512)
    tags = tag_map(properties)
    request = {"logGroupName": name, "kmsKeyId": properties.get("KmsKeyId"), "tags": tags or None}
    call(maker, "logs", "CreateLogGroup", request)
    maker.begin(Made(name))
    _set_retention(maker, name, properties)
    return Made(name, {"Arn": f"arn:aws:logs:{maker.region}:{maker.account}:log-group:{name}:*"})


def _set_retention(maker: Maker, name: str, properties: Properties) -> None:
    if days := properties.get("RetentionInDays"):
        call(maker, "logs", "PutRetentionPolicy", {"logGroupName": name, "retentionInDays": days})
    else:
        call(maker, "logs", "DeleteRetentionPolicy", {"logGroupName": name})


def _update_log_group(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    _set_retention(maker, made.id, new)
    retag(
        old,
        new,
        add=lambda tags: call(maker, "logs", "TagLogGroup", {"logGroupName": made.id, "tags": tags}),
        take=lambda keys: call(maker, "logs", "UntagLogGroup", {"logGroupName": made.id, "tags": keys}),
    )
    return made


def _remove_log_group(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "logs", "DeleteLogGroup", {"logGroupName": made.id})


KINDS: Mapping[str, Kind] = {
    "AWS::DynamoDB::Table": Kind(
        properties=frozenset(
            {
                *TABLE_DIRECT,
                RECOVERY,
                "SSESpecification",
                "StreamSpecification",
                "TableName",
                "Tags",
                "TimeToLiveSpecification",
            }
        ),
        required=frozenset({"KeySchema", "AttributeDefinitions"}),
        create=_create_table,
        update=_update_table,
        remove=_remove_table,
        fixed=frozenset({"TableName", "KeySchema", "LocalSecondaryIndexes"}),
        name="TableName",
    ),
    "AWS::S3::Bucket": Kind(
        properties=frozenset({*BUCKET_PARTS, "BucketName"}),
        create=_create_bucket,
        update=_update_bucket,
        remove=_remove_bucket,
        fixed=frozenset({"BucketName"}),
        name="BucketName",
    ),
    "AWS::S3::BucketPolicy": Kind(
        properties=frozenset({"Bucket", "PolicyDocument"}),
        required=frozenset({"Bucket", "PolicyDocument"}),
        create=_put_bucket_policy,
        update=lambda maker, _, __, new: _put_bucket_policy(maker, new),
        remove=_remove_bucket_policy,
        fixed=frozenset({"Bucket"}),
    ),
    "AWS::Logs::LogGroup": Kind(
        properties=frozenset({"KmsKeyId", "LogGroupName", "RetentionInDays", "Tags"}),
        create=_create_log_group,
        update=_update_log_group,
        remove=_remove_log_group,
        fixed=frozenset({"LogGroupName", "KmsKeyId"}),
        name="LogGroupName",
    ),
}
