"""An account with a real ledger that only notes the tasks it should start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any

from immortal_dispatcher.launch import Refused, Started, order_task
from immortal_dispatcher.resolve import Candidate
from immortal_dispatcher.settings import Settings
from immortal_dispatcher.stops import Stop
from immortal_lambda.arns import FunctionArn
from immortal_lambda.errors import ImmortalError
from immortal_lambda.ledger import Ledger
from immortal_lambda.runs import Run

SETTINGS = Settings("runs", "payloads", "immortal", "immortal-runner", ("subnet-1", "subnet-2"), ("sg-1",), "ENABLED")


@dataclass
class Bucket:
    """A bucket in memory."""

    name: str = "payloads"
    stored: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        self.stored[key] = data

    def upload(self, key: str, source: BufferedReader) -> None:
        self.stored[key] = source.read()

    def get(self, bucket: str, key: str) -> bytes | None:
        return self.stored.get(key) if bucket == self.name else None


@dataclass
class FakeAccount:
    """An account with a real ledger, whose tasks are started by noting the order."""

    ledger: Ledger
    functions: Mapping[str, Sequence[Candidate]] = field(default_factory=dict)
    role_ids: Mapping[str, str] = field(default_factory=dict)
    bucket: Bucket = field(default_factory=Bucket)
    refusal: Refused | None = None
    listing_error: ImmortalError | None = None
    role_error: ImmortalError | None = None
    stops: Mapping[str, Stop | None] = field(default_factory=dict)
    orders: list[dict[str, Any]] = field(default_factory=list)

    def candidates(self, queue_arn: str, *, sent_ms: int) -> Sequence[Candidate]:
        del sent_ms
        if self.listing_error:
            raise self.listing_error
        return self.functions.get(queue_arn, ())

    def has_versions(self, function: FunctionArn, *, sent_ms: int) -> bool:
        del function, sent_ms
        return False

    def logged_version(self, log_group: str, request_id: str, *, sent_ms: int) -> str | None:
        raise AssertionError(f"nobody should look into {log_group} at {sent_ms} for {request_id}")

    def role_id(self, role_arn: str, *, fresh: bool) -> str | None:
        del fresh
        if self.role_error:
            raise self.role_error
        return self.role_ids.get(role_arn)

    def launch(self, run: Run) -> Started | Refused:
        self.orders.append(order_task(run, SETTINGS))
        return self.refusal or Started(f"task-of-{run.run_id}")

    def find_stop(self, task_arn: str) -> Stop | None:
        return self.stops[task_arn]

    @property
    def launched(self) -> list[str]:
        return [order["overrides"]["containerOverrides"][0]["environment"][0]["value"] for order in self.orders]


@dataclass
class Said:
    """Keeps the lines of the log."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, said: str, /, **fields: str | int | None) -> None:
        self.lines.append({"said": said, **fields})
