"""What the runner asks of AWS; the one file of this room that knows boto3."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from immortal_lambda.aws import client, error_code, translated
from immortal_lambda.errors import AccessRefused
from immortal_runner.code.function import FunctionRefused
from immortal_runner.execution.credentials import TemporaryCredentials
from immortal_runner.execution.logs import CloudWatchLogStream, LogEvent, LogsUnavailable

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef
    from mypy_boto3_sts import STSClient

SESSION_LENGTH = timedelta(hours=1)
"""The longest session that one role may open of another. Source: AWS STS API reference, "AssumeRole"."""


_REFUSED = frozenset(
    {"AccessDenied", "AccessDeniedException", "InvalidParameterException", "ResourceNotFoundException"}
)


class AwsAccount:
    """The account that the task runs in."""

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

    def get_layer(self, version_arn: str) -> tuple[str, str]:
        """Ask Lambda for a layer version: the link to its zip and the zip's hash.

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
        return content["Location"], content["CodeSha256"]

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


def open_log_stream(logs: "CloudWatchLogsClient", *, group: str, stream: str) -> CloudWatchLogStream:
    """Open a stream; it and its group are made when the first line is delivered, if they aren't there.

    A group that is deleted later stays deleted: whoever deleted it doesn't want it back.
    """
    delivered = False

    def deliver(events: list[LogEvent]) -> None:
        nonlocal delivered
        try:
            _put(logs, group, stream, events, make=not delivered)
        except (ClientError, BotoCoreError) as error:
            refused = error_code(error) in _REFUSED
            raise LogsUnavailable(f"logs:PutLogEvents on {group}: {error}", retryable=not refused) from error
        delivered = True

    return CloudWatchLogStream(deliver, group=group, name=stream)


def _put(logs: "CloudWatchLogsClient", group: str, stream: str, events: list[LogEvent], *, make: bool) -> None:
    lines: list[InputLogEventTypeDef] = [{"timestamp": event.at_ms, "message": event.message} for event in events]
    try:
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=lines)
    except logs.exceptions.ResourceNotFoundException:
        if not make:
            raise
        _make_log_stream(logs, group, stream)
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=lines)


def _make_log_stream(logs: "CloudWatchLogsClient", group: str, stream: str) -> None:
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
