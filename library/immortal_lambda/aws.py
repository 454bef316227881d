"""What the library asks of AWS; the one file of this room that knows boto3.

boto3 is imported when a client is first made: importing the library costs the standard library alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from immortal_lambda.errors import AccessRefused, ServiceUnavailable
from immortal_lambda.ledger import ConditionFailed, Ledger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_PASSING = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServerException",
        "ServiceException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


@cache
def client(service: str, patience_s: float | None = None) -> Any:
    """A boto3 client for a service, made once per process; it obeys ``AWS_ENDPOINT_URL`` and the usual environment.

    Args:
        service: As boto3 names it.
        patience_s: With it, a call is made once and given up after so long; without, it is tried up to five times.
    """
    import boto3  # noqa: PLC0415  # importing the library must not cost boto3
    from botocore.config import Config  # noqa: PLC0415

    make = cast("Any", boto3.client)  # the stubs know each service by its own literal
    attempts, read_timeout_s = (5, 20.0) if patience_s is None else (1, patience_s)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=min(5.0, read_timeout_s),
        read_timeout=read_timeout_s,
    )
    return make(service, config=config)


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn what boto3 raises into errors that say who must act.

    Raises:
        ServiceUnavailable: Time mends it.
        AccessRefused: Somebody must grant a permission.
    """
    from botocore import exceptions  # noqa: PLC0415

    passing = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.CredentialRetrievalError,
        exceptions.MetadataRetrievalError,
    )
    try:
        yield
    except exceptions.ClientError as error:
        code, status = error_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _REFUSED:
            raise AccessRefused(f"{call} was refused: {error}. Next step: grant it to the role named there") from error
        if code in _PASSING or status >= 500:  # noqa: PLR2004  # HTTP: the server's own fault
            raise ServiceUnavailable(f"{call}: {error}") from error
        raise
    except passing as error:
        raise ServiceUnavailable(f"{call}: {error}") from error
    except exceptions.BotoCoreError as error:
        raise AccessRefused(f"{call} could not be asked: {error}. Next step: check region and credentials") from error


@dataclass(frozen=True, slots=True)
class DynamoTable:
    """The ledger's table in DynamoDB."""

    dynamodb: DynamoDBClient
    name: str

    def put_new(self, item: Mapping[str, Any]) -> None:
        """Write an item unless one with its key stands there."""
        with translated("dynamodb:PutItem"), _conditional():
            self.dynamodb.put_item(
                TableName=self.name,
                Item=_marshal(item),
                ConditionExpression="attribute_not_exists(run_id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )

    def update(
        self,
        key: Mapping[str, Any],
        expression: str,
        condition: str,
        names: Mapping[str, str],
        values: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Change an item if the condition holds."""
        with translated("dynamodb:UpdateItem"), _conditional():
            answer = self.dynamodb.update_item(
                TableName=self.name,
                Key=_marshal(key),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=_marshal(values),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return _unmarshal(answer["Attributes"])

    def get(self, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Read an item, consistently."""
        with translated("dynamodb:GetItem"):
            answer = self.dynamodb.get_item(TableName=self.name, Key=_marshal(key), ConsistentRead=True)
        return _unmarshal(answer["Item"]) if "Item" in answer else None

    def query(
        self,
        index: str,
        condition: str,
        names: Mapping[str, str],
        values: Mapping[str, Any],
        *,
        forward: bool,
        page: int,
    ) -> Iterator[Mapping[str, Any]]:
        """Read items of an index, page by page, as they are asked for."""
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.name,
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=_marshal(values),
            ScanIndexForward=forward,
            PaginationConfig={"PageSize": page},
        )
        with translated("dynamodb:Query"):
            for answer in pages:
                yield from map(_unmarshal, answer["Items"])


@dataclass(frozen=True, slots=True)
class PayloadBucket:
    """The bucket that keeps what outgrows the ledger."""

    s3: S3Client
    name: str

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        with translated("s3:PutObject"):
            self.s3.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, bucket: str, key: str) -> bytes | None:
        """Fetch what lies under a key; None when nothing does."""
        with translated("s3:GetObject"):
            try:
                return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except (self.s3.exceptions.NoSuchKey, self.s3.exceptions.NoSuchBucket):
                return None


def open_ledger(table: str, patience_s: float | None = None) -> Ledger:
    """The ledger in a table of this account and region; for ``patience_s`` see :func:`client`."""
    return Ledger(DynamoTable(client("dynamodb", patience_s), table))


def open_bucket(name: str) -> PayloadBucket:
    """The payloads' bucket of this account."""
    return PayloadBucket(client("s3"), name)


@contextmanager
def _conditional() -> Iterator[None]:
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        item: Any = error.response.get("Item")
        raise ConditionFailed(_unmarshal(item) if item else None) from error


def error_code(error: Exception) -> str:
    """The code of an error that AWS answered; empty for any other error."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _marshal(values: Mapping[str, Any]) -> dict[str, Any]:
    from boto3.dynamodb.types import TypeSerializer  # noqa: PLC0415

    serialize = TypeSerializer().serialize
    return {name: serialize(value) for name, value in values.items()}


def _unmarshal(item: Mapping[str, Any]) -> dict[str, Any]:
    from boto3.dynamodb.types import TypeDeserializer  # noqa: PLC0415

    deserialize = TypeDeserializer().deserialize
    return {name: _plain(deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    """The number types of DynamoDB's client as Python's own: the ledger holds whole numbers only."""
    match value:
        case Decimal():
            return int(value)
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list():
            return [_plain(member) for member in value]
        case _:
            return bytes(value) if hasattr(value, "value") and not isinstance(value, (str, int)) else value
