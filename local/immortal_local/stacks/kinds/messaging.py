"""SQS queues, SNS topics and EventBridge rules."""

import json
from collections.abc import Mapping
from typing import Any

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import Kind, Made, Maker, Properties, changed_properties, retag, tag_map

__all__ = ["KINDS"]

# SQS

QUEUE_DEFAULTS: Mapping[str, Any] = {
    "ContentBasedDeduplication": "false",
    "DelaySeconds": 0,
    "KmsDataKeyReusePeriodSeconds": 300,
    "KmsMasterKeyId": "",
    "MaximumMessageSize": 1_048_576,
    "MessageRetentionPeriod": 345_600,
    "ReceiveMessageWaitTimeSeconds": 0,
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": 30,
}
"""What an attribute becomes when its property is taken out of the template."""


def _queue_attributes(properties: Properties) -> dict[str, str]:
    names = (*QUEUE_DEFAULTS, "FifoQueue")
    return {name: _write_attribute(properties[name]) for name in names if name in properties}


def _write_attribute(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _create_queue(maker: Maker, properties: Properties) -> Made:
    suffix = ".fifo" if str(properties.get("FifoQueue", "false")).lower() == "true" else ""
    name = maker.name(properties, "QueueName", longest=80, suffix=suffix)
    request = {"QueueName": name, "Attributes": _queue_attributes(properties), "tags": tag_map(properties)}
    url = call(maker, "sqs", "CreateQueue", request)["QueueUrl"]
    arn = call(maker, "sqs", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})["Attributes"][
        "QueueArn"
    ]
    return Made(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})


def _update_queue(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new) & set(QUEUE_DEFAULTS)
    if changed:
        values = {**QUEUE_DEFAULTS, **new}
        attributes = {name: _write_attribute(values[name]) for name in changed}
        call(maker, "sqs", "SetQueueAttributes", {"QueueUrl": made.id, "Attributes": attributes})
    retag(
        old,
        new,
        add=lambda tags: call(maker, "sqs", "TagQueue", {"QueueUrl": made.id, "Tags": tags}),
        take=lambda keys: call(maker, "sqs", "UntagQueue", {"QueueUrl": made.id, "TagKeys": keys}),
    )
    return made


def _remove_queue(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "sqs", "DeleteQueue", {"QueueUrl": made.id})


def _set_queue_policy(maker: Maker, queues: list[str], policy: str) -> None:
    for url in queues:
        with gone_is_fine():
            call(maker, "sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": {"Policy": policy}})


