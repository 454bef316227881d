"""The registry: every stack of one local AWS, found by name, ARN or export, and under one lock."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from immortal_local.stacks.records import Stack
from immortal_local.wire import ApiError, Call

__all__ = ["Registry", "invalid", "need_rest"]


class Registry:
    """Every stack, the deleted ones too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stacks: dict[str, Stack] = {}

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold everything still while several things are read or changed together."""
        with self._lock:
            yield

    def every(self) -> list[Stack]:
        """Every stack of every region."""
        return list(self._stacks.values())

    def add(self, call: Call, name: str, status: str) -> Stack:
        """Begin a stack."""
        stack = Stack(
            name=name,
            arn=f"arn:aws:cloudformation:{call.region}:{call.account}:stack/{name}/{uuid.uuid4()}",
            region=call.region,
            created_at=datetime.now(UTC),
            status=status,
            notification_arns=tuple(call.request.get("NotificationARNs", ())),
            role_arn=call.request.get("RoleARN"),
        )
        self._stacks[stack.arn] = stack
        return stack

    def all(self, call: Call) -> list[Stack]:
        """Every stack of the call's region but the deleted ones."""
        return [stack for stack in self._stacks.values() if stack.region == call.region and not stack.deleted_at]

    def find(self, call: Call, name: str, *, deleted: bool = False) -> Stack | None:
        """Find a stack by name or ARN; a deleted one by its ARN alone."""
        by_arn = self._stacks.get(name)
        if by_arn is not None and (deleted or not by_arn.deleted_at):
            return by_arn
        return next((stack for stack in self.all(call) if stack.name == name), None)

    def need(self, call: Call, name: str, *, deleted: bool = False) -> Stack:
        """Find a stack as :meth:`find` does.

        Raises:
            ApiError: There is none.
        """
        stack = self.find(call, name, deleted=deleted)
        if stack is None:
            raise invalid(f"Stack with id {name} does not exist")
        return stack

    def exports(self, region: str) -> dict[str, tuple[Stack, str]]:
        """Every export of a region by its name, with the stack that has it."""
        return {
            output["ExportName"]: (stack, output["OutputValue"])
            for stack in self._stacks.values()
            if stack.region == region and not stack.deleted_at
            for output in stack.outputs
            if "ExportName" in output
        }

    def importers(self, region: str, name: str | None) -> list[str]:
        """Name the stacks that use an export."""
        stacks = [stack for stack in self._stacks.values() if stack.region == region and not stack.deleted_at]
        return [stack.name for stack in stacks if name in stack.imports]


def need_rest(stack: Stack) -> None:
    """Refuse to change a stack that is busy, or that never came to be."""
    usable = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
    if stack.status not in usable:
        raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be updated.")


def invalid(message: str) -> ApiError:
    """Refuse what was asked, in the form of CloudFormation."""
    return ApiError("ValidationError", message)
