"""What SQS promises and the emulator's queues don't keep: exact receives, prompt long polls, true redrives.

The functions here stand in for methods of moto's SQS backend; ``emulator.py`` puts them in place. Everything that
reaches a queue, by API, by SNS, by EventBridge or by S3, passes the backend, so everything is under one lock.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from moto.sqs.exceptions import SQSException
from moto.sqs.models import SQSBackend, sqs_backends

from immortal_local.characters import NOT_XML

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moto.sqs.models import Message, Queue

    from immortal_local.wire import Service

RECHECK_S = 0.005
"""moto compares milliseconds with "later than": a message that is due is seen this much afterwards."""

lock = threading.RLock()
"""Held by whoever looks at or changes any queue: a redrive touches two of them."""

_closing = threading.Event()


def open_polls() -> None:
    """Let long polls wait again, after :func:`close_polls`."""
    _closing.clear()


def close_polls() -> None:
    """Answer every waiting long poll at once, so that the local AWS can stop."""
    _closing.set()
    with lock:
        for regions in sqs_backends.values():
            for backend in regions.values():
                for queue in backend.queues.values():
                    queue._messages_lock.notify_all()  # noqa: SLF001  # moto offers no other way to wake its waiters


def find_queue(arn: str) -> Queue | None:
    """Find a queue by its ARN.

    Returns:
        moto's queue, or ``None`` when there is none of that name in that account and region.
    """
    _, _, service, region, account, name = arn.split(":", 5)
    if service != "sqs":
        return None
    return sqs_backends[account][region].queues.get(name)


def wait_for_message(queue_arn: str, timeout_s: float) -> bool:
    """Wait until a queue has a message to give.

    Returns:
        Whether it has one: ``False`` after the timeout, when the queue is gone, or when the local AWS stops.
    """
    deadline = time.monotonic() + timeout_s
    with lock:
        while (queue := find_queue(queue_arn)) is not None:
            if queue.messages:
                return True
            if not _wait(queue, deadline):
                return False
    return False


def check_message(body: str, attributes: Mapping[str, Mapping[str, Any]], *, maximum_bytes: int) -> None:
    """Refuse what SQS refuses of a message.

    Raises:
        SQSException: Empty, a character outside of XML's, or too long, counted in bytes with the attributes.

    Source: SQS API reference, SendMessage.
    """
    if not body:
        raise SQSException("MissingParameter", "The request must contain the parameter MessageBody.")
    if NOT_XML.search(body):
        raise SQSException(
            "InvalidMessageContents",
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
            "#xE000 to #xFFFD | #x10000 to #x10FFFF",
        )
    if message_bytes(body, attributes) > maximum_bytes:
        raise SQSException(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {maximum_bytes} bytes.",
        )


def message_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Count a message's bytes as SQS does: the body, and each attribute's name, type and value."""
    count = len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("StringValue") or attribute.get("BinaryValue") or ""
        count += len(name) + len(attribute.get("DataType", ""))
        count += len(value.encode() if isinstance(value, str) else value)
    return count


def split_batch(
    entries: Mapping[str, dict[str, Any]], *, maximum_bytes: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Part a batch into what can be sent and the failures of what SQS refuses, each for itself."""
    good, failed = {}, []
    for key, entry in entries.items():
        try:
            check_message(entry["MessageBody"], entry.get("MessageAttributes") or {}, maximum_bytes=maximum_bytes)
        except SQSException as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message})
        else:
            good[key] = entry
    return good, failed


def redrive(queue: Queue) -> None:
    """Move messages that were received often enough to the dead-letter queue, each marked with where it came from."""
    target = queue.dead_letter_queue
    if target is None or not queue.redrive_policy:
        return
    limit = queue.redrive_policy["maxReceiveCount"]
    for message in [each for each in queue.messages if each.approximate_receive_count >= limit]:
        queue._messages.remove(message)  # noqa: SLF001  # moto moves them inside its own receive, without the mark
        queue.pending_messages.discard(message)
        message.system_attributes["DeadLetterQueueSourceArn"] = {"StringValue": queue.queue_arn}
        target.add_message(message)


def receive(take: Callable[[], list[Message]], backend: SQSBackend, queue_name: str, *, wait_s: float) -> list[Message]:
    """Receive messages, waiting for the first one without asking again and again.

    Args:
        take: Takes what is there now.
        backend: The backend that holds the queue.
        queue_name: The queue's name.
        wait_s: How long to wait for a first message, in seconds.
    """
    deadline = time.monotonic() + wait_s
    with lock:
        while True:
            queue = backend.get_queue(queue_name)
            redrive(queue)
            messages = take()
            if messages or not _wait(queue, deadline):
                return messages


def _wait(queue: Queue, deadline: float) -> bool:
    """Wait under the lock until a queue may have changed; ``False`` when there is no time left."""
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0 or _closing.is_set():
        return False
    arrival = queue._messages_lock  # noqa: SLF001  # the condition that a send notifies
    arrival.wait(min(remaining_s, _next_due_s(queue)))
    return not _closing.is_set()


def _next_due_s(queue: Queue) -> float:
    """Tell in how many seconds the next hidden message comes back to sight."""
    now_ms = time.time() * 1000
    hidden = (each for each in queue._messages if each.delayed or not each.visible)  # noqa: SLF001  # hidden ones too
    due_ms = min((max(each.visible_at, each.delayed_until) for each in hidden), default=None)
    return threading.TIMEOUT_MAX if due_ms is None else max(due_ms - now_ms, 0) / 1000 + RECHECK_S


def add_dead_letter_sources(backend: SQSBackend, queue_name: str, received: list[dict[str, Any]]) -> None:
    """Tell of each received message that was redriven which queue it came from."""
    with lock:
        every = backend.get_queue(queue_name)._messages  # noqa: SLF001  # the received ones are hidden
        stored = {each.id: each for each in every}
    for message in received:
        known = stored.get(message["MessageId"])
        if known and (source := known.system_attributes.get("DeadLetterQueueSourceArn")):
            message.setdefault("Attributes", {})["DeadLetterQueueSourceArn"] = source["StringValue"]


class QueuePolls:
    """The long polls as a part of the local AWS: they end when it stops."""

    def services(self) -> Sequence[Service]:
        """Nothing: the emulator answers."""
        return []

    def start(self) -> None:
        """Let polls wait."""
        open_polls()

    def stop(self) -> None:
        """Answer every poll that waits."""
        close_polls()
