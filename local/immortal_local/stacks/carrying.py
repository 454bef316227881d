"""How a wish is carried out: resources made, changed and removed in order, and all of it undone when one fails."""

import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from immortal_local.stacks.plan import find_kind, own_properties
from immortal_local.stacks.records import Held, Stack, Wish
from immortal_local.stacks.resources import Kind, Made, Maker, NotCarriedOut, ResourceFailed
from immortal_local.stacks.templates import Resource, Scope, TemplateInvalid, Unresolved, resolve

__all__ = ["Carrier", "carry_out"]

ANSWER_WITHIN_S = 20.0
"""A short operation is over when its call is answered: the SDKs' waiters look only every 30 seconds."""

FAILURES = (
    BotoCoreError,
    ClientError,
    NotCarriedOut,
    ResourceFailed,
    TemplateInvalid,
    Unresolved,
    LookupError,
    TypeError,
    ValueError,
)
"""What a resource can fail with; the last four are properties of a form that nobody expects."""


class _Failed(Exception):
    """One resource failed; its event is written."""


class Carrier:
    """Carries out what is wished of stacks.

    Args:
        maker: Makes what a resource type needs around it: for a stack and a logical id.
        make_scope: Makes the scope for a stack's wish over resources.
    """

    def __init__(
        self,
        maker: Callable[[Stack, str], Maker],
        make_scope: Callable[[Stack, Wish, Mapping[str, Held]], Scope],
    ) -> None:
        self._maker = maker
        self._make_scope = make_scope

    def create(self, stack: Stack, wish: Wish) -> None:
        """Make a stack."""
        stack.wish = wish
        stack.note("CREATE_IN_PROGRESS", reason="User Initiated")
        work = _Work(self._maker, stack, self._make_scope(stack, wish, {}), wish)
        try:
            work.apply(self._make_scope)
        except _Failed as failure:
            self._end_failed_creation(stack, work, str(failure))
        else:
            stack.held, stack.outputs = work.held, work.outputs
            stack.note("CREATE_COMPLETE")

    def _end_failed_creation(self, stack: Stack, work: "_Work", reason: str) -> None:
        stack.held = work.held
        match stack.on_failure:
            case "DO_NOTHING":
                stack.note("CREATE_FAILED", reason=reason)
            case "DELETE":
                stack.note("CREATE_FAILED", reason=reason)
                self.delete(stack)
            case _:
                stack.note("ROLLBACK_IN_PROGRESS", reason=f"{reason} Rollback requested by user.")
                clean = work.undo()
                stack.held = {}
                stack.note("ROLLBACK_COMPLETE" if clean else "ROLLBACK_FAILED")

    def update(self, stack: Stack, wish: Wish) -> None:
        """Change a stack to another wish."""
        before = (stack.wish, stack.held, stack.outputs)
        stack.updated_at = datetime.now(UTC)
        stack.note("UPDATE_IN_PROGRESS", reason="User Initiated")
        work = _Work(self._maker, stack, self._make_scope(stack, wish, {}), wish)
        try:
            work.apply(self._make_scope)
        except _Failed as failure:
            stack.note("UPDATE_ROLLBACK_IN_PROGRESS", reason=str(failure))
            clean = work.undo()
            stack.wish, stack.held, stack.outputs = before
            stack.note("UPDATE_ROLLBACK_COMPLETE" if clean else "UPDATE_ROLLBACK_FAILED")
        else:
            stack.wish, stack.held, stack.outputs = wish, work.held, work.outputs
            stack.note("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            work.clean_up()
            stack.note("UPDATE_COMPLETE")

    def delete(self, stack: Stack) -> None:
        """Remove a stack and what it holds, the last made first; what shall be retained stays."""
        stack.note("DELETE_IN_PROGRESS", reason="User Initiated")
        failed = []
        for held in reversed(list(stack.held.values())):
            if _remove(self._maker(stack, held.logical_id), stack, held, keep=held.deletion_policy != "Delete"):
                del stack.held[held.logical_id]
            else:
                failed.append(held.logical_id)
        if failed:
            stack.note("DELETE_FAILED", reason=f"The following resource(s) failed to delete: [{', '.join(failed)}].")
        else:
            stack.deleted_at = datetime.now(UTC)
            stack.outputs = []
            stack.note("DELETE_COMPLETE")


class _Work:
    """One wish on its way: what is held so far, how to undo it, and what is left over at the end."""

    def __init__(self, maker: Callable[[Stack, str], Maker], stack: Stack, scope: Scope, wish: Wish) -> None:
        self.held: dict[str, Held] = {}
        self.outputs: list[dict[str, str]] = []
        self._maker = maker
        self._stack = stack
        self._scope = scope
        self._wish = wish
        self._undo: list[Callable[[], bool]] = []
        self._left: list[tuple[Held, bool]] = []

    def apply(self, make_scope: Callable[[Stack, Wish, Mapping[str, Held]], Scope]) -> None:
        """Make and change everything.

        Raises:
            _Failed: With the reason for the stack's event.
        """
        self._scope = make_scope(self._stack, self._wish, self.held)
        for resource in self._wish.template.resources.values():
            if resource.condition and not self._scope.holds(resource.condition):
                continue
            self.held[resource.logical_id] = self._apply_one(resource)
        self._note_removed()
        try:
            self.outputs = self._resolve_outputs()
        except FAILURES as error:
            raise _Failed(f"Outputs: {_say(error)}.") from error

    def undo(self) -> bool:
        """Undo what was done, the last first; whether all of it could be undone."""
        undone = [step() for step in reversed(self._undo)]
        return all(undone)

    def clean_up(self) -> None:
        """Remove what was replaced or is no more in the template. What can't be removed is left, as AWS leaves it."""
        for held, keep in reversed(self._left):
            _remove(self._maker(self._stack, held.logical_id), self._stack, held, keep=keep)

    def _apply_one(self, resource: Resource) -> Held:
        before = self._stack.held.get(resource.logical_id)
        verb = "UPDATE" if before else "CREATE"
        note = _noter(self._stack, resource)
        properties: dict[str, Any] = {}
        try:
            properties = own_properties(resource, self._scope, self._wish.tags)
            if before and before.type == resource.type and before.properties == properties:
                return replace(before, deletion_policy=resource.deletion_policy, replace_policy=resource.replace_policy)
            note(f"{verb}_IN_PROGRESS", before.made.id if before else None, None, properties)
            made = self._change(resource, before, properties)
        except FAILURES as error:
            note(f"{verb}_FAILED", before.made.id if before else None, _say(error), properties)
            done = "update" if before else "create"
            raise _Failed(f"The following resource(s) failed to {done}: [{resource.logical_id}].") from error
        note(f"{verb}_COMPLETE", made.id, None, properties)
        return Held(
            resource.logical_id,
            resource.type,
            made,
            properties,
            resource.deletion_policy,
            resource.replace_policy,
            f"{verb}_COMPLETE",
        )

    def _change(self, resource: Resource, before: Held | None, properties: Mapping[str, Any]) -> Made:
        kind = find_kind(resource.type)
        maker = self._maker(self._stack, resource.logical_id)
        if before is None:
            return self._create(kind, maker, resource, properties)
        if before.type == resource.type and not kind.replaces(before.properties, properties):
            return self._update(kind, maker, before, properties)
        _refuse_same_name(kind, before, properties)
        self._left.append((before, before.replace_policy != "Delete"))
        return self._create(kind, maker, resource, properties)

    def _create(self, kind: Kind, maker: Maker, resource: Resource, properties: Mapping[str, Any]) -> Made:
        try:
            made = kind.create(maker, properties)
        except FAILURES:
            for half in maker.begun:
                with suppress(*FAILURES):
                    kind.remove(maker, half, properties)
            raise
        held = Held(
            resource.logical_id, resource.type, made, properties, resource.deletion_policy, resource.replace_policy
        )
        keep = resource.deletion_policy == "Retain"
        self._undo.append(lambda: _remove(maker, self._stack, held, keep=keep))
        return made

    def _update(self, kind: Kind, maker: Maker, before: Held, properties: Mapping[str, Any]) -> Made:
        update = kind.update
        assert update is not None  # noqa: S101  # a kind without it always replaces

        def put_back() -> bool:
            self._stack.note(
                "UPDATE_IN_PROGRESS", logical_id=before.logical_id, type_name=before.type, physical_id=before.made.id
            )
            with suppress(*FAILURES):
                update(maker, before.made, properties, before.properties)
                self._stack.note(
                    "UPDATE_COMPLETE", logical_id=before.logical_id, type_name=before.type, physical_id=before.made.id
                )
                return True
            return False

        self._undo.append(put_back)
        return update(maker, before.made, before.properties, properties)

    def _note_removed(self) -> None:
        for name, held in self._stack.held.items():
            if name not in self.held:
                self._left.append((held, held.deletion_policy != "Delete"))

    def _resolve_outputs(self) -> list[dict[str, str]]:
        outputs = []
        for name, body in self._wish.template.outputs.items():
            if (condition := body.get("Condition")) and not self._scope.holds(condition):
                continue
            output = {"OutputKey": name, "OutputValue": str(resolve(body["Value"], self._scope))}
            if "Description" in body:
                output["Description"] = str(body["Description"])
            if "Export" in body:
                output["ExportName"] = str(resolve(body["Export"]["Name"], self._scope))
            outputs.append(output)
        return outputs


Note = Callable[[str, str | None, str | None, Mapping[str, Any] | None], None]


def _noter(stack: Stack, resource: Resource) -> Note:
    def note(status: str, physical_id: str | None, reason: str | None, properties: Mapping[str, Any] | None) -> None:
        stack.note(
            status,
            logical_id=resource.logical_id,
            type_name=resource.type,
            physical_id=physical_id,
            reason=reason,
            properties=properties,
        )

    return note


def _remove(maker: Maker, stack: Stack, held: Held, *, keep: bool) -> bool:
    """Remove a resource, or leave it where its policy says so; False if it can't be removed."""

    def note(status: str, reason: str | None = None) -> None:
        stack.note(status, logical_id=held.logical_id, type_name=held.type, physical_id=held.made.id, reason=reason)

    if keep:
        note("DELETE_SKIPPED")
        return True
    note("DELETE_IN_PROGRESS")
    try:
        find_kind(held.type).remove(maker, held.made, held.properties)
    except FAILURES as error:
        note("DELETE_FAILED", _say(error))
        return False
    note("DELETE_COMPLETE")
    return True


def _refuse_same_name(kind: Kind, before: Held, properties: Mapping[str, Any]) -> None:
    """Refuse to make a second resource of a name while the first is there.

    Raises:
        ResourceFailed: The name was given and stays the same.
    """
    if kind.name and kind.name in properties and before.properties.get(kind.name) == properties[kind.name]:
        raise ResourceFailed(
            "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
            f"Rename {properties[kind.name]} and update the stack again."
        )


def _say(error: BaseException) -> str:
    match error:
        case Unresolved():
            return f"Unresolved resource dependencies [{error}]: it is not made, because of its condition."
        case ClientError():
            details = error.response.get("Error", {})
            return f"{details.get('Message')} (Operation: {error.operation_name}; Error Code: {details.get('Code')})"
        case NotCarriedOut() | ResourceFailed() | TemplateInvalid() | BotoCoreError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}"


def carry_out(stack: Stack, work: Callable[[], None]) -> None:
    """Carry work out on a thread of its own, and wait a while for its end."""
    stack.rested.clear()

    def carry_out() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a fault of ours must show in the stack, never leave it hanging
            traceback.print_exc(file=sys.stderr)
            failed = stack.status.replace("_IN_PROGRESS", "_FAILED")
            stack.note(failed, reason=f"fault in the local AWS: {type(error).__name__}: {error}")
        finally:
            stack.rested.set()

    threading.Thread(target=carry_out, name=f"stack-{stack.name}", daemon=True).start()
    stack.rested.wait(ANSWER_WITHIN_S)
