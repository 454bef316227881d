"""Polling: takes batches from a mapping's queue to its function, and deletes what was handled."""

import contextlib
import threading
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from immortal_local import queues
from immortal_local.functions.asynchronous import new_trace_header
from immortal_local.functions.batches import Filter, failed_messages, write_event
from immortal_local.functions.invoking import Invoker
from immortal_local.functions.mappings import EventSourceMapping
from immortal_local.functions.references import Reference
from immortal_local.functions.store import Store
from immortal_local.parts import Ground
from immortal_local.wire import ApiError
from immortal_local.workers import Worker

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import DeleteMessageBatchRequestEntryTypeDef

__all__ = ["Pollers"]

Message = Mapping[str, Any]
"""As ReceiveMessage gives it."""

_LOOK_S = 0.25
"""How soon a poller notices that it should stop; a message wakes it at once."""

_MISSING_QUEUE_REST_S = 1.0
_RECEIVE_AT_ONCE = 10
_BATCHES_AT_ONCE = 5
"""Batches under way without a MaximumConcurrency: what Lambda starts with."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """A mapping's settings, as a poller reads them once."""

    region: str
    queue_arn: str
    queue_url: str
    reference: Reference
    batch_size: int
    window_s: float
    batches_at_once: int
    reports_failures: bool
    wanted: Filter

    @classmethod
    def read(cls, mapping: EventSourceMapping) -> "PollSettings":
        """Read a mapping; a FIFO queue's batches come one after the other."""
        settings = mapping.settings
        scaling: Mapping[str, Any] = settings.get("ScalingConfig") or {}
        at_once = scaling.get("MaximumConcurrency", _BATCHES_AT_ONCE)
        return cls(
            mapping.region,
            mapping.queue_arn,
            mapping.queue_url,
            mapping.reference,
            settings["BatchSize"],
            settings["MaximumBatchingWindowInSeconds"],
            1 if mapping.queue_arn.endswith(".fifo") else at_once,
            "ReportBatchItemFailures" in settings["FunctionResponseTypes"],
            Filter(settings.get("FilterCriteria")),
        )


class Pollers:
    """One supervised poller per enabled mapping."""

    def __init__(self, store: Store, invoker: Invoker, ground: Ground) -> None:
        self._store = store
        self._invoker = invoker
        self._ground = ground
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}

    def move(self, mapping: EventSourceMapping) -> None:
        """Begin to poll."""
        poller = _Poller(PollSettings.read(mapping), self._store, self._invoker, self._ground)
        with self._lock:
            self._workers[mapping.uuid] = self._ground.workers.start(f"mapping-{mapping.uuid}", poller.work)

    def halt(self, mapping: EventSourceMapping) -> None:
        """Take no more messages; a batch that is with the function is finished."""
        with self._lock:
            worker = self._workers.pop(mapping.uuid, None)
        if worker is not None:
            worker.stopping.set()

    def stop(self) -> None:
        """Take no more messages for any mapping."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.stopping.set()


class _Poller:
    def __init__(self, settings: PollSettings, store: Store, invoker: Invoker, ground: Ground) -> None:
        self._settings = settings
        self._store = store
        self._invoker = invoker
        self._ground = ground

    @property
    def _sqs(self) -> "SQSClient":
        client: SQSClient = self._ground.client("sqs", self._settings.region)
        return client

    def work(self, stopping: threading.Event) -> None:
        """Poll until told to stop; a worker's work."""
        free = threading.Semaphore(self._settings.batches_at_once)
        with ThreadPoolExecutor(self._settings.batches_at_once, thread_name_prefix="batch") as threads:
            while not stopping.is_set():
                if not free.acquire(timeout=_LOOK_S):
                    continue
                batch = self._gather(stopping)
                if batch:
                    threads.submit(self._handle_and_free, batch, free)
                else:
                    free.release()

    def _gather(self, stopping: threading.Event) -> list[Message]:
        """Gather a batch: what is there at once, more until the window closes if the mapping has one."""
        batch = self._receive(_LOOK_S, self._settings.batch_size, stopping)
        closes_s = time.monotonic() + self._settings.window_s
        while batch and len(batch) < self._settings.batch_size and not stopping.is_set():
            left_s = closes_s - time.monotonic()
            if left_s <= 0:
                break
            batch += self._receive(min(_LOOK_S, left_s), self._settings.batch_size - len(batch), stopping)
        return batch

    def _receive(self, wait_s: float, at_most: int, stopping: threading.Event) -> list[Message]:
        """Receive what the function wants, and delete what its filter drops."""
        if not queues.wait_for_message(self._settings.queue_arn, wait_s):
            if queues.find_queue(self._settings.queue_arn) is None:
                stopping.wait(_MISSING_QUEUE_REST_S)
            return []
        if stopping.is_set():
            return []
        try:
            received: Sequence[Message] = self._sqs.receive_message(
                QueueUrl=self._settings.queue_url,
                MaxNumberOfMessages=min(at_most, _RECEIVE_AT_ONCE),
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
        except self._sqs.exceptions.QueueDoesNotExist:
            return []
        wanted: list[Message] = [
            message for message in received if self._settings.wanted.passes(message, queue_arn=self._settings.queue_arn)
        ]
        self._delete([message for message in received if message not in wanted])
        return wanted

    def _handle_and_free(self, batch: Sequence[Message], free: threading.Semaphore) -> None:
        try:
            self._handle(batch)
        except Exception:  # noqa: BLE001  # a fault of ours must be seen; the batch comes back by itself
            traceback.print_exc()
        finally:
            free.release()

    def _handle(self, batch: Sequence[Message]) -> None:
        """Hand a batch to the function. What it doesn't handle comes back after its visibility timeout."""
        event = write_event(batch, queue_arn=self._settings.queue_arn)
        try:
            target = self._store.target(self._settings.region, self._settings.reference)
            answer = self._invoker.invoke(
                target, event, request_id=str(uuid.uuid4()), trace_header=new_trace_header(time.time())
            )
        except ApiError:
            return  # throttled, or the function is gone: the receive counts, as on AWS
        if answer.failed:
            return
        failed: frozenset[str] = frozenset()
        if self._settings.reports_failures:
            failed = failed_messages(answer.payload, [message["MessageId"] for message in batch])
        self._delete([message for message in batch if message["MessageId"] not in failed])

    def _delete(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), _RECEIVE_AT_ONCE):
            entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[start : start + _RECEIVE_AT_ONCE])
            ]
            with contextlib.suppress(ClientError):  # the queue may be gone; then there is nothing to delete
                self._sqs.delete_message_batch(QueueUrl=self._settings.queue_url, Entries=entries)
