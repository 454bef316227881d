"""Asynchronous events: queued, tried, tried again, and handed on when they end."""

import heapq
import itertools
import secrets
import sys
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from immortal_local.functions.deliveries import Conclusion, Deliveries
from immortal_local.functions.invoking import Answer, Invoker
from immortal_local.functions.references import Reference, read_reference
from immortal_local.functions.retries import GiveUp, Policy, Retry, after_error, after_refusal, read_policy
from immortal_local.functions.store import Store, Target
from immortal_local.parts import Ground
from immortal_local.wire import ApiError
from immortal_runner.execution.outcomes import Errored

__all__ = ["AsynchronousEvents", "Event", "new_trace_header"]

_AT_ONCE = 32
"""Events that run at the same time: Lambda takes as many as its concurrency allows, a laptop doesn't."""

_FAULT_REST_S = 5.0
_THROTTLED = 429
_GIVEN_UP_UNTRIED = "Rate Exceeded."


@dataclass(frozen=True, slots=True)
class Event:
    """One event that Lambda has taken.

    Attributes:
        payload: Byte for byte as it was sent.
        accepted_s: When, in monotonic seconds.
        skipped_s: What the local AWS has cut off AWS's waits so far; the event's age counts it.
        attempts: Made so far.
        refusals: Throttles and faults so far, which are no attempts.
    """

    request_id: str
    region: str
    reference: Reference
    payload: bytes
    trace_header: str
    accepted_s: float
    skipped_s: float = 0.0
    attempts: int = 0
    refusals: int = 0

    def age_s(self, now_s: float) -> float:
        """The event's age in AWS's seconds: what passed here, and the waits that were cut off."""
        return now_s - self.accepted_s + self.skipped_s


@dataclass(order=True, slots=True)
class _Due:
    due_s: float
    number: int
    event: Event = field(compare=False)


