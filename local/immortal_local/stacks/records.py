"""What a stack is: its template, the resources that it holds, and everything that has happened to it."""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from immortal_local.stacks.resources import Made
from immortal_local.stacks.templates import Template

__all__ = ["Change", "ChangeSet", "Held", "Stack", "StackEvent", "Wish"]


@dataclass(frozen=True, slots=True)
class Held:
    """A resource that a stack holds.

    Attributes:
        properties: Resolved, the stack's tags included.
    """

    logical_id: str
    type: str
    made: Made
    properties: Mapping[str, Any]
    deletion_policy: str
    replace_policy: str
    status: str = "CREATE_COMPLETE"
    reason: str | None = None
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One line of a stack's history."""

    event_id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    at: datetime
    reason: str | None
    properties: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What someone wants a stack to be.

    Attributes:
        given: Parameters as text, by name, as they were given.
        values: The same, checked, with defaults, in the form that functions take.
    """

    template: Template
    given: Mapping[str, str]
    values: Mapping[str, Any]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What would become of one resource.

    Attributes:
        action: Add, Modify or Remove.
        replacement: For Modify: whether a new one takes its place.
    """

    action: str
    logical_id: str
    type: str
    physical_id: str | None = None
    replacement: bool = False


@dataclass(slots=True)
class ChangeSet:
    """A wish and what it would change, until it is carried out."""

    name: str
    arn: str
    wish: Wish
    changes: tuple[Change, ...]
    creates: bool
    description: str | None
    created_at: datetime
    status: str
    reason: str | None
    execution_status: str


@dataclass(slots=True)
class Stack:
    """One stack; whoever changes it holds the lock of the stacks' part."""

    name: str
    arn: str
    region: str
    created_at: datetime
    status: str
    wish: Wish | None = None
    reason: str | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    held: dict[str, Held] = field(default_factory=dict)
    events: list[StackEvent] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    notification_arns: tuple[str, ...] = ()
    role_arn: str | None = None
    on_failure: str = "ROLLBACK"
    protected: bool = False
    rested: threading.Event = field(default_factory=threading.Event)

    def note(
        self,
        status: str,
        *,
        logical_id: str | None = None,
        type_name: str = "AWS::CloudFormation::Stack",
        physical_id: str | None = None,
        reason: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a line of history: about a resource, or without a logical id about the stack itself."""
        if logical_id is None:
            self.status, self.reason = status, reason
        event = StackEvent(
            event_id=f"{logical_id}-{status}-{uuid.uuid4()}" if logical_id else str(uuid.uuid4()),
            logical_id=logical_id or self.name,
            physical_id=(physical_id or "") if logical_id else self.arn,
            type=type_name,
            status=status,
            at=datetime.now(UTC),
            reason=reason,
            properties=json.dumps(properties) if properties is not None else None,
        )
        self.events.append(event)
