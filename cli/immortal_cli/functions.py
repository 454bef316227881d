"""The account's functions and their roles, as attaching needs them, and the changes carried out on them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, assert_never
from urllib.parse import unquote

from immortal_cli.aws import Account, find_outputs, read_outputs
from immortal_cli.errors import Failed
from immortal_cli.names import read_name
from immortal_cli.plan import (
    FunctionState,
    Installation,
    Memory,
    NameTarget,
    PutSendPolicy,
    PutTrust,
    Remember,
    Role,
    Step,
)

_BEFORE = "immortal:previous-dead-letter-target"
_OURS = "immortal:dead-letter-target"
_INSTALLATION = "immortal:installation"
"""The tags of an attached function."""

_PATIENCE_S = 60.0
"""How long IAM may take until Lambda sees a new right; AWS names no bound."""


def find_installation(account: Account, name: str) -> Installation:
    """Find an installation by its name, as attaching needs it.

    Raises:
        StackMissing: It isn't deployed here.
    """
    store, runner = read_outputs(account, f"{name}-store"), read_outputs(account, f"{name}-runner")
    return Installation(name, store["FailureQueueArn"], runner["TaskRoleArn"])


def recall_installation(account: Account, name: str) -> Installation:
    """Give as much of an installation as is left, which is enough to detach from it."""
    store = find_outputs(account, f"{name}-store") or {}
    runner = find_outputs(account, f"{name}-runner") or {}
    return Installation(name, store.get("FailureQueueArn", ""), runner.get("TaskRoleArn", ""))


def read_functions(account: Account, names: Sequence[str], installation: Installation) -> list[FunctionState]:
    """Read functions and their roles as they are now.

    Args:
        names: Names or ARNs.

    Raises:
        Failed: A name is unknown, and the message names the nearest; or it names a version or an alias.
    """
    listed = _list_functions(account)
    roles: dict[str, Role] = {}
    states: dict[str, FunctionState] = {}
    for name in names:
        function = _find_listed(account, name, listed)
        role_arn = function["Role"]
        if role_arn not in roles:
            roles[role_arn] = _read_role(account, role_arn.rpartition("/")[2], installation.policy_name)
        if function["FunctionName"] not in states:
            state = _read_state(account, function, roles[role_arn], listed, installation)
            states[state.name] = state
    return list(states.values())


@dataclass(frozen=True, slots=True)
class Named:
    """A function as a run names it.

    Attributes:
        arn: With the version or alias that was asked for, if any.
    """

    name: str
    arn: str
    version: str


def find_function(account: Account, name: str) -> Named:
    """Find a function by its name, which may carry a version or alias.

    Raises:
        Failed: The name is unknown; the message names the nearest.
    """
    functions = account.client("lambda")
    try:
        found = functions.get_function_configuration(FunctionName=name)
    except functions.exceptions.ResourceNotFoundException:
        _refuse_unknown(account, name, _list_functions(account))
    return Named(found["FunctionName"], found["FunctionArn"], found["Version"])


def list_attached(account: Account, queue_arn: str) -> list[str]:
    """Give the names of the functions whose dead-letter queue this is."""
    return sorted(name for name, function in _list_functions(account).items() if _target(function) == queue_arn)


def carry_out(account: Account, step: Step) -> None:
    """Carry out one step of a plan; carrying it out again changes nothing."""
    match step:
        case PutSendPolicy(role, policy, None):
            account.client("iam").delete_role_policy(RoleName=role, PolicyName=policy)
        case PutSendPolicy(role, policy, document):
            account.client("iam").put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
        case PutTrust(role, document, _):
            account.client("iam").update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(document))
        case Remember(function_arn, memory):
            _remember(account, function_arn, memory)
        case NameTarget(function, _, target):
            _name_target(account, function, target)
        case _:
            assert_never(step)


def _list_functions(account: Account) -> dict[str, Mapping[str, Any]]:
    pages = account.client("lambda").get_paginator("list_functions").paginate()
    return {function["FunctionName"]: function for page in pages for function in page["Functions"]}


def _find_listed(account: Account, text: str, listed: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The function that a name or an ARN names; an ARN of another account or region names none of these."""
    found = listed.get(read_name(text))
    if found is None or text not in (found["FunctionName"], found["FunctionArn"]):
        _refuse_unknown(account, text, listed)
    return found


def _refuse_unknown(account: Account, name: str, listed: Mapping[str, object]) -> NoReturn:
    region = account.client("lambda").meta.region_name
    nearest = get_close_matches(name, listed, n=1, cutoff=0.4)
    hint = f"Nearest: {nearest[0]}" if nearest else "Next step: check the region and the account"
    raise Failed(f'no function "{name}" in {region}. {hint}.')


def _read_role(account: Account, name: str, policy_name: str) -> Role:
    iam = account.client("iam")
    trust = _document(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
    try:
        policy = _document(iam.get_role_policy(RoleName=name, PolicyName=policy_name)["PolicyDocument"])
    except iam.exceptions.NoSuchEntityException:
        policy = None
    return Role(name, policy, trust)


def _document(document: Any) -> Mapping[str, Any]:
    """A policy as boto3 gives it, decoded already or not."""
    read: Mapping[str, Any] = json.loads(unquote(document)) if isinstance(document, str) else document
    return read


def _read_state(
    account: Account,
    function: Mapping[str, Any],
    role: Role,
    listed: Mapping[str, Mapping[str, Any]],
    installation: Installation,
) -> FunctionState:
    name, arn = function["FunctionName"], function["FunctionArn"]
    return FunctionState(
        name=name,
        arn=arn,
        role=role,
        target=_target(function),
        memory=_read_memory(account.client("lambda").list_tags(Resource=arn).get("Tags", {})),
        runtime=function.get("Runtime", ""),
        released=_is_released(account, name),
        sharers=tuple(
            other["FunctionName"]
            for other in listed.values()
            if other["Role"] == function["Role"] and other["FunctionName"] != name and installation.owns(_target(other))
        ),
    )


def _is_released(account: Account, name: str) -> bool:
    """Whether a function has versions beside ``$LATEST``, which is listed first."""
    listed = account.client("lambda").list_versions_by_function(FunctionName=name, MaxItems=2)["Versions"]
    return any(version["Version"] != "$LATEST" for version in listed)


def _remember(account: Account, function_arn: str, memory: Memory | None) -> None:
    functions = account.client("lambda")
    if memory is None:
        functions.untag_resource(Resource=function_arn, TagKeys=[_BEFORE, _OURS, _INSTALLATION])
        return
    tags = {_BEFORE: memory.before, _OURS: memory.ours, _INSTALLATION: memory.installation}
    functions.tag_resource(Resource=function_arn, Tags=tags)


def _read_memory(tags: Mapping[str, str]) -> Memory | None:
    if _BEFORE not in tags:
        return None
    return Memory(tags[_BEFORE], tags.get(_OURS, ""), tags.get(_INSTALLATION, ""))


def _target(function: Mapping[str, Any]) -> str:
    target: str = function.get("DeadLetterConfig", {}).get("TargetArn", "")
    return target


def _name_target(account: Account, function: str, target: str) -> None:
    """Change ``DeadLetterConfig``; Lambda refuses until it sees that the role may send, which takes some seconds."""
    functions = account.client("lambda")
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        functions.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
        try:
            functions.update_function_configuration(FunctionName=function, DeadLetterConfig={"TargetArn": target})
        except functions.exceptions.InvalidParameterValueException as error:
            if "does not have permissions" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)
        else:
            break
    functions.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
