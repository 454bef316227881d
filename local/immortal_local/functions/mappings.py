"""Event source mappings: created, read, changed and deleted; ``polling.py`` moves them."""

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError

from immortal_local.functions.batches import Filter
from immortal_local.functions.pages import cut_page
from immortal_local.functions.references import Reference, function_arn, read_reference
from immortal_local.functions.store import Store
from immortal_local.parts import Ground
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["EventSourceMapping", "Mappings", "Mover"]

_LARGE_BATCH = 10
_MAX_BATCH = 10_000
_SETTABLE = (
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "FilterCriteria",
    "FunctionResponseTypes",
    "ScalingConfig",
    "KMSKeyArn",
    "MetricsConfig",
    "ProvisionedPollerConfig",
)
_FOR_STREAMS = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "ParallelizationFactor",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
)


@dataclass(slots=True)
class EventSourceMapping:
    """One mapping from a queue to a function.

    Attributes:
        settings: Its members as the API names them, without state.
        reference: The function, with the qualifier that the mapping names.
    """

    uuid: str
    region: str
    queue_arn: str
    queue_url: str
    reference: Reference
    settings: dict[str, Any]
    enabled: bool = True
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The state once it has settled."""
        return "Enabled" if self.enabled else "Disabled"


class Mover(Protocol):
    """Whoever polls a mapping's queue."""

    def move(self, mapping: EventSourceMapping) -> None:
        """Begin to poll, or go on with changed settings."""
        ...

    def halt(self, mapping: EventSourceMapping) -> None:
        """Stop polling."""
        ...