class AsynchronousEvents:
    """Lambda's own queue in front of functions.

    Nothing taken is lost while the local AWS runs: what a fault of ours interrupts is tried again.
    """

    def __init__(self, store: Store, invoker: Invoker, ground: Ground) -> None:
        self._store = store
        self._invoker = invoker
        self._ground = ground
        self._deliveries = Deliveries(ground, self.invoke)
        self._changed = threading.Condition()
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._closed = False
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="event")

    def invoke(self, region: str, function: str, payload: bytes, *, request_id: str | None = None) -> str:
        """Invoke a function asynchronously, as another service of the local AWS does.

        Args:
            function: Name or ARN.

        Returns:
            The request id.

        Raises:
            ApiError: The function is unknown.
        """
        reference = read_reference(function, None, region=region, account=self._ground.account)
        self._store.target(region, reference)
        return self.take(region, reference, payload, request_id=request_id or str(uuid.uuid4()))

    def take(
        self, region: str, reference: Reference, payload: bytes, *, request_id: str, trace_header: str | None = None
    ) -> str:
        """Take an event for a function that exists."""
        trace_header = trace_header or new_trace_header(time.time())
        event = Event(request_id, region, reference, payload, trace_header, time.monotonic())
        self._put(event, wait_s=0.0)
        return request_id

    def work(self, stopping: threading.Event) -> None:
        """Start each event when it is due; a worker's work."""
        while not stopping.is_set():
            event = self._next(wait_s=0.2)
            if event is not None and not self._closed:
                self._threads.submit(self._try, event)

    def close(self) -> None:
        """Start nothing more; what ends from now on, ends unrecorded."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wait for what runs, after :meth:`close` and after the pool was stopped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _put(self, event: Event, *, wait_s: float) -> None:
        with self._changed:
            heapq.heappush(self._due, _Due(time.monotonic() + wait_s, next(self._numbers), event))
            self._changed.notify_all()

    def _put_again(self, event: Event, wait_s: float) -> None:
        """Queue an event again after one of AWS's waits, scaled."""
        here_s = wait_s * self._ground.time_scale
        self._put(replace(event, skipped_s=event.skipped_s + wait_s - here_s), wait_s=here_s)

    def _next(self, *, wait_s: float) -> Event | None:
        """The next event that is due, or None after a while without one."""
        with self._changed:
            now_s = time.monotonic()
            if self._due and self._due[0].due_s <= now_s:
                return heapq.heappop(self._due).event
            until_s = self._due[0].due_s - now_s if self._due else wait_s
            self._changed.wait(min(wait_s, until_s))
            return None

    def _try(self, event: Event) -> None:
        try:
            self._attempt(event)
        except Exception:  # noqa: BLE001  # a fault of ours must not lose an event that was accepted
            if self._closed:
                return
            print(f"local AWS: event {event.request_id} met a fault and is tried again:", file=sys.stderr)  # noqa: T201  # stderr is talk
            traceback.print_exc()
            self._put(replace(event, refusals=event.refusals + 1), wait_s=_FAULT_REST_S)

    def _attempt(self, event: Event) -> None:
        try:
            target = self._store.target(event.region, event.reference)
        except ApiError:
            return  # deleted since: Lambda drops its events
        if target.reserved_concurrency == 0:
            self._give_up(event, target, GiveUp("ZeroReservedConcurrency"), None)
            return
        try:
            answer = self._invoker.invoke(
                target, event.payload, request_id=event.request_id, trace_header=event.trace_header
            )
        except ApiError as error:
            self._after_refusal(event, target, error)
            return
        if self._closed:
            return
        event = replace(event, attempts=event.attempts + 1)
        if answer.failed:
            self._after_error(event, target, answer)
        else:
            self._succeed(event, target, answer)

    def _after_error(self, event: Event, target: Target, answer: Answer) -> None:
        age_s = event.age_s(time.monotonic())
        match after_error(self._policy(target), attempts=event.attempts, age_s=age_s):
            case Retry(wait_s):
                self._put_again(event, wait_s)
            case GiveUp() as decision:
                self._give_up(event, target, decision, answer)

    def _after_refusal(self, event: Event, target: Target, error: ApiError) -> None:
        event = replace(event, refusals=event.refusals + 1)
        age_s = event.age_s(time.monotonic())
        match after_refusal(self._policy(target), refusals=event.refusals, age_s=age_s):
            case Retry(wait_s):
                self._put_again(event, wait_s)
            case GiveUp() as decision:
                self._give_up(event, target, decision, None, error=error)

    def _policy(self, target: Target) -> Policy:
        return read_policy(self._config(target))

    def _config(self, target: Target) -> dict[str, object]:
        with self._store.change():
            if not self._store.has_function(target.region, target.name):
                return {}  # deleted while it ran
            function = self._store.function(target.region, Reference(target.name))
            return dict(function.event_invoke_configs.get(target.qualifier, {}))

    def _destination(self, target: Target, condition: str) -> str | None:
        config = self._config(target).get("DestinationConfig", {})
        destination = config.get(condition, {}).get("Destination") if isinstance(config, dict) else None
        return destination or None

    def _succeed(self, event: Event, target: Target, answer: Answer) -> None:
        if destination := self._destination(target, "OnSuccess"):
            self._deliver(destination, _end(event, target, "Success", answer))

    def _give_up(
        self, event: Event, target: Target, decision: GiveUp, answer: Answer | None, error: ApiError | None = None
    ) -> None:
        conclusion = _end(event, target, decision.condition, answer, error)
        if target.dead_letter_arn:
            self._deliver(target.dead_letter_arn, conclusion, dead_letter=True)
        if destination := self._destination(target, "OnFailure"):
            self._deliver(destination, conclusion)

    def _deliver(self, arn: str, conclusion: Conclusion, *, dead_letter: bool = False) -> None:
        """Send a dead letter or a record. One that can't be sent is dropped, as on AWS, but not in silence."""
        send = self._deliveries.send_dead_letter if dead_letter else self._deliveries.send_record
        try:
            send(arn, conclusion)
        except Exception as error:  # noqa: BLE001  # whatever the target refuses with must not undo the other delivery
            kind = "dead letter" if dead_letter else "record"
            lost = f"the {kind} of {conclusion.request_id} is lost, {arn} refused it: {error}"
            print(f"local AWS: {lost}", file=sys.stderr)  # noqa: T201  # stderr is talk


def _end(
    event: Event, target: Target, condition: str, answer: Answer | None, error: ApiError | None = None
) -> Conclusion:
    code, message = 200, ""
    if answer is None:
        code = (error.status or _THROTTLED) if error else _THROTTLED
        message = error.message if error else _GIVEN_UP_UNTRIED
    elif isinstance(answer.outcome, Errored):
        message = answer.outcome.message or answer.outcome.error_type  # an attribute can't be empty
    return Conclusion(
        target, event.request_id, event.payload, event.trace_header, condition, event.attempts, answer, code, message
    )


def new_trace_header(now_s: float) -> str:
    """Write the trace that Lambda starts for a caller that sent none: not sampled, so tracers stay quiet."""
    root = f"1-{int(now_s):08x}-{secrets.token_hex(12)}"
    return f"Root={root};Parent={secrets.token_hex(8)};Sampled=0;Lineage=1:{secrets.token_hex(4)}:0"
