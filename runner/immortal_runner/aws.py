"""What the runner asks of AWS; the one file of this room that knows boto3."""

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from immortal_lambda.aws import client, error_code, translated
from immortal_lambda.errors import AccessRefused
from immortal_runner.code.function import FunctionRefused
from immortal_runner.execution.credentials import TemporaryCredentials
from immortal_runner.execution.logs import Batch, CloudWatchLogStream, LogsUnavailable, count_lines, describe_put

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef, PutLogEventsResponseTypeDef
    from mypy_boto3_sts import STSClient

SESSION_LENGTH = timedelta(hours=1)
"""The longest session that one role may open of another. Source: AWS STS API reference, "AssumeRole"."""

_LOGS_PASSING = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "LimitExceededException",
        "OperationAbortedException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""What time mends though it isn't the server's own fault. What else CloudWatch Logs refuses, it refuses for good."""


class AwsAccount:
    """The account that the task runs in."""

    def prepare(self) -> None:
        """Make the clients that the first run will need, best while the ledger is being asked for it."""
        for service in ("lambda", "sts", "logs"):
            client(service)

    def get_function(self, name: str, qualifier: str | None) -> dict[str, Any]:
        """Ask Lambda for a function's configuration and a link to its code, good for ten minutes.

        Raises:
            FunctionRefused: There is no such function or version any more.
        """
        functions: LambdaClient = client("lambda")
        which: Any = {"FunctionName": name, **({"Qualifier": qualifier} if qualifier else {})}
        with translated("lambda:GetFunction"):
            try:
                return dict(functions.get_function(**which))
            except functions.exceptions.ResourceNotFoundException as error:
                named = f"{name}:{qualifier}" if qualifier else name
                raise FunctionRefused(
                    f"{named} is gone. Next step: create it again and immortal runs redrive RUN"
                ) from error

    def get_layer(self, version_arn: str) -> tuple[str, str, int]:
        """Ask Lambda for a layer version: the link to its zip, the zip's hash, and its size in bytes.

        Raises:
            FunctionRefused: It was deleted or is no longer shared, although the function still works with it.
        """
        functions: LambdaClient = client("lambda")
        refusal = FunctionRefused(
            f"the layer {version_arn} can't be fetched: it was deleted or is no longer shared with this account. "
            "Next step: publish it again, or deploy the function with a layer that exists"
        )
        with translated("lambda:GetLayerVersion"):
            try:
                content: Any = functions.get_layer_version_by_arn(Arn=version_arn)["Content"]
            except functions.exceptions.ResourceNotFoundException as error:
                raise refusal from error
            except ClientError as error:
                if error_code(error) == "AccessDeniedException":
                    raise refusal from error
                raise
        return content["Location"], content["CodeSha256"], content["CodeSize"]

    def assume_role(self, role_arn: str, function_name: str) -> TemporaryCredentials:
        """Become a function's role for an hour.

        Raises:
            FunctionRefused: The role doesn't trust the runner.
        """
        sts: STSClient = client("sts")
        length_s = int(SESSION_LENGTH.total_seconds())
        try:
            with translated("sts:AssumeRole"):
                answer = sts.assume_role(
                    RoleArn=role_arn, RoleSessionName=session_name(function_name), DurationSeconds=length_s
                )
        except AccessRefused as error:
            raise FunctionRefused(
                f"the role {role_arn} doesn't trust the runner. Next step: immortal attach adds that trust"
            ) from error
        given = answer["Credentials"]
        expiration = given["Expiration"]
        if not isinstance(expiration, datetime):
            expiration = datetime.fromisoformat(expiration)
        return TemporaryCredentials(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], expiration.astimezone(UTC)
        )

    def open_log_stream(self, group: str, name: str) -> CloudWatchLogStream:
        """Open a log stream; it is made when its first line is delivered."""
        return open_log_stream(client("logs"), group=group, stream=name)


def session_name(function_name: str) -> str:
    """Name a role's session as Lambda does, after the function; STS takes 2 to 64 characters."""
    return function_name[:64].ljust(2, "-")


def open_log_stream(
    logs: "CloudWatchLogsClient", *, group: str, stream: str, wants_group: Callable[[], bool] = lambda: True
) -> CloudWatchLogStream:
    """Open a stream; it and its group are made when the first line is delivered, if they aren't there.

    A stream that is deleted meanwhile is made anew. A group that is deleted stays deleted: whoever did so doesn't
    want it back.

    Args:
        wants_group: Asked right before a group that isn't there is made; where it says no, the lines are lost.
    """
    logs.meta.events.register("before-call.cloudwatch-logs.PutLogEvents", _put_body_in, unique_id="immortal-log-body")
    delivered = False

    def deliver(batch: Batch) -> int:
        nonlocal delivered
        try:
            may_make_group = not delivered and wants_group()
            rejected = _put(logs, group, stream, batch, may_make_group=may_make_group)
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(group, error) from error
        delivered = True
        return rejected

    return CloudWatchLogStream(deliver, group=group, name=stream)


def _unavailable(group: str, error: ClientError | BotoCoreError) -> LogsUnavailable:
    retryable = not isinstance(error, ClientError) or _may_pass(error)
    denied = error_code(error).startswith("AccessDenied")
    step = ". Next step: grant logs:CreateLogStream and logs:PutLogEvents on it to the task's role" if denied else ""
    return LogsUnavailable(f"logs:PutLogEvents on {group}: {error}{step}", retryable=retryable)


def _may_pass(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or error_code(error) in _LOGS_PASSING


_prepared_body: ContextVar[bytes | None] = ContextVar("prepared_body", default=None)


def _put_body_in(params: dict[str, Any], **_: object) -> None:
    """Replace what boto3 has written by what is prepared; it signs, sends and reads the answer as ever."""
    if (body := _prepared_body.get()) is not None:
        params["body"] = body


def _put(logs: "CloudWatchLogsClient", group: str, stream: str, batch: Batch, *, may_make_group: bool) -> int:
    def put() -> int:
        stand_in: InputLogEventTypeDef = {"timestamp": batch[0].at_ms, "message": "-"}
        answer = logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[stand_in])
        return _count_rejected(answer, count_lines(batch))

    prepared = _prepared_body.set(describe_put(group, stream, batch))
    try:
        return put()
    except logs.exceptions.ResourceNotFoundException:
        _make_log_stream(logs, group, stream, may_make_group=may_make_group)
        return put()
    finally:
        _prepared_body.reset(prepared)


def _count_rejected(answer: "PutLogEventsResponseTypeDef", lines: int) -> int:
    rejected = answer.get("rejectedLogEventsInfo", {})
    too_old = max(rejected.get("tooOldLogEventEndIndex", 0), rejected.get("expiredLogEventEndIndex", 0))
    return min(lines, too_old + lines - rejected.get("tooNewLogEventStartIndex", lines))


def _make_log_stream(logs: "CloudWatchLogsClient", group: str, stream: str, *, may_make_group: bool) -> None:
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        try:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        except logs.exceptions.ResourceNotFoundException:
            if not may_make_group:
                raise
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=group)
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