class Mappings:
    """The operations on event source mappings."""

    def __init__(self, store: Store, ground: Ground, mover: Mover) -> None:
        self._store = store
        self._ground = ground
        self._mover = mover
        self._lock = threading.RLock()
        self._mappings: dict[tuple[str, str], EventSourceMapping] = {}

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
            "ListEventSourceMappings": self.list,
        }

    def find_tags(self, region: str, identifier: str) -> dict[str, str] | None:
        """The tags of a mapping, None if it is unknown."""
        with self._lock:
            mapping = self._mappings.get((region, identifier))
            return mapping.tags if mapping else None

    def create(self, call: Call) -> dict[str, Any]:
        """CreateEventSourceMapping."""
        request = call.request
        arn = request.get("EventSourceArn", "")
        _check_source(arn, request)
        reference = _refer(call)
        timeout_s = self._timeout_s(call.region, reference)
        queue_url = self._check_queue(arn, call.region, timeout_s)
        _check_settings(request)
        defaults = {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []}
        settings = {**defaults, **{name: request[name] for name in _SETTABLE if name in request}}
        with self._lock:
            self._check_duplicate(arn, reference, call.region)
            mapping = EventSourceMapping(
                str(uuid.uuid4()),
                call.region,
                arn,
                queue_url,
                reference,
                {**settings, "LastModified": datetime.now(UTC)},
                enabled=request.get("Enabled", True),
                tags=dict(request.get("Tags", {})),
            )
            self._mappings[mapping.region, mapping.uuid] = mapping
            if mapping.enabled:
                self._mover.move(mapping)
            return self._describe(mapping, "Creating")

    def get(self, call: Call) -> dict[str, Any]:
        """GetEventSourceMapping."""
        mapping = self._find(call)
        return self._describe(mapping, mapping.state)

    def list(self, call: Call) -> dict[str, Any]:
        """ListEventSourceMappings, of a queue, a function or all."""
        request = call.request
        wanted = _refer(call) if "FunctionName" in request else None
        with self._lock:
            shown = [
                self._describe(mapping, mapping.state)
                for (region, _), mapping in self._mappings.items()
                if region == call.region
                and request.get("EventSourceArn") in {None, mapping.queue_arn}
                and wanted in {None, mapping.reference, Reference(mapping.reference.name)}
            ]
        page, more = cut_page(shown, call)
        return {"EventSourceMappings": page, **more}

    def update(self, call: Call) -> dict[str, Any]:
        """UpdateEventSourceMapping."""
        request = call.request
        with self._lock:
            mapping = self._find(call)
            changed = {name: request[name] for name in _SETTABLE if name in request}
            _check_settings({**mapping.settings, **changed})
            if "FunctionName" in request:
                reference = _refer(call)
                self._check_queue(mapping.queue_arn, call.region, self._timeout_s(call.region, reference))
                mapping.reference = reference
            before = mapping.enabled
            mapping.settings = {**mapping.settings, **changed, "LastModified": datetime.now(UTC)}
            mapping.enabled = request.get("Enabled", before)
            self._mover.halt(mapping)
            if mapping.enabled:
                self._mover.move(mapping)
            passing = {(False, True): "Enabling", (True, False): "Disabling"}
            return self._describe(mapping, passing.get((before, mapping.enabled), "Updating"))

    def delete(self, call: Call) -> dict[str, Any]:
        """DeleteEventSourceMapping."""
        with self._lock:
            mapping = self._find(call)
            del self._mappings[mapping.region, mapping.uuid]
            self._mover.halt(mapping)
            return self._describe(mapping, "Deleting")

    def _find(self, call: Call) -> EventSourceMapping:
        with self._lock:
            mapping = self._mappings.get((call.region, call.request["UUID"]))
        if mapping is None:
            raise ApiError("ResourceNotFoundException", "The resource you requested does not exist.")
        return mapping

    def _timeout_s(self, region: str, reference: Reference) -> int:
        with self._store.change():
            version = self._store.function(region, reference).version(reference.qualifier)
            return int(version.configuration["Timeout"])

    def _check_queue(self, arn: str, region: str, timeout_s: int) -> str:
        """Check that a queue is there and hides messages long enough; give its URL."""
        sqs = self._ground.client("sqs", region)
        try:
            url = str(sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
        except ClientError as error:
            raise _invalid(
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist."
            ) from error
        visibility_s = int(attributes["VisibilityTimeout"])
        if visibility_s < timeout_s:
            raise _invalid(
                f"Queue visibility timeout: {visibility_s} seconds is less than Function timeout: {timeout_s} seconds"
            )
        return url

    def _check_duplicate(self, arn: str, reference: Reference, region: str) -> None:
        for (where, identifier), mapping in self._mappings.items():
            if where == region and mapping.queue_arn == arn and mapping.reference == reference:
                raise ApiError(
                    "ResourceConflictException",
                    f'An event source mapping with SQS arn (" {arn} ") and function (" {reference.name} ") already '
                    f"exists. Please update or delete the existing mapping with UUID {identifier}",
                )

    def _describe(self, mapping: EventSourceMapping, state: str) -> dict[str, Any]:
        arn = f"arn:aws:lambda:{mapping.region}:{self._ground.account}:event-source-mapping:{mapping.uuid}"
        reference = mapping.reference
        return {
            "UUID": mapping.uuid,
            "EventSourceMappingArn": arn,
            "EventSourceArn": mapping.queue_arn,
            "FunctionArn": function_arn(mapping.region, self._ground.account, reference.name, reference.qualifier),
            "State": state,
            "StateTransitionReason": "USER_INITIATED",
            **mapping.settings,
        }


def _refer(call: Call) -> Reference:
    return read_reference(call.request["FunctionName"], None, region=call.region, account=call.account)


def _check_source(arn: str, request: Mapping[str, Any]) -> None:
    if arn.split(":")[2:3] != ["sqs"]:
        raise ApiError(
            "NotImplementedException", f"the local AWS polls SQS queues only, not {arn or 'self-managed sources'}", 501
        )
    if unsupported := [name for name in _FOR_STREAMS if name in request]:
        raise _invalid(f"Unsupported {unsupported[0]} parameter for given event source mapping type.")


def _check_settings(settings: Mapping[str, Any]) -> None:
    size, window_s = settings.get("BatchSize", 0), settings.get("MaximumBatchingWindowInSeconds", 0)
    if size > _MAX_BATCH:
        raise _invalid(f"Batch size must be at most {_MAX_BATCH} for SQS.")
    if size > _LARGE_BATCH and not window_s:
        raise _invalid(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
        )
    try:
        Filter(settings.get("FilterCriteria"))
    except ValueError as error:
        raise _invalid("Invalid filter pattern definition.") from error


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
