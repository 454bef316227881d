"""The emulator: moto, imported into this process, with every patch that it needs.

Each patch is one function here, and each has a contract test that fails when moto's insides change.
"""

import copy
import json
import threading
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from moto.core.common_models import BaseModel
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.responses import DynamoHandler
from moto.events.exceptions import ValidationException
from moto.events.models import EventsBackend, Rule
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import Message, Queue, SQSBackend, sqs_backends
from moto.sqs.responses import SQSResponse

from immortal_local import queues

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["account", "forget_everything", "make_application", "send_as_service"]


def account() -> str:
    """The account that moto takes every caller for, twelve digits."""
    return str(DEFAULT_ACCOUNT_ID)


def make_application() -> "WSGIApplication":
    """Patch moto and give its WSGI application."""
    _forget_instances()
    _lock_tables()
    _undo_refused_updates()
    _lock_queues()
    _poll_queues_promptly()
    _refuse_bad_messages()
    _name_dead_letter_sources()
    _hand_over_events()
    _refuse_cron()
    _know_managed_policies()
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


def forget_everything() -> None:
    """Empty every service of the emulator; its storage belongs to the process, not to one application."""
    moto_api_backend.reset()


def send_as_service(
    queue_arn: str, body: str, *, attributes: dict[str, Any], sender_id: str, trace_header: str
) -> None:
    """Send a message to a queue as the Lambda service does, which no caller of the API can: under its own sender id.

    Args:
        queue_arn: The queue.
        body: The message.
        attributes: Message attributes by name, in the form of SendMessage.
        sender_id: What SQS shows as ``SenderId``.
        trace_header: What SQS shows as ``AWSTraceHeader``.

    Raises:
        SQSException: The queue is gone, or refuses the message.
    """
    _, _, _, region, account_id, name = queue_arn.split(":")
    with queues.lock:
        message = sqs_backends[account_id][region].send_message(
            name,
            body,
            message_attributes=attributes,
            system_attributes={"AWSTraceHeader": {"StringValue": trace_header, "DataType": "String"}},
        )
        message.sender_id = sender_id


def _patch(owner: type, name: str, function: Callable[..., Any]) -> None:
    """Put a function in the place of a method of moto; AttributeError if moto has none of that name any more."""
    getattr(owner, name)
    setattr(owner, name, function)


def _forget_instances() -> None:
    """Let moto's models be freed: it keeps every instance ever made, so each SQS message stays in memory for good."""

    def make(cls: type[BaseModel], *_args: Any, **_kwargs: Any) -> BaseModel:
        return super(BaseModel, cls).__new__(cls)

    _patch(BaseModel, "__new__", make)


_QUEUE_CHANGES = (
    "create_queue",
    "delete_queue",
    "send_message",
    "send_message_batch",
    "receive_message",
    "delete_message",
    "delete_message_batch",
    "change_message_visibility",
    "change_message_visibility_batch",
    "purge_queue",
)


