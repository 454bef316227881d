"""What the dispatcher and the reconciler ask of AWS; the one file of this room that knows boto3."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from immortal_dispatcher.launch import Refused, Started, order_task, read_answer, read_error
from immortal_dispatcher.resolve import Candidate
from immortal_dispatcher.settings import Settings
from immortal_dispatcher.stops import Stop, read_stop
from immortal_lambda.arns import FunctionArn
from immortal_lambda.aws import client, open_bucket, open_ledger, translated
from immortal_lambda.errors import ServiceUnavailable
from immortal_lambda.ledger import Ledger
from immortal_lambda.payloads import Bucket
from immortal_lambda.runs import Run

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient

_STREAM_VERSION = re.compile(r"\[(\$LATEST|\d+)\]")
_LOG_REACH_MS = 24 * 3600 * 1000
"""How far back a request is looked for: Lambda retries an event for six hours at most."""

_LOG_LAG_MS = 5 * 60 * 1000


@dataclass(frozen=True, slots=True)
class _Listing:
    """The account's functions as they stood at one moment, by the target of their ``DeadLetterConfig``."""

    began_ms: int = 0
    by_target: Mapping[str, Sequence[Candidate]] = field(default_factory=dict)


@dataclass(slots=True)
class AwsAccount:
    """The account that the dispatcher runs in; it remembers what it saw of functions and roles."""

    settings: Settings
    ledger: Ledger
    bucket: Bucket
    ecs: ECSClient
    functions: LambdaClient
    iam: IAMClient
    logs: CloudWatchLogsClient
    _listing: _Listing = field(default_factory=_Listing)
    _role_ids: dict[str, str | None] = field(default_factory=dict)
    _versions: dict[FunctionArn, tuple[int, bool]] = field(default_factory=dict)

    def candidates(self, queue_arn: str, *, sent_ms: int) -> Sequence[Candidate]:
        """Give the functions that name a queue as their dead-letter queue.

        A listing answers for the letters that were sent before it was made. For a later letter the functions are listed
        again: one attached in the meantime, unknown to an older listing, would make it name the wrong function.
        """
        if self._listing.began_ms <= sent_ms:
            began_ms = _now_ms()
            self._listing = _Listing(began_ms, self._list_functions())
        return self._listing.by_target.get(queue_arn, ())

    def has_versions(self, function: FunctionArn, *, sent_ms: int) -> bool:
        """Whether a function had published versions when a letter was sent; a later letter asks anew."""
        began_ms, found = self._versions.get(function, (0, False))
        if not found and began_ms <= sent_ms:
            began_ms = _now_ms()
            with translated("lambda:ListVersionsByFunction"):
                listed = self.functions.list_versions_by_function(FunctionName=str(function), MaxItems=2)["Versions"]
            found = any(version.get("Version") != "$LATEST" for version in listed)
            self._versions[function] = (began_ms, found)
        return found

    def logged_version(self, log_group: str, request_id: str, *, sent_ms: int) -> str | None:
        """Give the version that logged a request: Lambda names it in the names of log streams.

        Raises:
            ServiceUnavailable: The log may lag behind the letter; it is asked again when the letter comes back.
        """
        pages = self.logs.get_paginator("filter_log_events").paginate(
            logGroupName=log_group, filterPattern=f'"{request_id}"', startTime=max(0, sent_ms - _LOG_REACH_MS)
        )
        with translated("logs:FilterLogEvents"), suppress(self.logs.exceptions.ResourceNotFoundException):
            for page in pages:
                for event in page["events"]:
                    if named := _STREAM_VERSION.search(event.get("logStreamName", "")):
                        return named[1]
        if _now_ms() - sent_ms < _LOG_LAG_MS:
            raise ServiceUnavailable(f"{log_group} doesn't show request {request_id} yet")
        return None

    def role_id(self, role_arn: str, *, fresh: bool) -> str | None:
        """Give a role's unique id; None when the role is gone."""
        if fresh or role_arn not in self._role_ids:
            self._role_ids[role_arn] = self._read_role_id(role_arn.rpartition("/")[2])
        return self._role_ids[role_arn]

    def launch(self, run: Run) -> Started | Refused:
        """Order a task for a run; whatever ECS answers is a value."""
        try:
            return read_answer(self.ecs.run_task(**order_task(run, self.settings)))
        except ClientError as error:
            # "resourceIds" is a member of ConflictException alone, which the stubs of ClientError don't know.
            answer = cast("Mapping[str, Any]", error.response)
            said = answer["Error"]
            return read_error(
                said.get("Code", ""),
                said.get("Message", ""),
                status=answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
                task_arns=tuple(answer.get("resourceIds", ())),
            )
        except BotoCoreError as error:
            return Refused("unavailable", str(error))

    def find_stop(self, task_arn: str) -> Stop | None:
        """Say how a task ended, None while it runs; a task that ECS no longer knows has ended."""
        with translated("ecs:DescribeTasks"):
            answer = self.ecs.describe_tasks(cluster=self.settings.cluster, tasks=[task_arn])
        if answer["tasks"]:
            return read_stop(answer["tasks"][0])
        return Stop(task_arn, stopped_reason="ECS no longer knows it")

    def _list_functions(self) -> dict[str, list[Candidate]]:
        by_target: dict[str, list[Candidate]] = defaultdict(list)
        with translated("lambda:ListFunctions"):
            for page in self.functions.get_paginator("list_functions").paginate():
                for function in cast("list[Mapping[str, Any]]", page["Functions"]):
                    if target := function.get("DeadLetterConfig", {}).get("TargetArn"):
                        arn = FunctionArn.read(function["FunctionArn"])
                        log_group = function.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{arn.name}"
                        by_target[target].append(Candidate(arn.unqualified, function["Role"], log_group))
        return dict(by_target)

    def _read_role_id(self, role_name: str) -> str | None:
        with translated("iam:GetRole"):
            try:
                return self.iam.get_role(RoleName=role_name)["Role"]["RoleId"]
            except self.iam.exceptions.NoSuchEntityException:
                return None


def open_account(settings: Settings) -> AwsAccount:
    """The account and region that the environment names."""
    return AwsAccount(
        settings,
        ledger=open_ledger(settings.ledger_table),
        bucket=open_bucket(settings.payload_bucket),
        ecs=client("ecs"),
        functions=client("lambda"),
        iam=client("iam"),
        logs=client("logs"),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
