"""IAM roles and policies."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from immortal_local.stacks.kinds.calls import call, gone_is_fine, pick
from immortal_local.stacks.resources import Kind, Made, Maker, Properties, changed_properties, retag, tag_map

__all__ = ["KINDS"]


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


# Roles


def _create_role(maker: Maker, properties: Properties) -> Made:
    name = maker.name(properties, "RoleName", longest=64)
    request = {
        "RoleName": name,
        "AssumeRolePolicyDocument": json.dumps(properties["AssumeRolePolicyDocument"]),
        **pick(properties, "Path", "Description", "MaxSessionDuration", "PermissionsBoundary"),
        "Tags": _tag_list(tag_map(properties)) or None,
    }
    role = call(maker, "iam", "CreateRole", request)["Role"]
    made = maker.begin(Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]}))
    _set_policies(maker, name, {}, properties)
    return made


def _set_policies(maker: Maker, name: str, old: Properties, new: Properties) -> None:
    before, after = _inline(old), _inline(new)
    for policy in sorted(set(before) - set(after)):
        call(maker, "iam", "DeleteRolePolicy", {"RoleName": name, "PolicyName": policy})
    for policy, document in after.items():
        if document != before.get(policy):
            request = {"RoleName": name, "PolicyName": policy, "PolicyDocument": json.dumps(document)}
            call(maker, "iam", "PutRolePolicy", request)
    attached, wanted = set(old.get("ManagedPolicyArns") or []), set(new.get("ManagedPolicyArns") or [])
    for arn in sorted(attached - wanted):
        call(maker, "iam", "DetachRolePolicy", {"RoleName": name, "PolicyArn": arn})
    for arn in sorted(wanted - attached):
        call(maker, "iam", "AttachRolePolicy", {"RoleName": name, "PolicyArn": arn})


def _inline(properties: Properties) -> dict[str, Any]:
    return {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies") or []}


def _update_role(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    changed = changed_properties(old, new)
    if "AssumeRolePolicyDocument" in changed:
        document = json.dumps(new["AssumeRolePolicyDocument"])
        call(maker, "iam", "UpdateAssumeRolePolicy", {"RoleName": made.id, "PolicyDocument": document})
    if changed & {"Description", "MaxSessionDuration"}:
        request = {"RoleName": made.id, "Description": new.get("Description", ""), **pick(new, "MaxSessionDuration")}
        call(maker, "iam", "UpdateRole", request)
    _set_policies(maker, made.id, old, new)
    retag(
        old,
        new,
        add=lambda tags: call(maker, "iam", "TagRole", {"RoleName": made.id, "Tags": _tag_list(tags)}),
        take=lambda keys: call(maker, "iam", "UntagRole", {"RoleName": made.id, "TagKeys": keys}),
    )
    return made


def _remove_role(maker: Maker, made: Made, _: Properties) -> None:
    with gone_is_fine():
        attached = call(maker, "iam", "ListAttachedRolePolicies", {"RoleName": made.id})["AttachedPolicies"]
        inline = call(maker, "iam", "ListRolePolicies", {"RoleName": made.id})["PolicyNames"]
        for policy in attached:
            call(maker, "iam", "DetachRolePolicy", {"RoleName": made.id, "PolicyArn": policy["PolicyArn"]})
        for name in inline:
            call(maker, "iam", "DeleteRolePolicy", {"RoleName": made.id, "PolicyName": name})
        call(maker, "iam", "DeleteRole", {"RoleName": made.id})


# Inline policies as resources of their own

HOLDERS = {
    "Roles": ("RolePolicy", "RoleName"),
    "Users": ("UserPolicy", "UserName"),
    "Groups": ("GroupPolicy", "GroupName"),
}


def _holders(properties: Properties) -> set[tuple[str, str]]:
    return {(kind, name) for kind in HOLDERS for name in properties.get(kind) or []}


def _put_policy(maker: Maker, properties: Properties) -> Made:
    for kind, holder in sorted(_holders(properties)):
        operation, key = HOLDERS[kind]
        document = json.dumps(properties["PolicyDocument"])
        request = {key: holder, "PolicyName": properties["PolicyName"], "PolicyDocument": document}
        call(maker, "iam", f"Put{operation}", request)
    return Made(maker.name({}, "", longest=64), {"Id": properties["PolicyName"]})


def _update_policy(maker: Maker, made: Made, old: Properties, new: Properties) -> Made:
    _drop_policy(maker, old["PolicyName"], _holders(old) - _holders(new))
    _put_policy(maker, new)
    return made


def _drop_policy(maker: Maker, name: str, holders: Iterable[tuple[str, str]]) -> None:
    for kind, holder in sorted(holders):
        operation, key = HOLDERS[kind]
        with gone_is_fine():
            call(maker, "iam", f"Delete{operation}", {key: holder, "PolicyName": name})


def _remove_policy(maker: Maker, _: Made, properties: Properties) -> None:
    _drop_policy(maker, properties["PolicyName"], _holders(properties))


KINDS: Mapping[str, Kind] = {
    "AWS::IAM::Role": Kind(
        properties=frozenset(
            {
                "AssumeRolePolicyDocument",
                "Description",
                "ManagedPolicyArns",
                "MaxSessionDuration",
                "Path",
                "PermissionsBoundary",
                "Policies",
                "RoleName",
                "Tags",
            }
        ),
        required=frozenset({"AssumeRolePolicyDocument"}),
        create=_create_role,
        update=_update_role,
        remove=_remove_role,
        fixed=frozenset({"RoleName", "Path", "PermissionsBoundary"}),
        name="RoleName",
    ),
    "AWS::IAM::Policy": Kind(
        properties=frozenset({"Groups", "PolicyDocument", "PolicyName", "Roles", "Users"}),
        required=frozenset({"PolicyDocument", "PolicyName"}),
        create=_put_policy,
        update=_update_policy,
        remove=_remove_policy,
        fixed=frozenset({"PolicyName"}),
    ),
}
