"""Change sets: what a wish would change, noted first and carried out later, or never."""

import uuid
from datetime import UTC, datetime
from typing import Any

from immortal_local.stacks import answers
from immortal_local.stacks.carrying import Carrier, carry_out
from immortal_local.stacks.records import ChangeSet, Stack, Wish
from immortal_local.stacks.registry import Registry, invalid, need_rest
from immortal_local.stacks.wishes import Wishes
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["ChangeSets"]

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


class ChangeSets:
    """The operations on change sets."""

    def __init__(self, registry: Registry, wishes: Wishes, carrier: Carrier) -> None:
        self._registry = registry
        self._wishes = wishes
        self._carrier = carrier

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "CreateChangeSet": self.create,
            "DescribeChangeSet": self.describe,
            "ExecuteChangeSet": self.execute,
            "DeleteChangeSet": self.delete,
            "ListChangeSets": self.list,
        }

    def create(self, call: Call) -> dict[str, Any]:
        """Note a wish and what it would change; carried out later, or never."""
        request = call.request
        creates = request.get("ChangeSetType", "UPDATE") == "CREATE"
        with self._registry.change():
            stack = self._registry.find(call, request["StackName"])
            if stack is not None and creates and stack.status != "REVIEW_IN_PROGRESS":
                raise invalid(f"Stack [{stack.name}] already exists and cannot be created again with the changeSet.")
            if stack is None and not creates:
                raise invalid(f"Stack [{request['StackName']}] does not exist")
            wish = self._wishes.read(call, stack)
            if stack is None:
                stack = self._registry.add(call, request["StackName"], "REVIEW_IN_PROGRESS")
                stack.note("REVIEW_IN_PROGRESS", reason="User Initiated")
            change_set = self._draw(call, stack, wish, creates=creates)
            if change_set.name in stack.change_sets:
                raise ApiError(
                    "AlreadyExistsException", f"ChangeSet {change_set.name} cannot be created: it already exists"
                )
            stack.change_sets[change_set.name] = change_set
        return {"Id": change_set.arn, "StackId": stack.arn}

    def _draw(self, call: Call, stack: Stack, wish: Wish, *, creates: bool) -> ChangeSet:
        name = call.request["ChangeSetName"]
        useful = creates or self._wishes.changes_anything(stack, wish)
        return ChangeSet(
            name=name,
            arn=f"arn:aws:cloudformation:{call.region}:{call.account}:changeSet/{name}/{uuid.uuid4()}",
            wish=wish,
            changes=tuple(self._wishes.list_changes(stack, wish)),
            creates=creates,
            description=call.request.get("Description"),
            created_at=datetime.now(UTC),
            status="CREATE_COMPLETE" if useful else "FAILED",
            reason=None if useful else NO_CHANGES,
            execution_status="AVAILABLE" if useful else "UNAVAILABLE",
        )

    def describe(self, call: Call) -> dict[str, Any]:
        """Describe a change set."""
        with self._registry.change():
            return answers.describe_change_set(*self._need(call))

    def execute(self, call: Call) -> None:
        """Carry a change set out."""
        with self._registry.change():
            stack, change_set = self._need(call)
            if change_set.execution_status != "AVAILABLE":
                raise ApiError(
                    "InvalidChangeSetStatus",
                    f"ChangeSet [{change_set.arn}] cannot be executed in its current execution status of "
                    f"[{change_set.execution_status}]",
                )
            if not change_set.creates:
                need_rest(stack)
            change_set.execution_status = "EXECUTE_COMPLETE"
            stack.status = "CREATE_IN_PROGRESS" if change_set.creates else "UPDATE_IN_PROGRESS"
            stack.on_failure = "DO_NOTHING" if call.request.get("DisableRollback") else "ROLLBACK"
        carry = self._carrier.create if change_set.creates else self._carrier.update
        carry_out(stack, lambda: carry(stack, change_set.wish))

    def delete(self, call: Call) -> None:
        """Forget a change set."""
        with self._registry.change():
            stack, change_set = self._need(call)
            del stack.change_sets[change_set.name]

    def list(self, call: Call) -> dict[str, Any]:
        """List a stack's change sets."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"])
            described = [answers.describe_change_set(stack, each) for each in stack.change_sets.values()]
        left_out = {"Parameters", "Capabilities", "Tags", "Changes"}
        return {"Summaries": [{key: value for key, value in each.items() if key not in left_out} for each in described]}

    def _need(self, call: Call) -> tuple[Stack, ChangeSet]:
        wanted, stack_name = call.request["ChangeSetName"], call.request.get("StackName")
        stacks = [self._registry.find(call, stack_name)] if stack_name else self._registry.every()
        for stack in stacks:
            for change_set in stack.change_sets.values() if stack else ():
                if wanted in {change_set.name, change_set.arn}:
                    assert stack is not None  # noqa: S101  # one without a stack has no change sets
                    return stack, change_set
        raise ApiError("ChangeSetNotFound", f"ChangeSet [{wanted}] does not exist", 404)