def _create_queue_policy(maker: Maker, properties: Properties) -> Made:
    for url in properties["Queues"]:
        attributes = {"Policy": json.dumps(properties["PolicyDocument"])}
        call(maker, "sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})
    name = maker.name({}, "", longest=80)
    return Made(name, {"Id": name})


def _update_queue_policy(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    _set_queue_policy(maker, [url for url in old["Queues"] if url not in new["Queues"]], "")
    _create_queue_policy(maker, new)
    return made


def _remove_queue_policy(maker: Maker, _: Made, properties: Properties) -> None:
    _set_queue_policy(maker, properties["Queues"], "")


# SNS

TOPIC_ATTRIBUTES = ("DisplayName", "KmsMasterKeyId", "FifoTopic", "ContentBasedDeduplication")


def _create_topic(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "TopicName", longest=256)
    attributes = {key: _write_attribute(value) for key, value in pick(properties, *TOPIC_ATTRIBUTES).items()}
    tags = [{"Key": key, "Value": value} for key, value in tag_map(properties).items()]
    arn = call(maker, "sns", "CreateTopic", {"Name": name, "Attributes": attributes, "Tags": tags})["TopicArn"]
    maker.begin(Made(arn))
    for subscription in properties.get("Subscription") or []:
        call(maker, "sns", "Subscribe", {"TopicArn": arn, **pick(subscription, "Protocol", "Endpoint")})
    return Made(arn, {"TopicArn": arn, "TopicName": name})


def _update_topic(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    for name in changed_properties(old, new) & {"DisplayName", "KmsMasterKeyId"}:
        value = _write_attribute(new.get(name, ""))
        call(maker, "sns", "SetTopicAttributes", {"TopicArn": made.id, "AttributeName": name, "AttributeValue": value})
    retag(
        old,
        new,
        add=lambda tags: call(
            maker,
            "sns",
            "TagResource",
            {"ResourceArn": made.id, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]},
        ),
        take=lambda keys: call(maker, "sns", "UntagResource", {"ResourceArn": made.id, "TagKeys": keys}),
    )
    return made


def _remove_topic(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "sns", "DeleteTopic", {"TopicArn": made.id})


SUBSCRIPTION_ATTRIBUTES = ("RawMessageDelivery", "FilterPolicy", "FilterPolicyScope", "RedrivePolicy", "DeliveryPolicy")


def _create_subscription(maker: Maker, properties: Properties) -> Made:
    attributes = {key: _write_attribute(value) for key, value in pick(properties, *SUBSCRIPTION_ATTRIBUTES).items()}
    request = {**pick(properties, "TopicArn", "Protocol", "Endpoint"), "Attributes": attributes}
    arn = call(maker, "sns", "Subscribe", {**request, "ReturnSubscriptionArn": True})["SubscriptionArn"]
    return Made(arn, {"Arn": arn})


def _remove_subscription(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "sns", "Unsubscribe", {"SubscriptionArn": made.id})


# EventBridge


def _put_rule(maker: Maker, name: str, properties: Properties) -> Made:
    pattern = properties.get("EventPattern")
    request = {
        "Name": name,
        **pick(properties, "Description", "EventBusName", "RoleArn", "ScheduleExpression", "State"),
        "EventPattern": json.dumps(pattern) if isinstance(pattern, Mapping) else pattern,
        "Tags": [{"Key": key, "Value": value} for key, value in tag_map(properties).items()] or None,
    }
    arn = call(maker, "events", "PutRule", request)["RuleArn"]
    maker.begin(Made(name))
    if targets := properties.get("Targets"):
        call(maker, "events", "PutTargets", {"Rule": name, "Targets": targets, **pick(properties, "EventBusName")})
    return Made(name, {"Arn": arn})


def _create_rule(maker: Maker, properties: Properties) -> Made:
    return _put_rule(maker, maker.name(properties, "Name", longest=64), properties)


def _update_rule(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    kept = {target["Id"] for target in new.get("Targets") or []}
    if lost := [target["Id"] for target in old.get("Targets") or [] if target["Id"] not in kept]:
        call(maker, "events", "RemoveTargets", {"Rule": made.id, "Ids": lost, **pick(old, "EventBusName")})
    return _put_rule(maker, made.id, new)


def _remove_rule(maker: Maker, made: Made, properties: Properties) -> None:
    bus = pick(properties, "EventBusName")
    with gone_is_fine():
        ids = [target["Id"] for target in properties.get("Targets") or []]
        if ids:
            call(maker, "events", "RemoveTargets", {"Rule": made.id, "Ids": ids, **bus})
        call(maker, "events", "DeleteRule", {"Name": made.id, **bus})


KINDS: Mapping[str, Kind] = {
    "AWS::SQS::Queue": Kind(
        properties=frozenset({*QUEUE_DEFAULTS, "QueueName", "FifoQueue", "Tags"}),
        create=_create_queue,
        update=_update_queue,
        remove=_remove_queue,
        fixed=frozenset({"QueueName", "FifoQueue"}),
        name="QueueName",
    ),
    "AWS::SQS::QueuePolicy": Kind(
        properties=frozenset({"PolicyDocument", "Queues"}),
        required=frozenset({"PolicyDocument", "Queues"}),
        create=_create_queue_policy,
        update=_update_queue_policy,
        remove=_remove_queue_policy,
    ),
    "AWS::SNS::Topic": Kind(
        properties=frozenset({*TOPIC_ATTRIBUTES, "TopicName", "Subscription", "Tags"}),
        create=_create_topic,
        update=_update_topic,
        remove=_remove_topic,
        fixed=frozenset({"TopicName", "FifoTopic", "ContentBasedDeduplication", "Subscription"}),
        name="TopicName",
    ),
    "AWS::SNS::Subscription": Kind(
        properties=frozenset({*SUBSCRIPTION_ATTRIBUTES, "TopicArn", "Protocol", "Endpoint"}),
        required=frozenset({"TopicArn", "Protocol"}),
        create=_create_subscription,
        remove=_remove_subscription,
    ),
    "AWS::Events::Rule": Kind(
        properties=frozenset(
            {
                "Description",
                "EventBusName",
                "EventPattern",
                "Name",
                "RoleArn",
                "ScheduleExpression",
                "State",
                "Tags",
                "Targets",
            }
        ),
        create=_create_rule,
        update=_update_rule,
        remove=_remove_rule,
        fixed=frozenset({"Name", "EventBusName", "Tags"}),
        name="Name",
    ),
}
