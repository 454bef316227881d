"""How stacks, their resources and their history look in CloudFormation's answers."""

from collections.abc import Iterable, Mapping
from typing import Any

from immortal_local.stacks.records import Change, ChangeSet, Held, Stack, Wish
from immortal_local.stacks.templates import Template

__all__ = [
    "describe_change_set",
    "describe_events",
    "describe_resource",
    "describe_stack",
    "summarize_resource",
    "summarize_stack",
    "summarize_template",
]

NO_ECHO = "****"


def describe_stack(stack: Stack) -> dict[str, Any]:
    """Describe a stack as DescribeStacks does."""
    wish = stack.wish
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "Description": wish.template.description if wish else None,
        "Parameters": _parameters(wish) if wish else [],
        "CreationTime": stack.created_at,
        "LastUpdatedTime": stack.updated_at,
        "DeletionTime": stack.deleted_at,
        "RollbackConfiguration": {},
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "NotificationARNs": list(stack.notification_arns),
        "Capabilities": list(wish.capabilities) if wish else [],
        "Outputs": stack.outputs,
        "RoleARN": stack.role_arn,
        "Tags": _tags(wish.tags) if wish else [],
        "EnableTerminationProtection": stack.protected,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


def _parameters(wish: Wish) -> list[dict[str, str]]:
    return [
        {"ParameterKey": name, "ParameterValue": NO_ECHO if _is_secret(body) else _write_value(wish.values[name])}
        for name, body in wish.template.parameters.items()
    ]


def _is_secret(body: Mapping[str, Any]) -> bool:
    return str(body.get("NoEcho", "false")).lower() == "true"


def _write_value(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def summarize_stack(stack: Stack) -> dict[str, Any]:
    """Describe a stack as ListStacks does."""
    described = describe_stack(stack)
    kept = (
        "StackId",
        "StackName",
        "CreationTime",
        "LastUpdatedTime",
        "DeletionTime",
        "StackStatus",
        "StackStatusReason",
        "DriftInformation",
    )
    return {name: described[name] for name in kept} | {
        "TemplateDescription": stack.wish.template.description if stack.wish else None
    }


def describe_resource(stack: Stack, held: Held) -> dict[str, Any]:
    """Describe a resource as DescribeStackResources does."""
    return {
        "StackName": stack.name,
        "StackId": stack.arn,
        "LogicalResourceId": held.logical_id,
        "PhysicalResourceId": held.made.id,
        "ResourceType": held.type,
        "Timestamp": held.updated_at,
        "ResourceStatus": held.status,
        "ResourceStatusReason": held.reason,
    }


def summarize_resource(stack: Stack, held: Held) -> dict[str, Any]:
    """Describe a resource as ListStackResources does."""
    described = describe_resource(stack, held)
    described["LastUpdatedTimestamp"] = described.pop("Timestamp")
    return {name: value for name, value in described.items() if name not in {"StackName", "StackId"}}


def describe_events(stack: Stack) -> list[dict[str, Any]]:
    """List a stack's history, the newest first."""
    return [
        {
            "StackId": stack.arn,
            "EventId": event.event_id,
            "StackName": stack.name,
            "LogicalResourceId": event.logical_id,
            "PhysicalResourceId": event.physical_id,
            "ResourceType": event.type,
            "Timestamp": event.at,
            "ResourceStatus": event.status,
            "ResourceStatusReason": event.reason,
            "ResourceProperties": event.properties,
        }
        for event in reversed(stack.events)
    ]


def describe_change_set(stack: Stack, change_set: ChangeSet) -> dict[str, Any]:
    """Describe a change set as DescribeChangeSet does."""
    return {
        "ChangeSetName": change_set.name,
        "ChangeSetId": change_set.arn,
        "StackId": stack.arn,
        "StackName": stack.name,
        "Description": change_set.description,
        "Parameters": _parameters(change_set.wish),
        "CreationTime": change_set.created_at,
        "ExecutionStatus": change_set.execution_status,
        "Status": change_set.status,
        "StatusReason": change_set.reason,
        "Capabilities": list(change_set.wish.capabilities),
        "Tags": _tags(change_set.wish.tags),
        "Changes": list(_describe_changes(change_set.changes)),
        "IncludeNestedStacks": False,
    }


def _describe_changes(changes: Iterable[Change]) -> Iterable[dict[str, Any]]:
    for change in changes:
        yield {
            "Type": "Resource",
            "ResourceChange": {
                "Action": change.action,
                "LogicalResourceId": change.logical_id,
                "PhysicalResourceId": change.physical_id,
                "ResourceType": change.type,
                "Replacement": str(change.replacement) if change.action == "Modify" else None,
                "Scope": [],
                "Details": [],
            },
        }


def summarize_template(template: Template) -> dict[str, Any]:
    """Describe a template as GetTemplateSummary does."""
    return {
        "Description": template.description,
        "Version": "2010-09-09",
        "ResourceTypes": sorted({each.type for each in template.resources.values()}),
        "Parameters": [
            {
                "ParameterKey": name,
                "DefaultValue": None if "Default" not in body else _write_value(body["Default"]),
                "ParameterType": body.get("Type", "String"),
                "NoEcho": _is_secret(body),
                "Description": body.get("Description"),
                "ParameterConstraints": {"AllowedValues": [str(each) for each in body.get("AllowedValues", [])]},
            }
            for name, body in template.parameters.items()
        ],
    }
