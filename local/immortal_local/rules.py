"""EventBridge that delivers: events and schedules reach their targets, or else the target's dead-letter queue.

The rules themselves are stored by the emulator; ``emulator.py`` hands each event of each rule to :meth:`Rules.offer`.
"""

import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.events.models import EventsBackend, Rule, events_backends

from immortal_local import emulator
from immortal_local.parts import Ground
from immortal_local.rule_decisions import matches, read_rate, shape_input, write_event, write_tick
from immortal_local.wire import Service

__all__ = ["Rules"]

LOOK_S = 0.1
"""How soon a new schedule is noticed."""

SHORTEST_S = 1.0
"""A schedule that is scaled down further would keep the machine busy with nothing else."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One event on its way to one target."""

    rule_arn: str
    target: Mapping[str, Any]
    event: Mapping[str, Any]


class Rules:
    """Carries events and the ticks of schedules to the targets of the rules that want them.

    Args:
        ground: The local AWS around it.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._deliveries: queue.SimpleQueue[_Delivery] = queue.SimpleQueue()
        self._due: dict[str, float] = {}

    def services(self) -> Sequence[Service]:
        """Nothing: the emulator answers, and hands the events over."""
        return []

    def start(self) -> None:
        """Begin to deliver."""
        emulator.hand_events_to(self.offer)
        self._ground.workers.start("event-deliveries", self._deliver_all)
        self._ground.workers.start("event-schedules", self._tick_all)

    def stop(self) -> None:
        """Take no more events."""
        emulator.hand_events_to(None)

    def publish(self, event: Mapping[str, Any]) -> None:
        """Put an event of an AWS service on the default bus."""
        region = event["region"]
        backend: EventsBackend = events_backends[self._ground.account][region]
        for rule in list(backend.event_buses["default"].rules.values()):
            self.offer(rule, event)

    def offer(self, rule: Rule, event: Mapping[str, Any]) -> None:
        """Send an event to the targets of a rule, if the rule is enabled and wants it."""
        pattern = rule.event_pattern.get_pattern()
        if rule.state == "DISABLED" or not pattern:
            return
        written = write_event(event)
        if matches(pattern, written):
            self._send(rule, written)

    def _send(self, rule: Rule, event: Mapping[str, Any]) -> None:
        for target in list(rule.targets):
            self._deliveries.put(_Delivery(rule.arn, target, event))

    # Deliveries

    def _deliver_all(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                delivery = self._deliveries.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            try:
                self._deliver(delivery)
            except (ClientError, BotoCoreError, NotImplementedError) as error:
                self._give_up(delivery, error)

    def _deliver(self, delivery: _Delivery) -> None:
        arn = delivery.target["Arn"]
        _, _, service, region, _, resource = arn.split(":", 5)
        text = shape_input(delivery.target, delivery.event, delivery.rule_arn)
        match service:
            case "lambda":
                client = self._ground.client("lambda", region)
                client.invoke(FunctionName=arn, InvocationType="Event", Payload=text.encode())
            case "sqs":
                self._send_message(arn, text, delivery.target.get("SqsParameters", {}))
            case "sns":
                self._ground.client("sns", region).publish(TopicArn=arn, Message=text)
            case "logs":
                self._write_log(region, resource.removeprefix("log-group:").removesuffix(":*"), text)
            case "events" if resource.startswith("event-bus/"):
                self._forward(region, arn, delivery.event)
            case _:
                raise NotImplementedError(
                    f"the local AWS delivers to lambda, sqs, sns, logs and event buses, not to {arn}"
                )

    def _send_message(self, arn: str, text: str, parameters: Mapping[str, str], **more: Any) -> None:
        _, _, _, region, _, name = arn.split(":", 5)
        client = self._ground.client("sqs", region)
        group = {"MessageGroupId": parameters["MessageGroupId"]} if "MessageGroupId" in parameters else {}
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=text, **group, **more)

    def _write_log(self, region: str, group: str, text: str) -> None:
        client, stream = self._ground.client("logs", region), str(uuid.uuid4())
        client.create_log_stream(logGroupName=group, logStreamName=stream)
        event = {"timestamp": round(time.time() * 1000), "message": text}
        client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])

    def _forward(self, region: str, bus_arn: str, event: Mapping[str, Any]) -> None:
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Resources": event["resources"],
            "EventBusName": bus_arn,
        }
        self._ground.client("events", region).put_events(Entries=[entry])

    def _give_up(self, delivery: _Delivery, error: Exception) -> None:
        """Send an undeliverable event to its target's dead-letter queue, or say on stderr that it is lost."""
        arn = delivery.target.get("DeadLetterConfig", {}).get("Arn")
        if arn is None:
            print(f"local AWS: event {delivery.event['id']} is lost: {error}", file=sys.stderr)  # noqa: T201  # stderr is talk
            return
        code = type(error).__name__
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", code)
        attributes = {
            "RULE_ARN": delivery.rule_arn,
            "TARGET_ARN": delivery.target["Arn"],
            "ERROR_CODE": "NO_RESOURCE" if "NotFound" in code or "NonExistent" in code else code,
            "ERROR_MESSAGE": str(error)[:1024],
            "RETRY_ATTEMPTS": "0",
        }
        values = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        try:
            self._send_message(arn, json.dumps(delivery.event), {}, MessageAttributes=values)
        except (ClientError, BotoCoreError) as second:
            print(f"local AWS: event {delivery.event['id']} is lost: {error}; {second}", file=sys.stderr)  # noqa: T201  # as above

    # Schedules

    def _tick_all(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            now = time.monotonic()
            due = {rule.arn: self._tick(rule, seconds, now) for rule, seconds in self._scheduled()}
            self._due = due
            stopping.wait(max(min([*due.values(), now + LOOK_S]) - time.monotonic(), 0))

    def _scheduled(self) -> Iterator[tuple[Rule, float]]:
        for backend in list(events_backends[self._ground.account].values()):
            for rule in list(backend.event_buses["default"].rules.values()):
                if rule.state != "DISABLED" and (rate := read_rate(rule.scheduled_expression or "")):
                    yield rule, max(rate * self._ground.time_scale, SHORTEST_S)

    def _tick(self, rule: Rule, every_s: float, now: float) -> float:
        """Fire a rule whose time has come, and tell when it comes next; a new one waits for its first interval."""
        due = self._due.get(rule.arn, now + every_s)
        if due > now:
            return due
        self._send(rule, write_tick(rule))
        return max(due + every_s, now)
