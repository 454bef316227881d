"""CloudFormation stacks: made, changed and removed, and their progress told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immortal_cli.aws import Account, find_stack, with_next_step
from immortal_cli.errors import Failed

Tell = Callable[[str], None]

_FIRST_LOOK_S = 0.2
_LONGEST_LOOK_S = 3.0
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
NEVER_MADE = frozenset({"ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "ROLLBACK_FAILED", "DELETE_FAILED"})
"""A stack in one of these can't be updated: it is removed and made again."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a stack."""

    type: str
    name: str


def deploy_stack(
    account: Account, stack: str, *, text: str, parameters: Sequence[Mapping[str, str | bool]], tell: Tell
) -> dict[str, str]:
    """Make or change a stack and wait for it.

    Returns:
        The stack's outputs.

    Raises:
        Failed: CloudFormation could not; the message names the resources that failed and why.
    """
    request: dict[str, Any] = {
        "StackName": stack,
        "TemplateBody": text,
        "Parameters": list(parameters),
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": "immortal:stack", "Value": stack}],
    }
    current = _settle(account, stack)
    if current is not None and current["StackStatus"] in NEVER_MADE:
        tell(f"{stack}: removing what an earlier attempt left ({current['StackStatus']})")
        delete_stack(account, stack, tell=tell)
        current = None
    if current is None:
        tell(f"{stack}: creating")
        account.client("cloudformation").create_stack(**request)
    elif not _update(account, request):
        tell(f"{stack}: no changes")
        return _outputs(current)
    else:
        tell(f"{stack}: updating")
    return _outputs(_wait_until_good(account, stack, tell))


def delete_stack(account: Account, stack: str, *, tell: Tell) -> None:
    """Remove a stack and wait until it is gone; one that isn't there is gone already.

    Raises:
        Failed: A resource could not be removed.
    """
    if _settle(account, stack) is None:
        tell(f"{stack}: not there")
        return
    tell(f"{stack}: deleting")
    account.client("cloudformation").delete_stack(StackName=stack)
    left = _settle(account, stack)
    if left is not None:
        why = f"{stack} is {left['StackStatus']}: {_explain(account, stack)}"
        raise Failed(with_next_step(why, "immortal destroy again"))
    tell(f"{stack}: deleted")


def list_resources(account: Account, stack: str, types: frozenset[str]) -> list[Resource]:
    """Give a stack's resources of some types."""
    pages = account.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    found = (resource for page in pages for resource in page["StackResourceSummaries"])
    return [
        Resource(resource["ResourceType"], resource["PhysicalResourceId"])
        for resource in found
        if resource["ResourceType"] in types and resource.get("PhysicalResourceId")
    ]


def _update(account: Account, request: Mapping[str, Any]) -> bool:
    """Ask for an update; False when there is nothing to change."""
    cloudformation = account.client("cloudformation")
    try:
        cloudformation.update_stack(**request)
    except cloudformation.exceptions.ClientError as error:
        if "No updates are to be performed" in str(error):
            return False
        raise
    return True


def _settle(account: Account, stack: str) -> Mapping[str, Any] | None:
    """Wait until CloudFormation no longer works on a stack; None when there is none."""
    look_s = _FIRST_LOOK_S
    while True:
        found = find_stack(account, stack)
        if found is None or not found["StackStatus"].endswith("_IN_PROGRESS") or _is_review(found):
            return found
        time.sleep(look_s)
        look_s = min(look_s * 1.5, _LONGEST_LOOK_S)


def _is_review(found: Mapping[str, Any]) -> bool:
    return bool(found["StackStatus"] == "REVIEW_IN_PROGRESS")


def _wait_until_good(account: Account, stack: str, tell: Tell) -> Mapping[str, Any]:
    found = _settle(account, stack)
    if found is None:
        raise Failed(f"{stack} is gone. Next step: immortal deploy again")
    if found["StackStatus"] not in _GOOD:
        why = f"{stack} is {found['StackStatus']}: {_explain(account, stack)}"
        raise Failed(with_next_step(why, "mend that, then immortal deploy"))
    tell(f"{stack}: done")
    return found


def _explain(account: Account, stack: str) -> str:
    """Say which resources failed in the newest operation, and why."""
    events = account.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")
    ]
    return "; ".join(failed[:5]) or "CloudFormation gives no reason"


def _outputs(found: Mapping[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
