"""Security groups and alarms."""

from collections.abc import Mapping
from typing import Any

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import Kind, Made, Maker, Properties, retag, tag_map

__all__ = ["KINDS"]


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


# Security groups

RULE_KEYS = {
    "CidrIp": ("IpRanges", "CidrIp"),
    "CidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
    "DestinationSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    "DestinationPrefixListId": ("PrefixListIds", "PrefixListId"),
    "SourceSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    "SourcePrefixListId": ("PrefixListIds", "PrefixListId"),
}


def _write_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Write one ingress or egress rule as EC2 takes it: every peer in a list of its own."""
    written = {key: value for key, value in rule.items() if key not in {*RULE_KEYS, "Description"}}
    for key, (group, name) in RULE_KEYS.items():
        if key in rule:
            written.setdefault(group, []).append({name: rule[key], **pick(rule, "Description")})
    return written


def _create_group(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "GroupName", longest=255)
    request: dict[str, Any] = {
        "GroupName": name,
        "Description": properties["GroupDescription"],
        **pick(properties, "VpcId"),
    }
    if tags := tag_map(properties):
        request["TagSpecifications"] = [{"ResourceType": "security-group", "Tags": _tag_list(tags)}]
    group = call(maker, "ec2", "CreateSecurityGroup", request)["GroupId"]
    maker.begin(Made(group))
    _change_rules(maker, group, {}, properties)
    return Made(group, {"GroupId": group, **pick(properties, "VpcId")})


EVERYTHING: Mapping[str, Any] = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}
"""The egress rule that EC2 gives every group, and that a template's own rules replace."""


def _change_rules(maker: Maker, group: str, old: Properties, new: Properties) -> None:
    before = {
        "Ingress": old.get("SecurityGroupIngress") or [],
        "Egress": old.get("SecurityGroupEgress") or [EVERYTHING],
    }
    after = {"Ingress": new.get("SecurityGroupIngress") or [], "Egress": new.get("SecurityGroupEgress") or [EVERYTHING]}
    for way in ("Ingress", "Egress"):
        for verb, rules in (
            ("Revoke", [rule for rule in before[way] if rule not in after[way]]),
            ("Authorize", [rule for rule in after[way] if rule not in before[way]]),
        ):
            if rules:
                request = {"GroupId": group, "IpPermissions": [_write_rule(rule) for rule in rules]}
                call(maker, "ec2", f"{verb}SecurityGroup{way}", request)


def _update_group(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    _change_rules(maker, made.id, old, new)
    retag(
        old,
        new,
        add=lambda tags: call(maker, "ec2", "CreateTags", {"Resources": [made.id], "Tags": _tag_list(tags)}),
        take=lambda keys: call(
            maker, "ec2", "DeleteTags", {"Resources": [made.id], "Tags": [{"Key": key} for key in keys]}
        ),
    )
    return made


def _remove_group(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "ec2", "DeleteSecurityGroup", {"GroupId": made.id})


# Alarms

ALARM = (
    "ActionsEnabled",
    "AlarmActions",
    "AlarmDescription",
    "ComparisonOperator",
    "DatapointsToAlarm",
    "Dimensions",
    "EvaluationPeriods",
    "InsufficientDataActions",
    "MetricName",
    "Metrics",
    "Namespace",
    "OKActions",
    "Period",
    "Statistic",
    "Threshold",
    "TreatMissingData",
    "Unit",
)


def _put_alarm(maker: Maker, name: str, properties: Properties) -> Made:
    request = {
        "AlarmName": name,
        **pick(properties, *ALARM),
        "Tags": _tag_list(tag_map(properties)) or None,
    }
    call(maker, "cloudwatch", "PutMetricAlarm", request)
    return Made(name, {"Arn": f"arn:aws:cloudwatch:{maker.region}:{maker.account}:alarm:{name}"})


def _create_alarm(maker: Maker, properties: Properties) -> Made:
    return _put_alarm(maker, maker.name(properties, "AlarmName", longest=255), properties)


def _remove_alarm(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        call(maker, "cloudwatch", "DeleteAlarms", {"AlarmNames": [made.id]})


KINDS: Mapping[str, Kind] = {
    "AWS::EC2::SecurityGroup": Kind(
        properties=frozenset(
            {"GroupDescription", "GroupName", "SecurityGroupEgress", "SecurityGroupIngress", "Tags", "VpcId"}
        ),
        required=frozenset({"GroupDescription"}),
        create=_create_group,
        update=_update_group,
        remove=_remove_group,
        fixed=frozenset({"GroupDescription", "GroupName", "VpcId"}),
        name="GroupName",
    ),
    "AWS::CloudWatch::Alarm": Kind(
        properties=frozenset({*ALARM, "AlarmName", "Tags"}),
        required=frozenset({"ComparisonOperator", "EvaluationPeriods"}),
        create=_create_alarm,
        update=lambda maker, made, _, new: _put_alarm(maker, made.id, new),
        remove=_remove_alarm,
        fixed=frozenset({"AlarmName"}),
        name="AlarmName",
    ),
}
