"""What the dispatcher and the reconciler ask of AWS; the one file of this room that knows boto3."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from immortal_dispatcher.images import (
    MANIFEST_KINDS,
    FunctionImage,
    ImageConfig,
    ImageReference,
    ImageUnreadable,
    ask_for,
    name_family,
    read_config,
    read_image,
    read_manifest,
    read_reference,
    write_definition,
)
from immortal_dispatcher.launch import Refused, Started, order_task, read_answer, read_error
from immortal_dispatcher.resolve import Candidate
from immortal_dispatcher.settings import Settings
from immortal_dispatcher.stops import Stop, read_stop
from immortal_lambda.arns import FunctionArn
from immortal_lambda.aws import client, open_bucket, open_ledger, translated
from immortal_lambda.clock import now_ms
from immortal_lambda.errors import ImmortalError, ServiceUnavailable
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
    ecr: Any
    _listing: _Listing = field(default_factory=_Listing)
    _role_ids: dict[str, str | None] = field(default_factory=dict)
    _versions: dict[FunctionArn, tuple[int, bool]] = field(default_factory=dict)
    _zips: set[FunctionArn] = field(default_factory=set)

    def candidates(self, queue_arn: str, *, sent_ms: int) -> Sequence[Candidate]:
        """Give the functions that name a queue as their dead-letter queue.

        A listing answers for the letters that were sent before it was made. For a later letter the functions are listed
        again: one attached in the meantime, unknown to an older listing, would make it name the wrong function.
        """
        if self._listing.began_ms <= sent_ms:
            began_ms = now_ms()
            self._listing = _Listing(began_ms, self._list_functions())
        return self._listing.by_target.get(queue_arn, ())

    def has_versions(self, function: FunctionArn, *, sent_ms: int) -> bool:
        """Whether a function had published versions when a letter was sent; a later letter asks anew."""
        began_ms, found = self._versions.get(function, (0, False))
        if not found and began_ms <= sent_ms:
            began_ms = now_ms()
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
        if now_ms() - sent_ms < _LOG_LAG_MS:
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
            image = self._image(run)
            definition = self._definition(image) if image else None
            return read_answer(self.ecs.run_task(**order_task(run, self.settings, task_definition=definition)))
        except ImmortalError as error:
            return Refused("unavailable" if error.retryable else "misconfigured", str(error))
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

    def _image(self, run: Run) -> FunctionImage | None:
        """The image that a run's function is; None for a zip, which costs no call where a listing has shown it.

        A function stays what it is, zip or image, for as long as it lives.
        """
        if not run.function_arn or FunctionArn.read(run.function_arn).unqualified in self._zips:
            return None
        try:
            answer: Any = self.functions.get_function(**ask_for(run))
        except self.functions.exceptions.ResourceNotFoundException:
            return None  # the runner says so in the run's record
        image = read_image(answer)
        if image is None:
            self._zips.add(FunctionArn.read(run.function_arn).unqualified)
        return image

    def _definition(self, image: FunctionImage) -> str:
        """Give the family of an image's task definition, registered now unless it is there."""
        base: Any = self.ecs.describe_task_definition(taskDefinition=self.settings.task_definition)["taskDefinition"]
        family = name_family(image, base)
        try:
            self.ecs.describe_task_definition(taskDefinition=family)
        except self.ecs.exceptions.ClientException:  # ECS's word for a family that it doesn't know
            architecture = base.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64")
            config = self._read_config(read_reference(image.uri), architecture)
            self.ecs.register_task_definition(**write_definition(image, config, base))
        return family

    def _read_config(self, image: ImageReference, architecture: str) -> ImageConfig:
        where = {"registryId": image.registry, "repositoryName": image.repository}
        kind, digest = "manifest", image.digest
        while kind == "manifest":
            answer = self.ecr.batch_get_image(
                **where, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=list(MANIFEST_KINDS)
            )
            if not answer["images"]:
                raise ImageUnreadable(f"{image.repository}@{digest} is gone from Amazon ECR: {answer['failures']}")
            kind, digest = read_manifest(answer["images"][0]["imageManifest"], architecture=architecture)
        link = self.ecr.get_download_url_for_layer(**where, layerDigest=digest)["downloadUrl"]
        return read_config(_download(link), digest=digest)

    def _list_functions(self) -> dict[str, list[Candidate]]:
        by_target: dict[str, list[Candidate]] = defaultdict(list)
        with translated("lambda:ListFunctions"):
            for page in self.functions.get_paginator("list_functions").paginate():
                for function in cast("list[Mapping[str, Any]]", page["Functions"]):
                    self._note_package(function)
                    if target := function.get("DeadLetterConfig", {}).get("TargetArn"):
                        arn = FunctionArn.read(function["FunctionArn"])
                        log_group = function.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{arn.name}"
                        by_target[target].append(Candidate(arn.unqualified, function["Role"], log_group))
        return dict(by_target)

    def _note_package(self, function: Mapping[str, Any]) -> None:
        arn = FunctionArn.read(function["FunctionArn"]).unqualified
        (self._zips.add if function.get("PackageType") == "Zip" else self._zips.discard)(arn)

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
        ecr=client("ecr"),
    )


def _download(link: str) -> bytes:
    """Fetch a small file from a link that ECR has signed, and that nothing may show.

    Raises:
        ServiceUnavailable: It can't be fetched now.
    """
    try:
        answer = urllib3.request("GET", link, timeout=10.0, retries=urllib3.Retry(3, backoff_factor=0.2))
    except urllib3.exceptions.HTTPError as error:
        raise ServiceUnavailable(f"the image's configuration can't be fetched: {type(error).__name__}") from None
    if answer.status != HTTPStatus.OK:
        raise ServiceUnavailable(f"the image's configuration can't be fetched: HTTP status {answer.status}")
    return answer.data
