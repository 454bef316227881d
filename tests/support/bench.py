"""A bench to try Lambda on: functions and queues of a local AWS, made for one test each."""

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from immortal_local.server import LocalAws

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

NewName = Callable[[str], str]
Eventually = Callable[[Callable[[], bool]], None]

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def zip_files(files: Mapping[str, str]) -> bytes:
    """Make a zip as a developer would."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


@dataclass(frozen=True)
class Queue:
    """A queue made for one test."""

    url: str
    arn: str
    sqs: "SQSClient"

    def send(self, body: str, **attributes: str) -> str:
        values: Any = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        return self.sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=values)["MessageId"]

    def take(self, wait_s: int = 10) -> "MessageTypeDef":
        """Receive one message with everything that SQS tells of it."""
        received = self.sqs.receive_message(
            QueueUrl=self.url,
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        assert received, f"nothing came to {self.arn} within {wait_s} s"
        return received[0]

    def take_json(self, wait_s: int = 10) -> Any:
        return json.loads(self.take(wait_s)["Body"])

    def counts(self) -> tuple[int, int]:
        """How many messages are visible, and how many are not."""
        counts = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        return int(counts["ApproximateNumberOfMessages"]), int(counts["ApproximateNumberOfMessagesNotVisible"])


@dataclass(frozen=True)
class Bench:
    """What most tests of Lambda need: a local AWS, a role, and things with names of their own."""

    local: LocalAws
    role_arn: str
    new_name: NewName

    @property
    def functions(self) -> "LambdaClient":
        client: LambdaClient = self.local.client("lambda")
        return client

    def make_function(self, code: str = "def handler(event, context):\n    return event\n", **settings: Any) -> str:
        """Make a function from the text of its one module; give its name."""
        name = settings.pop("FunctionName", None) or self.new_name("function")
        self.functions.create_function(
            **{
                "FunctionName": name,
                "Runtime": "python3.11",
                "Handler": "app.handler",
                "Role": self.role_arn,
                "Code": {"ZipFile": zip_files({"app.py": code})},
                **settings,
            }
        )
        return name

    def log_lines(self, name: str) -> list[str]:
        """Give what a function has logged so far."""
        logs: Any = self.local.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            return [each["message"] for each in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]
        return []

    def make_queue(self, **attributes: str) -> Queue:
        sqs: SQSClient = self.local.client("sqs")
        url = sqs.create_queue(QueueName=self.new_name("queue"), Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return Queue(url, arn, sqs)