@cache
def _lock_queues() -> None:
    """Put every change of a queue under one lock: moto lets two receives redrive the same message, and one fails."""
    make = Queue.__init__

    def make_locked(queue: Queue, *args: Any, **kwargs: Any) -> None:
        make(queue, *args, **kwargs)
        queue._messages_lock = threading.Condition(queues.lock)  # noqa: SLF001  # what a send notifies

    def locked(change: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(change)
        def change_locked(backend: SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
            with queues.lock:
                before = backend.queues.get(queue_name)
                try:
                    return change(backend, queue_name, *args, **kwargs)
                finally:
                    if before is not None:
                        before._messages_lock.notify_all()  # noqa: SLF001  # a message may have come back to sight

        return change_locked

    _patch(Queue, "__init__", make_locked)
    for name in _QUEUE_CHANGES:
        if name != "receive_message":
            _patch(SQSBackend, name, locked(getattr(SQSBackend, name)))


@cache
def _lock_tables() -> None:
    """Answer DynamoDB's calls one after the other: moto checks a condition first and writes later, so two may win."""
    call = DynamoHandler.call_action
    lock = threading.RLock()

    def call_locked(handler: DynamoHandler) -> Any:
        with lock:
            return call(handler)

    _patch(DynamoHandler, "call_action", call_locked)


@cache
def _undo_refused_updates() -> None:
    """Put an item back when its update is refused half-way: moto leaves the members that it had changed by then."""
    change = DynamoDBBackend.update_item

    def change_whole(
        backend: DynamoDBBackend, table_name: str, key: dict[str, dict[str, Any]], *args: Any, **kwargs: Any
    ) -> Item:
        table = backend.get_table(table_name)
        hash_value = DynamoType(key[table.hash_key_attr])
        range_value = DynamoType(key[table.range_key_attr]) if table.range_key_attr else None
        item = table.get_item(hash_value, range_value)
        before = copy.deepcopy(item.attrs) if item is not None else None
        try:
            return change(backend, table_name, key, *args, **kwargs)
        except Exception:
            if item is not None and before is not None:
                item.attrs = before
            raise

    _patch(DynamoDBBackend, "update_item", change_whole)


@cache
def _poll_queues_promptly() -> None:
    """Wait for messages ourselves: moto looks once a second, and a redriven message loses where it came from."""
    take = SQSBackend.receive_message

    def receive(
        backend: SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *args: Any, **kwargs: Any
    ) -> list[Message]:
        def take_now() -> list[Message]:
            return take(backend, queue_name, count, 0, *args, **kwargs)

        return queues.receive(take_now, backend, queue_name, wait_s=wait_seconds_timeout)

    _patch(SQSBackend, "receive_message", receive)


@cache
def _refuse_bad_messages() -> None:
    """Refuse empty messages and control characters, and count bytes: moto takes the former and counts characters."""
    send, send_batch = SQSBackend.send_message, SQSBackend.send_message_batch

    def send_checked(backend: SQSBackend, queue_name: str, message_body: str, *args: Any, **kwargs: Any) -> Message:
        limit = backend.get_queue(queue_name).maximum_message_size  # type: ignore[attr-defined]  # set by name in moto
        queues.check_message(message_body, kwargs.get("message_attributes") or {}, maximum_bytes=limit)
        return send(backend, queue_name, message_body, *args, **kwargs)

    def send_batch_checked(
        backend: SQSBackend, queue_name: str, entries: dict[str, dict[str, Any]]
    ) -> tuple[list[Message], list[dict[str, Any]]]:
        limit = backend.get_queue(queue_name).maximum_message_size  # type: ignore[attr-defined]  # set by name in moto
        good, failed = queues.split_batch(entries, maximum_bytes=limit)
        sent, failed_in_moto = send_batch(backend, queue_name, good) if good else ([], [])
        return sent, [*failed, *failed_in_moto]

    _patch(SQSBackend, "send_message", send_checked)
    _patch(SQSBackend, "send_message_batch", send_batch_checked)


@cache
def _name_dead_letter_sources() -> None:
    """Answer ``DeadLetterQueueSourceArn`` where it is asked for: moto doesn't know the attribute."""
    receive = SQSResponse.receive_message

    def receive_with_sources(response: SQSResponse) -> ActionResult:
        answer = receive(response)
        read = response._get_param  # noqa: SLF001  # moto's way to read a request
        asked = {*read("AttributeNames", []), *read("MessageSystemAttributeNames", [])}
        received: Any = answer.result
        if received and asked & {"All", "DeadLetterQueueSourceArn"}:
            queue_name = response._get_queue_name()  # noqa: SLF001  # from the URL, which has several forms
            queues.add_dead_letter_sources(response.sqs_backend, queue_name, received["Messages"])
        return answer

    _patch(SQSResponse, "receive_message", receive_with_sources)


_TakeEvent = Callable[[Rule, Mapping[str, Any]], None]
_take_event: _TakeEvent | None = None


def hand_events_to(take: _TakeEvent | None) -> None:
    """Say who gets every event for every rule of its bus; None drops them."""
    global _take_event  # noqa: PLW0603  # moto's rules belong to the process, and so does what becomes of their events
    _take_event = take


@cache
def _hand_over_events() -> None:
    """Deliver events ourselves: moto fails for Lambda targets, and ignores inputs, states and objects in arrays."""

    def send(rule: Rule, original_event: Mapping[str, Any], transform_input: bool = True) -> None:  # noqa: ARG001, FBT001, FBT002  # moto's
        if _take_event is not None:
            _take_event(rule, original_event)

    _patch(Rule, "send_to_targets", send)


@cache
def _refuse_cron() -> None:
    """Refuse a schedule that would never fire."""
    put = EventsBackend.put_rule

    def put_rate(backend: EventsBackend, name: str, *args: Any, **kwargs: Any) -> Rule:
        if str(kwargs.get("scheduled_expression") or "").startswith("cron"):
            raise ValidationException("The local AWS carries out rate(...) schedules and no cron(...) schedules.")
        return put(backend, name, *args, **kwargs)

    _patch(EventsBackend, "put_rule", put_rate)


@cache
def _know_managed_policies() -> None:
    """Let AWS's own policies be attached: moto has them, but only loads them all at once at its start."""
    attach = IAMBackend.attach_role_policy

    def attach_known(backend: IAMBackend, policy_arn: str, role_name: str) -> None:
        if policy_arn not in backend.managed_policies and (known := _managed_policies().get(policy_arn)):
            name, data = known
            policy = AWSManagedPolicy.from_data(name, backend.account_id, backend.region_name, data)
            backend.managed_policies[policy_arn] = policy
        attach(backend, policy_arn, role_name)

    _patch(IAMBackend, "attach_role_policy", attach_known)


@cache
def _managed_policies() -> dict[str, tuple[str, dict[str, Any]]]:
    every: dict[str, dict[str, Any]] = json.loads(aws_managed_policies_data)
    return {f"arn:aws:iam::aws:policy{data['Path']}{name}": (name, data) for name, data in every.items()}
